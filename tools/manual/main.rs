//! Writes what is shipped beside the programs and told by their own sources: manual pages from the
//! command lines and the table of options, shell completions, and the licences of the crates that
//! are linked in. `make manual` runs this.
//!
//! ```text
//! DIRECTORY/man/msrprelay.8 ...         DIRECTORY/bash/msrprelay ...
//! DIRECTORY/zsh/_msrprelay ...          DIRECTORY/fish/msrprelay.fish ...
//! DIRECTORY/THIRD-PARTY-NOTICES
//! ```

mod configuration;
mod notices;
mod page;
mod programs;

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap_complete::Shell;

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        let _ = writeln!(io::stderr(), "usage: manual DIRECTORY");
        return ExitCode::from(2);
    };
    match write_all(&directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "manual: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(directory: &Path) -> io::Result<()> {
    let man = made(directory.join("man"))?;
    fs::write(man.join("msrprelay.ini.5"), configuration::page())?;
    for program in programs::all() {
        fs::write(man.join(program.file_name()), program.page())?;
        for (shell, name) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let mut command = program.command();
            let path = program.completion_file(&made(directory.join(name))?, shell);
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, program.name, &mut script);
            fs::write(path, script)?;
        }
    }
    fs::write(directory.join("THIRD-PARTY-NOTICES"), notices::text()?)
}

fn made(directory: PathBuf) -> io::Result<PathBuf> {
    fs::create_dir_all(&directory)?;
    Ok(directory)
}
