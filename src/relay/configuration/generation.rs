//! Everything that is built from one reading of the configuration.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::Arc,
    time::SystemTime,
};

use rustls::{ClientConfig, ServerConfig};

use super::{
    super::{Config, RelayError, error, quota::Quotas},
    descriptors,
    files::Files,
    policy::Policy,
    stores::Stores,
};
use crate::{
    auth::Backend,
    config::ListenAddress,
    tls::{self, Identity, Verification},
    transport::{Peers, Service},
};

/// One reading of `config.ini`, and what was built from it.
pub struct Generation {
    /// 1 for the first generation of the process.
    pub(in crate::relay) number: u64,
    pub(in crate::relay) config: Arc<Config>,
    pub(in crate::relay) policy: Arc<Policy>,
    pub(in crate::relay) quotas: Quotas,
    /// `None` without TLS.
    pub(in crate::relay) server: Option<Arc<ServerConfig>>,
    /// TLS towards next hops.
    pub(in crate::relay) client: Arc<ClientConfig>,
    /// Where the relay may dial.
    pub(in crate::relay) peers: Arc<Peers>,
    /// Where it never dials, beside its own listeners.
    pub(in crate::relay) services: Arc<[Service]>,
    /// The certificates, the default one first. Empty without TLS.
    pub(in crate::relay) identities: Vec<Identity>,
    /// The state of the certificate and key files just before they were read.
    pub(super) files: Files,
    /// The time for which the certificates were checked.
    pub(super) built: SystemTime,
    /// Problems that the operator should look at. The relay can run with them.
    pub warnings: Vec<String>,
    stores: Stores,
    /// All backends in use as one.
    pub(in crate::relay) backend: Arc<dyn Backend>,
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation")
            .field("number", &self.number)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Generation {
    /// Reads the certificates and opens the backends. `bound` is the first address that the relay
    /// listens on, if it is bound already. URIs get its port unless `advertised_port` is set, and
    /// its address if neither `hostname` nor a certificate gives a name.
    pub fn build(
        config: Arc<Config>,
        bound: Option<SocketAddr>,
        now: SystemTime,
    ) -> Result<Self, RelayError> {
        Self::succeed(None, config, bound, now, &|_| ())
    }

    /// All errors that could make [`Self::build`] fail, which stops at the first one. Those that the
    /// file itself has are left out.
    pub fn faults(config: &Config, bound: Option<SocketAddr>) -> Vec<RelayError> {
        let tls = &config.tls;
        let mut faults = Vec::new();
        if tls.debug_notls {
            faults.extend(plain_host(config, bound).err());
        } else if tls.certificate.len() == tls.key.len() {
            // Otherwise, as the file is told, it is not known which belong together.
            let pairs = tls.certificate.iter().zip(&tls.key);
            for (index, (certificate, key)) in pairs.enumerate() {
                match Identity::load(certificate, key) {
                    Ok(first) if index == 0 => {
                        let host = tls::host_name(config.listening.hostname.as_deref(), &first);
                        faults.extend(host.err().map(RelayError::from));
                    }
                    Ok(_) => {}
                    Err(error) => faults.push(error.into()),
                }
            }
        }
        faults.extend(Stores::faults(config));
        faults
    }

    /// Like [`Self::build`], but keeps what has not changed since the previous generation. `reads` is
    /// told what is read next.
    pub(super) fn succeed(
        previous: Option<&Self>,
        config: Arc<Config>,
        bound: Option<SocketAddr>,
        now: SystemTime,
        reads: &dyn Fn(&dyn fmt::Display),
    ) -> Result<Self, RelayError> {
        let listening = &config.listening;
        // Taken before the files are read: a change while they are read is noticed afterwards.
        let files = Files::of(&config.tls, reads);
        let secure = !config.tls.debug_notls;
        let identities = if secure { identities(&config, reads)? } else { Vec::new() };
        let host = match identities.first() {
            Some(identity) => tls::host_name(listening.hostname.as_deref(), identity)?,
            None => plain_host(&config, bound)?,
        };
        let (server, client) = tls_configurations(&identities, previous)?;
        let first = listening.address.first();
        let port = listening
            .advertised_port
            .or(bound.map(|address| address.port()))
            .or(first.map(|address| address.port))
            .unwrap_or_default();
        let findings = identities.iter().flat_map(|identity| identity.findings(now));
        let mut warnings: Vec<String> =
            findings.map(|finding| error::located(&finding, &config)).collect();
        warnings.extend(plain_warning(&config));
        warnings.extend(basic_warning(&config));
        reads(&"the sections of the backends, and what they name");
        let stores =
            Stores::open(&config, previous.map(|before| (&*before.config, &before.stores)))?;
        warnings.extend(stores.warnings());
        let policy = Policy::new(Arc::clone(&config.login), secure, host, port)?;
        let dialling = &config.dialling;
        let peers = Peers::new(&dialling.allowed_peers, &dialling.denied_peers);
        let services = services(&config).chain(stores.services()).collect();
        let quotas = Quotas::new(&config.limits, descriptors::limit());
        Ok(Self {
            number: previous.map_or(1, |previous| previous.number + 1),
            config,
            client,
            policy: Arc::new(policy),
            quotas,
            server,
            identities,
            files,
            built: now,
            warnings,
            peers: Arc::new(peers),
            services,
            backend: stores.backend(),
            stores,
        })
    }

    /// Whether both generations have the same certificates. Keys need no comparison, because a
    /// certificate has only one key.
    pub(super) fn has_certificates_of(&self, other: &Self) -> bool {
        same_chains(&self.identities, &other.identities)
    }

    /// One line for the log. `addresses` are those that the relay listens on.
    pub fn describe(&self, addresses: &[SocketAddr]) -> String {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let backends: Vec<String> = self.stores.names().collect();
        let certificate = if self.identities.is_empty() {
            "none (plain TCP)".to_owned()
        } else {
            let identities: Vec<String> = self.identities.iter().map(ToString::to_string).collect();
            identities.join("; ")
        };
        format!(
            "msrprelay {}, configuration {}, listening on {}, host name {}, port {}, backend {}, \
             certificate {certificate}",
            env!("CARGO_PKG_VERSION"),
            self.config.source().display(),
            addresses.join(", "),
            self.policy.host,
            self.policy.port,
            backends.join(", "),
        )
    }

    /// 1 for the first generation of the process.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many connections and sessions there may be.
    pub fn quotas(&self) -> Quotas {
        self.quotas
    }

    /// The host in the URIs that clients are given.
    pub fn host_name(&self) -> &str {
        &self.policy.host
    }

    /// The port in these URIs.
    pub fn port(&self) -> u16 {
        self.policy.port
    }

    /// The certificates, the default one first. Empty without TLS.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The names of the backends in use, in the order in which they are asked.
    pub fn backends(&self) -> impl Iterator<Item = String> {
        self.stores.names()
    }

    pub(super) fn stores(&self) -> &Stores {
        &self.stores
    }
}

fn identities(
    config: &Config,
    reads: &dyn Fn(&dyn fmt::Display),
) -> Result<Vec<Identity>, RelayError> {
    let mut identities = Vec::new();
    for (certificate, key) in config.tls.certificate.iter().zip(&config.tls.key) {
        reads(&format_args!("{} and {}", certificate.display(), key.display()));
        identities.push(Identity::load(certificate, key)?);
    }
    Ok(identities)
}

/// Where the relay listens for others than MSRP clients over TCP.
fn services(config: &Config) -> impl Iterator<Item = Service> {
    let named = |name| move |address: &ListenAddress| Service { name, address: address.clone() };
    let metrics = config.process.metrics_address.iter().map(named("the metrics of the relay"));
    metrics.chain(config.listening.websocket_address.iter().map(named("the relay itself")))
}

/// TLS towards clients and towards next hops. If the certificates are the same, the previous
/// configurations are kept with their cached TLS sessions.
fn tls_configurations(
    identities: &[Identity],
    previous: Option<&Generation>,
) -> Result<(Option<Arc<ServerConfig>>, Arc<ClientConfig>), RelayError> {
    if let Some(generation) = previous
        && same_chains(&generation.identities, identities)
    {
        return Ok((generation.server.clone(), Arc::clone(&generation.client)));
    }
    let server = match identities {
        [] => None,
        identities => Some(tls::server_config(identities)?),
    };
    Ok((server, tls::client_config(Verification::Off, identities.first())?))
}

fn same_chains(some: &[Identity], others: &[Identity]) -> bool {
    let chains = |identities: &[Identity]| -> Vec<_> {
        identities.iter().map(|identity| identity.chain().to_vec()).collect()
    };
    chains(some) == chains(others)
}

fn plain_warning(config: &Config) -> Option<String> {
    let text = "is on: there is no TLS, and everybody on the way can read messages and files, and \
                digests from which passwords can be guessed; set certificate and key, and turn it \
                off, unless this is a test";
    config.tls.debug_notls.then(|| format!("{} {text}", config.place("Relay", "debug_notls")))
}

fn basic_warning(config: &Config) -> Option<String> {
    let text = match (config.login.allow_basic_auth, config.tls.debug_notls) {
        (false, _) => return None,
        (true, false) => {
            "is on: RFC 4976 forbids Basic authentication, by which the relay learns every password"
        }
        (true, true) => "has no effect with debug_notls",
    };
    Some(format!("{} {text}", config.place("Relay", "allow_basic_auth")))
}

/// The host of the URIs without TLS: `hostname`, or the address that the relay listens on, or the
/// address of this machine.
fn plain_host(config: &Config, bound: Option<SocketAddr>) -> Result<String, RelayError> {
    if let Some(name) = &config.listening.hostname {
        return Ok(name.clone());
    }
    let bound = bound.map(|address| address.ip());
    let written = config.listening.address.first().map(|address| address.host.clone());
    match (bound, written) {
        (Some(address), _) if !address.is_unspecified() => Ok(address.to_string()),
        (None, Some(host)) if host.parse().is_ok_and(|ip: IpAddr| !ip.is_unspecified()) => Ok(host),
        (bound, _) => Ok(default_route(bound.is_some_and(|address| address.is_ipv6()))
            .map_err(RelayError::NoAddress)?
            .to_string()),
    }
}

/// The local address that the kernel uses for its default route. No packet is sent.
fn default_route(v6: bool) -> std::io::Result<IpAddr> {
    let (any, beyond) =
        if v6 { ("[::]:0", "[2001:db8::1]:9") } else { ("0.0.0.0:0", "192.0.2.1:9") };
    let socket = UdpSocket::bind(any)?;
    match socket.connect(beyond) {
        Ok(()) => socket.local_addr().map(|address| address.ip()),
        // Without a route only clients on this machine can reach the relay.
        Err(_) => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
    }
}
