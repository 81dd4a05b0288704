//! TLS from files: the relay's identities, whom a dialled next hop may be, and the host name that
//! goes into the relay's URIs (RFC 4975 §5.4 and §14.2, RFC 4976 §9.2).
//!
//! TLS 1.2 and 1.3 only (RFC 8996, RFC 9325). `TLS_RSA_WITH_AES_128_CBC_SHA`, which RFC 4976 §9.2
//! still asks for, is not offered: RFC 9325 §4.1 says not to. Every error here is read by an
//! operator who has a file in front of him, so it names the file and says what to do.
//!
//! | file | what it holds |
//! |---|---|
//! | [`pem`], `boundaries` | reading PEM files |
//! | `identity`, `chain` | certificate and key from their files, in the order that TLS wants |
//! | `finding` | what works today and should be looked at |
//! | `host_name` | the name for the relay's URIs |
//! | `server`, `client` | the two sides: the identity for a name, the check of a next hop |
//! | `trust`, `possession` | which certificate is believed; whether the proof that a peer owns its key can be checked |
//! | `failure` | why a handshake failed, in words |

use std::{path::PathBuf, sync::Arc};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

use self::pem::PemError;
pub use self::{
    client::{Observer, Verification, client_config},
    failure::HandshakeError,
    finding::{EXPIRY_NOTICES, Finding, Utc},
    host_name::{HostNameError, host_name},
    identity::Identity,
    server::server_config,
    trust::Anchors,
};

mod boundaries;
mod chain;
mod client;
mod failure;
mod finding;
mod host_name;
mod identity;
pub mod pem;
mod possession;
mod server;
#[cfg(test)]
pub(crate) mod tests;
mod trust;

/// Why TLS cannot be set up. Every message ends with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be used.
    #[error("{0}")]
    File(#[from] PemError),
    /// The private key does not belong to the certificate.
    #[error(
        "the private key in {} does not belong to the certificate in {}: \
         name the two that were made together",
        key.display(), certificate.display()
    )]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// A TLS listener needs a certificate.
    #[error("TLS needs a certificate: set `certificate` and `key`")]
    NoIdentity,
    /// Certificates are to be verified, but there is no trusted authority.
    #[error(
        "verify_next_hop = enforce, and no trusted certificate authority is known: \
         install the package ca-certificates or set `ca`"
    )]
    NoTrustAnchors,
    /// The TLS library refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Configuration(rustls::Error),
}

/// The one TLS provider, passed explicitly: a default would panic once two are compiled in.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
