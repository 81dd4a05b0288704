//! Errors of a configuration that is well written but cannot be used, with the place in the file
//! that the operator must correct.

use std::io;

use thiserror::Error;

use super::Config;
use crate::{
    auth::OpenError,
    tls::{Finding, HostNameError, TlsError, pem::PemFile},
};

/// Why a generation cannot be built or put in force.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The certificates and keys cannot be used for TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The host name is not in the certificate, or the certificate has none.
    #[error(transparent)]
    HostName(#[from] HostNameError),
    /// The host name cannot stand in a URI.
    #[error("hostname {host:?} cannot be part of an MSRP URI")]
    UriHost {
        /// The name.
        host: String,
    },
    /// A backend cannot be opened with the options in its section.
    #[error("{}{error}", section_unless_option(section, error))]
    Backend {
        /// The section.
        section: &'static str,
        /// What is wrong.
        error: OpenError,
    },
    /// An address cannot be resolved, or the relay cannot listen on it.
    #[error("{0}")]
    Bind(#[source] io::Error),
    /// The async runtime does not take a listening socket.
    #[error("cannot accept connections: {0}")]
    Listen(#[source] io::Error),
    /// `hostname` is not set, and the relay cannot find an address for its URIs.
    #[error("cannot find the address of this machine, set hostname in [Relay]: {0}")]
    NoAddress(#[source] io::Error),
}

/// A configuration that cannot be put in force.
#[derive(Debug, Error)]
#[error("{place}: {cause}")]
pub struct Located {
    /// File, line, section and option, as far as they are known.
    place: String,
    /// What is wrong.
    #[source]
    cause: RelayError,
}

impl RelayError {
    /// Adds the place in the configuration that must be corrected.
    pub fn located(self, config: &Config) -> Located {
        let place = match self.option() {
            Some((section, option)) => config.place(section, option),
            None => config.source().display().to_string(),
        };
        Located { place, cause: self }
    }

    /// Section and name of the option at fault.
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

/// The section as a prefix. It is empty if the error names an option: then the place has the
/// section.
fn section_unless_option(section: &str, error: &OpenError) -> String {
    if error.option.is_some() { String::new() } else { format!("[{section}] ") }
}

/// A warning about a certificate or key, with the place in `config.ini` that names it.
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
