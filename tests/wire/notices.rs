//! What an operator sees at level info when something goes wrong with strangers.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use socket2::{Domain, Socket, Type};

use crate::harness::{
    PATIENCE, SILENCE, Scene, UNKNOWN, bare_auth, empty_send, sleep, until_within,
};

const AT_INFO: &str = "log_level = INFO";

/// An `openssl s_client` with these options, and the address that it came from.
fn s_client(scene: &Scene, options: &[&str]) {
    let output = Command::new("openssl")
        .args(["s_client", "-cipher", "DEFAULT@SECLEVEL=0"])
        .args(options)
        .arg("-connect")
        .arg(scene.relay.address().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("the tests need openssl");
    assert!(!output.status.success(), "{output:?}");
}

/// A client that says these octets, from that address; returns its own address.
fn says(scene: &Scene, from: Ipv4Addr, octets: &[u8]) -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("a free port");
    socket.connect(&scene.relay.address().into()).expect("a connection to the relay");
    let mut socket: TcpStream = socket.into();
    let here = socket.local_addr().expect("an address");
    socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    socket.write_all(octets).expect("the relay takes it");
    // The relay has seen it once it has hung up.
    let _ = socket.read_to_end(&mut Vec::new());
    here
}

/// The lines of the log that have a word in them.
fn lines(scene: &Scene, word: &str) -> Vec<String> {
    scene.relay.log().lines().filter(|line| line.contains(word)).map(str::to_owned).collect()
}

#[test]
fn a_failed_handshake_is_told_with_its_reason() {
    for (options, words) in [
        (&["-tls1_1"][..], "the peer offers no TLS version from 1.2 on"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], "the peer offers no cipher suite that"),
        (&["-tls1_2", "-cipher", "AES128-SHA"], "the peer offers no key exchange that is accepted"),
        (
            &["-servername", "relay.example.com:2855"],
            "the server name that the client asks for is no host name",
        ),
    ] {
        let scene = Scene::secure_with(AT_INFO);
        s_client(&scene, options);
        let line = scene.relay.logs("TLS handshake failed");
        let (before, reason) = line.rsplit_once(" from 127.0.0.1:").expect("an address");
        assert!(before.ends_with(" INFO TLS handshake failed"), "{line}");
        let (port, reason) = reason.split_once(": ").expect("a reason");
        assert!(port.parse::<u16>().is_ok() && reason.starts_with(words), "{line}");
    }
}

#[test]
fn plain_tcp_at_the_tls_port_is_told() {
    let scene = Scene::secure_with(AT_INFO);
    let here = says(&scene, Ipv4Addr::LOCALHOST, b"MSRP 49fh AUTH\r\nTo-Path: msrps://x;tcp\r\n");
    let line = scene.relay.logs("TLS handshake failed");
    let words = "the peer does not speak TLS here (plain TCP?)";
    assert!(line.ends_with(&format!(" INFO TLS handshake failed from {here}: {words}")), "{line}");
    // A failure of another kind is told all the same.
    s_client(&scene, &["-tls1_1"]);
    scene.relay.logs("no TLS version from 1.2 on");
}

#[test]
fn a_port_scan_and_a_good_client_are_not_told() {
    let scene = Scene::secure_with(AT_INFO);
    for _ in 0..3 {
        drop(TcpStream::connect(scene.relay.address()).expect("a connection"));
    }
    let (alice, bob) = scene.joined();
    drop((alice, bob));
    scene.relay.logs("session ended");
    sleep(100);
    for word in ["handshake", "refused", "more in the last minute"] {
        assert!(lines(&scene, word).is_empty(), "{}", scene.relay.log());
    }
}

#[test]
fn one_line_for_each_address_and_the_rest_at_the_end() {
    let scene = Scene::secure_with(AT_INFO);
    let (one, other) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let all: Vec<_> = (0..5).map(|_| says(&scene, one, b"MSRP 1\r\n")).collect();
    let there = says(&scene, other, b"GET / HTTP/1.1\r\n\r\n");
    scene.relay.logs(&format!("TLS handshake failed from {there}: "));
    // A client hears the alert before the relay tells of it.
    sleep(200);
    assert_eq!(lines(&scene, "TLS handshake failed").len(), 2, "{}", scene.relay.log());
    scene.relay.stops();
    let rest = scene.relay.logs("more in the last minute");
    let (words, last) = rest.split_once("the last one: TLS handshake failed from ").expect("one");
    assert!(words.ends_with(" INFO 4 more in the last minute from 127.0.0.1, "), "{rest}");
    let (last, reason) = last.split_once(": ").expect("a reason");
    assert_eq!(reason, "the peer does not speak TLS here (plain TCP?)");
    assert!(all.contains(&last.parse().expect("an address")), "{rest}");
    assert_eq!(lines(&scene, "more in the last minute").len(), 1);
}

#[test]
fn at_debug_each_one_is_told() {
    let scene = Scene::secure_with("");
    for _ in 0..3 {
        let here = says(&scene, Ipv4Addr::LOCALHOST, b"MSRP 1\r\n");
        scene.relay.logs(&format!("TLS handshake failed from {here}: the peer does not speak TLS"));
    }
    assert_eq!(lines(&scene, "INFO TLS handshake failed").len(), 1);
    assert_eq!(lines(&scene, "DEBUG TLS handshake failed").len(), 2);
}

