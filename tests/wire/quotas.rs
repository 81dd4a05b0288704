//! How many connections and sessions there may be, and for how long nothing may pass through one.

use std::{
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use serde_json::Value;

use crate::{
    backends::{Store, each_database},
    harness::{
        Credentials, Database, Kind, Peer, SILENCE, Scene, TOPOLOGIES, empty_send, file_head, send,
        sleep, until,
    },
};

const TOO_MANY: &str = "403 Too many sessions";

/// The figures that must come back to where they were.
fn figures(scene: &Scene) -> [u64; 5] {
    let status = scene.relay.status();
    let number = |value: &Value| value.as_u64().expect("a number");
    [
        number(&status["connections"]),
        number(&status["unauthenticated"]),
        number(&status["sessions"]["waiting"]),
        number(&status["sessions"]["bound"]),
        number(&status["queued_bytes"]),
    ]
}

/// Waits until there are so many connections, and so many of them without a session.
#[track_caller]
fn comes_to(scene: &Scene, connections: u64, strangers: u64) {
    let wanted = [connections, strangers];
    until(&format!("{wanted:?}"), || figures(scene)[..2] == wanted);
}

/// A stranger whom the relay serves: it answers.
#[track_caller]
fn served(scene: &Scene, from: Ipv4Addr) -> Peer {
    let mut stranger = scene.stranger_from("mallory", from);
    stranger.challenged("serv0001");
    stranger
}

#[track_caller]
fn refused(scene: &Scene, from: Ipv4Addr) {
    scene.stranger_from("mallory", from).is_closed();
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, last)
}

