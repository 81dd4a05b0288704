//! From a host to the addresses that are dialled (RFC 4975 §6.2).
//!
//! The one place where names become addresses: what comes out of here is what is dialled, never
//! resolved again, so an address that was checked is the address that is used.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::lookup_host;

/// Most addresses tried for one host: whoever owns a name decides how many it has.
pub const MAX_ADDRESSES: usize = 8;

/// The addresses of `host`, each once, in the order of the records, at most [`MAX_ADDRESSES`].
///
/// A literal address (IPv6 without brackets) is taken as it is, without a query. SRV is for hosts
/// without a port and is not looked up here.
pub async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    if port == 0 {
        return Err(ResolveError::Port { host: host.to_owned() });
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = lookup_host((host, port))
        .await
        .map_err(|cause| ResolveError::Lookup { host: host.to_owned(), cause })?;
    let addresses = distinct(found);
    if addresses.is_empty() {
        return Err(ResolveError::NoAddress { host: host.to_owned() });
    }
    Ok(addresses)
}

fn distinct(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for address in found {
        if addresses.len() < MAX_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// Why a host has no address to dial.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Port 0 cannot be dialled.
    #[error("port 0 of {host:?} cannot be dialled")]
    Port {
        /// The host it was asked of.
        host: String,
    },
    /// The resolver answered with an error.
    #[error("host {host:?} cannot be resolved: {cause}")]
    Lookup {
        /// The host that was looked up.
        host: String,
        /// What the resolver said.
        cause: io::Error,
    },
    /// The name exists and has no address.
    #[error("host {host:?} has no address")]
    NoAddress {
        /// The host that was looked up.
        host: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn literals_need_no_query() {
        assert_eq!(addresses("192.0.2.7", 2855).await.unwrap(), [socket("192.0.2.7:2855")]);
        assert_eq!(addresses("2001:db8::7", 1).await.unwrap(), [socket("[2001:db8::7]:1")]);
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let found = addresses("localhost", 65535).await.unwrap();
        assert!(found.iter().all(|a| a.ip().is_loopback() && a.port() == 65535), "{found:?}");
    }

    #[tokio::test]
    async fn errors_name_the_host() {
        let zero = addresses("192.0.2.7", 0).await.unwrap_err();
        assert_eq!(zero.to_string(), "port 0 of \"192.0.2.7\" cannot be dialled");
        let unknown = addresses("no such\r\nhost", 2855).await.unwrap_err().to_string();
        assert!(
            unknown.starts_with("host \"no such\\r\\nhost\" cannot be resolved: "),
            "{unknown}"
        );
    }

    #[test]
    fn addresses_come_once_in_order_and_bounded() {
        let repeated = ["192.0.2.2:1", "192.0.2.1:1", "192.0.2.2:1"].map(socket);
        assert_eq!(distinct(repeated.into_iter()), [repeated[0], repeated[1]]);
        let many = (1..=200).map(|n| SocketAddr::from(([192, 0, 2, n], 1)));
        assert_eq!(distinct(many.clone()), many.take(MAX_ADDRESSES).collect::<Vec<_>>());
    }
}
