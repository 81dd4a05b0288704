//! Why there is no connection, or none any more.

use std::{fmt, io, net::SocketAddr, time::Duration};

use rustls::{AlertDescription, PeerIncompatible};

use super::{
    dialling::{CONNECT_TIMEOUT, Target},
    resolve::ResolveError,
};

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

/// Why a TLS handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The first bytes are not TLS.
    #[error("the peer does not speak TLS here (plain TCP?)")]
    NotTls,
    /// RFC 8996: nothing below TLS 1.2.
    #[error("the peer offers no TLS version from 1.2 on")]
    VersionTooOld,
    /// The connection ended in the middle.
    #[error("the peer closed the connection")]
    Closed,
    /// The peer sent an alert; after `UnknownCA` and the like it does not trust our certificate.
    #[error("refused by the peer with the alert {0:?}")]
    Refused(AlertDescription),
    /// The peer's certificate did not verify (`verify_next_hop = enforce`).
    #[error("the certificate of the peer is not acceptable: {0}")]
    Certificate(rustls::CertificateError),
    /// Anything else.
    #[error("{0}")]
    Other(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) {
            return Self::Closed;
        }
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)) => {
                Self::NotTls
            }
            Some(rustls::Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            )) => Self::VersionTooOld,
            Some(rustls::Error::AlertReceived(alert)) => Self::Refused(*alert),
            Some(rustls::Error::InvalidCertificate(cause)) => Self::Certificate(cause.clone()),
            _ => Self::Other(error),
        }
    }
}
