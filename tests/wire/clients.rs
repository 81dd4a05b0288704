//! The clients in use, with their own spelling of everything (`docs/clients.md`).

use std::{thread, time::Duration};

use crate::harness::{
    Peer, SILENCE, Scene, TOPOLOGIES, empty_send, fingerprint, first, noise, report, send,
};

/// msrplib quotes every value, qop and nc included, and sends neither uri nor algorithm.
#[test]
fn msrplib_logs_in() {
    let scene = Scene::tls();
    scene.names.bind("alice", "msrps://192.168.1.5:2855/1a2b3c4d5e6f;tcp");
    let mut alice = scene.stranger("alice");
    alice.says(
        "
        MSRP 5f2c3a AUTH
        To-Path: msrps://example.com:2855;tcp
        From-Path: {alice}
        -------5f2c3a$
        ",
    );
    let challenge = alice.hears_code("5f2c3a", "401");
    msrplib_reads(challenge.the("WWW-Authenticate"));
    let credentials = alice.credentials(&challenge);
    let (nonce, opaque) = (&credentials.nonce, &credentials.opaque);
    let (cnonce, response) = (&credentials.cnonce, credentials.response());
    alice.says(&format!(
        r#"
        MSRP 5f2c3b AUTH
        To-Path: msrps://example.com:2855;tcp
        From-Path: {{alice}}
        Authorization: Digest username="alice", realm="example.com", nonce="{nonce}", qop="auth", nc="00000001", cnonce="{cnonce}", response="{response}", opaque="{opaque}"
        -------5f2c3b$
        "#
    ));
    let granted = alice.hears_code("5f2c3b", "200");
    msrplib_uri(granted.the("Use-Path"));
}

/// Its parameter pattern is `\w+=("[^"]+"|[^",]+)`, and it needs these three.
#[track_caller]
fn msrplib_reads(challenge: &str) {
    let list = challenge.strip_prefix("Digest ").expect("Digest");
    let mut names = Vec::new();
    for part in list.split(", ") {
        let (name, value) = part.split_once('=').expect("name=value");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{part}");
        let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        assert!(inner.is_some_and(|inner| !inner.is_empty() && !inner.contains('"')), "{part}");
        names.push(name);
    }
    for needed in ["realm", "nonce", "opaque"] {
        assert!(names.contains(&needed), "{challenge}");
    }
}

/// One URI, lower-case `tcp`, a port, a session-id after a slash.
#[track_caller]
fn msrplib_uri(uri: &str) {
    assert!(!uri.contains(' '), "one URI is the only safe case: {uri}");
    let rest = uri.strip_prefix("msrps://").expect("msrps");
    let (authority, session) = rest.split_once('/').expect("a slash");
    let (_, port) = authority.rsplit_once(':').expect("a port");
    port.parse::<u16>().expect("a number");
    assert!(session.ends_with(";tcp"), "{uri}");
}

/// Its binding: a bodiless SEND with Byte-Range before Message-ID; its keep-alive likewise.
#[test]
fn msrplib_binds_and_keeps_alive() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let keep_alive = |tid: &str, to: &str, from: &str| {
            format!(
                "MSRP {tid} SEND\nTo-Path: {to}\nFrom-Path: {from}\nByte-Range: 1-0/0\n\
                 Message-ID: 0a1b2c3d\nKeep-Alive: yes\n-------{tid}$"
            )
        };
        session.bob.says(&keep_alive("1f2e3d4c", &session.to_alice, "{bob}"));
        session.bob.hears_response("1f2e3d4c", "200 OK", &first(&session.back));
        session.alice.hears(&keep_alive("{t}", "{alice}", &session.from_bob));
    }
}

/// It compares the whole paths of every SEND with what was signalled, in order.
#[test]
fn msrplib_finds_the_signalled_paths() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    bob.says(
        "
        MSRP 1f2e3d4c SEND
        To-Path: {B} {A} {alice}
        From-Path: {bob}
        Byte-Range: 1-*/5000
        Message-ID: 0a1b2c3d
        Content-Type: message/cpim

        From: <sip:bob@example.com>
        -------1f2e3d4c+
        ",
    );
    bob.hears_response("1f2e3d4c", "200 OK", "{B}");
    alice.hears(
        "
        MSRP {t} SEND
        To-Path: {alice}
        From-Path: {A} {B} {bob}
        Byte-Range: 1-*/5000
        Message-ID: 0a1b2c3d
        Content-Type: message/cpim

        From: <sip:bob@example.com>
        -------{t}+
        ",
    );
}

