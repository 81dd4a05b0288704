//! The rules for the clients that one reading of the configuration admits.

use std::{fmt, sync::Arc};

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
    pub(in crate::relay) authority: Uri,
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
