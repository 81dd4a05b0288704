//! The rules for those whom one reading of the configuration admits.

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use super::super::RelayError;
use crate::{
    auth::Backend,
    config::{DigestAlgorithm, RelayOptions},
    msrp::{Uri, UriError, digest::Algorithm},
};

/// The rules for one client and its session.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the file")]
pub(in crate::relay) struct Policy {
    /// Host of the URIs given out.
    pub(in crate::relay) host: String,
    /// Their port.
    pub(in crate::relay) port: u16,
    /// Whether their scheme is `msrps`.
    pub(in crate::relay) secure: bool,
    /// One of them, for what they have in common.
    pub(in crate::relay) authority: Uri,
    pub(in crate::relay) backend: Arc<dyn Backend>,
    /// What challenges offer, in their order.
    pub(in crate::relay) algorithms: Vec<Algorithm>,
    /// Basic is accepted too; never without TLS.
    pub(in crate::relay) basic: bool,
    pub(in crate::relay) default_domain: Option<String>,
    pub(in crate::relay) domains: Vec<String>,
    pub(in crate::relay) nonce_lifetime: Duration,
    /// None: any number.
    pub(in crate::relay) max_auth_attempts: Option<NonZeroU32>,
    pub(in crate::relay) log_failed_auth: bool,
    pub(in crate::relay) other_methods: bool,
    /// Bound sessions end at their Expires, whoever named it.
    pub(in crate::relay) strict_expiry: bool,
    pub(in crate::relay) expires_minimum: Duration,
    pub(in crate::relay) expires_default: Duration,
    pub(in crate::relay) expires_maximum: Duration,
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
    /// What `[Relay]` says of clients, who are given URIs with that host and port.
    pub(in crate::relay) fn new(
        relay: &RelayOptions,
        host: String,
        port: u16,
        backend: Arc<dyn Backend>,
    ) -> Result<Self, RelayError> {
        let secure = !relay.debug_notls;
        let Ok(authority) = Uri::mint(secure, &host, port, "authority") else {
            return Err(RelayError::UriHost { host });
        };
        Ok(Self {
            host,
            port,
            secure,
            authority,
            backend,
            algorithms: algorithms(relay),
            basic: relay.allow_basic_auth && secure,
            default_domain: relay.default_domain.clone(),
            domains: relay.domains.clone(),
            nonce_lifetime: relay.auth_challenge_expiration_time,
            max_auth_attempts: relay.max_auth_attempts,
            log_failed_auth: relay.log_failed_auth,
            other_methods: relay.allow_other_methods,
            strict_expiry: relay.strict_expiry,
            expires_minimum: relay.session_expiration_time_minimum,
            expires_default: relay.session_expiration_time_default,
            expires_maximum: relay.session_expiration_time_maximum,
        })
    }

    /// The URI of a session.
    pub(in crate::relay) fn mint(&self, session_id: &str) -> Result<Uri, UriError> {
        Uri::mint(self.secure, &self.host, self.port, session_id)
    }

    /// Whether users of that realm are served; letter case does not count.
    pub(in crate::relay) fn serves(&self, realm: &str) -> bool {
        let same = |domain: &String| domain.eq_ignore_ascii_case(realm);
        self.domains.is_empty() || self.domains.iter().any(same)
    }
}

/// The digests to offer, in their order.
pub(super) fn algorithms(relay: &RelayOptions) -> Vec<Algorithm> {
    let algorithm = |algorithm: &DigestAlgorithm| match algorithm {
        DigestAlgorithm::Sha256 => Algorithm::Sha256,
        DigestAlgorithm::Md5 => Algorithm::Md5,
    };
    relay.digest_algorithms.iter().map(algorithm).collect()
}
