//! Why there is no connection, or none any more.

use std::{fmt, io, net::SocketAddr, time::Duration};

use super::{
    dialling::{CONNECT_TIMEOUT, Target},
    resolve::ResolveError,
};
pub use crate::tls::HandshakeError;

/// Why there is no connection, or none any more. Causes are part of the message.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection ended before it could be used, or while it was being closed.
    #[error("connection closed: {0}")]
    Closed(io::Error),
    /// The TLS handshake of an accepted connection failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(HandshakeError),
    /// The host of the next hop has no address.
    #[error("{0}")]
    Resolve(ResolveError),
    /// The resolver took all the time there was.
    #[error("cannot connect to {target}: the name was not resolved within {CONNECT_TIMEOUT:?}")]
    ResolveTimeout {
        /// What was to be dialled.
        target: Target,
    },
    /// The host cannot stand in a certificate, so TLS cannot be spoken with it.
    #[error("cannot connect to {target}: no host name that TLS could ask for")]
    ServerName {
        /// What was to be dialled.
        target: Target,
    },
    /// Every address failed.
    #[error("cannot connect to {target}: {attempts}")]
    Connect {
        /// What was to be dialled.
        target: Target,
        /// Each address and what became of it.
        attempts: Attempts,
    },
    /// The peer did not read what was still to be sent.
    #[error("connection closed with bytes unsent: the peer read nothing for {after:?}")]
    DrainTimeout {
        /// How long was waited.
        after: Duration,
    },
}

/// The addresses that were tried in vain, in order.
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

/// One address that was tried in vain.
#[derive(Debug)]
pub struct Attempt {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    pub failure: AttemptError,
}

/// Why an address could not be used.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// TCP failed: refused, unreachable, reset.
    #[error("{0}")]
    Connect(io::Error),
    /// TCP was there, TLS failed.
    #[error("TLS handshake failed: {0}")]
    Handshake(HandshakeError),
    /// Its share of the time was over.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The share.
        after: Duration,
    },
}
