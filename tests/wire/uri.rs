//! MSRP URIs: what is one, and when two are the same (RFC 4975 §6, §6.1, §9; RFC 4976 §8).

use std::{net::SocketAddr, time::Duration};

use crate::harness::{Peer, SILENCE, Scene, UNKNOWN, bare_auth, empty_send, send};

/// Asks for a challenge with this From-Path; a readable one is answered, an unreadable one is not.
fn asks_from(peer: &mut Peer, tid: &str, from: &str) {
    peer.says(&bare_auth(tid, "{relay}", from));
}

#[track_caller]
fn is_challenged(peer: &mut Peer, tid: &str, from: &str) {
    let answer = peer.hears_code(tid, "401");
    assert_eq!(answer.the("To-Path"), from);
}

#[test]
fn r4975_9_01_readable_uris_are_answered_verbatim_and_unreadable_ones_are_dropped() {
    let readable = [
        "msrps://a@h.example:2855/ab+c=/d;tcp;x=1",
        "msrp://[2001:db8::1]:2855/s;tcp",
        "msrps://192.0.2.1:1/s;tcp",
        "MSRPS://H.example:65535/s;TCP",
        "msrp://h.example/s;tcp;flag;name=value",
        "msrp://h-1.example.:2855/a-b_c.d~e+f=g/h;tcp",
        "msrp://us%65r@h.example:1/s;tcp",
        "msrp://h.example:2855;tcp",
    ];
    let unreadable = [
        "msrp://h.example:2855/s",
        "msrp://h.example:2855/;tcp",
        "msrp://h.example:2855/s;",
        "msrp://h.example:port/s;tcp",
        "http://h.example:2855/s;tcp",
        "msrp:/h.example:2855/s;tcp",
        "msrp://[2001:db8::1:2855/s;tcp",
        "msrp://[nothex]:2855/s;tcp",
        "msrp:///s;tcp",
        "msrp://h.example:2855/s\u{1};tcp",
        "msrp://h.example:2855/s\u{e9};tcp",
        "h.example",
        "",
    ];
    let scene = Scene::plain();
    for uri in readable {
        let mut peer = scene.stranger("bob");
        asks_from(&mut peer, "good0001", uri);
        is_challenged(&mut peer, "good0001", uri);
    }
    for uri in unreadable {
        let mut peer = scene.stranger("bob");
        asks_from(&mut peer, "bad00001", uri);
        asks_from(&mut peer, "good0002", "msrp://h.example:1/s;tcp");
        let answer = peer.message();
        assert_eq!(answer.tid, "good0002", "{uri:?} was answered");
    }
}

#[test]
fn r4975_6_01_every_uri_that_the_relay_makes_has_the_tcp_transport() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let session = scene.names.text("A");
    assert!(session.ends_with(";tcp"), "{session}");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    let heard = alice.message();
    assert_eq!(heard.the("From-Path"), format!("{session} {}", scene.names.text("bob")));
}

/// Overruled by behaviour 8: clients leave the port out, and mean 2855.
#[test]
fn r4975_6_02_a_numeric_next_hop_without_port_is_dialled_at_2855() {
    let scene = Scene::plain();
    let address: SocketAddr = "127.0.28.55:2855".parse().unwrap();
    let listener = scene.listener_on("bob", address, "127.0.28.55");
    scene.names.bind("bob", "msrp://127.0.28.55/bob-session;tcp");
    let mut alice = scene.client("alice");
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    let mut bob = listener.accepts();
    bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
}

/// Overruled by behaviour 8: the row wants an error, but clients leave the port out.
#[test]
fn r4976_8_01_a_named_next_hop_without_port_is_dialled_at_2855() {
    let scene = Scene::plain();
    let address: SocketAddr = "127.0.0.1:2855".parse().unwrap();
    let listener = scene.listener_on("bob", address, "localhost");
    scene.names.bind("bob", "msrp://localhost/bob-session;tcp");
    let mut alice = scene.client("alice");
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    let mut bob = listener.accepts();
    bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
}

