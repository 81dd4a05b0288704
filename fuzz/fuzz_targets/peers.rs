//! Where the relay may dial: the first 17 octets are an address, the rest is the text of
//! `allowed_peers` and `denied_peers`, a line each. The verdict is compared with a model that knows
//! nothing but integers of 128 bits.

#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libfuzzer_sys::fuzz_target;
use msrprelay::{
    config::{PeerList, values::peers},
    transport::{Denied, Peers},
};

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, ref octets @ ..], text)) = input.split_first_chunk::<17>() else { return };
    let address = u128::from_be_bytes(*octets);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (allowed, denied) = text.split_once('\n').unwrap_or(("none", text));
    let (Ok(allowed), Ok(denied)) = (peers(allowed), peers(denied)) else { return };
    check(&allowed, &denied, address);
    let low = u32::try_from(address & 0xffff_ffff).expect("32 bits");
    // The same address in each form that holds it.
    let v4 = u128::from(low);
    let forms = [
        MAPPED | v4,
        v4,
        (0x2002 << 112) | (v4 << 80),
        (0x64_ff9b << 96) | v4,
        (0x2001 << 112) | (v4 << 64) | v4,
        (0x2001 << 112) | (v4 ^ 0xffff_ffff),
    ];
    check(&allowed, &denied, forms[usize::from(kind) % forms.len()]);
    // At the edges of each network.
    for network in allowed.networks.iter().chain(&denied.networks) {
        for edge in [bits(network.network()), bits(network.broadcast())] {
            for near in [edge, edge.wrapping_sub(1), edge.wrapping_add(1)] {
                check(&allowed, &denied, near);
            }
        }
    }
});

/// What is before an IPv4 address in the mapped form, in which the model keeps it.
const MAPPED: u128 = 0xffff_0000_0000;

fn check(allowed: &PeerList, denied: &PeerList, address: u128) {
    let rules = Peers::new(allowed, denied);
    let ip = IpAddr::V6(Ipv6Addr::from_bits(address));
    let verdict = rules.permit(ip);
    let may = |one: u128| holds(allowed, one) || !holds(denied, one);
    assert_eq!(verdict.is_ok(), forms_within(address).into_iter().all(may), "{ip}");
    assert_eq!(verdict, rules.permit(ip.to_canonical()));
    match verdict {
        Ok(()) => {}
        Err(Denied::Rule { address, .. }) => {
            assert!(forms_within(bits(ip)).contains(&bits(address)));
            // The remedy that the message names is one.
            let named: Vec<String> =
                forms_within(bits(ip)).into_iter().map(|form| plain(form).to_string()).collect();
            let named = peers(&named.join(", ")).expect("addresses are rules");
            let mut remedied = allowed.clone();
            remedied.networks.extend(named.networks);
            assert_eq!(Peers::new(&remedied, denied).permit(ip), Ok(()));
        }
        Err(Denied::Own(_)) => unreachable!("the rules know nothing of the relay"),
    }
    // An IPv4 address that is denied is denied in each form.
    if address >> 32 == MAPPED >> 32 && verdict.is_err() {
        let v4 = address & 0xffff_ffff;
        for form in [(0x2002 << 112) | (v4 << 80), (0x64_ff9b << 96) | v4] {
            assert!(rules.permit(Ipv6Addr::from_bits(form).into()).is_err());
        }
    }
}

/// The integers as which an address is judged: itself and IPv4 addresses in it, as mapped ones.
fn forms_within(address: u128) -> Vec<u128> {
    let v4 = |shift: u32| MAPPED | ((address >> shift) & 0xffff_ffff);
    let mut forms = vec![address];
    match address {
        2..=0xffff_ffff => forms.push(v4(0)),
        _ if address >> 32 == 0x64_ff9b << 64 => forms.push(v4(0)),
        _ if address >> 112 == 0x2002 => forms.push(v4(80)),
        _ if address >> 96 == 0x2001_0000 => forms.extend([v4(64), v4(0) ^ 0xffff_ffff]),
        _ => {}
    }
    forms
}

fn holds(list: &PeerList, address: u128) -> bool {
    list.networks.iter().any(|network| {
        let (first, last) = (bits(network.network()), bits(network.broadcast()));
        // An IPv6 network has no IPv4 addresses unless it has nothing else.
        let of_mapped = is_mapped(first) && is_mapped(last);
        (first..=last).contains(&address) && (of_mapped || !is_mapped(address))
    }) || (list.special && is_special(address))
}

fn is_mapped(address: u128) -> bool {
    address >> 32 == MAPPED >> 32
}

/// The ranges by their first and last address, written down once more.
fn is_special(address: u128) -> bool {
    if is_mapped(address) {
        let ranges: [(u32, u32); 15] = [
            (0x0000_0000, 0x00ff_ffff),
            (0x0a00_0000, 0x0aff_ffff),
            (0x6440_0000, 0x647f_ffff),
            (0x7f00_0000, 0x7fff_ffff),
            (0xa9fe_0000, 0xa9fe_ffff),
            (0xac10_0000, 0xac1f_ffff),
            (0xc000_0000, 0xc000_00ff),
            (0xc000_0200, 0xc000_02ff),
            (0xc058_6300, 0xc058_63ff),
            (0xc0a8_0000, 0xc0a8_ffff),
            (0xc612_0000, 0xc613_ffff),
            (0xc633_6400, 0xc633_64ff),
            (0xcb00_7100, 0xcb00_71ff),
            (0xe000_0000, 0xefff_ffff),
            (0xf000_0000, 0xffff_ffff),
        ];
        let v4 = u32::try_from(address & 0xffff_ffff).expect("32 bits");
        return ranges.iter().any(|(first, last)| (*first..=*last).contains(&v4));
    }
    let top = u32::try_from(address >> 96).expect("32 bits");
    match top {
        0x64_ff9b if (address >> 32) & 0xffff_ffff_ffff_ffff == 0 => false,
        0x2001_0000 => false,
        0x2001_0001..=0x2001_01ff | 0x2001_0db8 | 0x3fff_0000..=0x3fff_0fff => true,
        _ => !(0x2000_0000..=0x3fff_ffff).contains(&top),
    }
}

/// IPv4 addresses as mapped ones.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => MAPPED | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn plain(address: u128) -> IpAddr {
    let v4 = u32::try_from(address & 0xffff_ffff).expect("32 bits");
    if is_mapped(address) {
        Ipv4Addr::from_bits(v4).into()
    } else {
        Ipv6Addr::from_bits(address).into()
    }
}
