//! Where the relay may dial: `allowed_peers`, `denied_peers`, what is never dialled, and how many
//! next hops a user may try (rows S1 to S7 of `docs/threats.md`).

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::harness::{
    Listener, NameServer, Peer, SILENCE, Scene, TOPOLOGIES, Topology, can_isolate, now, quiet_send,
    report, send, until,
};

const DENIED: &str = "000 403 The relay may not connect to the next hop";
const TOO_MANY: &str = "000 403 Too many next hops in a short time";

/// Sessions of one user that dial at once.
const CROWD: usize = 150;

fn here() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A new session of alice, whose SEND to that URI is taken and then reported to have failed.
#[track_caller]
fn is_refused(scene: &Scene, uri: &str, status: &str) {
    let mut alice = scene.client("alice");
    refused_to(scene, &mut alice, uri, status);
}

#[track_caller]
fn refused_to(scene: &Scene, alice: &mut Peer, uri: &str, status: &str) {
    scene.names.unbind("r");
    alice.says(&send("s0000001", &format!("{{A}} {uri}"), "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&report("{r}", "{alice}", "{A}", status, "1-5/5"));
    // The session ends, as after any dial that fails.
    alice.is_closed();
}

/// A new session of alice reaches the listener under that URI.
#[track_caller]
fn is_reached(scene: &Scene, uri: &str, listener: &Listener) {
    let mut alice = scene.client("alice");
    alice.says(&send("s0000001", &format!("{{A}} {uri}"), "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(listener.accepts().message().body.as_deref(), Some(&b"hello"[..]));
}

fn uri(host: &str, listener: &Listener) -> String {
    format!("msrp://{host}:{}/bob-session;tcp", listener.address().port())
}

#[test]
fn s01_the_relays_own_machine_is_not_dialled() {
    let scene = Scene::with("denied_peers = special");
    let listener = scene.listener_on("bob", (Ipv4Addr::UNSPECIFIED, 0).into(), "localhost");
    let v6 = format!("[::]:{}", listener.address().port());
    let beside = std::net::TcpListener::bind(v6.parse::<SocketAddr>().unwrap());
    if let Ok(beside) = &beside {
        beside.set_nonblocking(true).unwrap();
    }
    for host in [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "[::]",
        "[::1]",
        "[0:0::0:1]",
        "localhost",
        "LOCALHOST",
    ] {
        is_refused(&scene, &uri(host, &listener), DENIED);
    }
    listener.is_left_alone(SILENCE);
    if let Ok(beside) = beside {
        assert!(beside.accept().is_err(), "somebody dials it by IPv6");
    }
}

/// The spellings of `inet_aton(3)` are names like any other, and what they stand for is judged.
#[test]
fn s01_other_spellings_and_names_of_loopback_are_not_dialled() {
    if !can_isolate() {
        return;
    }
    let spellings = &["0", "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "internal.test"];
    for known in [true, false] {
        let names = NameServer::knowing(if known { spellings } else { &[] });
        let scene = names.scene("denied_peers = special");
        let listener = scene.listener_on("bob", (Ipv4Addr::UNSPECIFIED, 0).into(), "localhost");
        let status = if known { DENIED } else { "000 408 Session got disconnected" };
        for host in *spellings {
            is_refused(&scene, &uri(host, &listener), status);
        }
        listener.is_left_alone(SILENCE);
    }
}

#[test]
fn s02_ipv4_addresses_in_ipv6_are_judged_as_themselves() {
    for denied in ["special", "127.0.0.0/8"] {
        let scene = Scene::with(&format!("denied_peers = {denied}"));
        let listener = scene.listener_on("bob", here(), "localhost");
        for host in [
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[2002:7f00:1::1]",
            "[64:ff9b::127.0.0.1]",
            "[2001:0:808:808::80ff:fffe]",
            "[2001:0:7f00:1::f7f7:f7f7]",
        ] {
            is_refused(&scene, &uri(host, &listener), DENIED);
        }
        listener.is_left_alone(SILENCE);
    }
}

#[test]
fn s03_ranges_end_at_any_bit() {
    let scene = Scene::with("denied_peers = 127.5.64.0/18, 127.6.7.8/31");
    for (address, denied) in [
        ("127.5.63.255", false),
        ("127.5.64.0", true),
        ("127.5.127.255", true),
        ("127.5.128.0", false),
        ("127.6.7.7", false),
        ("127.6.7.8", true),
        ("127.6.7.9", true),
        ("127.6.7.10", false),
    ] {
        let listener = scene.listener_on("bob", format!("{address}:0").parse().unwrap(), address);
        if denied {
            is_refused(&scene, "{bob}", DENIED);
            listener.is_left_alone(Duration::from_millis(50));
        } else {
            is_reached(&scene, "{bob}", &listener);
        }
    }
}

#[test]
fn allowed_peers_wins_and_a_reload_changes_the_lists() {
    let scene = Scene::with("allowed_peers = 127.0.0.1");
    let relay = &scene.relay;
    relay.forget("denied_peers");
    relay.reloads();
    let listener = scene.listener("bob");
    is_reached(&scene, "{bob}", &listener);
    // A session that is bound goes on; a later dial, also of a session from before, is judged anew.
    let (mut alice, mut bob) = scene.dialled_at(&listener);
    let mut early = scene.client("carol");
    relay.configure("denied_peers = 127.0.0.0/8\nallowed_peers = 127.0.0.2");
    relay.reloads();
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(bob.message().body.as_deref(), Some(&b"hello"[..]));
    is_refused(&scene, "{bob}", DENIED);
    early.says(&send("s0000001", "{C} {bob}", "{carol}", "hello"));
    early.hears_response("s0000001", "200 OK", "{C}");
    scene.names.unbind("r");
    early.hears(&report("{r}", "{carol}", "{C}", DENIED, "1-5/5"));
    // A malformed list keeps the old one (S4).
    relay.configure("denied_peers = 127.0.0.0/33");
    let refusal = relay.fails_to_reload();
    assert!(refusal.contains("denied_peers"), "{refusal}");
    is_refused(&scene, "{bob}", DENIED);
    relay.configure("denied_peers = none");
    relay.reloads();
    is_reached(&scene, "{bob}", &listener);
}

#[test]
fn s05_the_relays_own_port_is_not_dialled_under_any_name() {
    for (address, hosts) in [
        ("127.0.0.1:0", &["127.0.0.1", "localhost", "0.0.0.0", "[::]", "[::ffff:127.0.0.1]"][..]),
        ("0.0.0.0:0", &["127.0.0.1", "127.8.8.8", "localhost", "0.0.0.0", "[64:ff9b::127.0.0.1]"]),
    ] {
        let options =
            format!("address = {address}\ndenied_peers = none\nallowed_peers = 0.0.0.0/0, ::/0");
        let scene = Scene::with(&options);
        let port = scene.relay.address().port();
        for host in hosts {
            is_refused(&scene, &format!("msrp://{host}:{port}/x;tcp"), DENIED);
        }
        let line = scene.relay.logs("the relay itself listens there");
        assert!(line.contains("WARN") && !line.contains("would allow it"), "{line}");
        // Beside it everything is open.
        let listener = scene.listener("bob");
        is_reached(&scene, "{bob}", &listener);
    }
}

/// A port of an earlier generation, while a session waits there to be joined.
#[test]
fn s05_a_port_that_was_left_is_still_the_relays_own() {
    let scene = Scene::with("");
    let before = scene.relay.address();
    let _waiting = scene.client("bob");
    let free = std::net::TcpListener::bind(here()).unwrap().local_addr().unwrap();
    let alice = &mut scene.client("alice");
    scene.relay.configure(&format!("address = {free}"));
    scene.relay.reloads();
    refused_to(&scene, alice, &format!("msrp://localhost:{}/x;tcp", before.port()), DENIED);
}

#[test]
fn s05_the_database_and_the_metrics_are_not_dialled() {
    let [database, metrics] = [(); 2].map(|()| std::net::TcpListener::bind(here()).unwrap());
    let [database, metrics] = [&database, &metrics].map(|one| one.local_addr().unwrap().port());
    for host in ["localhost", "127.0.0.1", "127.0.0.3"] {
        let options = format!(
            "backend = memory, database\ndenied_peers = none\nmetrics_address = 127.0.0.1:{metrics}\n\
             allowed_peers = 0.0.0.0/0, ::/0"
        );
        let more = format!("[Database]\nuri = mysql://u:p@{host}:{database}/x\n");
        let scene = Scene::on(std::sync::Arc::new(crate::harness::Relay::configured(
            &options, false, &more,
        )));
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]"] {
            is_refused(&scene, &format!("msrp://{host}:{database}/x;tcp"), DENIED);
            is_refused(&scene, &format!("msrp://{host}:{metrics}/x;tcp"), DENIED);
        }
        scene.relay.logs("the database listens there");
        let listener = scene.listener("bob");
        is_reached(&scene, "{bob}", &listener);
    }
}

#[test]
fn s06_private_and_link_local_addresses_are_refused_at_once() {
    let scene = Scene::with("denied_peers = special");
    let since = now();
    for host in
        ["10.0.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "[fe80::1]", "[fd00::1]"]
    {
        is_refused(&scene, &format!("msrp://{host}:80/x;tcp"), DENIED);
    }
    assert!(since.elapsed() < Duration::from_secs(10), "a packet was sent, and waited for");
}

/// The address that is judged is the one that is dialled, each time anew.
#[test]
fn s06_a_name_that_answers_differently_is_judged_each_time() {
    if !can_isolate() {
        return;
    }
    let [public, private] = [Ipv4Addr::new(127, 0, 0, 7), Ipv4Addr::LOCALHOST];
    let names = NameServer::answering(0, move |_, times| {
        Some(if times % 2 == 0 { public } else { private })
    });
    let scene = names.scene("denied_peers = 127.0.0.1");
    let listener = scene.listener_on("bob", (Ipv4Addr::UNSPECIFIED, 0).into(), "rebinds.test");
    for _ in 0..3 {
        let mut alice = scene.client("alice");
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
        alice.hears_response("s0000001", "200 OK", "{A}");
        let reached = listener.accepts();
        assert_eq!(reached.local_address().ip(), public);
        is_refused(&scene, "{bob}", DENIED);
    }
    listener.is_left_alone(SILENCE);
}

/// Sixty at once, and twenty a second from then on; a next hop that was dialled before is free.
#[test]
fn s06_a_user_dials_a_limited_number_of_different_next_hops() {
    let scene = Scene::with("denied_peers = special\nallowed_peers = 127.0.0.1");
    let listener = scene.listener("bob");
    let mut sessions: Vec<(Peer, String)> =
        (0..CROWD).map(|_| (scene.client("alice"), scene.names.text("A"))).collect();
    let since = now();
    for (number, (alice, own)) in sessions.iter_mut().enumerate() {
        let to = format!("{own} msrp://10.0.0.{number}:80/x;tcp");
        alice.says(&send("s0000001", &to, "{alice}", "hello"));
    }
    let granted = sessions.iter_mut().filter_map(|(alice, own)| {
        alice.hears_response("s0000001", "200 OK", own);
        let status = alice.message().the("Status").to_owned();
        assert!(status == TOO_MANY || status == DENIED, "{status}");
        (status == DENIED).then_some(())
    });
    let granted = granted.count();
    let most = 61 + 20 * usize::try_from(since.elapsed().as_millis()).unwrap() / 1000;
    assert!((60..=most).contains(&granted), "{granted} in {:?}", since.elapsed());
    scene.relay.logs("more than 20 different next hops a second");
    // Another user is not concerned, and many sessions to one next hop are not limited.
    for _ in 0..80 {
        let mut carol = scene.client("carol");
        carol.says(&send("s0000001", "{C} {bob}", "{carol}", "hello"));
        carol.hears_response("s0000001", "200 OK", "{C}");
        listener.accepts().message();
    }
}

#[test]
fn s07_two_users_of_this_relay_need_no_permission() {
    let scene = Scene::with("denied_peers = 0.0.0.0/0, ::/0");
    for topology in TOPOLOGIES {
        if !matches!(topology, Topology::Dialled) {
            scene.topology(topology).talks();
        }
    }
    let listener = scene.listener("carol");
    is_refused(&scene, "{carol}", DENIED);
    listener.is_left_alone(SILENCE);
}

#[test]
fn a_refused_dial_is_logged_once_a_minute_with_its_remedy() {
    let scene = Scene::with("denied_peers = special");
    let listener = scene.listener("bob");
    for _ in 0..5 {
        is_refused(&scene, "{bob}", DENIED);
    }
    let port = listener.address().port();
    let line = scene.relay.logs("next hop not reached");
    for part in [
        "WARN",
        "session{id=\"",
        "user=alice@example.com",
        &format!("127.0.0.1:{port}: denied_peers = special denies 127.0.0.1; "),
        "allowed_peers = 127.0.0.1 would allow it",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    // The others are there for who debugs.
    let counted = |level: &str| {
        let log = scene.relay.log();
        log.lines()
            .filter(|line| line.contains(level) && line.contains("next hop not reached"))
            .count()
    };
    until("five lines", || counted("DEBUG") == 4);
    assert_eq!(counted("WARN"), 1);
    scene.relay.logs("reason=denied");
    // Nobody hears of a failure who does not want to.
    let mut alice = scene.client("alice");
    alice.says(&quiet_send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.is_closed();
}