#[test]
fn r4976_8_02_an_auth_to_an_address_without_port_gets_no_challenge() {
    let scene = Scene::plain();
    for uri in ["msrp://[2001:db8::1];tcp", "msrp://192.0.2.1;tcp"] {
        let mut peer = scene.stranger("alice");
        peer.says(&bare_auth("a0000001", uri, "{alice}"));
        peer.hears_code("a0000001", "400");
    }
}

#[test]
fn r4976_8_03_an_auth_to_a_name_without_port_is_for_this_relay() {
    let scene = Scene::plain();
    let mut peer = scene.stranger("alice");
    peer.says(
        "
        MSRP a0000001 AUTH
        To-Path: msrps://example.com;tcp
        From-Path: {alice}
        -------a0000001$
        ",
    );
    peer.hears(
        r#"
        MSRP a0000001 401 Unauthenticated
        To-Path: {alice}
        From-Path: msrps://example.com;tcp
        WWW-Authenticate: Digest realm="example.com", qop="auth", nonce="{nonce}", opaque="{opaque}"
        -------a0000001$
        "#,
    );
}

#[test]
fn r4975_6_03_a_password_in_userinfo_reaches_no_log() {
    let scene = Scene::with("log_failed_auth = Yes");
    let mut peer = scene.stranger("alice");
    let uri = "msrp://alice:pass-in-uri@example.com:2855;tcp";
    scene.names.bind("relay", uri);
    peer.says(&bare_auth("a0000001", "{relay}", "{alice}"));
    let answer = peer.message();
    assert!(answer.what.starts_with("400") || answer.what.starts_with("401"), "{answer:?}");
    peer.says_auth("a0000002", "Digest username=\"x\"", "");
    peer.message();
    peer.says(&send(
        "s0000001",
        "msrp://bob:pass-in-uri@h.invalid:1/s;tcp {alice}",
        "{alice}",
        "x",
    ));
    peer.message();
    crate::harness::sleep(100);
    assert!(!scene.relay.log().contains("pass-in-uri"));
}

#[test]
fn r4975_6_04_userinfo_in_the_uri_of_an_auth_makes_no_difference() {
    let scene = Scene::plain();
    scene.names.bind("relay", "msrp://alice@example.com:2855;tcp");
    let mut alice = scene.client("alice");
    alice.hears_nothing(SILENCE);
}

/// Each spelling is tried by a stranger: if it is the session's URI, the stranger joins it.
#[track_caller]
fn joins_by(spelling: impl Fn(&str) -> String) {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let session = spelling(&scene.names.text("A"));
    scene.names.bind("spelled", &session);
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{spelled} {alice}", "{bob}"));
    bob.hears_response("s0000001", "200 OK", "{spelled}");
    let heard = alice.message();
    let (own, bob_uri) = (scene.names.text("A"), scene.names.text("bob"));
    assert_eq!(heard.the("From-Path"), format!("{own} {bob_uri}"));
}

/// ... and if it is not, the stranger is told so, and the session still waits for the right one.
#[track_caller]
fn does_not_join_by(spelling: impl Fn(&str) -> String) {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let session = spelling(&scene.names.text("A"));
    scene.names.bind("spelled", &session);
    let mut mallory = scene.stranger("mallory");
    mallory.says(&empty_send("s0000001", "{spelled} {alice}", "{mallory}"));
    let refused = mallory.hears_code("s0000001", "481");
    assert_eq!(refused.the("From-Path"), session);
    alice.hears_nothing(SILENCE);
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000002", "{A} {alice}", "{bob}"));
    bob.hears_response("s0000002", "200 OK", "{A}");
    assert_eq!(alice.message().what, "SEND");
}

