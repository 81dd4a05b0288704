//! Why the relay ends with exit status 1, in the words of an operator.

use std::{io, path::PathBuf};

use nix::errno::Errno;
use thiserror::Error;

use super::pid_file::{PidFileError, RUNTIME_DIR_ADVICE};
use crate::{
    config::{ConfigError, NotFound},
    relay::Located,
};

/// The text has one line for each reason.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error(transparent)]
    NoConfig(#[from] NotFound),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{place} {problem}")]
    Option { place: String, problem: String },
    #[error(transparent)]
    Build(#[from] Located),
    #[error("cannot make the runtime directory {}: {cause}; {RUNTIME_DIR_ADVICE}", path.display())]
    RuntimeDir { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    PidFile(#[from] PidFileError),
    #[error(
        "cannot become {owner}: {cause}; root needs the capabilities CAP_SETUID and CAP_SETGID for \
         that, or whoever starts the relay must do it"
    )]
    TakeOver { owner: String, cause: Errno },
    #[error("became {0}, but could become root again: the system did not drop the privileges")]
    StillRoot(String),
    #[error("{what}: {cause}")]
    System { what: &'static str, cause: io::Error },
}
