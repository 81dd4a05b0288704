//! The faults of msrprelay 1.4.0 (`docs/upgrading.md`, cited by section): each
//! test fails on it.
//!
//! Those that a row of the requirements covers are with that row.

use std::time::Duration;

use crate::harness::{SILENCE, Scene, bare_auth, empty_send, noise, report, send, send_with};

/// Section 1: a line too long made the reader forget the message and go on in its middle.
#[test]
fn a_message_in_a_line_too_long_is_not_read() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let smuggled =
        String::from_utf8(bob.octets(&send("inner001", "{A} {alice}", "{bob}", "smuggled")))
            .unwrap();
    let long = format!("X-Long: {}", "l".repeat(17_000));
    let mut octets = bob.octets("MSRP s0000001 SEND\nTo-Path: {A} {alice}\nFrom-Path: {bob}");
    octets
        .extend_from_slice(format!("{long}\r\n\r\n{smuggled}\r\n-------s0000001$\r\n").as_bytes());
    let _ = bob.tries(&octets);
    let heard = alice.message_within(Duration::from_secs(2));
    assert!(heard.is_none(), "{heard:?}");
}

/// Section 1: after the 65th header line the body was read as new messages.
#[test]
fn the_body_of_a_message_with_too_many_headers_is_not_read() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let smuggled = bob.octets(&send("inner001", "{A} {alice}", "{bob}", "smuggled"));
    scene.names.bind("smuggled", &smuggled);
    let text = send_with("s0000001", "{A} {alice}", "{bob}", &"X: 1\n".repeat(80), "{smuggled}");
    let octets = bob.octets(&text);
    let _ = bob.tries(&octets);
    let heard = alice.message_within(Duration::from_secs(2));
    assert!(heard.is_none(), "{heard:?}");
}

/// Section 1: a header with a second `: ` was dropped, a repeated one merged.
#[test]
fn headers_with_colons_and_repeated_headers_pass() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let headers = "Subject: Re: Re: lunch\nX-Tag: one\nX-Other: 1\nX-Tag: two\n";
    bob.says(&send_with("s0000001", "{A} {alice}", "{bob}", headers, "hello"));
    alice.hears(&send_with("{t}", "{alice}", "{A} {bob}", headers, "hello"));
}

/// Section 1: a line that was not UTF-8 cost the connection.
#[test]
fn a_header_that_is_not_utf_8_costs_no_connection() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    scene.names.bind("latin", b"Gr\xfc\xdfe \xff\xfe");
    bob.says(&send_with("s0000001", "{A} {alice}", "{bob}", "X-Latin: {latin}\n", "hello"));
    let answer = bob.message();
    if answer.what == "200 OK" {
        alice.hears(&send_with("{t}", "{alice}", "{A} {bob}", "X-Latin: {latin}\n", "hello"));
    } else {
        assert!(answer.what.starts_with("400"), "{answer:?}");
    }
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000002", "200 OK", "{A}");
}

/// Section 1: a quoted `;` in Content-Disposition was an error.
#[test]
fn a_quoted_semicolon_in_content_disposition_passes() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for value in [
        "attachment; filename=\"a; b\"",
        "inline",
        "render;handling=optional;flag",
        "attachment;filename=x",
    ] {
        let text = |tid: &str, to: &str, from: &str| {
            send(tid, to, from, "hello")
                .replace("Content-Type", &format!("Content-Disposition: {value}\nContent-Type"))
        };
        bob.says(&text("s0000001", "{A} {alice}", "{bob}"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        alice.hears(&text("{t}", "{alice}", "{A} {bob}"));
        scene.names.unbind("t");
    }
}

/// Section 1: a path longer than that of the session ended the connection; a shorter one passed.
#[test]
fn longer_and_shorter_paths_get_481_and_the_connection_stays() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{carol} {bob}"));
    bob.hears_code("s0000001", "200");
    let request = alice.message();
    alice.answers(&request, "200 OK");
    for (to, from) in [
        ("{A} {alice}", "{carol}"),
        ("{A} {alice}", "{carol} {bob} {dave}"),
        ("{A} {alice} {dave}", "{carol} {bob}"),
    ] {
        bob.says(&send("s0000002", to, from, "hello"));
        bob.hears_code("s0000002", "481");
    }
    for to in ["{A} {carol}", "{A} {carol} {bob} {dave}", "{A}"] {
        alice.says(&send("s0000003", to, "{alice}", "hello"));
        alice.hears_code("s0000003", "481");
    }
    alice.says(&send("s0000004", "{A} {carol} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000004", "200 OK", "{A}");
    bob.hears(&send("{t}", "{carol} {bob}", "{A} {alice}", "hello"));
}

/// Section 2: the session-id was the nonce.
#[test]
fn the_session_id_is_not_the_nonce() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    let credentials = alice.challenged("a0000001");
    alice.says_auth("a0000002", &credentials.header(), "");
    let granted = alice.hears_code("a0000002", "200");
    assert!(!granted.the("Use-Path").contains(&credentials.nonce));
}

