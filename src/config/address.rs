//! Addresses to listen on, as operators write them.

use std::{fmt, net::Ipv6Addr};

use super::values::{Refused, is_host_name, is_none, list};

/// Port of MSRP (RFC 4975 §15.4).
pub const DEFAULT_PORT: u16 = 2855;

const ANY_HOST: &str = "0.0.0.0";

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// Host name or IP address, IPv6 without brackets. `0.0.0.0` and `::` stand for all.
    pub host: String,
    /// 0 stands for any free port.
    pub port: u16,
}

impl ListenAddress {
    fn parse(text: &str, default_port: Option<u16>) -> Option<Self> {
        if text.eq_ignore_ascii_case("default") {
            return default_port.map(|port| Self::new(ANY_HOST, port));
        }
        if is_none(text) {
            return None;
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                let port = match rest {
                    "" => None,
                    _ => Some(rest.strip_prefix(':')?),
                };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (named(host)?, Some(port)),
                None => (named(text).filter(|_| !text.is_empty())?, None),
            },
        };
        let port = match port {
            Some(port) => port_number(port)?,
            None => default_port?,
        };
        Some(Self::new(host, port))
    }

    fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// The host of an address to listen on. `any` and no host stand for all addresses.
fn named(host: &str) -> Option<&str> {
    if host.is_empty() || host.eq_ignore_ascii_case("any") {
        return Some(ANY_HOST);
    }
    is_host_name(host).then_some(host)
}

/// A port in digits only: `u16::from_str` would accept a sign.
fn port_number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Addresses of the relay itself.
pub fn addresses(text: &str) -> Result<Vec<ListenAddress>, Refused> {
    list(text, |item| ListenAddress::parse(item, Some(DEFAULT_PORT)))
}

/// Addresses of a service without a port of its own.
pub fn service_addresses(text: &str) -> Result<Vec<ListenAddress>, Refused> {
    if is_none(text) {
        return Ok(Vec::new());
    }
    list(text, |item| ListenAddress::parse(item, None))
}

/// Address of a service, or `none`.
pub fn service_address(text: &str) -> Result<Option<ListenAddress>, Refused> {
    if is_none(text) {
        return Ok(None);
    }
    let address = ListenAddress::parse(text, None);
    address.map(Some).ok_or_else(|| Refused::new(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused<T>(part: &str) -> Result<T, Refused> {
        Err(Refused::new(part))
    }

    #[test]
    fn listening_addresses() {
        let table = [
            ("192.0.2.1:28550", "192.0.2.1:28550"),
            ("192.0.2.1", "192.0.2.1:2855"),
            ("relay.example.com", "relay.example.com:2855"),
            (":5000", "0.0.0.0:5000"),
            ("any:5000", "0.0.0.0:5000"),
            ("Any", "0.0.0.0:2855"),
            ("default", "0.0.0.0:2855"),
            ("[::]:5000", "[::]:5000"),
            ("[2001:db8::1]", "[2001:db8::1]:2855"),
            ("127.0.0.1:0", "127.0.0.1:0"),
            ("0.0.0.0, [::]:1 ,\na:2,", "0.0.0.0:2855 [::]:1 a:2"),
        ];
        for (text, expected) in table {
            let read = addresses(text).unwrap();
            let shown: Vec<String> = read.iter().map(ToString::to_string).collect();
            assert_eq!(shown.join(" "), expected, "{text:?}");
        }
        let wrong = [
            "none",
            "none x",
            "a b",
            "a:",
            "a:x",
            "a:+1",
            "a:65536",
            "a:99999",
            "::1",
            "2001:db8::1",
            "[::1",
            "[::1]5",
            "[a]:1",
            "[192.0.2.1]:1",
            "a/b",
            "a..b",
            ",",
            "msrp://a",
        ];
        for text in wrong {
            assert_eq!(addresses(text), refused(text));
        }
        assert_eq!(addresses("a:1, b:x"), refused("b:x"));
        assert_eq!(service_addresses("a"), refused("a"), "there is no port to fall back on");
        assert_eq!(service_addresses("None"), Ok(Vec::new()));
        assert_eq!(service_address(":9"), Ok(Some(ListenAddress::new("0.0.0.0", 9))));
        assert_eq!(service_address("a:1,b:2"), refused("a:1,b:2"));
    }

    fn any_host() -> impl Strategy<Value = String> {
        let name = "[a-z0-9]{1,9}(\\.[a-z0-9]{1,9}){0,3}";
        prop_oneof![name, any::<Ipv6Addr>().prop_map(|address| address.to_string())]
    }

    proptest! {
        /// An address that is printed is read back as the same.
        #[test]
        fn an_address_survives_printing(host in any_host(), port: u16) {
            prop_assume!(!["any", "default"].contains(&host.as_str()));
            let address = ListenAddress { host, port };
            prop_assert_eq!(addresses(&address.to_string()), Ok(vec![address]));
        }
    }
}
