//! Where the relay may dial, by the options `allowed_peers` and `denied_peers`. Pure.
//!
//! IPv6 has many forms of an IPv4 address: mapped, compatible, 6to4, NAT64, Teredo. A gateway on the
//! way, or the kernel, may turn them into that address again. So an address is judged as each of
//! the addresses that it [stands for](stands_for), and all of them must be permitted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::PeerList;

/// The rules of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peers {
    allowed: PeerList,
    denied: PeerList,
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// By `denied_peers`.
    #[error("denied_peers = {rule} denies {address}; allowed_peers = {address} would allow it")]
    Rule {
        /// What the address stands for, as far as it is denied.
        address: IpAddr,
        rule: Rule,
    },
    /// It leads to this relay itself, or to what belongs to it. No option allows that.
    #[error("{0} listens there, which the relay never dials")]
    Own(&'static str),
}

/// An item of a list of peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// All ranges that are not globally reachable.
    Special,
    Network(IpNet),
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Special => f.write_str("special"),
            Self::Network(network) => write!(f, "{network}"),
        }
    }
}

impl Peers {
    /// `allowed` has precedence. A network of mapped IPv4 addresses is that IPv4 network; no other
    /// IPv6 network, not even `::/0`, holds an IPv4 address.
    pub fn new(allowed: &PeerList, denied: &PeerList) -> Self {
        let plain = |list: &PeerList| PeerList {
            networks: list.networks.iter().copied().map(without_mapping).collect(),
            special: list.special,
        };
        Self { allowed: plain(allowed), denied: plain(denied) }
    }

    /// Whether the relay may dial an address.
    pub fn permit(&self, address: IpAddr) -> Result<(), Denied> {
        for address in stands_for(address) {
            if find(&self.allowed, address).is_none()
                && let Some(rule) = find(&self.denied, address)
            {
                return Err(Denied::Rule { address, rule });
            }
        }
        Ok(())
    }
}

fn find(list: &PeerList, address: IpAddr) -> Option<Rule> {
    // `contains` compares the addresses as integers.
    let network = list.networks.iter().find(|network| network.contains(&address));
    network
        .map(|network| Rule::Network(*network))
        .or_else(|| (list.special && is_special(address)).then_some(Rule::Special))
}

fn without_mapping(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.network().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(MAPPING_BITS));
    let v4 = v4.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(network, IpNet::V4)
}

/// Whether a connection to `target` would arrive at a socket that listens on `socket`. `is_own`
/// tells whether an address belongs to this machine.
pub fn reaches(target: SocketAddr, socket: SocketAddr, is_own: impl Fn(IpAddr) -> bool) -> bool {
    // Linux takes a dial to the unspecified address as one to loopback.
    let is_own = |address: IpAddr| address.is_unspecified() || is_own(address);
    let listening = socket.ip().to_canonical();
    target.port() == socket.port()
        && stands_for(target.ip()).any(|address| {
            address == listening
                || (address.is_unspecified() && is_own(listening))
                || (listening.is_unspecified() && is_own(address))
        })
}

/// The bits before the IPv4 address in a mapped one (RFC 4291 §2.5.5.2).
const MAPPING_BITS: u8 = 96;

/// The addresses as which an address is judged: itself, and each IPv4 address in it. A mapped one is
/// its IPv4 address alone, because that is what the kernel dials.
pub fn stands_for(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let address = address.to_canonical();
    let within = match address {
        IpAddr::V4(_) => [None; 2],
        IpAddr::V6(v6) => ipv4_in(v6),
    };
    [Some(address)].into_iter().chain(within.map(|v4| v4.map(IpAddr::V4))).flatten()
}

