//! The rules for the clients that one reading of the configuration admits.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use super::super::{RelayError, options::LoginOptions};
use crate::msrp::{Uri, UriError};

/// The rules for one client and its session.
pub(in crate::relay) struct Policy {
    /// What the operator says of clients.
    pub(in crate::relay) login: Arc<LoginOptions>,
    /// Host of the URIs given out.
    pub(in crate::relay) host: String,
    /// Their port.
    pub(in crate::relay) port: u16,
    /// Whether their scheme is `msrps`.
    pub(in crate::relay) secure: bool,
    /// One of them, for what they have in common.
    authority: Uri,
}

/// The hosts and ports of all policies under which sessions live or may still come: they lead to
/// this relay itself.
#[derive(Debug, Default)]
pub(in crate::relay) struct Authorities(Mutex<Vec<Authority>>);

#[derive(Debug)]
struct Authority {
    /// Only counted: it is alive while the generation in force or a connection keeps it.
    policy: Weak<Policy>,
    /// A URI with the host and port.
    uri: Uri,
}

impl Authorities {
    /// From now on URIs are given out under this policy.
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

    /// Whether Basic is accepted too; never without TLS.
    pub(in crate::relay) fn accepts_basic(&self) -> bool {
        self.login.allow_basic_auth && self.secure
    }
}