/// crocodile leaves qop and nc unquoted, sends `uri`, and starts over without Authorization after
/// a 423, on the same connection; a second 401 is failure to it.
#[test]
fn crocodile_learns_its_expires_and_refreshes_in_place() {
    let scene = Scene::with("session_expiration_time_minimum = 60");
    scene.names.bind("alice", "msrps://o41ue3a1.invalid:2855/k2j4h5g6;ws");
    let mut alice = scene.stranger("alice");
    let expires = crocodile_logs_in(&mut alice, 30).expect_err("a bound");
    assert_eq!(expires, 60);
    let (uri, granted) = crocodile_logs_in(&mut alice, expires).expect("a session");
    // It computes (Expires - 30) s and would loop without the header, or with 30 and less.
    assert_eq!(granted, 60);
    scene.names.bind("A", &uri);
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.message();
    // The refresh: bound by now, to the same To-Path as at first, with no session-id in it.
    let (again, _) = crocodile_logs_in(&mut alice, 600).expect("the same session");
    assert_eq!(again, uri);
}

fn crocodile_logs_in(peer: &mut Peer, expires: u32) -> Result<(String, u32), u32> {
    let uri = peer.auth_uri();
    peer.says(&format!(
        "MSRP 8x2k4m1q AUTH\nTo-Path: {uri}\nFrom-Path: {{alice}}\nExpires: {expires}\n\
         -------8x2k4m1q$"
    ));
    let challenge = peer.hears_code("8x2k4m1q", "401");
    let mut credentials = peer.credentials(&challenge);
    "q3k7zp0a".clone_into(&mut credentials.cnonce);
    let (nonce, opaque) = (&credentials.nonce, &credentials.opaque);
    let response = credentials.response();
    peer.says(&format!(
        "MSRP 9y3l5n2r AUTH\nTo-Path: {uri}\nFrom-Path: {{alice}}\nExpires: {expires}\n\
         Authorization: Digest username=\"alice\", realm=\"example.com\", nonce=\"{nonce}\", \
         uri=\"{uri}\", response=\"{response}\", qop=auth, cnonce=\"q3k7zp0a\", nc=00000001, \
         opaque=\"{opaque}\"\n-------9y3l5n2r$"
    ));
    let answer = peer.hears_answer("9y3l5n2r");
    if answer.what.starts_with("423") {
        return Err(answer.the("Min-Expires").parse().expect("a number"));
    }
    assert_eq!(answer.what, "200 OK");
    let granted = answer.the("Expires").parse().expect("a number");
    Ok((answer.the("Use-Path").to_owned(), granted))
}

/// crocodile waits for a REPORT to its bodiless SEND.
#[test]
fn crocodile_gets_the_report_for_its_first_send() {
    let scene = Scene::plain();
    let listener = scene.listener("bob");
    let mut alice = scene.client("alice");
    alice.says(
        "
        MSRP 8x2k4m1q SEND
        To-Path: {A} {bob}
        From-Path: {alice}
        Message-ID: 4j5k6l7m
        Success-Report: yes
        Failure-Report: yes
        Byte-Range: 1-0/0
        -------8x2k4m1q$
        ",
    );
    alice.hears_response("8x2k4m1q", "200 OK", "{A}");
    let mut bob = listener.accepts();
    bob.hears(
        "
        MSRP {t} SEND
        To-Path: {bob}
        From-Path: {A} {alice}
        Message-ID: 4j5k6l7m
        Success-Report: yes
        Failure-Report: yes
        Byte-Range: 1-0/0
        -------{t}$
        ",
    );
    bob.responds("{t}", "200 OK", "{A}");
    bob.says(&report("r0000001", "{A} {alice}", "{bob}", "000 200 OK", "1-0/0"));
    alice.hears(&report("{r}", "{alice}", "{A} {bob}", "000 200 OK", "1-0/0"));
}

/// The original file clients: base64 in session-ids and transact-ids, `+` and `-` first now and then,
/// megabytes in one SEND that wants no answer at all.
#[test]
fn original_clients_send_a_file() {
    let scene = Scene::tls();
    scene.names.bind("alice", "msrps://localhost:12345/aB+/c3Rl==;tcp");
    scene.names.bind("bob", "msrps://localhost:12345/xY/+z8Q=;tcp");
    let body = noise(31, 8 << 20);
    for tid in ["+Zm9vYmFyYmF6cXV", "-Zm9vYmFyYmF6cXV", "Zm9vYmFyYmF6cXV+"] {
        let mut alice = scene.client("alice");
        let mut bob = scene.stranger("bob");
        bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        let request = alice.message();
        alice.answers(&request, "200 OK");
        let mut octets = bob.octets(&format!(
            "MSRP {tid} SEND\nTo-Path: {{A}} {{alice}}\nFrom-Path: {{bob}}\nMessage-ID: 1\n\
             Failure-Report: no\nSuccess-Report: yes\nByte-Range: 1-{0}/{0}\n\
             Content-Disposition: attachment; filename=\"interop data.bin\"\n\
             Content-Type: application/octet-stream\n",
            body.len()
        ));
        octets.extend_from_slice(b"\r\n");
        octets.extend_from_slice(&body);
        octets.extend_from_slice(format!("\r\n-------{tid}$\r\n").as_bytes());
        thread::scope(|scope| {
            scope.spawn(|| bob.says_octets(&octets));
            let transfer = alice.receives();
            assert_eq!(fingerprint(&transfer.body), fingerprint(&body));
            assert_eq!(
                transfer.pieces[0].the("Content-Disposition"),
                "attachment; filename=\"interop data.bin\""
            );
        });
        bob.hears_nothing(SILENCE);
    }
}

