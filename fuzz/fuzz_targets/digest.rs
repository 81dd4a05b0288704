//! The digest headers of AUTH (RFC 4976 §7 and §9.1): the input is a header value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use msrprelay::msrp::digest::{AuthenticationInfo, Authorization, Challenge, ParseError};

/// Parts shorter than this occur by chance.
const SECRET: usize = 12;

fuzz_target!(|value: &[u8]| {
    check(value, Authorization::parse, Authorization::to_value);
    check(value, Challenge::parse, Challenge::to_value);
    check(value, AuthenticationInfo::parse, AuthenticationInfo::to_value);
    if let Ok(authorization) = Authorization::parse(value) {
        is_discreet(&authorization);
    }
});

/// Writing what was read, and reading that, gives the same.
fn check<T: PartialEq + std::fmt::Debug>(
    value: &[u8],
    parse: fn(&[u8]) -> Result<T, ParseError>,
    write: fn(&T) -> String,
) {
    let Ok(read) = parse(value) else {
        return;
    };
    let written = write(&read);
    assert!(!written.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    match parse(written.as_bytes()) {
        Ok(again) => assert!(again == read, "{written}"),
        Err(error) => panic!("{error}: {written}"),
    }
}

/// `Debug` is for logs: no response, no nonce.
fn is_discreet(authorization: &Authorization) {
    let shown = format!("{authorization:?}");
    let public = format!("{:?} {:?}", authorization.username(), authorization.realm());
    for secret in [authorization.response(), authorization.nonce(), authorization.cnonce()] {
        let Some(secret) = secret.filter(|secret| secret.len() >= SECRET) else {
            continue;
        };
        assert!(public.contains(secret) || !shown.contains(secret));
    }
}
