//! Decides for each address that is to be dialled whether that is permitted.
//!
//! It is asked after a name was resolved, each time, for each address, and nothing else is dialled.
//! So neither a name nor a second answer of its name server leads past it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

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
        let homes = self.homes(port, resolver, user).await;
        let verdict = |address: SocketAddr| {
            let home = homes.iter().find(|home| home.is_at(address));
            home.map_or_else(|| self.peers.permit(address.ip()), |home| Err(Denied::Own(home.name)))
        };
        addresses.iter().map(|address| (*address, verdict(*address))).collect()
    }

    /// What the relay has on that port, on whichever address.
    async fn homes(&self, port: u16, resolver: &Resolver, user: &str) -> Vec<Home> {
        let listeners = self.listeners.iter().copied().filter(|socket| socket.port() == port);
        let sockets = Some(listeners.collect());
        let mut homes = vec![Home { name: "the relay itself", sockets }];
        for Service { name, address } in self.services.iter().filter(|one| one.address.port == port)
        {
            let found = resolver.addresses(&address.host, port, user).await;
            let sockets = found.ok().map(|mut sockets| {
                // What runs on this machine may listen on all of its addresses.
                for socket in sockets.iter_mut().filter(|socket| is_own(socket.ip())) {
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
    fn is_at(&self, target: SocketAddr) -> bool {
        let is_reached = |socket: &SocketAddr| reaches(target, *socket, is_own);
        self.sockets.as_ref().is_none_or(|sockets| sockets.iter().any(is_reached))
    }
}

/// Whether an address belongs to this machine. The kernel answers from the address itself what is
/// sent to an own one. So nothing need be listed, which a service manager may forbid; no packet is
/// sent.
fn is_own(address: IpAddr) -> bool {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Without a socket nothing is known. A dial would lack one, too.
    let Ok(socket) = UdpSocket::bind((any, 0)) else { return true };
    let route = socket.connect((address, DISCARD)).and_then(|()| socket.local_addr());
    route.is_ok_and(|local| local.ip() == address)
}

/// A port to name where none counts.
const DISCARD: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PeerList, values::peers};

    #[test]
    fn the_machine_knows_its_addresses() {
        for own in ["127.0.0.1", "127.3.2.1", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert!(is_own(own.parse().unwrap()), "{own}");
        }
        assert!(!is_own("192.0.2.77".parse().unwrap()));
        assert!(!is_own("2001:db8::77".parse().unwrap()));
        // The address by which it would reach others, if there is a way out.
        for (any, beyond) in [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")] {
            let Ok(socket) = UdpSocket::bind(any) else { continue };
            if socket.connect(beyond).is_ok() {
                assert!(is_own(socket.local_addr().unwrap().ip()), "{any}");
            }
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
