//! The rules for clients that are accepted under one generation.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::super::{RelayError, options::LoginOptions};
use crate::msrp::{Uri, UriError};

/// The rules for clients and their sessions.
pub(in crate::relay) struct Policy {
    pub(in crate::relay) login: Arc<LoginOptions>,
    /// The host in the URIs that clients are given.
    pub(in crate::relay) host: String,
    /// The port in these URIs.
    pub(in crate::relay) port: u16,
    /// Whether their scheme is `msrps`.
    pub(in crate::relay) secure: bool,
    /// A URI with this host and port, for comparison.
    authority: Uri,
}

/// The hosts and ports in the URIs of this relay, in those of earlier generations too while a
/// connection keeps their policy. They lead to this relay itself.
#[derive(Debug, Default)]
pub(in crate::relay) struct Authorities(Mutex<Vec<Authority>>);

#[derive(Debug)]
struct Authority {
    /// Tells whether the generation in force or a connection still keeps the policy.
    policy: Weak<Policy>,
    /// A URI with the host and port.
    uri: Uri,
}

impl Authorities {
    /// Adds the host and port of a policy, before URIs are made with them.
    pub(super) fn add(&self, policy: &Arc<Policy>) {
        let uri = policy.authority.clone();
        let mut authorities = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        authorities.retain(Authority::is_alive);
        authorities.push(Authority { policy: Arc::downgrade(policy), uri });
    }

    /// Whether a URI leads to this relay.
    pub(in crate::relay) fn include(&self, uri: &Uri) -> bool {
        let authorities = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        authorities.iter().any(|one| {
            one.is_alive()
                && one.uri.effective_port() == uri.effective_port()
                && one.uri.same_host(uri)
        })
    }
}

impl Authority {
    fn is_alive(&self) -> bool {
        self.policy.strong_count() > 0
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Policy {
    /// The rules for clients who are given URIs with that scheme, host and port.
    pub(in crate::relay) fn new(
        login: Arc<LoginOptions>,
        secure: bool,
        host: String,
        port: u16,
    ) -> Result<Self, RelayError> {
        let Ok(authority) = Uri::mint(secure, &host, port, "authority") else {
            return Err(RelayError::UriHost { host });
        };
        Ok(Self { login, host, port, secure, authority })
    }

    /// The URI of a session.
    pub(in crate::relay) fn mint(&self, session_id: &str) -> Result<Uri, UriError> {
        Uri::mint(self.secure, &self.host, self.port, session_id)
    }

    /// Whether Basic authentication is accepted. Without TLS it never is.
    pub(in crate::relay) fn accepts_basic(&self) -> bool {
        self.login.allow_basic_auth && self.secure
    }
}
