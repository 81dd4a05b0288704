//! Header fields and their typed views (RFC 4975 §9, RFC 4976 §7): the input is the lines that
//! follow the paths.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use msrprelay::msrp::{ByteRange, Decoder, Event, Headers, Name};

const BEFORE: &[u8] =
    b"MSRP abcd SEND\r\nTo-Path: msrp://b:2/t;tcp\r\nFrom-Path: msrp://a:1/s;tcp\r\n";
const AFTER: &[u8] = b"\r\n-------abcd$\r\n";

fuzz_target!(|lines: &[u8]| {
    let mut wire = BytesMut::from(&[BEFORE, lines, AFTER].concat()[..]);
    match Decoder::default().next(&mut wire) {
        Ok(Some(Event::Head(head))) => {
            assert_eq!(head.headers.defect(), None);
            check(&head.headers);
        }
        Ok(Some(Event::Malformed(bad))) => check(&bad.headers),
        Ok(None) => panic!("no head in a complete message"),
        _ => {}
    }
});

fn check(headers: &Headers) {
    let range = headers.byte_range();
    let views = headers.failure_report().is_ok()
        && range.is_ok()
        && [Name::Expires, Name::MinExpires, Name::MaxExpires]
            .into_iter()
            .all(|name| headers.seconds(name).is_ok());
    assert!(views || headers.check().is_err(), "a check that passes what cannot be read");
    // A Status of another namespace passes unread.
    let _ = headers.status();
    if let Ok(Some(range)) = range {
        check_range(range);
    }
    for (name, line) in headers.lines() {
        check_line(line);
        assert!(headers.value(name).is_some());
    }
}

fn check_range(range: ByteRange) {
    assert_eq!(ByteRange::parse(range.to_string().as_bytes()), Some(range));
    if let (Some(declared), Some(end)) = (range.declared(), range.end)
        && range.start > 0
    {
        assert_eq!(range.start + declared, end + 1);
    }
    for octets in [0, 1, u64::MAX] {
        let received = range.received(octets);
        assert_eq!(ByteRange::parse(received.to_string().as_bytes()), Some(received));
    }
}

/// A line that is passed on must be one line to every reader.
fn check_line(line: &[u8]) {
    let text = line.strip_suffix(b"\r\n").expect("a line with its end");
    assert!(!text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)));
    assert!(text.contains(&b':'));
}