fn ipv4_in(address: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let bits = address.to_bits();
    // The 32 bits that end that many bits before the end.
    let at =
        |shift: u32| Ipv4Addr::from_bits(u32::try_from((bits >> shift) & 0xffff_ffff).unwrap_or(0));
    if NAT64.contains(&address) || is_compatible(bits) {
        [Some(at(0)), None]
    } else if SIX_TO_FOUR.contains(&address) {
        [Some(at(80)), None]
    } else if TEREDO.contains(&address) {
        // The server, and the client with all bits inverted (RFC 4380 §4).
        [Some(at(64)), Some(Ipv4Addr::from_bits(!at(0).to_bits()))]
    } else {
        [None; 2]
    }
}

/// RFC 4291 §2.5.5.1. The unspecified address and loopback have the same prefix.
fn is_compatible(bits: u128) -> bool {
    (2..=u128::from(u32::MAX)).contains(&bits)
}

/// RFC 6052 §2.1.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0], 96);
/// RFC 3056 §2.
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0], 16);
/// RFC 4380 §2.6.
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0], 32);
/// The unicast addresses that are given out (RFC 4291 §2.4, IANA).
const GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0], 3);

/// IANA's registry of special-purpose addresses (RFC 6890), and multicast. Of the ranges for IETF
/// protocols some parts are globally reachable, but they serve relays of other kinds only.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),       // this network; the unspecified address
    v4([10, 0, 0, 0], 8),      // private
    v4([100, 64, 0, 0], 10),   // carrier-grade NAT
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local
    v4([172, 16, 0, 0], 12),   // private
    v4([192, 0, 0, 0], 24),    // IETF protocols
    v4([192, 0, 2, 0], 24),    // documentation
    v4([192, 88, 99, 0], 24),  // 6to4 relays, given up
    v4([192, 168, 0, 0], 16),  // private
    v4([198, 18, 0, 0], 15),   // benchmarks
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved, broadcast
];

/// The special ranges within [`GLOBAL`].
const SPECIAL_V6: [Ipv6Net; 3] = [
    v6([0x2001, 0, 0, 0], 23),     // IETF protocols
    v6([0x2001, 0xdb8, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0], 20),     // documentation
];

