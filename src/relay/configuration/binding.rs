//! Resolves the option `address` to socket addresses, and binds them.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs},
};

use super::super::RelayError;
use crate::{config::ListenAddress, transport};

/// A listening socket, with the address that the configuration asks for.
#[derive(Debug)]
pub struct Bound {
    /// The port is 0 if the configuration asks for any free port.
    pub requested: SocketAddr,
    /// Non-blocking.
    pub socket: std::net::TcpListener,
}

/// Binds all addresses of the option `address`. `inherited` may supply a socket that listens on an
/// address already.
pub fn bind(
    addresses: &[ListenAddress],
    mut inherited: impl FnMut(SocketAddr) -> Option<std::net::TcpListener>,
) -> Result<Vec<Bound>, RelayError> {
    let mut bound = Vec::new();
    for requested in resolve_all(addresses)? {
        bound.push(match inherited(requested) {
            Some(socket) => Bound { requested, socket },
            None => bind_one(requested)?,
        });
    }
    Ok(bound)
}

pub(super) fn bind_one(requested: SocketAddr) -> Result<Bound, RelayError> {
    let socket = transport::listen(requested).map_err(RelayError::Bind)?;
    Ok(Bound { requested, socket })
}

/// Whether one of two different addresses includes the other, as `0.0.0.0` includes each IPv4
/// address.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one != other
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// All addresses of a host name. An IP address is returned as it is. Blocks.
pub fn resolve(address: &ListenAddress) -> Result<Vec<SocketAddr>, RelayError> {
    let found = (address.host.as_str(), address.port).to_socket_addrs();
    let found = found.map_err(|cause| {
        let host = &address.host;
        let text =
            format!("{host} cannot be resolved: {cause}: correct the name or write an address");
        RelayError::Bind(io::Error::new(cause.kind(), text))
    })?;
    Ok(found.collect())
}

/// All addresses of the option `address`, in its order. Blocks.
pub(super) fn resolve_all(addresses: &[ListenAddress]) -> Result<Vec<SocketAddr>, RelayError> {
    let mut all = Vec::new();
    for address in addresses {
        all.extend(resolve(address)?);
    }
    distinct(all)
}

/// Removes duplicates: a name may resolve to an address that is listed as well. It is an error if
/// one address includes another, because both cannot be bound. Addresses with port 0 are all kept:
/// each gets a port of its own.
pub fn distinct(addresses: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, RelayError> {
    let mut distinct: Vec<SocketAddr> = Vec::new();
    for address in addresses {
        let fixed = address.port() != 0;
        if let Some(other) = distinct.iter().find(|other| fixed && overlap(**other, address)) {
            let (all, one) =
                if other.ip().is_unspecified() { (other, &address) } else { (&address, other) };
            let text = format!("{all} includes {one}: name only one of them");
            return Err(RelayError::Bind(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        if !(fixed && distinct.contains(&address)) {
            distinct.push(address);
        }
    }
    Ok(distinct)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_bound_once() {
        let of = |list: &[&str]| -> Result<Vec<String>, String> {
            let addresses = list.iter().map(|address| address.parse().unwrap()).collect();
            let found = distinct(addresses).map_err(|error| error.to_string())?;
            Ok(found.iter().map(ToString::to_string).collect())
        };
        let once = Ok(vec!["127.0.0.1:1".to_owned()]);
        assert_eq!(of(&["127.0.0.1:1", "127.0.0.1:1"]), once);
        for apart in [
            ["127.0.0.1:0", "127.0.0.1:0"],
            ["0.0.0.0:0", "127.0.0.1:0"],
            ["0.0.0.0:1", "[::]:1"],
            ["0.0.0.0:1", "127.0.0.1:2"],
            ["127.0.0.1:1", "127.0.0.2:1"],
        ] {
            assert_eq!(of(&apart), Ok(apart.map(str::to_owned).to_vec()));
        }
        let covered = Err("0.0.0.0:1 includes 127.0.0.1:1: name only one of them".to_owned());
        assert_eq!(of(&["127.0.0.1:1", "0.0.0.0:1"]), covered);
        assert_eq!(of(&["0.0.0.0:1", "127.0.0.1:1"]), covered);
    }
}
