//! MSRP URIs and paths (RFC 4975 §6 and §9): the input is a header value, To-Path for instance.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use msrprelay::msrp::{Path, Uri, uri};

/// From this length on a session-id is a secret that is worth hiding.
const SECRET: usize = 12;

fuzz_target!(|input: &[u8]| {
    if let Ok(uri) = Uri::parse(Bytes::copy_from_slice(input)) {
        check(&uri);
    }
    let Ok(path) = Path::parse(input) else {
        return;
    };
    assert!((1..=uri::MAX_PATH_URIS).contains(&path.len()));
    path.iter().for_each(check);
    for (a, b) in path.iter().zip(path.iter().rev()) {
        let (one_way, the_other) = (a == b, b == a);
        assert_eq!(one_way, the_other);
        assert!(a != b || a.same_authority(b));
    }
    let again = Path::from_uris(&path).expect("no path is empty");
    assert_eq!(again, path);
    assert_eq!(Path::parse(again.text()).as_ref(), Ok(&path));
});

fn check(uri: &Uri) {
    let again = Uri::parse(uri.text().clone()).expect("what was read once is read again");
    assert_eq!(&again, uri);
    assert_eq!(parts(&again), parts(uri));
    assert_eq!(&respelt(uri), uri, "RFC 4975 §6.1: scheme, host and transport have no case");
    is_discreet(uri);
}

fn parts(uri: &Uri) -> (bool, &str, Option<u32>, Option<&str>, &str) {
    (uri.secure(), uri.host(), uri.port(), uri.session_id(), uri.transport())
}

/// The same URI in upper case where case does not count, without userinfo and parameters.
fn respelt(uri: &Uri) -> Uri {
    let scheme = if uri.secure() { "MSRPS" } else { "MSRP" };
    let host = uri.host().to_ascii_uppercase();
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    let session = uri.session_id().map(|id| format!("/{id}")).unwrap_or_default();
    let transport = uri.transport().to_ascii_uppercase();
    let text = format!("{scheme}://{host}{port}{session};{transport}");
    Uri::parse(Bytes::from(text)).expect("the parts of a URI make a URI")
}

/// What goes into a log tells neither userinfo nor the session-id.
fn is_discreet(uri: &Uri) {
    let shown = uri.to_string();
    assert!(shown.bytes().all(|b| b.is_ascii_graphic()));
    let (_, shown) = shown.split_once("://").expect("a scheme");
    let (authority, rest) = shown.split_once(['/', ';']).expect("a transport");
    assert!(!authority.contains('@'));
    let Some(id) = uri.session_id().filter(|id| id.len() >= SECRET) else {
        return;
    };
    let (hint, _) = rest.split_once("...").expect("a shortened session-id");
    assert!(id.starts_with(hint) && hint.len() <= id.len() / 2);
}
