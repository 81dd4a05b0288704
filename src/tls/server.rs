//! The server side of TLS: which certificate a client gets.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{Identity, TlsError, provider};

/// The TLS configuration for accepted connections.
///
/// The server name that a client sends selects the identity. A client that sends no name, or an
/// unknown one, gets the first identity: clients also reach relays through SRV targets and
/// addresses (RFC 9325 §3.7). The relay does not ask for client certificates, because it would have
/// to ignore them (RFC 4976 §9.2). Resumption is the default of rustls: 256 sessions in memory.
/// There is no ticket key that would have to be rotated, or that could decrypt recorded traffic.
pub fn server_config(identities: &[Identity]) -> Result<Arc<ServerConfig>, TlsError> {
    if identities.is_empty() {
        return Err(TlsError::NoIdentity);
    }
    let resolver = ByServerName { identities: identities.to_vec() };
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TlsError::Configuration)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    Ok(Arc::new(config))
}

/// Chooses among the identities by name, then by what the client can verify.
#[derive(Debug)]
struct ByServerName {
    identities: Vec<Identity>,
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |identity: &&Identity| {
            identity.certified.key.choose_scheme(hello.signature_schemes()).is_some()
        };
        // The first of equals, so the first identity is the default.
        let best =
            self.identities.iter().filter(usable).min_by_key(|i| i.rank(hello.server_name()));
        best.or(self.identities.first()).map(|identity| Arc::clone(&identity.certified))
    }
}
