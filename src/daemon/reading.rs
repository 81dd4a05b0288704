//! Reads the configuration at the start, and checks what the relay can still read as another user.

use std::{
    env,
    fs::File,
    io, iter,
    path::{Path, PathBuf},
};

use super::{failure::Failure, owner::Owner};
use crate::{
    cli::msrprelay::Args,
    config::{self, ConfigError, NotFound},
    relay::Config,
    tls::pem,
};

/// Finds and reads the configuration file that the command line asks for.
pub(super) fn load(arguments: &Args) -> Result<Config, Failure> {
    Ok(Config::load(&find(arguments)?)?)
}

/// The same in spite of faults in the file, which come beside what could be read.
pub(super) fn examine(arguments: &Args) -> Result<(Config, Option<ConfigError>), Failure> {
    Ok(Config::examine(&find(arguments)?)?)
}

fn find(arguments: &Args) -> Result<PathBuf, NotFound> {
    let program = env::args_os().next().unwrap_or_default();
    let directory = arguments.config_dir.as_deref();
    config::find(Path::new(&program), directory, arguments.config_file.as_deref())
}

/// Warnings about files that root has read at the start, but that the relay's user cannot read at a
/// reload.
pub(super) fn unreadable(config: &Config, owner: &Owner) -> Vec<String> {
    let tls = &config.tls;
    let of = |option| move |path| (Some(option), path);
    let files = iter::once((None, config.source()))
        .chain(tls.certificate.iter().map(of("certificate")))
        .chain(tls.key.iter().map(of("key")));
    let closed = files.filter(|(_, path)| {
        File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    });
    closed
        .map(|(option, path)| {
            let place = option.map_or_else(
                || path.display().to_string(),
                |option| format!("{} = {}", config.place("Relay", option), path.display()),
            );
            let access = pem::access(path);
            format!("{place}: {owner} cannot read it, and no reload will: {access}")
        })
        .collect()
}
