//! How it ended, for people (words) and scripts (exit status).

use std::process::ExitCode;

use msrprelay::client::{ClientError, advice};

/// Why the program did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Exit status 1.
    Failed(String),
    /// Exit status 1, with what the library knows about it.
    Client(ClientError),
    /// Exit status 2.
    Usage(String),
    /// Exit status 3.
    Lost {
        /// Octets that had passed.
        octets: u64,
        /// What had become of them.
        verb: &'static str,
        /// Why.
        error: ClientError,
    },
}

impl Failure {
    /// A connection that is lost in the middle of a session counts by what had passed.
    pub(crate) fn after(octets: u64, verb: &'static str, error: ClientError) -> Self {
        match error {
            ClientError::Lost(_) => Self::Lost { octets, verb, error },
            error => Self::Client(error),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

/// Tells on stderr and gives the exit status.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Failed(words) => say(1, words, None),
        Failure::Client(error) => say(1, &error.to_string(), advice(error)),
        Failure::Usage(words) => say(2, words, Some("see msrpclient --help")),
        Failure::Lost { octets, verb, error } => {
            let words = format!("connection lost after {octets} bytes {verb}: {error}");
            say(3, &words, advice(error))
        }
    }
}

fn say(status: u8, words: &str, advice: Option<&str>) -> ExitCode {
    eprintln!("msrpclient: {words}");
    if let Some(advice) = advice {
        eprintln!("  {advice}");
    }
    ExitCode::from(status)
}
