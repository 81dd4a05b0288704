//! Errors of links: no connection could be made, or it could not be closed properly.

use std::{fmt, io, net::SocketAddr, time::Duration};

use super::{
    pace::{NEXT_HOPS_AT_ONCE, NEXT_HOPS_PER_SECOND},
    peers::Denied,
    resolve::ResolveError,
    target::Target,
};
pub use crate::tls::HandshakeError;

/// Why no connection could be made, or why it could not be closed properly. The text of each error
/// includes its cause.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// TCP failed before the link could be used, or while it was being closed.
    #[error("connection closed: {0}")]
    Closed(io::Error),
    /// The TLS handshake of an accepted connection failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(HandshakeError),
    /// The peer closed an accepted connection without a word, where TLS was expected: a probe.
    #[error("TLS handshake failed: the peer closed the connection")]
    Unused,
    /// The host of the next hop could not be resolved.
    #[error("{0}")]
    Resolve(ResolveError),
    /// The host is not a valid server name, so TLS cannot verify it.
    #[error("cannot connect to {target}: no host name that TLS could ask for")]
    ServerName { target: Target },
    /// No address of the target could be used.
    #[error("cannot connect to {target}: {attempts}")]
    Connect {
        target: Target,
        /// Each address with its error, in the order of the attempts.
        attempts: Attempts,
    },
    /// The user dials too many different next hops.
    #[error(
        "{target} is not dialled: the user dials more than {NEXT_HOPS_PER_SECOND} different next \
         hops a second, or {NEXT_HOPS_AT_ONCE} at once"
    )]
    TooMany { target: Target },
    /// The peer did not read all that was still to be sent.
    #[error("connection closed with octets unsent: the peer did not read them within {after:?}")]
    DrainTimeout {
        /// The time that it had.
        after: Duration,
    },
}

/// What forbids a dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The option `denied_peers`.
    Rule,
    /// The address is that of the relay itself, or of a service of its own.
    Own,
    /// The limit on different next hops.
    TooMany,
}

impl LinkError {
    /// What forbids the dial, or to dial the first address that was not permitted. `None` if the next
    /// hop merely was not reached.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::TooMany { .. } => Some(Refusal::TooMany),
            Self::Connect { attempts, .. } => attempts.0.iter().find_map(|one| match one.failure {
                AttemptError::Denied(Denied::Rule { .. }) => Some(Refusal::Rule),
                AttemptError::Denied(Denied::Own(_)) => Some(Refusal::Own),
                _ => None,
            }),
            _ => None,
        }
    }
}

/// The failed attempts of one dial, in order.
#[derive(Debug)]
pub struct Attempts(pub Vec<Attempt>);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Attempt { address, failure }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {failure}")?;
        }
        Ok(())
    }
}

/// One address, and why it could not be used.
#[derive(Debug)]
pub struct Attempt {
    pub address: SocketAddr,
    pub failure: AttemptError,
}

/// Why an address could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The relay may not dial it.
    #[error("{0}")]
    Denied(Denied),
    /// TCP failed: for example refused, unreachable or reset.
    #[error("{0}")]
    Connect(io::Error),
    /// The TCP connection was made, but the TLS handshake failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(HandshakeError),
    /// The address did not answer within its share of [`CONNECT_TIMEOUT`](super::CONNECT_TIMEOUT).
    #[error("no answer within {after:?}")]
    Timeout { after: Duration },
}