/// Whether an address is in a range that is not globally reachable. The forms of IPv4 addresses are
/// not special by themselves, except the compatible ones.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => SPECIAL_V4.iter().any(|range| range.contains(&v4)),
        IpAddr::V6(v6) if NAT64.contains(&v6) || TEREDO.contains(&v6) => false,
        // Outside are loopback, unique local, link-local, site-local, multicast and what is reserved.
        IpAddr::V6(v6) => {
            !GLOBAL.contains(&v6) || SPECIAL_V6.iter().any(|range| range.contains(&v6))
        }
    }
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b, c, d]: [u16; 4], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0), prefix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::values::peers;

    fn rules(allowed: &str, denied: &str) -> Peers {
        Peers::new(&peers(allowed).unwrap(), &peers(denied).unwrap())
    }

    fn permits(peers: &Peers, address: &str) -> bool {
        peers.permit(address.parse().unwrap()).is_ok()
    }

    /// The first and last address of each special range, and their neighbours outside.
    #[test]
    fn s03_special_ranges_end_where_they_end() {
        let peers = rules("none", "special");
        let inside = [
            "0.0.0.0 0.255.255.255 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 127.0.0.1",
            "127.255.255.255 169.254.0.0 169.254.169.254 169.254.255.255 172.16.0.0 172.31.255.255",
            "192.0.0.0 192.0.0.255 192.0.2.0 192.0.2.255 192.88.99.1 192.168.0.0 192.168.255.255",
            "198.18.0.0 198.19.255.255 198.51.100.7 203.0.113.255 224.0.0.0 239.255.255.255",
            "240.0.0.0 255.255.255.255",
            ":: ::1 100:: 64:ff9b:1::1 fc00:: fdff:ffff:: fe80::1 febf:: fec0:: ff00:: ff02::1",
            "ff0e::1 2001:2::1 2001:10:: 2001:20::1 2001:1ff:: 2001:db8:: 2001:db8:ffff:: 3fff::",
            "3fff:fff:: 4000:: 5f00:: 1fff:: ::ffff:0:8.8.8.8",
        ];
        let outside = [
            "1.0.0.0 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0",
            "169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 191.255.255.255 192.0.1.0",
            "192.0.3.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 203.0.112.255",
            "203.0.114.0 223.255.255.255",
            "2000:: 2001:200:: 2001:db7:ffff:: 2001:db9:: 2620:fe::fe 3ffe:ffff:: 3fff:1000::",
        ];
        for address in inside.iter().flat_map(|line| line.split(' ')) {
            assert!(!permits(&peers, address), "{address}");
        }
        for address in outside.iter().flat_map(|line| line.split(' ')) {
            assert!(permits(&peers, address), "{address}");
        }
    }

    /// Each form in which IPv6 carries an IPv4 address.
    fn forms(v4: Ipv4Addr) -> [IpAddr; 6] {
        let bits = u128::from(v4.to_bits());
        [
            0xffff_0000_0000 | bits,
            bits,
            (0x2002 << 112) | (bits << 80) | 1,
            (0x0064_ff9b << 96) | bits,
            (0x2001 << 112) | (bits << 64) | u128::from(!0x0808_0808_u32),
            (0x2001 << 112) | (0x0808_0808 << 64) | (bits ^ 0xffff_ffff),
        ]
        .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
    }

    #[test]
    fn s02_ipv4_addresses_are_found_in_ipv6() {
        let special = rules("none", "special");
        let network = rules("none", "127.0.0.0/8, 10.0.0.0/9");
        for v4 in ["127.0.0.1", "10.127.255.255"] {
            let v4: Ipv4Addr = v4.parse().unwrap();
            for form in forms(v4) {
                for peers in [&special, &network] {
                    assert!(peers.permit(form).is_err(), "{form}");
                }
            }
            // What is allowed is allowed in each form, but for those that are special themselves.
            let allowed = rules(&v4.to_string(), "special");
            for form in forms(v4).into_iter().filter(|form| *form != forms(v4)[1]) {
                assert_eq!(allowed.permit(form), Ok(()), "{form}");
            }
        }
        let public: Ipv4Addr = "8.8.8.8".parse().unwrap();
        let [mapped, compatible, others @ ..] = forms(public);
        for form in [mapped].into_iter().chain(others) {
            assert_eq!(special.permit(form), Ok(()), "{form}: NAT64 of a public address is public");
        }
        assert!(special.permit(compatible).is_err(), "nobody has such addresses any more");
        assert!(!permits(&rules("64:ff9b::/96", "special"), "64:ff9b::127.0.0.1"));
    }

    #[test]
    fn what_is_allowed_wins_and_families_do_not_mix() {
        let peers = rules("10.1.0.0/16, fd00::/8, ::1, 0.0.0.0", "special, 9.9.9.9, 2620:fe::/48");
        for address in ["10.1.255.255", "fdab::1", "::1", "0.0.0.0", "9.9.9.8", "2620:ff::1"] {
            assert!(permits(&peers, address), "{address}");
        }
        for address in ["10.2.0.0", "fc00::1", "127.0.0.1", "9.9.9.9", "2620:fe::9", "::"] {
            assert!(!permits(&peers, address), "{address}");
        }
        let v6 = rules("none", "::/0");
        assert!(permits(&v6, "10.0.0.1") && permits(&v6, "::ffff:10.0.0.1"));
        assert!(!permits(&v6, "2620:fe::9"));
        let mapped = rules("none", "::ffff:10.0.0.0/104");
        assert!(!permits(&mapped, "10.255.255.255") && permits(&mapped, "11.0.0.0"));
        let all = rules("none", "0.0.0.0/0");
        assert!(!permits(&all, "8.8.8.8") && !permits(&all, "64:ff9b::8.8.8.8"));
        assert!(permits(&all, "2620:fe::9"));
        assert!(permits(&rules("none", "none"), "127.0.0.1"));
        assert!(permits(&rules("special", "0.0.0.0/0"), "127.0.0.1"));
    }

    #[test]
    fn a_refusal_names_the_rule_and_its_remedy() {
        let peers = rules("none", "special, 9.9.9.0/24");
        let text = |address: &str| peers.permit(address.parse().unwrap()).unwrap_err().to_string();
        assert_eq!(
            text("64:ff9b::10.0.0.1"),
            "denied_peers = special denies 10.0.0.1; allowed_peers = 10.0.0.1 would allow it"
        );
        assert_eq!(
            text("9.9.9.9"),
            "denied_peers = 9.9.9.0/24 denies 9.9.9.9; allowed_peers = 9.9.9.9 would allow it"
        );
    }

    #[test]
    fn s05_a_socket_is_reached_under_each_of_its_addresses() {
        let own = |address: IpAddr| {
            address.is_loopback() || ["192.0.2.1", "2001:db8::1"].contains(&&*address.to_string())
        };
        let to = |target: &str, socket: &str| {
            reaches(target.parse().unwrap(), socket.parse().unwrap(), own)
        };
        for target in ["127.0.0.1:1", "0.0.0.0:1", "[::]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(to(target, "127.0.0.1:1"), "{target}");
            assert!(to(target, "0.0.0.0:1"), "{target}");
        }
        for target in ["192.0.2.1:1", "[2001:db8::1]:1", "127.3.2.1:1", "[64:ff9b::192.0.2.1]:1"] {
            assert!(to(target, "[::]:1"), "{target}");
            assert!(!to(target, "127.0.0.1:1"), "{target}");
            assert!(!to(target, "[::]:2"), "{target}");
        }
        assert!(to("192.0.2.1:1", "[::ffff:192.0.2.1]:1"));
        assert!(!to("192.0.2.2:1", "0.0.0.0:1"));
        assert!(!to("0.0.0.0:1", "192.0.2.2:1"), "it is another machine");
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        let v4 = any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
        let v6 = any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)));
        prop_oneof![v4, v6]
    }

    /// A network, and an address in it, beside it or anywhere.
    fn near() -> impl Strategy<Value = (IpNet, IpAddr)> {
        (any_address(), any::<u8>(), any::<u128>(), 0..4_u8).prop_map(
            |(base, prefix, low, kind)| {
                let (width, bits) = bits_of(base);
                let prefix = prefix % (width + 1);
                let network = IpNet::new(base, prefix).unwrap().trunc();
                let host_bits = width - prefix;
                let mask = u128::MAX.checked_shr((128 - host_bits).into()).unwrap_or(0);
                let edge = match kind {
                    0 => (bits & !mask) | (low & mask),
                    1 => (bits & !mask).wrapping_sub(1),
                    2 => (bits | mask).wrapping_add(1),
                    _ => low,
                };
                let address = match base {
                    #[expect(clippy::cast_possible_truncation, reason = "neighbours wrap around")]
                    IpAddr::V4(_) => Ipv4Addr::from_bits(edge as u32).into(),
                    IpAddr::V6(_) => Ipv6Addr::from_bits(edge).into(),
                };
                (network, address)
            },
        )
    }

    fn bits_of(address: IpAddr) -> (u8, u128) {
        match address {
            IpAddr::V4(v4) => (32, v4.to_bits().into()),
            IpAddr::V6(v6) => (128, v6.to_bits()),
        }
    }

    proptest! {
        /// S3: as integers of 128 bits, wherever the range ends.
        #[test]
        fn s03_membership_is_a_comparison_of_integers((network, address) in near()) {
            let list = PeerList { networks: vec![network], special: false };
            let (width, bits) = bits_of(address);
            let (_, first) = bits_of(network.network());
            let (_, last) = bits_of(network.broadcast());
            prop_assert_eq!(bits_of(network.addr()).0, width);
            let expected = (first..=last).contains(&bits);
            prop_assert_eq!(find(&list, address).is_some(), expected, "{} {}", network, address);
        }
    }
}
