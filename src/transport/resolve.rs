//! Resolves the host of a next hop to the addresses that are dialled (RFC 4975 §6.2).
//!
//! Names are resolved here and nowhere else. The dialler connects to exactly the addresses returned
//! here, so an address that was checked is the address that is used.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::lookup_host;

/// Most addresses tried for one host. The owner of a name chooses how many addresses it has, so the
/// number needs a limit.
pub const MAX_ADDRESSES: usize = 8;

/// Resolves `host` to its addresses: without duplicates, in the order of the DNS records, at most
/// [`MAX_ADDRESSES`].
///
/// A literal address (IPv6 without brackets) needs no query. SRV records apply to hosts without a
/// port, and are not looked up here. Port 0, a failed query and a name without an address are
/// errors.
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
    Port { host: String },
    /// The query failed.
    #[error("host {host:?} cannot be resolved: {cause}")]
    Lookup {
        host: String,
        /// The error of the resolver.
        cause: io::Error,
    },
    /// The name exists but has no address.
    #[error("host {host:?} has no address")]
    NoAddress { host: String },
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
