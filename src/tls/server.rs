//! The server side: what an accepted connection is greeted with.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{Identity, TlsError, provider};

/// The server side: what an accepted connection is greeted with.
///
/// The identity is chosen by the server name a client sends; a client that sends none, or a name
/// nobody has, gets the first one: relays are reached through SRV targets and addresses as well
/// (RFC 9325 §3.7). No client certificate is asked for: clients' ones would be ignored (RFC 4976
/// §9.2). Resumption is as rustls does it: 256 sessions remembered in memory, no ticket key that
/// would have to be rotated and that could unlock recorded traffic.
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
