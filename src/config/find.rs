//! Finds the configuration file.

use std::{
    io,
    path::{self, Path, PathBuf},
};

use thiserror::Error;

use super::file::SYSTEM_DIRECTORY;

/// Name of the configuration file in its directory.
pub const FILE_NAME: &str = "config.ini";

/// The directories of the system's programs. A `config.ini` there is not the relay's.
const SYSTEM_BIN: [&str; 6] =
    ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// There is no configuration file.
#[derive(Debug, Error)]
#[error(
    "no configuration file found; looked for {}; --config-file and --config-dir name another place",
    listed(looked)
)]
pub struct NotFound {
    /// Where it was looked for.
    pub looked: Vec<PathBuf>,
}

/// The configuration file to use: the one given on the command line, else the first that exists of
/// `config.ini` beside the program and `config.ini` in [`SYSTEM_DIRECTORY`].
///
/// `program_as_called` is `argv[0]`. Symbolic links are not followed. A program that was found
/// through `PATH`, or that is in one of the system's directories, has no `config.ini` beside it. A
/// file or directory from the command line is not checked: [`read_file`](super::read_file) reports
/// one that cannot be read.
pub fn find(
    program_as_called: &Path,
    config_dir: Option<&Path>,
    config_file: Option<&Path>,
) -> Result<PathBuf, NotFound> {
    if let Some(file) = config_file {
        return Ok(file.to_owned());
    }
    if let Some(directory) = config_dir {
        return Ok(directory.join(FILE_NAME));
    }
    let own = own_directory(program_as_called);
    let directories = own.into_iter().chain([PathBuf::from(SYSTEM_DIRECTORY)]);
    first_in(directories)
}

fn first_in(directories: impl Iterator<Item = PathBuf>) -> Result<PathBuf, NotFound> {
    let mut looked = Vec::new();
    for directory in directories {
        let file = directory.join(FILE_NAME);
        if is_there(&file) {
            return Ok(file);
        }
        looked.push(file);
    }
    Err(NotFound { looked })
}

/// Directory of the program as it was called, absolute: the relay changes its working directory
/// later.
fn own_directory(program: &Path) -> Option<PathBuf> {
    let directory = program.parent().filter(|parent| *parent != Path::new(""))?;
    let directory = path::absolute(directory).ok()?;
    // Resolved, because `/usr/local/../bin` and a link to `/usr/bin` are the system's, too.
    let real = directory.canonicalize().unwrap_or_else(|_| directory.clone());
    let system = SYSTEM_BIN.map(Path::new);
    let own = !system.contains(&directory.as_path()) && !system.contains(&real.as_path());
    own.then_some(directory)
}

/// A file that cannot be reached counts as existing: an error is better than silently using another
/// file.
fn is_there(file: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    match file.symlink_metadata() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), NotFound | NotADirectory),
    }
}

fn listed(files: &[PathBuf]) -> String {
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    files.join(", ")
}

#[cfg(test)]
mod tests {
    use std::{env, fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn what_is_given_is_taken() {
        let program = Path::new("./msrprelay");
        let table = [
            (None, Some("x/y.conf"), "x/y.conf"),
            (Some("/d"), None, "/d/config.ini"),
            (Some("/d"), Some("/f"), "/f"),
        ];
        for (directory, file, expected) in table {
            let found = find(program, directory.map(Path::new), file.map(Path::new)).unwrap();
            assert_eq!(found, Path::new(expected));
        }
    }

    #[test]
    fn a_program_has_a_directory_unless_it_is_the_systems() {
        let here = env::current_dir().unwrap();
        let table = [
            ("msrprelay", None),
            ("", None),
            ("/", None),
            ("/usr/bin/msrprelay", None),
            ("/usr/local/sbin/msrprelay", None),
            ("/usr/bin/../bin/msrprelay", None),
            ("/usr/bin/./msrprelay", None),
            ("/opt/relay/msrprelay", Some(PathBuf::from("/opt/relay"))),
            ("/usr/bin/relay/msrprelay", Some(PathBuf::from("/usr/bin/relay"))),
            ("./msrprelay", Some(here.clone())),
            ("target/debug/msrprelay", Some(here.join("target/debug"))),
        ];
        for (program, expected) in table {
            assert_eq!(own_directory(Path::new(program)), expected, "{program}");
        }
    }

    #[test]
    fn the_first_file_is_the_one_used() {
        let root = tempfile::tempdir().unwrap();
        let [own, system] = ["own", "system"].map(|name| root.path().join(name));
        for directory in [&own, &system] {
            fs::create_dir(directory).unwrap();
        }
        let look = || first_in([own.clone(), system.clone()].into_iter());

        let missing = look().unwrap_err();
        assert_eq!(missing.looked, [own.join(FILE_NAME), system.join(FILE_NAME)]);
        assert!(missing.to_string().contains("own/config.ini, "), "{missing}");

        fs::write(system.join(FILE_NAME), "").unwrap();
        assert_eq!(look().unwrap(), system.join(FILE_NAME));
        symlink("nowhere", own.join(FILE_NAME)).unwrap();
        assert_eq!(look().unwrap(), own.join(FILE_NAME), "a dangling link is to be told");
    }

    #[test]
    fn the_link_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let [called, real] = ["called", "real"].map(|name| root.path().join(name));
        for directory in [&called, &real] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join(FILE_NAME), "").unwrap();
        }
        fs::write(real.join("msrprelay"), "").unwrap();
        symlink(real.join("msrprelay"), called.join("msrprelay")).unwrap();
        let found = find(&called.join("msrprelay"), None, None).unwrap();
        assert_eq!(found, called.join(FILE_NAME));
    }
}
