//! Resolves the host of a next hop to the addresses that are dialled (RFC 4975 §6.2).
//!
//! Names are resolved here and nowhere else. The dialler connects to exactly the addresses returned
//! here, so an address that was checked is the address that is used.
//!
//! A user chooses the names that the relay looks up, and the owner of a name decides how long that
//! takes. So a look-up takes no thread, has a limited time, and ends with its dial; the number of
//! look-ups is limited per user and in all.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use moka::{Expiry, sync::Cache};
use tokio::time::timeout_at;

pub use super::names::{HOSTS, RESOLV_CONF};
use super::{
    names::{Answer, MAX_ADDRESSES, Names},
    target::CONNECT_TIMEOUT,
};
use crate::{clock, fair::Line};

/// Longest time for one look-up, in which it also waits for its turn: half of the time for the dial.
/// With the defaults of resolv.conf(5) that is enough to ask the third name server if two are dead.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(CONNECT_TIMEOUT.as_secs() / 2);

/// Most look-ups under way at once. Each needs up to six sockets while its name server is silent.
pub const MAX_LOOKUPS: usize = 256;

/// Most look-ups under way at once for one user; more of them wait. A user of a busy gateway needs
/// several, and it takes many users with slow names to use up [`MAX_LOOKUPS`].
pub const MAX_LOOKUPS_PER_USER: usize = 8;

/// Most names that are remembered, at about half a KiB each.
const MAX_REMEMBERED: u64 = 4096;

/// Longest time for which an address is remembered, whatever its TTL: the time until the relay
/// follows a name that has moved.
const TTL_MAX: Duration = Duration::from_hours(1);

/// Longest time for which it is remembered that a name has no address: the time until the relay
/// finds a name that was just made.
const NEGATIVE_TTL_MAX: Duration = Duration::from_mins(5);

/// Resolves names by `/etc/hosts` and the name servers of `/etc/resolv.conf`.
pub struct Resolver {
    system: RwLock<Arc<System>>,
    line: Line<String>,
}

/// The files as they were read last, and what the name servers have said since.
struct System {
    names: Names,
    answers: Cache<String, Answer>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl Resolver {
    /// Reads the files of the system. Blocks.
    pub fn of_system() -> Self {
        Self::new(
            System::new(Names::read()),
            Line::new(MAX_LOOKUPS, MAX_LOOKUPS_PER_USER, usize::MAX),
        )
    }

    fn new(system: System, line: Line<String>) -> Self {
        Self { system: RwLock::new(Arc::new(system)), line }
    }

    /// Reads the files again, and forgets what the name servers have said. Blocks.
    pub fn reread(&self) {
        *self.system.write().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(System::new(Names::read()));
    }

    /// Resolves `host` to its addresses: without duplicates, at most `MAX_ADDRESSES`. IPv6 stands
    /// before IPv4, each in the order of the DNS records, and what this machine has no route to
    /// stands last.
    ///
    /// A literal address (IPv6 without brackets) needs no query. SRV records apply to hosts without
    /// a port, and are not looked up here. Port 0, a failed query and a name without an address are
    /// errors. If `user` has many look-ups under way, this one waits. Dropping the future ends the
    /// query.
    pub async fn addresses(
        &self,
        host: &str,
        port: u16,
        user: &str,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        if port == 0 {
            return Err(ResolveError::Port { host: host.to_owned() });
        }
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let system = self.system();
        let found = match system.known(host) {
            Some(found) => found,
            None => self.look_up(&system, host, user).await?,
        };
        if found.is_empty() {
            return Err(ResolveError::NoAddress { host: host.to_owned() });
        }
        Ok(ordered(&found, port, has_route))
    }

    async fn look_up(
        &self,
        system: &System,
        host: &str,
        user: &str,
    ) -> Result<Vec<IpAddr>, ResolveError> {
        let deadline = clock::now() + RESOLVE_TIMEOUT;
        let busy = || ResolveError::Busy { host: host.to_owned() };
        let entry = self.line.enter(user.to_owned()).ok_or_else(busy)?;
        let Ok(_place) = timeout_at(deadline.into(), entry.place()).await else {
            return Err(busy());
        };
        // The look-ups that had their turn before may have been for the same name.
        if let Some(found) = system.known(host) {
            return Ok(found);
        }
        match timeout_at(deadline.into(), system.names.look_up(host)).await {
            Ok(Ok(answer)) => Ok(system.remember(host, answer)),
            Ok(Err(error)) => {
                Err(ResolveError::Lookup { host: host.to_owned(), cause: io::Error::other(error) })
            }
            Err(_) => Err(ResolveError::Timeout { host: host.to_owned() }),
        }
    }

    fn system(&self) -> Arc<System> {
        Arc::clone(&self.system.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl System {
    fn new(names: Names) -> Self {
        let answers = Cache::builder().max_capacity(MAX_REMEMBERED).expire_after(ByTtl).build();
        Self { names, answers }
    }

    /// The addresses of a host that needs no query.
    fn known(&self, host: &str) -> Option<Vec<IpAddr>> {
        let found = self.names.in_hosts(host);
        if !found.is_empty() {
            return Some(found);
        }
        self.answers.get(&host.to_ascii_lowercase()).map(|answer| answer.addresses)
    }

    fn remember(&self, host: &str, mut answer: Answer) -> Vec<IpAddr> {
        let found = answer.addresses.clone();
        answer.ttl = answer.ttl.min(if found.is_empty() { NEGATIVE_TTL_MAX } else { TTL_MAX });
        if !answer.ttl.is_zero() {
            self.answers.insert(host.to_ascii_lowercase(), answer);
        }
        found
    }
}

/// Forgets an answer after its TTL.
struct ByTtl;

impl Expiry<String, Answer> for ByTtl {
    fn expire_after_create(&self, _: &String, answer: &Answer, _: Instant) -> Option<Duration> {
        Some(answer.ttl)
    }

    fn expire_after_update(
        &self,
        _: &String,
        answer: &Answer,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(answer.ttl)
    }
}

fn ordered(found: &[IpAddr], port: u16, has_route: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for &address in found {
        let address = SocketAddr::new(address, port);
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.sort_by_cached_key(|address| !has_route(*address));
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// Whether the kernel would know a way there; nothing is sent (RFC 6724 §6, rule 1).
fn has_route(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
}

/// Why a host has no address to dial.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Port 0 cannot be dialled.
    #[error("port 0 of {host:?} cannot be dialled")]
    Port { host: String },
    /// The query failed.
    #[error("host {host:?} cannot be resolved: {cause}")]
    Lookup {
        host: String,
        /// The error of the resolver.
        cause: io::Error,
    },
    /// No name server answered in time.
    #[error("host {host:?} cannot be resolved: no answer within {RESOLVE_TIMEOUT:?}")]
    Timeout { host: String },
    /// The look-up did not have its turn in time.
    #[error(
        "host {host:?} was not looked up: for {RESOLVE_TIMEOUT:?} {MAX_LOOKUPS_PER_USER} other \
         look-ups of this user, or {MAX_LOOKUPS} in all, were under way"
    )]
    Busy { host: String },
    /// There is no such name, or it has no address.
    #[error("host {host:?} has no address")]
    NoAddress { host: String },
}

#[cfg(test)]
mod tests;