fn count(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn s19_connections_of_one_address_are_limited() {
    let scene = Scene::with("log_level = INFO\nmax_connections_per_ip = 3");
    let alice = scene.client("alice");
    let _second = served(&scene, ip(1));
    let third = served(&scene, ip(1));
    refused(&scene, ip(1));
    refused(&scene, ip(1));
    let _other = served(&scene, ip(2));
    comes_to(&scene, 4, 3);
    // One ends, with a session or without, and the next one is served.
    let mut next = Vec::new();
    for one in [third, alice] {
        one.resets();
        comes_to(&scene, 3, 3 - u64::from(next.is_empty()));
        next.push(served(&scene, ip(1)));
        refused(&scene, ip(1));
    }
    // One line for an address and a minute.
    let words = "there are 3 connections from this address already (max_connections_per_ip)";
    let line = scene.relay.logs(words);
    assert!(line.contains(" INFO connection refused from 127.0.0.1:"), "{line}");
    assert_eq!(count(&scene.relay.log(), words), 1);
    scene.relay.stops();
    scene.relay.logs("3 more in the last minute from 127.0.0.1, the last one: connection refused");
}

#[test]
fn s19_strangers_are_limited_and_who_has_a_session_is_none() {
    let scene = Scene::with("log_level = INFO\nmax_unauthenticated = 2");
    // Two sessions, a peer that joined one, one that was dialled: none of these is a stranger.
    let mut session = scene.topology(TOPOLOGIES[0]);
    let other = Scene::on(scene.relay.clone());
    let mut dialled = other.topology(TOPOLOGIES[1]);
    comes_to(&scene, 4, 0);
    let first = served(&scene, ip(1));
    let second = served(&scene, ip(2));
    comes_to(&scene, 6, 2);
    refused(&scene, ip(3));
    let words = "there are 2 connections without a session already (max_unauthenticated)";
    let line = scene.relay.logs(words);
    assert!(line.contains(" INFO connection refused from 127.0.0.3:"), "{line}");
    session.talks();
    dialled.talks();
    drop(first);
    comes_to(&scene, 5, 1);
    // Who logs in makes room, too.
    let carol = scene.client("carol");
    comes_to(&scene, 6, 1);
    let third = served(&scene, ip(3));
    refused(&scene, ip(3));
    drop((carol, second, third));
    comes_to(&scene, 4, 0);
}

#[test]
fn s20_connections_are_limited() {
    let scene = Scene::with("log_level = INFO\nmax_connections = 3");
    let mut session = scene.topology(TOPOLOGIES[0]);
    let third = served(&scene, ip(2));
    refused(&scene, ip(3));
    let words = "there are 3 connections already (max_connections)";
    let line = scene.relay.logs(words);
    assert!(line.contains(" INFO connection refused from 127.0.0.3:"), "{line}");
    session.talks();
    drop(third);
    comes_to(&scene, 2, 0);
    let _third = served(&scene, ip(3));
    refused(&scene, ip(2));
}

/// A connection that the relay dials needs a descriptor like any other.
#[test]
fn s20_a_dialled_connection_is_counted_and_refused() {
    let scene = Scene::with("log_level = INFO\nmax_connections = 2\nmax_connections_per_ip = 1");
    let mut alice = scene.client("alice");
    let other = served(&scene, ip(2));
    let listener = scene.listener("bob");
    alice.says(&empty_send("s0000001", "{A} {bob}", "{alice}"));
    alice.hears_response("s0000001", "403 Too many connections", "{A}");
    listener.is_left_alone(SILENCE);
    let line = scene.relay.logs("there are 2 connections already (max_connections)");
    assert!(line.contains(" INFO next hop not dialled for 127.0.0.1:"), "{line}");
    // The session stays, and the next try succeeds.
    drop(other);
    comes_to(&scene, 1, 0);
    alice.says(&empty_send("s0000002", "{A} {bob}", "{alice}"));
    alice.hears_response("s0000002", "200 OK", "{A}");
    let mut bob = listener.accepts();
    let request = bob.message();
    bob.answers(&request, "200 OK");
    comes_to(&scene, 2, 0);
    refused(&scene, ip(2));
    alice.says(&send("s0000003", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000003", "200 OK", "{A}");
    drop((alice, bob));
    comes_to(&scene, 0, 0);
}

/// Nothing can be said before TLS, and no handshake is paid for.
#[test]
fn s19_a_refused_connection_gets_no_tls() {
    let scene = Scene::secure_with("max_connections_per_ip = 1");
    let alice = scene.client("alice");
    let refused = TcpStream::connect(scene.relay.address()).expect("a connection");
    refused.set_read_timeout(Some(Duration::from_secs(5))).expect("SO_RCVTIMEO");
    assert_eq!(std::io::Read::read(&mut &refused, &mut [0; 100]).expect("an end"), 0);
    drop(alice);
    comes_to(&scene, 0, 0);
    scene.client("alice");
    let log = scene.relay.log();
    assert!(!log.contains("handshake failed"), "{log}");
}

/// AUTH with the right password, under this name.
#[track_caller]
fn auth(peer: &mut Peer, tid: &str, user: &str, status: &str) {
    let credentials = peer.challenged("chal0001");
    let credentials = Credentials { user: user.to_owned(), ..credentials };
    peer.says_auth(tid, &credentials.header(), "");
    let (code, comment) = status.split_once(' ').expect("a comment");
    let answer = peer.hears_code(tid, code);
    assert!(answer.what.ends_with(comment), "{}", answer.what);
}

#[test]
fn sessions_of_one_user_are_limited() {
    let options = "log_level = INFO\nmax_sessions_per_user = 2\nmax_auth_attempts = 1\n\
                   log_failed_auth = Yes";
    let scene = Scene::with(options);
    let mut first = scene.stranger("alice");
    auth(&mut first, "a0000001", "alice", "200 OK");
    let mut second = scene.stranger("alice");
    auth(&mut second, "a0000001", "alice@example.com", "200 OK");
    let mut third = scene.stranger("alice");
    // It is no failed attempt: one would close the connection.
    for user in ["alice", "alice@example.com", "alice"] {
        auth(&mut third, "a0000002", user, TOO_MANY);
    }
    // Each one's sessions are counted apart, and a refresh is no new session.
    let bob = scene.client("bob");
    let mut refresh = first.challenged("a0000003");
    refresh.uri = first.auth_uri();
    first.says_auth("a0000004", &refresh.header(), "");
    first.hears_code("a0000004", "200");
    let line =
        scene.relay.logs("there are 2 sessions of this user already (max_sessions_per_user)");
    assert!(line.contains(" INFO AUTH refused from 127.0.0.1:"), "{line}");
    assert!(line.contains(" for alice@example.com: "), "{line}");
    let log = scene.relay.log();
    assert!(!log.contains("AUTH failed"), "{log}");
    assert_eq!(count(&log, "(max_sessions_per_user)"), 1, "{log}");
    // One ends, and the same connection gets a session.
    second.resets();
    until("a session less", || figures(&scene)[2] == 2);
    auth(&mut third, "a0000005", "alice", "200 OK");
    let mut fourth = scene.stranger("alice");
    auth(&mut fourth, "a0000006", "alice", TOO_MANY);
    drop((first, third, fourth, bob));
    comes_to(&scene, 0, 0);
}

/// `ALICE ` is alice where the database says so, and has no sessions beside hers.
#[test]
fn spellings_of_a_user_are_counted_together() {
    each_database(|kind| {
        let Some(database) = Database::new(kind) else { return };
        database.run(
            "CREATE TABLE subscriber (username VARCHAR(64), domain VARCHAR(64), \
             password VARCHAR(64))",
        );
        database.run("INSERT INTO subscriber VALUES ('alice', 'example.com', 'secret-alice')");
        let store = Store::over(database, "max_sessions_per_user = 1\nmax_auth_attempts = 0", "");
        let scene = &store.scene;
        let mut alice = scene.stranger("alice");
        auth(&mut alice, "a0000001", "alice", "200 OK");
        for user in ["alice", "ALICE", "ALICE ", "alice@example.com", "Alice@EXAMPLE.com"] {
            let mut other = scene.stranger("alice");
            let credentials = other.challenged("chal0001");
            let credentials = Credentials { user: user.to_owned(), ..credentials };
            other.says_auth("a0000002", &credentials.header(), "");
            // A database that tells these names apart knows no such user.
            let is_alice = kind == Kind::MariaDb || user.starts_with("alice");
            other.hears_code("a0000002", if is_alice { "403" } else { "401" });
        }
    });
}

/// Every stage of a connection and of a session, left in the middle by either side.
#[test]
fn s20_the_counts_return_to_zero_after_aborts_in_every_state() {
    for secure in [false, true] {
        let options = "max_connections_per_ip = 12\nmax_sessions_per_user = 4\n\
                       session_expiration_time_minimum = 1";
        let scene = if secure { Scene::secure_with(options) } else { Scene::with(options) };
        let before = figures(&scene);
        assert_eq!(before, [0; 5]);
        for abort in [Abort::Reset, Abort::Close] {
            for stage in 0..STAGES {
                let scene = Scene::on(scene.relay.clone());
                for peer in at_stage(&scene, stage) {
                    abort.end(peer);
                }
                until(&format!("{before:?} after stage {stage}"), || figures(&scene) == before);
            }
        }
        // The counts of the address and of the users, which the status does not show, are back too.
        let mut all: Vec<Peer> = ["alice", "bob", "carol"]
            .into_iter()
            .flat_map(|user| std::iter::repeat_n(user, 4))
            .map(|user| scene.client(user))
            .collect();
        let mut one_more = TcpStream::connect(scene.relay.address()).expect("a connection");
        one_more.set_read_timeout(Some(Duration::from_secs(5))).expect("SO_RCVTIMEO");
        assert_eq!(std::io::Read::read(&mut one_more, &mut [0; 100]).expect("an end"), 0);
        drop(all.pop());
        until("one less", || figures(&scene)[0] == 11);
        let mut alice = scene.stranger("alice");
        auth(&mut alice, "a0000001", "alice", TOO_MANY);
        assert_eq!(scene.relay.status()["faults"], 0);
    }
}

#[derive(Clone, Copy)]
enum Abort {
    Reset,
    Close,
}

impl Abort {
    fn end(self, peer: Peer) {
        match self {
            Self::Reset => peer.resets(),
            Self::Close => drop(peer),
        }
    }
}

const STAGES: u32 = 16;

/// Peers in the middle of something. The first one leaves first.
fn at_stage(scene: &Scene, stage: u32) -> Vec<Peer> {
    const HALF: &str = "MSRP a0000001 AUTH\nTo-Path: {relay}\nFrom-Pa";

    let begun = |peer: &mut Peer, to: &str, from: &str| {
        let mut octets = file_head(peer, "s0000009", to, from, "1-100000/100000");
        octets.extend_from_slice(&vec![b'x'; 50_000]);
        let _ = peer.tries(&octets);
    };
    match stage {
        // Connected; with TLS the handshake has not begun.
        0 => vec![scene.stranger("alice")],
        1 => {
            let mut peer = scene.stranger("alice");
            let half = peer.octets(HALF);
            peer.says_octets(&half);
            vec![peer]
        }
        2 => vec![served_as(scene, "alice")],
        // An AUTH is refused, and the answer is held back for a moment.
        3 => {
            let mut peer = scene.stranger("alice");
            let mut credentials = peer.challenged("a0000001");
            "wrong".clone_into(&mut credentials.password);
            peer.says_auth("a0000002", &credentials.header(), "");
            vec![peer]
        }
        // It leaves before it reads that it has a session.
        4 => {
            let mut peer = scene.stranger("alice");
            let credentials = peer.challenged("a0000001");
            peer.says_auth("a0000002", &credentials.header(), "");
            vec![peer]
        }
        5 => vec![scene.client("alice")],
        // A refresh is under way.
        6 => {
            let mut peer = scene.client("alice");
            let credentials = peer.challenged("a0000001");
            peer.says_auth("a0000002", &credentials.header(), "");
            vec![peer]
        }
        // Lapsed: nobody joined before Expires.
        7 => {
            let mut peer = scene.stranger("alice");
            peer.logs_in("Expires: 1\n");
            sleep(1500);
            vec![peer]
        }
        // A stranger is refused to join.
        8 => {
            let mut peer = scene.stranger("bob");
            peer.says(&empty_send("s0000001", "{mallory} {alice}", "{bob}"));
            peer.hears_code("s0000001", "481");
            vec![peer]
        }
        // A peer joins and leaves at once; its SEND may not have been read.
        9 => {
            let alice = scene.client("alice");
            let mut bob = scene.stranger("bob");
            bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
            vec![bob, alice]
        }
        // A third connection wants to join.
        10 => {
            let (alice, bob) = scene.joined();
            let mut carol = scene.stranger("carol");
            carol.says(&empty_send("s0000001", "{A} {alice}", "{carol}"));
            carol.hears_code("s0000001", "506");
            vec![alice, carol, bob]
        }
        11 => {
            let (alice, mut bob) = scene.joined();
            begun(&mut bob, "{A} {alice}", "{bob}");
            vec![bob, alice]
        }
        // The next hop's handshake never comes to an end.
        12 => {
            let mut alice = scene.client("alice");
            let listener = scene.stalls("bob");
            alice.says(&empty_send("s0000001", "{A} {bob}", "{alice}"));
            let bob = listener.accepts();
            vec![alice, bob]
        }
        // The next hop is not reached.
        13 => {
            let mut alice = scene.client("alice");
            scene.refuses("bob");
            alice.says(&empty_send("s0000001", "{A} {bob}", "{alice}"));
            vec![alice]
        }
        14 => {
            let (mut alice, bob) = if scene.relay.is_secure() {
                scene.dialled_at(&scene.tls_listener("bob", "localhost"))
            } else {
                scene.dialled()
            };
            begun(&mut alice, "{A} {bob}", "{alice}");
            vec![bob, alice]
        }
        _ => {
            let (mut alice, bob) = scene.bridged();
            begun(&mut alice, "{A} {B} {bob}", "{alice}");
            vec![alice, bob]
        }
    }
}

fn served_as(scene: &Scene, me: &str) -> Peer {
    let mut peer = scene.stranger(me);
    peer.challenged("serv0001");
    peer
}

#[test]
fn a_reload_changes_the_limits_and_ends_nothing() {
    let scene = Scene::with("max_connections = 4");
    let (session, strangers) =
        (scene.topology(TOPOLOGIES[0]), [served(&scene, ip(2)), served(&scene, ip(3))]);
    refused(&scene, ip(4));
    for options in [
        "max_connections = 1",
        "max_connections_per_ip = 1",
        "max_unauthenticated = 1",
        "max_sessions_per_user = 1\nidle_timeout = 1\nmax_unauthenticated = 2",
    ] {
        scene.relay.configure(options);
        scene.relay.hup();
        assert_eq!(figures(&scene)[..4], [4, 2, 0, 1], "{options}");
        refused(&scene, ip(1));
    }
    // The idle timeout is that of the time when the session was granted.
    sleep(1500);
    let mut session = session;
    session.talks();
    drop(strangers);
    comes_to(&scene, 2, 0);
    let mut alice = scene.stranger("alice");
    auth(&mut alice, "a0000001", "alice", TOO_MANY);
    // A limit that is raised helps at once, on the same connection.
    scene.relay.configure("max_sessions_per_user = 2");
    scene.relay.hup();
    auth(&mut alice, "a0000002", "alice", "200 OK");
    session.talks();
}

#[test]
fn an_operator_sees_the_limits() {
    let scene = Scene::with("max_connections = 30\nmax_connections_per_ip = 0");
    let _alice = scene.client("alice");
    let _bob = served(&scene, ip(1));
    let status = scene.relay.status();
    assert_eq!((&status["connections"], &status["unauthenticated"]), (&2.into(), &1.into()));
    let limits = &status["limits"];
    assert_eq!(limits["max_connections"], 30);
    assert_eq!(limits["max_connections_per_ip"], Value::Null);
    assert_eq!(limits["max_unauthenticated"], 4096);
    assert_eq!(limits["max_sessions_per_user"], 1024);
    let output = scene.relay.ctl(&["status"]);
    let text = String::from_utf8(output.stdout).expect("text");
    for line in [
        "  connections    2, 2 since the start",
        "                 1 of them without a session",
        "  limits         30 connections, 4096 without a session, 1024 sessions of one user",
    ] {
        assert!(text.lines().any(|other| other == line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn an_idle_session_is_closed() {
    let scene = Scene::with("log_level = INFO\nidle_timeout = 2");
    // One that waits for a peer, and two ends of one that is in use.
    let mut waiting = Scene::on(scene.relay.clone()).client("carol");
    let (mut alice, mut bob) = scene.joined();
    // A blank line is enough, from either side.
    for _ in 0..3 {
        sleep(1000);
        alice.says_octets(b"\r\n");
        sleep(1000);
        bob.says_octets(b"\r\n");
    }
    waiting.is_closed_within(Duration::from_millis(100));
    assert_eq!(figures(&scene)[..2], [2, 0]);
    alice.hears_nothing(Duration::from_secs(1));
    alice.is_closed();
    bob.is_closed();
    let log = scene.relay.logs_until("two ends", |log| count(log, "session ended") == 2);
    assert_eq!(count(&log, " reason=idle"), 2, "{log}");
    let words = "closing: no octet either way for 2 s (idle_timeout)";
    assert_eq!(count(&log, words), 2, "{log}");
    comes_to(&scene, 0, 0);
}
