//! Use-Path and the session's URI in it (RFC 4976 §4.2, §5.1, §6.3, §9.4; RFC 4975 §14.1).

use std::collections::HashSet;

use crate::harness::{SILENCE, Scene, empty_send, send};

#[test]
fn r4976_6_3_06_every_200_has_use_path_and_expires() {
    let scene = Scene::plain();
    for headers in ["", "Expires: 700\n"] {
        let mut alice = scene.stranger("alice");
        let granted = alice.logs_in(headers);
        granted.the("Use-Path");
        granted.the("Expires").parse::<u32>().unwrap();
        let again = alice.logs_in(headers);
        assert_eq!(again.the("Use-Path"), granted.the("Use-Path"));
        again.the("Expires").parse::<u32>().unwrap();
    }
}

/// Behaviour 8: the host name may have no dot. Behaviour 3: the port is always there.
#[test]
fn r4976_4_2_01_use_path_has_the_host_name_and_the_port() {
    let scene = Scene::plain();
    scene.client("alice");
    let port = scene.relay.address().port();
    let uri = scene.names.text("A");
    assert!(uri.starts_with(&format!("msrp://relay.example.com:{port}/")), "{uri}");
    let scene = Scene::tls();
    scene.client("alice");
    let port = scene.relay.address().port();
    let uri = scene.names.text("A");
    assert!(uri.starts_with(&format!("msrps://localhost:{port}/")), "{uri}");
    let scene = Scene::with("advertised_port = 4711");
    scene.client("alice");
    let uri = scene.names.text("A");
    assert!(uri.starts_with("msrp://relay.example.com:4711/"), "{uri}");
}

#[test]
fn r4976_4_2_02_r4976_5_1_03_use_path_is_the_way_back_and_then_the_own_uri() {
    let scene = Scene::plain();
    scene.names.bind("r1", "msrp://r1.example:2855/one;tcp");
    scene.names.bind("r2", "msrp://R2.example:2855/two;tcp;x=y");
    let mut alice = scene.stranger("alice");
    let ask = |tid: &str, authorization: &str| {
        format!(
            "MSRP {tid} AUTH\nTo-Path: {{relay}}\nFrom-Path: {{r2}} {{r1}} {{alice}}\n\
             {authorization}-------{tid}$"
        )
    };
    alice.says(&ask("a0000001", ""));
    let challenge = alice.hears_code("a0000001", "401");
    let header = alice.credentials(&challenge).header();
    alice.says(&ask("a0000002", &format!("Authorization: {header}\n")));
    let granted = alice.hears_code("a0000002", "200");
    let path = granted.the("Use-Path");
    let relays = format!("{} {} ", scene.names.text("r1"), scene.names.text("r2"));
    let own = path.strip_prefix(&relays).unwrap_or_else(|| panic!("{path}"));
    assert!(own.starts_with("msrp://relay.example.com:") && !own.contains(' '), "{path}");
}

#[test]
fn r4976_6_3_07_r4975_14_1_01_session_ids_are_long_random_and_fit_for_uris() {
    let scene = Scene::plain();
    let mut seen = HashSet::new();
    let mut letters = HashSet::new();
    for _ in 0..200 {
        scene.client("alice");
        let uri = scene.names.text("A");
        let id =
            uri.rsplit_once('/').and_then(|(_, id)| id.strip_suffix(";tcp")).expect("a session-id");
        assert!(id.len() >= 22, "{id}");
        assert!(
            id.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._~".contains(&octet)),
            "{id}"
        );
        // Six characters of 128 random bits: 200 of them agree once in more than 10^6 runs.
        assert!(seen.insert(id[..6].to_owned()), "a shared prefix: {id}");
        assert!(seen.insert(format!("end {}", &id[id.len() - 8..])), "a shared end: {id}");
        letters.extend(id.bytes());
    }
    assert!(letters.len() > 14, "an alphabet of {}", letters.len());
}

#[test]
fn r4976_6_3_08_r4976_6_4_02_r4976_9_4_01_only_the_connection_of_the_auth_sends_through_its_uri() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let victim = scene.listener("carol");
    for from in ["{bob}", "{alice}"] {
        let mut thief = scene.stranger("bob");
        thief.says(&send("s0000001", "{A} {carol}", from, "hello"));
        thief.hears_code("s0000001", "481");
    }
    victim.is_left_alone(SILENCE);
    alice.hears_nothing(SILENCE);
    alice.says(&send("s0000001", "{A} {carol}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    victim.accepts().hears(&send("{t}", "{carol}", "{A} {alice}", "hello"));
}

#[test]
fn r4976_6_3_09_the_uri_dies_with_its_connection() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let old = scene.names.text("A");
    alice.half_closes();
    alice.is_closed();
    let mut alice = scene.client("alice");
    scene.names.bind("old", &old);
    assert_ne!(scene.names.text("A"), old);
    alice.says(&send("s0000001", "{old} {bob}", "{alice}", "hello"));
    alice.hears_code("s0000001", "481");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{old} {alice}", "{bob}", "hello"));
    bob.hears_response(
        "s0000001",
        "481 Indicated session does not exist, please terminate",
        "{old}",
    );
    alice.hears_nothing(SILENCE);
}

