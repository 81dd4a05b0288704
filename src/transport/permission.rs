//! Decides for each address that is to be dialled whether that is permitted.
//!
//! It is asked after a name was resolved, each time, for each address, and nothing else is dialled.
//! So neither a name nor a second answer of its name server leads past it.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use tracing::debug;

use super::{
    pace::Pace,
    peers::{Denied, Peers, reaches},
    resolve::Resolver,
};
use crate::config::ListenAddress;

/// Where the relay may dial now.
#[derive(Debug)]
pub struct Permission {
    /// The rules of the newest generation.
    pub peers: Arc<Peers>,
    /// Where the relay itself listens.
    pub listeners: Vec<SocketAddr>,
    /// Other places that are never dialled.
    pub services: Arc<[Service]>,
    pub pace: Arc<Pace>,
}

/// What the relay has beside its listeners and is never dialled by its users: its database, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// In a message: "the database".
    pub name: &'static str,
    pub address: ListenAddress,
}

/// What listens on a port that is to be dialled.
struct Home {
    name: &'static str,
    /// `None` if its host cannot be resolved: it may be anywhere.
    sockets: Option<Vec<SocketAddr>>,
}

impl Permission {
    /// Decides on the addresses of a next hop. `user` is whose look-ups the names of services are.
    pub(super) async fn judge(
        &self,
        addresses: &[SocketAddr],
        resolver: &Resolver,
        user: &str,
    ) -> Vec<(SocketAddr, Result<(), Denied>)> {
        let Some(port) = addresses.first().map(SocketAddr::port) else { return Vec::new() };
        let machine = Machine::default();
        let homes = self.homes(port, &machine, resolver, user).await;
        let verdict = |address: SocketAddr| {
            let home = homes.iter().find(|home| home.is_at(address, &machine));
            home.map_or_else(|| self.peers.permit(address.ip()), |home| Err(Denied::Own(home.name)))
        };
        addresses.iter().map(|address| (*address, verdict(*address))).collect()
    }

    /// What the relay has on that port, on whichever address.
    async fn homes(
        &self,
        port: u16,
        machine: &Machine,
        resolver: &Resolver,
        user: &str,
    ) -> Vec<Home> {
        let listeners = self.listeners.iter().copied().filter(|socket| socket.port() == port);
        let sockets = Some(listeners.collect());
        let mut homes = vec![Home { name: "the relay itself", sockets }];
        for Service { name, address } in self.services.iter().filter(|one| one.address.port == port)
        {
            let found = resolver.addresses(&address.host, port, user).await;
            let sockets = found.ok().map(|mut sockets| {
                // What runs on this machine may listen on all of its addresses.
                for socket in sockets.iter_mut().filter(|socket| machine.has(socket.ip())) {
                    socket.set_ip(Ipv4Addr::UNSPECIFIED.into());
                }
                sockets
            });
            homes.push(Home { name, sockets });
        }
        homes
    }
}

impl Home {
    fn is_at(&self, target: SocketAddr, machine: &Machine) -> bool {
        let is_reached = |socket: &SocketAddr| reaches(target, *socket, |own| machine.has(own));
        self.sockets.as_ref().is_none_or(|sockets| sockets.iter().any(is_reached))
    }
}

/// The addresses of this machine, asked for when they are needed.
#[derive(Default)]
struct Machine(OnceLock<Option<HashSet<IpAddr>>>);

impl Machine {
    fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if address.is_loopback() || address.is_unspecified() {
            return true;
        }
        // If the kernel does not tell, any address may be one.
        let known = self.0.get_or_init(addresses);
        known.as_ref().is_none_or(|known| known.contains(&address))
    }
}

fn addresses() -> Option<HashSet<IpAddr>> {
    let interfaces = getifaddrs().inspect_err(|error| {
        debug!("the addresses of this machine are not known: {error}");
    });
    Some(interfaces.ok()?.filter_map(|interface| ip(&interface.address?)).collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::config::{PeerList, values::peers};

    #[test]
    fn the_machine_knows_its_addresses() {
        let machine = Machine::default();
        for own in ["127.0.0.1", "127.3.2.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert!(machine.has(own.parse().unwrap()), "{own}");
        }
        assert!(!machine.has("192.0.2.77".parse().unwrap()));
        assert!(!machine.has("2001:db8::77".parse().unwrap()));
        // The address by which it would reach others, if there is a way out.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            assert!(machine.has(socket.local_addr().unwrap().ip()));
        }
    }

    fn service(name: &'static str, host: &str, port: u16) -> Service {
        Service { name, address: ListenAddress { host: host.to_owned(), port } }
    }

    #[tokio::test]
    async fn s05_services_are_denied_on_each_address_of_their_machine() {
        let nothing = PeerList::default();
        let permission = Permission {
            peers: Arc::new(Peers::new(&peers("0.0.0.0/0, ::/0").unwrap(), &nothing)),
            listeners: vec!["192.0.2.9:2855".parse().unwrap()],
            services: Arc::new([
                service("here", "localhost", 1),
                service("there", "192.0.2.1", 2),
                service("nowhere", "no such name", 3),
            ]),
            pace: Arc::default(),
        };
        let resolver = Resolver::of_system();
        for (target, expected) in [
            ("127.0.0.1:1", Some("here")),
            ("127.0.0.77:1", Some("here")),
            ("[::1]:1", Some("here")),
            ("0.0.0.0:1", Some("here")),
            ("192.0.2.1:1", None),
            ("192.0.2.1:2", Some("there")),
            ("[64:ff9b::192.0.2.1]:2", Some("there")),
            ("127.0.0.1:2", None),
            ("192.0.2.3:3", Some("nowhere")),
            ("192.0.2.9:2855", Some("the relay itself")),
            ("127.0.0.1:2855", None),
        ] {
            let judged = permission.judge(&[target.parse().unwrap()], &resolver, "alice").await;
            let expected = expected.map_or(Ok(()), |name| Err(Denied::Own(name)));
            assert_eq!(judged[0].1, expected, "{target}");
        }
    }
}
