//! How the program ended: a message for people, an exit status for scripts.

use std::process::ExitCode;

use msrprelay::client::{ClientError, advice};

/// Why the program failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A failure with its message. Exit status 1.
    Failed(String),
    /// A failure that the library reports. Exit status 1.
    Client(ClientError),
    /// Wrong usage. Exit status 2.
    Usage(String),
    /// The connection was lost during a transfer. Exit status 3.
    Lost {
        /// Octets of the file that had been transferred.
        octets: u64,
        /// `sent` or `received`.
        verb: &'static str,
        error: ClientError,
    },
}

impl Failure {
    /// Turns an error of a session into a failure. `octets` of the file had been transferred.
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

/// Prints the failure on stderr and returns the exit status.
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