/// Section 2: on a session's connection an AUTH needed no credentials at all.
#[test]
fn extending_a_session_needs_credentials() {
    let scene = Scene::plain();
    let (mut alice, _bob) = scene.joined();
    for uri in ["{A}", "{relay}"] {
        alice.says(&bare_auth("a0000001", uri, "{alice}"));
        let answer = alice.hears_code("a0000001", "401");
        assert!(answer.header("Use-Path").is_none());
    }
}

/// Section 3: each REPORT left about 8 KiB behind.
#[test]
fn reports_leave_nothing_behind() {
    let scene = Scene::with("");
    let (mut alice, mut bob) = scene.joined();
    let octets = bob.octets(&report("r0000001", "{A} {alice}", "{bob}", "000 200 OK", "1-5/5"));
    let mut before = 0;
    for round in 0..60 {
        bob.says_octets(&octets.repeat(100));
        for _ in 0..100 {
            assert_eq!(alice.message().what, "REPORT");
        }
        if round == 9 {
            before = scene.relay.resident_kib();
        }
    }
    let grown = scene.relay.resident_kib().saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB for 5000 REPORTs");
}

/// Section 4: octets that are not UTF-8, a body in several reads, and anything behind a body in the
/// same read ended the connection.
#[test]
fn bodies_are_octets_however_they_come() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    scene.names.bind("jpeg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00");
    let text = |tid: &str| send(tid, "{A} {alice}", "{bob}", "{jpeg}").replace("1-6/6", "1-11/11");
    let mut octets = bob.octets(&text("s0000001"));
    octets.extend(bob.octets(&text("s0000002")));
    let cut = octets.len() - 25;
    bob.says_in_pieces([&octets[..cut], &octets[cut..]], Duration::from_millis(20));
    for tid in ["s0000001", "s0000002"] {
        bob.hears_response(tid, "200 OK", "{A}");
        assert_eq!(alice.message().body.as_deref(), Some(&b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"[..]));
    }
}

/// Section 4: an end-line cut by a read boundary was forwarded as body, and then again.
#[test]
fn an_end_line_cut_by_a_read_is_no_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(41, 3000);
    scene.names.bind("body", &body);
    let text = send("s0000001", "{A} {alice}", "{bob}", "{body}").replace("1-6/6", "1-*/3000");
    let octets = bob.octets(&text);
    for back in 1..=20 {
        let (front, rest) = octets.split_at(octets.len() - back);
        bob.says_in_pieces([front, rest], Duration::from_millis(15));
        let transfer = alice.receives();
        assert!(transfer.body == body, "cut {back} before the end");
        bob.hears_response("s0000001", "200 OK", "{A}");
    }
}

/// Section 3: a refused SEND had already dialled.
#[test]
fn a_send_without_message_id_does_not_dial() {
    let scene = Scene::plain();
    let listener = scene.listener("bob");
    let mut alice = scene.client("alice");
    alice.says(
        "
        MSRP s0000001 SEND
        To-Path: {A} {bob}
        From-Path: {alice}
        Byte-Range: 1-0/0
        -------s0000001$
        ",
    );
    alice.hears_code("s0000001", "400");
    listener.is_left_alone(SILENCE);
}

/// Section 3: a request other than SEND with more than 10,240 octets closed the connection without a
/// word to the peer.
#[test]
fn a_session_whose_peer_is_cut_off_ends_in_order() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let big = format!(
        "MSRP n0000001 FOOBAR\nTo-Path: {{A}} {{alice}}\nFrom-Path: {{bob}}\n\
         Content-Type: text/plain\n\n{}\n-------n0000001$",
        "x".repeat(20_000)
    );
    let octets = bob.octets(&big);
    let _ = bob.tries(&octets);
    assert!(bob.hung_up_within(Duration::from_secs(10)));
    alice.is_closed_within(Duration::from_secs(15));
}