/// Behaviour 3: of the relay's own URI the session-id and the transport count. All other URIs compare
/// as RFC 4975 §6.1 says, as that of a client does behind the relay's.
#[track_caller]
fn names_alice_by(spelling: impl Fn(&str) -> String) {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    scene.names.bind("spelled", spelling(&scene.names.text("alice")));
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {spelled}", "{bob}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(alice.message().the("To-Path"), scene.names.text("spelled"));
}

#[track_caller]
fn does_not_name_alice_by(spelling: impl Fn(&str) -> String) {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    scene.names.bind("spelled", spelling(&scene.names.text("alice")));
    let mut mallory = scene.stranger("mallory");
    mallory.says(&empty_send("s0000001", "{A} {spelled}", "{mallory}"));
    mallory.hears_code("s0000001", "481");
    alice.hears_nothing(SILENCE);
    alice.says(&empty_send("s0000001", "{A} {bob}", "{spelled}"));
    let refused = alice.hears_code("s0000001", "481");
    assert!(refused.what.ends_with("From-Path does not match session source"), "{refused:?}");
}

fn without_port(uri: &str) -> String {
    let (authority, session) = uri.rsplit_once('/').expect("a session-id");
    let (host, _) = authority.rsplit_once(':').expect("a port");
    format!("{host}/{session}")
}

#[test]
fn r4975_6_1_01_the_scheme_is_compared_without_case_and_msrp_is_not_msrps() {
    joins_by(|uri| uri.replace("msrp://", "MSRP://"));
    names_alice_by(|uri| uri.replace("msrp://", "MSRP://"));
    does_not_name_alice_by(|uri| uri.replace("msrp://", "msrps://"));
}

#[test]
fn r4975_6_1_02_the_host_is_compared_without_case_decoded_and_without_userinfo() {
    joins_by(|uri| uri.replace("relay.example", "RELAY.example"));
    joins_by(|uri| uri.replace("relay.example", "rel%61y.example"));
    joins_by(|uri| uri.replace("relay.example", "bob@relay.example"));
    names_alice_by(|uri| uri.replace("alice.invalid", "bob@ALIC%45.invalid"));
    does_not_name_alice_by(|uri| uri.replace("alice.invalid", "other.invalid"));
}

#[test]
fn r4975_6_1_02_ipv6_addresses_are_compared_by_value() {
    let scene = Scene::plain();
    scene.names.bind("bob", "msrp://[2001:db8::1]:7394/bob;tcp");
    let (mut alice, mut bob) = scene.joined();
    scene.names.bind("same", "msrp://[2001:DB8:0:0::0:1]:7394/bob;tcp");
    bob.says(&send("s0000001", "{A} {alice}", "{same}", "hello"));
    bob.hears("MSRP s0000001 200 OK\nTo-Path: {same}\nFrom-Path: {A}\n-------s0000001$");
    alice.hears(&send("{t}", "{alice}", "{A} {same}", "hello"));
}

#[test]
fn r4975_6_1_03_a_uri_with_a_port_is_not_the_one_without_or_with_another() {
    does_not_name_alice_by(without_port);
    does_not_name_alice_by(|uri| uri.replace(":2855/", ":1/"));
}

#[test]
fn r4975_6_1_04_the_session_id_is_compared_with_case() {
    does_not_join_by(|uri| {
        let (host, session) = uri.rsplit_once('/').expect("a session-id");
        let at = session.find(|c: char| c.is_ascii_alphabetic()).expect("a letter in a session-id");
        let letter = session.as_bytes()[at];
        let flipped = char::from(letter ^ 0x20);
        format!("{host}/{}{flipped}{}", &session[..at], &session[at + 1..])
    });
    does_not_join_by(|uri| {
        let (host, _) = uri.rsplit_once('/').expect("a session-id");
        format!("{host};tcp")
    });
}

#[test]
fn r4975_6_1_05_the_transport_is_compared_without_case() {
    joins_by(|uri| uri.replace(";tcp", ";TCP"));
    does_not_join_by(|uri| uri.replace(";tcp", ";ws"));
}

