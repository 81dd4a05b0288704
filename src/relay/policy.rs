//! What one reading of the configuration means for the connections that it admits.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{ClientConfig, ServerConfig};

use super::RelayError;
use crate::{
    auth::{Backend, Chain, Database, Memory},
    config::{BackendKind, Config, DigestAlgorithm},
    msrp::{Uri, UriError, digest::Algorithm},
    transport::tls::{self, Identity, Verification},
};

/// Everything built from one `config.ini`. Connections take it when they are accepted and keep it.
#[derive(Debug)]
pub struct Generation {
    pub(super) policy: Arc<Policy>,
    /// None: plain TCP.
    pub(super) server: Option<Arc<ServerConfig>>,
    pub(super) client: Arc<ClientConfig>,
    /// What is not wrong enough to refuse the start.
    pub warnings: Vec<String>,
    /// In words.
    certificate: String,
    backends: Vec<BackendKind>,
}

/// The rules for one client and its session.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the file")]
pub(super) struct Policy {
    /// Host of the URIs given out.
    pub(super) host: String,
    /// Their port.
    pub(super) port: u16,
    /// Whether their scheme is `msrps`.
    pub(super) secure: bool,
    pub(super) backend: Arc<dyn Backend>,
    /// What challenges offer, in their order.
    pub(super) algorithms: Vec<Algorithm>,
    /// Basic is accepted too; never without TLS.
    pub(super) basic: bool,
    pub(super) default_domain: Option<String>,
    pub(super) domains: Vec<String>,
    pub(super) nonce_lifetime: Duration,
    /// None: any number.
    pub(super) max_auth_attempts: Option<NonZeroU32>,
    pub(super) log_failed_auth: bool,
    pub(super) other_methods: bool,
    /// Bound sessions end at their Expires, whoever named it.
    pub(super) strict_expiry: bool,
    pub(super) expires_minimum: Duration,
    pub(super) expires_default: Duration,
    pub(super) expires_maximum: Duration,
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Generation {
    /// Reads certificates and opens backends. `bound` is the first address listened on, if it is
    /// known already: its port is the one given out where the configuration leaves it open.
    pub fn build(
        config: &Config,
        bound: Option<SocketAddr>,
        now: SystemTime,
    ) -> Result<Self, RelayError> {
        let relay = &config.relay;
        let identities = if relay.debug_notls { Vec::new() } else { identities(config)? };
        let server = match &identities[..] {
            [] => None,
            identities => Some(tls::server_config(identities)?),
        };
        let host = match identities.first() {
            Some(identity) => tls::host_name(relay.hostname.as_deref(), identity)?,
            None => plain_host(config, bound)?,
        };
        let first = relay.address.first();
        let port = relay
            .advertised_port
            .or(bound.map(|address| address.port()))
            .or(first.map(|address| address.port))
            .unwrap_or_default();
        let findings = identities.iter().flat_map(|identity| identity.findings(now));
        let mut warnings: Vec<String> = findings.map(|finding| finding.to_string()).collect();
        warnings.extend(basic_warning(config).map(str::to_owned));
        let algorithms = algorithms(config);
        let (backend, found) = backend(config, &algorithms)?;
        warnings.extend(found);
        let policy = Policy {
            host,
            port,
            secure: !relay.debug_notls,
            backend,
            algorithms,
            basic: relay.allow_basic_auth && !relay.debug_notls,
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
        };
        policy.mint("probe").map_err(|_| RelayError::UriHost { host: policy.host.clone() })?;
        Ok(Self {
            client: tls::client_config(Verification::Off, identities.first())?,
            policy: Arc::new(policy),
            server,
            warnings,
            certificate: identities
                .first()
                .map_or_else(|| "none (plain TCP)".to_owned(), ToString::to_string),
            backends: relay.backend.clone(),
        })
    }

    /// One line on what is in force.
    pub fn describe(&self, config: &Config) -> String {
        let backends: Vec<String> = self.backends.iter().map(ToString::to_string).collect();
        format!(
            "configuration {}, host name {}, port {}, backend {}, certificate {}",
            config.source.display(),
            self.policy.host,
            self.policy.port,
            backends.join(", "),
            self.certificate,
        )
    }
}

impl Policy {
    /// The URI of a session.
    pub(super) fn mint(&self, session_id: &str) -> Result<Uri, UriError> {
        Uri::mint(self.secure, &self.host, self.port, session_id)
    }