/// java wants To-Path and From-Path first and Content-Type last, and never knows the end.
#[test]
fn java_and_node_read_what_is_forwarded() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(
        "
        MSRP a1B2c3D4 SEND
        To-Path: {A} {alice}
        From-Path: {bob}
        Message-ID: 123.abc
        Success-Report: yes
        Failure-Report: yes
        Byte-Range: 1-*/5
        Content-Type: text/plain

        hello
        -------a1B2c3D4$
        ",
    );
    bob.hears_response("a1B2c3D4", "200 OK", "{A}");
    let heard = alice.message();
    let names: Vec<&str> = heard.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..2], ["To-Path", "From-Path"]);
    assert_eq!(names.last(), Some(&"Content-Type"));
    assert_eq!(heard.the("Byte-Range"), "1-*/5");
    assert_eq!(heard.the("Content-Type"), "text/plain");
    assert!(
        heard.tid.len() >= 4
            && heard.tid.chars().all(|c| c.is_ascii_alphanumeric() || "-=%+.".contains(c))
    );
}

/// The original cut SENDs needlessly, down to empty pieces: `1-42/42`, empty, with `+`.
#[test]
fn chats_both_ways_at_once_are_not_cut() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let (to_bob, to_alice) = (session.to_bob.clone(), session.to_alice.clone());
        let (alice, bob) = (&mut session.alice, &mut session.bob);
        thread::scope(|scope| {
            scope.spawn(move || chats(alice, &to_bob, "{alice}"));
            scope.spawn(move || chats(bob, &to_alice, "{bob}"));
        });
    }
}

/// 40 messages out, each answered and reported, while the other side does the same.
fn chats(peer: &mut Peer, to: &str, from: &str) {
    const MESSAGES: usize = 40;

    let body = "forty-two octets of a chat between two....";
    let (mut sent, mut heard, mut answered, mut reported) = (0, 0, 0, 0);
    while heard < MESSAGES || answered < MESSAGES || reported < MESSAGES {
        if sent < MESSAGES {
            sent += 1;
            let tid = format!("c{sent:07}");
            let text =
                send(&tid, to, from, body).replace("Byte-Range", "Success-Report: yes\nByte-Range");
            peer.says(&text);
        }
        let message = peer.message();
        match message.what.as_str() {
            "SEND" => {
                heard += 1;
                assert_eq!(message.flag, '$', "a short SEND is cut: {message:?}");
                assert_eq!(message.body.as_deref(), Some(body.as_bytes()));
                peer.answers(&message, "200 OK");
                let tid = format!("r{heard:07}");
                peer.says(&report(&tid, to, from, "000 200 OK", "1-42/42"));
            }
            "200 OK" => answered += 1,
            "REPORT" => {
                reported += 1;
                assert_eq!(message.the("Status"), "000 200 OK");
            }
            other => panic!("{other}"),
        }
    }
}

/// Both ends of this relay speak first at once ("glare"): it simply works, over TLS as well.
#[test]
fn glare_over_tls() {
    let scene = Scene::tls();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    alice.says(&empty_send("s0000001", "{A} {B} {bob}", "{alice}"));
    bob.says(&empty_send("s0000002", "{B} {A} {alice}", "{bob}"));
    for peer in [&mut alice, &mut bob] {
        let mut heard = [peer.message().what, peer.message().what];
        heard.sort_unstable();
        assert_eq!(heard, ["200 OK", "SEND"]);
    }
    bob.hears_nothing(Duration::from_millis(50));
}

/// crocodile's From-Path host does not exist, and nobody looks it up.
#[test]
fn a_from_path_is_no_address() {
    let scene = Scene::plain();
    scene.names.bind("bob", "msrps://o41ue3a1.invalid:2855/k2j4h5g6;ws");
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "back"));
    alice.hears_response("s0000002", "200 OK", "{A}");
    bob.hears(&send("{u}", "{bob}", "{A} {alice}", "back"));
}
