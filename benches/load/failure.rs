//! Why the load generator has no figure to show.

use std::io;

use msrprelay::msrp::StatusCode;

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    System(#[from] nix::Error),
    #[error("{0}")]
    Setup(String),
    #[error("what came is not what MSRP asks for: {0}")]
    Wire(&'static str),
    #[error("the connection was closed")]
    Closed,
    #[error("a request was answered {0}")]
    Refused(StatusCode),
    #[error("a message was reported as {0}")]
    Reported(String),
    #[error("the octets at {offset} are not those that were sent")]
    Content { offset: u64 },
    #[error("it takes too long")]
    Timeout(#[from] tokio::time::error::Elapsed),
    #[error("a task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
    #[error("{scenario}: {cause}; the relay's last words:\n{log}")]
    Scenario { scenario: String, cause: Box<Failure>, log: String },
}