    /// Whether users of that realm are served; letter case does not count.
    pub(super) fn serves(&self, realm: &str) -> bool {
        let same = |domain: &String| domain.eq_ignore_ascii_case(realm);
        self.domains.is_empty() || self.domains.iter().any(same)
    }
}

fn identities(config: &Config) -> Result<Vec<Identity>, RelayError> {
    let pairs = config.relay.certificate.iter().zip(&config.relay.key);
    Ok(pairs
        .map(|(certificate, key)| Identity::load(certificate, key))
        .collect::<Result<_, _>>()?)
}

fn algorithms(config: &Config) -> Vec<Algorithm> {
    let algorithm = |algorithm: &DigestAlgorithm| match algorithm {
        DigestAlgorithm::Sha256 => Algorithm::Sha256,
        DigestAlgorithm::Md5 => Algorithm::Md5,
    };
    config.relay.digest_algorithms.iter().map(algorithm).collect()
}

fn basic_warning(config: &Config) -> Option<&'static str> {
    let relay = &config.relay;
    match (relay.allow_basic_auth, relay.debug_notls) {
        (false, _) => None,
        (true, false) => Some(
            "[Relay] allow_basic_auth is on: RFC 4976 forbids Basic authentication, by which the \
             relay learns every password",
        ),
        (true, true) => Some("[Relay] allow_basic_auth has no effect with debug_notls"),
    }
}

/// The backend, connected nowhere yet, and what is odd about its options.
fn backend(
    config: &Config,
    algorithms: &[Algorithm],
) -> Result<(Arc<dyn Backend>, Vec<String>), RelayError> {
    let mut warnings = Vec::new();
    let mut backends: Vec<Arc<dyn Backend>> = Vec::new();
    for kind in &config.relay.backend {
        backends.push(match kind {
            BackendKind::Memory => {
                let users = config.memory.iter().map(|entry| {
                    (entry.user.clone(), entry.domain.clone(), entry.password.clone())
                });
                let memory = Memory::new(users)
                    .map_err(|twice| RelayError::DuplicateUser(twice.to_string()))?;
                Arc::new(memory)
            }
            BackendKind::Database => {
                let (database, found) = Database::open(&config.database, algorithms)?;
                warnings.extend(found);
                Arc::new(database)
            }
        });
    }
    let backend =
        if backends.len() == 1 { backends.remove(0) } else { Arc::new(Chain::new(backends)) };
    Ok((backend, warnings))
}

/// Without a certificate to take it from: the address that clients can reach.
fn plain_host(config: &Config, bound: Option<SocketAddr>) -> Result<String, RelayError> {
    if let Some(name) = &config.relay.hostname {
        return Ok(name.clone());
    }
    let bound = bound.map(|address| address.ip());
    let written = config.relay.address.first().map(|address| address.host.clone());
    match (bound, written) {
        (Some(address), _) if !address.is_unspecified() => Ok(address.to_string()),
        (None, Some(host)) if host.parse().is_ok_and(|ip: IpAddr| !ip.is_unspecified()) => Ok(host),
        (bound, _) => Ok(default_route(bound.is_some_and(|address| address.is_ipv6()))
            .map_err(RelayError::NoAddress)?
            .to_string()),
    }
}

/// The address that the kernel would use towards the rest of the world; nothing is sent.
fn default_route(v6: bool) -> std::io::Result<IpAddr> {
    let (any, beyond) =
        if v6 { ("[::]:0", "[2001:db8::1]:9") } else { ("0.0.0.0:0", "192.0.2.1:9") };
    let socket = UdpSocket::bind(any)?;
    match socket.connect(beyond) {
        Ok(()) => socket.local_addr().map(|address| address.ip()),
        // A machine of its own, without a route: whoever is on it can reach it.
        Err(_) => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }
}
