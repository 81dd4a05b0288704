//! What the system knows of names: `/etc/hosts`, and the name servers of `/etc/resolv.conf`.
//!
//! They are asked as the C library does it, but without a thread for each look-up: first
//! `/etc/hosts`, then the name servers in their order, with the search list and the options `ndots`,
//! `timeout`, `attempts` and `edns0`. A name server that does not answer, or answers with a failure,
//! is followed by the next one. `/etc/nsswitch.conf` does not count.

use std::{fs, io, net::IpAddr, time::Duration};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    lookup::Lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
    system_conf::parse_resolv_conf,
};
use tracing::{instrument::WithSubscriber as _, subscriber::NoSubscriber, warn};

use crate::clock;

/// Names the name servers.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Names that need no name server.
pub const HOSTS: &str = "/etc/hosts";

/// Most addresses taken of one host and one family. The owner of a name chooses how many it has.
pub(super) const MAX_ADDRESSES: usize = 8;
/// Most name servers and search domains used, as in the C library.
const MAX_SERVERS: usize = 3;
const MAX_SEARCH: usize = 6;
/// Who is asked if `/etc/resolv.conf` names nobody (resolv.conf(5)).
const DEFAULT_SERVER: &str = "\nnameserver 127.0.0.1\n";

/// The two files as they were read once.
pub(super) struct Names {
    hosts: Hosts,
    /// One for each name server, so that their order and number of attempts are decided here.
    servers: Vec<TokioResolver>,
    search: Vec<Name>,
    ndots: usize,
    attempts: usize,
}

/// What the name servers say of a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// IPv6 before IPv4, each in the order of the records; none if there is no such name, or if it
    /// has no address.
    pub(super) addresses: Vec<IpAddr>,
    /// How long that may be remembered.
    pub(super) ttl: Duration,
}

impl Names {
    /// Reads the files; blocks.
    pub(super) fn read() -> Self {
        Self::parse(&contents(RESOLV_CONF), &contents(HOSTS), DNS_PORT)
    }

    /// `port` is where the name servers listen.
    pub(super) fn parse(resolv_conf: &str, hosts: &str, port: u16) -> Self {
        let parsed = parse_resolv_conf(resolv_conf)
            // Without a name server there is one on this machine.
            .or_else(|_| parse_resolv_conf(format!("{resolv_conf}{DEFAULT_SERVER}")))
            .or_else(|error| {
                warn!("{RESOLV_CONF} is not understood and does not count: {error}");
                parse_resolv_conf(DEFAULT_SERVER)
            });
        let (config, options) = parsed.unwrap_or_default();
        let (domain, mut search, servers) = config.into_parts();
        // The domain of the host name stands for a search list that is missing.
        search.extend(domain.filter(|_| search.is_empty()));
        search.truncate(MAX_SEARCH);
        Self {
            hosts: parse_hosts(hosts),
            ndots: options.ndots,
            attempts: options.attempts.max(1),
            search,
            servers: servers
                .into_iter()
                .take(MAX_SERVERS)
                .filter_map(|server| asking(server.ip, port, options.clone()).ok())
                .collect(),
        }
    }

    /// The addresses that `/etc/hosts` has of a name.
    pub(super) fn in_hosts(&self, host: &str) -> Vec<IpAddr> {
        let Ok(name) = Name::from_str_relaxed(host) else { return Vec::new() };
        let of_type = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found = [of_type(RecordType::AAAA), of_type(RecordType::A)];
        found.iter().flatten().flat_map(addresses).collect()
    }

    /// Asks the name servers. Dropping the future ends the query.
    pub(super) async fn look_up(&self, host: &str) -> Result<Answer, NetError> {
        // The library tells of each packet; what the relay has to say of it is said elsewhere.
        self.searched(host).with_subscriber(NoSubscriber::default()).await
    }

