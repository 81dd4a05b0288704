//! Why the relay ends with status 1, in the words of an operator.

use std::{io, path::PathBuf};

use nix::errno::Errno;
use thiserror::Error;

use super::pid_file::PidFileError;
use crate::{
    config::{ConfigError, NotFound},
    relay::Located,
};

/// What to do about a runtime directory that does not serve.
pub(super) const RUNTIME_DIR_ADVICE: &str =
    "start the relay as root, or let --runtime-dir name a directory that it may write to";

/// One reason, or several, one on each line.
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
    #[error(
        "could become root again after it had become {0}: the kernel does not let go of privileges"
    )]
    StillRoot(String),
    #[error("{what}: {cause}")]
    System { what: &'static str, cause: io::Error },
}