#[test]
fn r4975_6_1_06_parameters_do_not_count_and_paths_are_not_normalised() {
    joins_by(|uri| format!("{uri};foo=bar"));
    does_not_join_by(|uri| {
        let (host, session) = uri.rsplit_once('/').expect("a session-id");
        format!("{host}/x/../{session}")
    });
    does_not_join_by(|uri| {
        let (host, session) = uri.rsplit_once('/').expect("a session-id");
        format!("{host}/./{session}")
    });
}

#[test]
fn r7977_5_2_2_01_unknown_transports_pass_where_the_relay_need_not_connect() {
    for transport in ["ws", "dc", "xyz1", "TCP"] {
        let scene = Scene::plain();
        scene.names.bind("far", format!("msrps://o41ue3a1.invalid:2855/x;{transport}"));
        let mut alice = scene.client("alice");
        let mut bob = scene.stranger("bob");
        bob.says(&send("s0000001", "{A} {alice}", "{bob} {far}", "hello"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        alice.hears(&send("{t}", "{alice}", "{A} {bob} {far}", "hello"));
    }
}

#[test]
fn a_next_hop_may_be_an_ipv6_address_in_brackets() {
    let scene = Scene::plain();
    let listener = scene.listener_on("bob", "[::1]:0".parse().unwrap(), "[::1]");
    let (mut alice, mut bob) = scene.dialled_at(&listener);
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
}

#[test]
fn a_next_hop_may_be_a_name() {
    let scene = Scene::plain();
    let listener = scene.listener_on("bob", "127.0.0.1:0".parse().unwrap(), "localhost");
    let (mut alice, mut bob) = scene.dialled_at(&listener);
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
}

#[test]
fn a_next_hop_over_tls_is_dialled_from_a_plain_relay() {
    for host in ["127.0.0.1", "localhost"] {
        let scene = Scene::plain();
        let listener = scene.tls_listener("bob", host);
        let (mut alice, mut bob) = scene.dialled_at(&listener);
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
        bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
    }
}

#[test]
fn a_plain_next_hop_is_dialled_from_a_tls_relay() {
    let scene = Scene::tls();
    let (mut alice, mut bob) = scene.dialled();
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
}

#[test]
fn s26_ports_0_and_above_65535_are_an_error_to_the_sender() {
    let scene = Scene::plain();
    for port in ["0", "65536", "99999"] {
        let mut alice = scene.client("alice");
        scene.names.bind("bob", format!("msrp://127.0.0.1:{port}/bob;tcp"));
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
        // An error at once, or a 200 and then the REPORT.
        let mut first = alice.message();
        if first.what == "200 OK" {
            first = alice.message();
        }
        let refused = first.what.starts_with('4');
        let reported = first.what == "REPORT" && first.the("Status").starts_with("000 4");
        assert!(refused || reported, "port {port}: {first:?}");
    }
}

/// ... at the relay itself, which listens on that port as far as the world knows.
#[test]
fn r4976_8_01_the_relay_without_its_port_is_the_relay() {
    let scene = Scene::with("advertised_port = 2855");
    let mut alice = scene.client("alice");
    let mut carol = scene.client("carol");
    let uri = without_port(&scene.names.text("C"));
    let (authority, _) = uri.rsplit_once('/').expect("a session-id");
    scene.names.bind("same", &uri);
    scene.names.bind("ghost", format!("{authority}/0123456789abcdefghijkl;tcp"));
    for (tid, next) in [("s0000001", "{ghost} {bob}"), ("s0000002", "{same} {carol}")] {
        alice.says(&send(tid, &format!("{{A}} {next}"), "{alice}", "hello"));
        alice.hears_response(tid, UNKNOWN, "{A}");
    }
    carol.hears_nothing(SILENCE);
    alice.hears_nothing(Duration::from_millis(20));
    // It was not dialled, so the session waits on.
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
}
