//! What can go wrong, in words for whoever runs the program.

use std::path::PathBuf;

use thiserror::Error;

use super::{LoginError, Lost, TRANSACTION_TIMEOUT};
use crate::{
    msrp::StatusCode,
    transport::{AttemptError, HandshakeError, LinkError},
};

/// Why something did not work.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no connection.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// The connection was there and is gone.
    #[error("{0}")]
    Lost(#[from] Lost),
    /// The relay does not let us in.
    #[error("{0}")]
    Login(#[from] LoginError),
    /// A response other than 200 to what we sent.
    #[error("refused with {status}{}: {}", quoted(comment), meaning(*status))]
    Refused {
        /// The code.
        status: StatusCode,
        /// The text behind it.
        comment: String,
    },
    /// A failure REPORT: the next hop took the message, but it did not arrive.
    #[error("not delivered, the report says {status}{}: {}", quoted(comment), meaning(*status))]
    Undelivered {
        /// The code.
        status: StatusCode,
        /// The text behind it.
        comment: String,
    },
    /// No response in time (RFC 4975 §7.3).
    #[error("the next hop did not answer within {} s", TRANSACTION_TIMEOUT.as_secs())]
    NoResponse,
    /// All was sent and taken, and then there was silence.
    #[error(
        "everything was sent, but the receiver confirmed only {confirmed} of {total} octets, and \
         nothing was heard of the rest for {} s",
        super::REPORT_TIMEOUT.as_secs()
    )]
    NoReport {
        /// Octets confirmed by success REPORTs.
        confirmed: u64,
        /// Octets of the message.
        total: u64,
    },
    /// The peer makes us answer and does not read the answers.
    #[error("the other side does not read what it is sent")]
    NotReading,
    /// The sender ended the message with `#`.
    #[error("the sender gave up after {received} octets")]
    GivenUp {
        /// Octets that had arrived.
        received: u64,
    },
    /// The chunks of a message contradict each other.
    #[error("the sender's chunks make no sense: {0}")]
    Nonsense(&'static str),
    /// A file of this machine.
    #[error("cannot {action} {}: {cause}", path.display())]
    File {
        /// What was tried: read, write, create.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file got shorter while it was being read.
    #[error("{} changed while it was being sent", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// What was to be a URI is none.
    #[error("{what} cannot stand in an MSRP URI: {cause}")]
    Uri {
        /// What was read.
        what: String,
        /// Why not.
        cause: crate::msrp::UriError,
    },
}

/// A comment of the peer, fit for a terminal.
pub(super) fn quoted(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!(" \"{}\"", comment.escape_debug()) }
}

/// What a status code means (RFC 4975 §10, RFC 4976 §10).
pub fn meaning(status: StatusCode) -> &'static str {
    match status {
        StatusCode::OK => "accepted",
        StatusCode::BAD_REQUEST => "the request was not understood",
        StatusCode::UNAUTHORIZED => "user and password are wanted",
        StatusCode::FORBIDDEN => "this is not allowed",
        StatusCode::TIMEOUT => "the next hop could not be reached, or did not answer in time",
        StatusCode::STOP_SENDING => "the receiver does not want this file",
        StatusCode::OUT_OF_BOUNDS => "the lifetime asked for is out of bounds",
        StatusCode::NO_SESSION => "there is no such session: has the receiver gone?",
        StatusCode::UNAVAILABLE => "the relay cannot do it just now",
        StatusCode::UNKNOWN_METHOD => "the method is not known",
        StatusCode::BOUND_ELSEWHERE => "somebody else is already connected to that session",
        other if other.to_string() == "415" => "the receiver does not take files of this type",
        _ => "a code that MSRP does not define",
    }
}

/// What the operator may do about it, where there is something.
pub fn advice(error: &ClientError) -> Option<&'static str> {
    Some(match error {
        ClientError::Link(error) => return link_advice(error),
        ClientError::Login(LoginError::Refused { .. }) => {
            "check user, domain and password; the relay does not say which of them is wrong"
        }
        ClientError::Refused { status, .. } | ClientError::Undelivered { status, .. } => {
            match *status {
                StatusCode::NO_SESSION => "start the receiver again and use the path it prints",
                StatusCode::BOUND_ELSEWHERE => "every path is good for one sender: get a new one",
                StatusCode::FORBIDDEN => {
                    "the relay may not dial that address (its allowed_peers and denied_peers)"
                }
                _ => return None,
            }
        }
        ClientError::Lost(Lost::Framing(_)) => "is this an MSRP relay, and is the port right?",
        _ => return None,
    })
}

fn link_advice(error: &LinkError) -> Option<&'static str> {
    let LinkError::Connect { attempts, .. } = error else {
        return match error {
            LinkError::Resolve(_) | LinkError::ResolveTimeout { .. } => {
                Some("check the domain, or name the relay with --relay HOST[:PORT]")
            }
            _ => None,
        };
    };
    Some(match &attempts.0.last()?.failure {
        AttemptError::Connect(_) | AttemptError::Timeout { .. } => {
            "no relay there? check that it runs, its address and port, and the firewall"
        }
        AttemptError::Handshake(HandshakeError::NotTls) => {
            "the relay speaks plain TCP here (debug_notls): use --no-tls, or another port"
        }
        AttemptError::Handshake(HandshakeError::Certificate(cause)) => certificate_advice(cause),
        AttemptError::Handshake(HandshakeError::Closed) => {
            "the other side hung up during TLS: is it an MSRP relay with TLS?"
        }
        AttemptError::Handshake(_) => return None,
    })
}

/// The error says what is wrong; this names our options.
fn certificate_advice(cause: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError as E;
    match cause {
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "give a name of the certificate with --relay"
        }
        E::UnknownIssuer | E::Other(_) => {
            "--ca FILE names whom to trust; for a test only, --insecure skips the check"
        }
        _ => "for a test only, --insecure skips the check",
    }
}
