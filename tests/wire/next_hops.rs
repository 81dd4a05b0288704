//! Where the relay may dial (`allowed_peers`, `denied_peers`; S1, S2, S5, S7 of the security
//! history): denied means a REPORT 403 and no packet.

use std::{
    collections::HashSet,
    net::{SocketAddr, ToSocketAddrs as _},
};

use crate::harness::{Peer, SILENCE, Scene, TOPOLOGIES, Topology, report, send};

/// alice asks for `{bob}`, who must not be reached.
#[track_caller]
fn is_denied(scene: &Scene, alice: &mut Peer) {
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    let told = alice.message();
    assert_eq!(told.what, "REPORT", "{}", scene.names.text("bob"));
    assert!(told.the("Status").starts_with("000 403"), "{told:?}");
    assert_eq!(told.the("Byte-Range"), "1-5/5");
}

#[test]
fn s01_s02_loopback_is_denied_by_default_in_all_its_forms() {
    let scene = Scene::with("denied_peers = special");
    let listener = scene.listener_on("bob", "127.0.0.1:0".parse().unwrap(), "127.0.0.1");
    let uri = scene.names.text("bob");
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "0.0.0.0",
        "localhost",
        "[::]",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[2002:7f00:1::]",
        "[64:ff9b::7f00:1]",
    ] {
        scene.names.bind("bob", uri.replace("127.0.0.1", host));
        let mut alice = scene.client("alice");
        is_denied(&scene, &mut alice);
    }
    listener.is_left_alone(SILENCE);
}

/// Spellings that only some resolvers take for addresses: whatever they are, nobody is reached.
#[test]
fn s01_odd_spellings_of_an_address_reach_nobody() {
    let scene = Scene::with("denied_peers = special");
    let listener = scene.listener("bob");
    let uri = scene.names.text("bob");
    for host in [
        "0",
        "127.1",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "127.0.0.1.",
    ] {
        scene.names.bind("bob", uri.replace("127.0.0.1", host));
        let mut alice = scene.client("alice");
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
        let told = alice.message_within(std::time::Duration::from_secs(2));
        assert!(
            told.is_none_or(|told| told.what == "200 OK" || told.what.starts_with('4')),
            "{host}"
        );
    }
    listener.is_left_alone(SILENCE);
}

#[test]
fn s05_the_relays_own_listener_is_denied_whatever_is_allowed() {
    let scene = Scene::with("allowed_peers = 0.0.0.0/0, ::/0");
    let port = scene.relay.address().port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"] {
        scene
            .names
            .bind("bob", format!("msrp://{host}:{port}/bob-session;tcp"));
        let mut alice = scene.client("alice");
        is_denied(&scene, &mut alice);
    }
}

#[test]
fn s07_two_sessions_of_this_relay_meet_whatever_is_denied() {
    let scene = Scene::with("denied_peers = 0.0.0.0/0, ::/0");
    scene.topology(Topology::Bridged).talks();
    scene.topology(Topology::Joined).talks();
    let listener = scene.listener("bob");
    let mut alice = scene.client("alice");
    is_denied(&scene, &mut alice);
    listener.is_left_alone(SILENCE);
}

#[test]
fn what_is_allowed_wins_over_what_is_denied() {
    let scene = Scene::with("denied_peers = special\nallowed_peers = 127.0.0.0/8");
    for kind in TOPOLOGIES {
        scene.topology(kind).talks();
    }
    let _listener = scene.listener_on("bob", "[::1]:0".parse().unwrap(), "[::1]");
    let mut alice = scene.client("alice");
    is_denied(&scene, &mut alice);
}

/// RFC 4975 §6.2: the addresses of a name are tried in turn; only one of them listens.
#[test]
fn r4975_6_2_03_each_address_of_a_name_is_reached() {
    let addresses: HashSet<SocketAddr> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    for address in addresses {
        let scene = Scene::plain();
        let listener = scene.listener_on("bob", address, "localhost");
        let mut alice = scene.client("alice");
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
        alice.hears_response("s0000001", "200 OK", "{A}");
        let mut bob = listener.accepts();
        bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
        bob.responds("{t}", "415 No", "{A}");
        alice.hears(&report("{r}", "{alice}", "{A}", "000 415 No", "1-5/5"));
    }
}