#[test]
fn a_join_to_a_session_that_does_not_exist_is_told() {
    let scene = Scene::with(AT_INFO);
    let secret = "0123456789abcdefghijkl";
    scene.names.bind("ghost", format!("msrp://relay.example.com:2855/{secret};tcp"));
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{ghost} {alice}", "{bob}"));
    bob.hears_response("s0000001", UNKNOWN, "{ghost}");
    let line = scene.relay.logs("SEND refused");
    let here = bob.local_address();
    let words = format!(
        " INFO SEND refused from {here} to msrp://relay.example.com:2855/012345...;tcp: {UNKNOWN}"
    );
    assert!(line.ends_with(&words), "{line}");

    // A session that exists, and is another one's. The name that the stranger chose is cut.
    let mut alice = scene.client("alice");
    let id = scene.names.text("A").rsplit_once('/').expect("a session-id").1.to_owned();
    scene.names.bind("long", format!("msrp://{}.example/{id}", "h".repeat(1000)));
    let mut carol = scene.stranger_from("carol", Ipv4Addr::new(127, 0, 0, 2));
    carol.says(&empty_send("s0000001", "{long} {bob}", "{carol}"));
    carol.hears_code("s0000001", "481");
    let line = scene.relay.logs("127.0.0.2");
    let (_, text) = line.split_once(" to msrp://").expect("a URI");
    let cut = format!("{}...: {UNKNOWN}: To-Path does not match session", "h".repeat(57));
    assert!(text.starts_with(&cut), "{line}");
    alice.hears_nothing(SILENCE);
    let log = scene.relay.log();
    assert!(!log.contains(secret) && !log.contains(&id[..22]), "{log}");
}

#[test]
fn an_auth_that_was_refused_is_told_once() {
    // With log_failed_auth there is a warning, and no second line.
    for (option, level, word) in [("No", "INFO", "refused"), ("Yes", "WARN", "failed")] {
        let scene = Scene::with(&format!("log_level = INFO\nlog_failed_auth = {option}"));
        let mut alice = scene.stranger("alice");
        let mut credentials = alice.challenged("a0000001");
        credentials.password = "wrong".to_owned();
        alice.says_auth("a0000002", &credentials.header(), "");
        alice.hears_code("a0000002", "401");
        let here = alice.local_address();
        let words = format!("AUTH {word} from {here} for alice@example.com: wrong password");
        let line = scene.relay.logs(&words);
        assert!(line.contains(level) && line.ends_with(&words), "{line}");
        assert_eq!(lines(&scene, "AUTH ").len(), 1, "{}", scene.relay.log());
    }
}

#[test]
fn an_auth_without_credentials_for_a_realm_that_is_not_served_is_told() {
    let scene = Scene::with("log_level = INFO\ndomains = example.org\nlog_failed_auth = Yes");
    let mut alice = scene.stranger("alice");
    alice.says(&bare_auth("a0000001", "{relay}", "{alice}"));
    alice.hears_code("a0000001", "403");
    let line = scene.relay.logs("AUTH refused");
    assert!(line.ends_with("for \"\"@example.com: realm is not served"), "{line}");
}

#[test]
fn the_names_of_a_refused_auth_are_quoted_and_cut() {
    let scene = Scene::with(AT_INFO);
    let mut alice = scene.stranger("alice");
    let mut credentials = alice.challenged("a0000001");
    credentials.user = format!("x: AUTH failed from 6.6.6.6:666 for y@z: w {}", "u".repeat(900));
    alice.says_auth("a0000002", &credentials.header(), "");
    alice.hears_code("a0000002", "401");
    let line = scene.relay.logs("AUTH refused");
    let (_, names) = line.split_once(" for \"x: AUTH failed from 6.6.6.6:666 for y@z: w ").unwrap();
    let (name, rest) = names.split_once('"').unwrap();
    assert!(name.len() < 64 && name.bytes().all(|b| b == b'u'), "{line}");
    assert!(rest.starts_with("...@example.com: "), "{line}");
}

/// What was counted is told when the minute is over, without a further failure.
#[test]
fn the_rest_is_told_when_the_minute_is_over() {
    let (plain, secure) = (Scene::with(AT_INFO), Scene::secure_with(AT_INFO));
    for _ in 0..3 {
        says(&secure, Ipv4Addr::LOCALHOST, b"MSRP 1\r\n");
        let mut bob = plain.stranger("bob");
        bob.says(&empty_send("s0000001", "{mallory} {alice}", "{bob}"));
        bob.hears_code("s0000001", "481");
        let mut alice = plain.stranger("alice");
        let mut credentials = alice.challenged("a0000001");
        credentials.password = "wrong".to_owned();
        alice.says_auth("a0000002", &credentials.header(), "");
        alice.hears_code("a0000002", "401");
    }
    thread::sleep(Duration::from_secs(50));
    let rest = "2 more in the last minute from 127.0.0.1, the last one: ";
    for scene in [&secure, &plain] {
        assert!(lines(scene, "more in the last").is_empty(), "{}", scene.relay.log());
    }
    for (scene, kind) in
        [(&secure, "TLS handshake failed"), (&plain, "SEND refused"), (&plain, "AUTH refused")]
    {
        let told = || lines(scene, &format!("{rest}{kind} from 127.0.0.1:")).len() == 1;
        until_within(Duration::from_secs(20), kind, told);
    }
}