/// Behaviour 8: sessions share no connection, not even between relays.
#[test]
fn r4976_6_3_10_r4976_6_4_2_04_two_sessions_to_one_next_hop_are_two_connections() {
    let scene = Scene::plain();
    let listener = scene.listener("carol");
    let mut peers = Vec::new();
    for me in ["alice", "bob"] {
        let mut client = scene.client(me);
        let path = format!("{{{}}} {{carol}}", client.session_name());
        client.says(&empty_send("s0000001", &path, &format!("{{{me}}}")));
        client.hears_code("s0000001", "200");
        let far = listener.accepts();
        peers.push((client, far));
    }
    assert_eq!(peers[0].1.message().what, "SEND");
    assert_eq!(peers[1].1.message().what, "SEND");
}

/// Behaviour 8: AUTH on the connection of a session extends it; clients refresh in place.
#[test]
fn r4976_3_1_01_r4976_9_4_02_auth_again_gives_the_same_uri() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let first = scene.names.text("A");
    alice.logs_in("");
    assert_eq!(scene.names.text("A"), first);
    scene.names.bind("relay", &first);
    alice.logs_in("");
    assert_eq!(scene.names.text("A"), first);
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn r4976_5_1_04_a_session_has_one_far_path() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let elsewhere = scene.listener("carol");
    alice.says(&send("s0000001", "{A} {carol}", "{alice}", "hello"));
    alice.hears_response(
        "s0000001",
        "481 Indicated session does not exist, please terminate: \
         To-Path does not match session destination",
        "{A}",
    );
    elsewhere.is_left_alone(SILENCE);
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000002", "200 OK", "{A}");
    bob.hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
}

#[test]
fn r4976_6_3_11_r4976_6_3_12_a_bad_uri_leads_nowhere_and_is_told_once() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let real = scene.names.text("A");
    let (host, _) = real.rsplit_once('/').unwrap();
    scene.names.bind("forged", format!("{host}/0123456789abcdefghijkl;tcp"));
    let victim = scene.listener("carol");
    let mut mallory = scene.stranger("mallory");
    for to in ["{forged} {alice}", "{forged} {carol}"] {
        mallory.says(&send("s0000001", to, "{mallory}", "hello"));
        mallory.hears_response(
            "s0000001",
            "481 Indicated session does not exist, please terminate",
            "{forged}",
        );
        mallory.hears_nothing(SILENCE);
    }
    alice.hears_nothing(SILENCE);
    victim.is_left_alone(SILENCE);
}

#[test]
fn r4976_a_01_halves_of_two_uris_make_none() {
    let scene = Scene::plain();
    let _alice = scene.client("alice");
    let _bob = scene.client("bob");
    let (a, b) = (scene.names.text("A"), scene.names.text("B"));
    let middle = a.rfind('/').unwrap() + 11;
    scene.names.bind("mixed", format!("{}{}", &a[..middle], &b[middle..]));
    let mut carol = scene.stranger("carol");
    for owner in ["{alice}", "{bob}"] {
        carol.says(&empty_send("s0000001", &format!("{{mixed}} {owner}"), "{carol}"));
        carol.hears_code("s0000001", "481");
    }
}

#[test]
fn r4976_a_02_nothing_can_be_derived_from_a_uri() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let uri = scene.names.text("A");
    for suffix in ["x", "/x", "=", "~", "."] {
        scene.names.bind("derived", uri.replace(";tcp", &format!("{suffix};tcp")));
        let mut bob = scene.stranger("bob");
        bob.says(&empty_send("s0000001", "{derived} {alice}", "{bob}"));
        bob.hears_code("s0000001", "481");
    }
    scene
        .names
        .bind("derived", uri.replace(";tcp", "").split_at(uri.len() - 5).0.to_owned() + ";tcp");
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{derived} {alice}", "{bob}"));
    bob.hears_code("s0000001", "481");
    alice.hears_nothing(SILENCE);
}
