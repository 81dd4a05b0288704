//! Errors of the client, in words for its user.

use std::path::PathBuf;

use thiserror::Error;

use super::{
    LoginError, Lost, TRANSACTION_TIMEOUT,
    meaning::{meaning, quoted},
};
use crate::{
    msrp::StatusCode,
    transport::{AttemptError, HandshakeError, LinkError},
};

/// Why a session or a transfer failed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The connection could not be made.
    #[error("{0}")]
    Link(#[from] LinkError),
    /// The connection was lost.
    #[error("{0}")]
    Lost(#[from] Lost),
    /// The relay does not grant AUTH.
    #[error("{0}")]
    Login(#[from] LoginError),
    /// A SEND was answered with another code than 200.
    #[error("refused with {status}{}: {}", quoted(comment), meaning(*status))]
    Refused {
        status: StatusCode,
        /// The text after the status code, as the peer sent it.
        comment: String,
    },
    /// A failure REPORT: the next hop accepted the message, but it was not delivered.
    #[error("not delivered, the report says {status}{}: {}", quoted(comment), meaning(*status))]
    Undelivered {
        status: StatusCode,
        /// The text after the status code, as the peer sent it.
        comment: String,
    },
    /// No response within [`TRANSACTION_TIMEOUT`] (RFC 4975 §7.3).
    #[error("the next hop did not answer within {} s", TRANSACTION_TIMEOUT.as_secs())]
    NoResponse,
    /// All was sent and accepted, but no success REPORT came for
    /// [`REPORT_TIMEOUT`](super::REPORT_TIMEOUT).
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
    /// The peer sends requests but does not read the answers.
    #[error("the other side does not read what it is sent")]
    NotReading,
    /// The sender ended the message with `#`.
    #[error("the sender gave up after {received} octets")]
    GivenUp {
        /// Octets that had arrived by then.
        received: u64,
    },
    /// The chunks or REPORTs of the peer contradict each other, or this program is at fault. The
    /// text says how.
    #[error("the transfer cannot go on: {0}")]
    Nonsense(&'static str),
    /// An error of a local file or directory.
    #[error("cannot {action} {}: {cause}", path.display())]
    File {
        /// The action that failed: read, write, create.
        action: &'static str,
        path: PathBuf,
        /// The error of the system.
        cause: std::io::Error,
    },
    /// The file got shorter while it was being read.
    #[error("{} changed while it was being sent", path.display())]
    Changed { path: PathBuf },
    /// A host or a path cannot be part of an MSRP URI.
    #[error("{what} cannot stand in an MSRP URI: {cause}")]
    Uri {
        /// The text that cannot be part of it.
        what: String,
        cause: crate::msrp::UriError,
    },
}

/// Says what the user can do about an error, if anything.
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
            LinkError::Resolve(_) => {
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
        // The client dials anywhere.
        AttemptError::Handshake(_) | AttemptError::Denied(_) => return None,
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
