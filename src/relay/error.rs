//! Errors as an operator meets them: with the place in the file that must be mended.

use std::io;

use thiserror::Error;

use super::Config;
use crate::{
    auth::OpenError,
    tls::{Finding, HostNameError, TlsError, pem::PemFile},
};

/// Why the relay cannot start, or go on.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A certificate, a key, or what TLS needs of them.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host name is not in the certificate, or there is none to take.
    #[error(transparent)]
    HostName(#[from] HostNameError),
    /// The host name cannot stand in a URI.
    #[error("hostname {host:?} cannot be part of an MSRP URI")]
    UriHost {
        /// The name.
        host: String,
    },
    /// A backend does not accept what stands in its section.
    #[error("{}{error}", section_unless_option(section, error))]
    Backend {
        /// The section.
        section: &'static str,
        /// What is wrong.
        error: OpenError,
    },
    /// An address cannot be listened on.
    #[error("{0}")]
    Bind(#[source] io::Error),
    /// The kernel refuses to listen on a socket that is bound.
    #[error("cannot accept connections: {0}")]
    Listen(#[source] io::Error),
    /// The address to write into URIs cannot be found.
    #[error("cannot tell the address of this machine, set hostname in [Relay]: {0}")]
    NoAddress(#[source] io::Error),
}

/// A configuration that cannot be put in force.
#[derive(Debug, Error)]
#[error("{place}: {cause}")]
pub struct Located {
    /// File, line, section and option, as far as they can be told.
    place: String,
    /// What is wrong.
    #[source]
    cause: RelayError,
}

impl RelayError {
    /// Finds the option that is to blame in the configuration.
    pub fn located(self, config: &Config) -> Located {
        let place = match self.option() {
            Some((section, option)) => config.place(section, option),
            None => config.source().display().to_string(),
        };
        Located { place, cause: self }
    }

    /// Section and name.
    fn option(&self) -> Option<(&'static str, &'static str)> {
        let relay = |option| Some(("Relay", option));
        match self {
            Self::Tls(error) => tls_option(error).and_then(relay),
            Self::HostName(_) | Self::UriHost { .. } | Self::NoAddress(_) => relay("hostname"),
            Self::Bind(_) => relay("address"),
            Self::Backend { section, error } => error.option.map(|option| (*section, option)),
            Self::Listen(_) => None,
        }
    }
}

/// The name of the section, where no option says it.
fn section_unless_option(section: &str, error: &OpenError) -> String {
    if error.option.is_some() { String::new() } else { format!("[{section}] ") }
}

/// A warning about a certificate or key, with the place in the file.
pub(super) fn located(finding: &Finding, config: &Config) -> String {
    let option = if matches!(finding, Finding::KeyExposed { .. }) { "key" } else { "certificate" };
    format!("{}: {finding}", config.place("Relay", option))
}

fn tls_option(error: &TlsError) -> Option<&'static str> {
    match error {
        TlsError::File(error) => Some(match &error.file {
            PemFile::Certificate(_) => "certificate",
            PemFile::Key(_) => "key",
            PemFile::Authorities(_) => "ca",
        }),
        TlsError::KeyMismatch { .. } => Some("key"),
        TlsError::NoIdentity => Some("certificate"),
        TlsError::NoTrustAnchors => Some("verify_next_hop"),
        TlsError::Configuration(_) => None,
    }
}