    async fn searched(&self, host: &str) -> Result<Answer, NetError> {
        let mut ttl = Duration::MAX;
        for name in self.candidates(host)? {
            let answer = self.ask(&name).await?;
            ttl = ttl.min(answer.ttl);
            if !answer.addresses.is_empty() {
                return Ok(Answer { ttl, ..answer });
            }
        }
        Ok(Answer { addresses: Vec::new(), ttl })
    }

    /// The names that a host may stand for, in the order in which they are asked for: resolv.conf(5).
    fn candidates(&self, host: &str) -> Result<Vec<Name>, NetError> {
        let name = Name::from_str_relaxed(host)?;
        if name.is_fqdn() {
            return Ok(vec![name]);
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let as_it_is_first = dots >= self.ndots || name.is_localhost();
        let searched =
            self.search.iter().filter_map(|domain| name.clone().append_domain(domain).ok());
        let mut candidates: Vec<Name> = searched.collect();
        let mut as_it_is = name;
        as_it_is.set_fqdn(true);
        candidates.insert(if as_it_is_first { 0 } else { candidates.len() }, as_it_is);
        Ok(candidates)
    }

    /// Asks one name server after the other until one answers.
    async fn ask(&self, name: &Name) -> Result<Answer, NetError> {
        let mut failure = NetError::NoConnections;
        for _ in 0..self.attempts {
            for server in &self.servers {
                match ask_one(server, name).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => failure = error,
                }
            }
        }
        Err(failure)
    }
}

/// Asks for IPv6 and IPv4 at once. It fails if there is no address and one of the two failed: then
/// nobody knows whether there is one.
async fn ask_one(server: &TokioResolver, name: &Name) -> Result<Answer, NetError> {
    let (v6, v4) = tokio::join!(server.ipv6_lookup(name.clone()), server.ipv4_lookup(name.clone()));
    let mut found = Vec::new();
    let mut failure = None;
    let (mut positive, mut negative) = (Duration::MAX, Duration::MAX);
    for result in [v6, v4] {
        match result {
            Ok(lookup) => {
                found.extend(addresses(&lookup));
                let left = lookup.valid_until().saturating_duration_since(clock::now());
                positive = positive.min(left);
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                // RFC 2308 §5: without SOA it is not remembered.
                let left = Duration::from_secs(none.negative_ttl.unwrap_or_default().into());
                negative = negative.min(left);
            }
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if found.is_empty() => Err(error),
        // Half an answer is good enough to dial, but not to be remembered.
        Some(_) => Ok(Answer { addresses: found, ttl: Duration::ZERO }),
        None if found.is_empty() => Ok(Answer { addresses: found, ttl: positive.min(negative) }),
        None => Ok(Answer { addresses: found, ttl: positive }),
    }
}

fn addresses(lookup: &Lookup) -> impl Iterator<Item = IpAddr> {
    lookup.answers().iter().filter_map(|record| record.data.ip_addr()).take(MAX_ADDRESSES)
}

const DNS_PORT: u16 = 53;

/// A resolver that asks one name server once, and remembers nothing.
fn asking(server: IpAddr, port: u16, mut options: ResolverOpts) -> Result<TokioResolver, NetError> {
    options.attempts = 0;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = port;
        connection
    });
    let server = NameServerConfig::new(server, true, connections.to_vec());
    let config = ResolverConfig::from_name_servers(vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
}

fn parse_hosts(text: &str) -> Hosts {
    let mut hosts = Hosts::default();
    // The library warns of lines that it cannot use at each reading. They do not count, as ever.
    tracing::subscriber::with_default(NoSubscriber::default(), || {
        // Memory does not fail to be read.
        let _ = hosts.read_hosts_conf(text.as_bytes());
    });
    hosts
}

/// The text of a file; none if there is no file.
fn contents(path: &str) -> String {
    match fs::read(path) {
        Ok(octets) => String::from_utf8_lossy(&octets).into_owned(),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                warn!("{path} cannot be read and does not count: {error}");
            }
            String::new()
        }
    }
}
