//! How a session finds its two ends (design 4; RFC 4975 §5.4, RFC 4976 §6.3, RFC 7977 §8.3.2).

use std::{thread, time::Duration};

use crate::harness::{
    SILENCE, Scene, TAKEN, TOPOLOGIES, Transfer, bare_auth, file, fingerprint, first, noise,
    report, send,
};

#[test]
fn each_topology_talks_in_the_clear_and_over_tls() {
    for kind in TOPOLOGIES {
        Scene::plain().topology(kind).talks();
        Scene::tls().topology(kind).talks();
    }
}

#[test]
fn either_end_may_speak_first() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    bob.says(&send("s0000001", "{B} {A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{B}");
    alice.hears(&send("{t}", "{alice}", "{A} {B} {bob}", "hello"));
    alice.responds("{t}", "404 No", "{A}");
    bob.hears(&report("{r}", "{bob}", "{B} {A}", "000 404 No", "1-5/5"));
}

#[test]
fn r7977_8_3_2_01_two_uris_of_this_relay_are_two_hops_on_the_wire() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    alice.says(&send("s0000001", "{A} {B} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    bob.hears(&send("{t}", "{bob}", "{B} {A} {alice}", "hello"));
    alice.hears_nothing(SILENCE);
    bob.responds("{t}", "415 No", "{B}");
    alice.hears(&report("{r}", "{alice}", "{A} {B}", "000 415 No", "1-5/5"));
}

#[test]
fn s30_a_third_own_uri_and_the_same_one_twice_are_refused() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.client("bob");
    let mut carol = scene.client("carol");
    for to in ["{A} {A} {alice}", "{A} {B} {C} {carol}", "{A} {B} {A} {alice}"] {
        alice.says(&send("s0000001", to, "{alice}", "hello"));
        alice.hears_code("s0000001", "481");
    }
    bob.hears_nothing(SILENCE);
    carol.hears_nothing(Duration::from_millis(20));
    alice.says(&send("s0000002", "{A} {B} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000002", "200 OK", "{A}");
    bob.hears(&send("{t}", "{bob}", "{B} {A} {alice}", "hello"));
}

#[test]
fn an_unknown_session_of_this_relay_is_not_dialled() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let uri = scene.names.text("A");
    let (host, _) = uri.rsplit_once('/').unwrap();
    scene.names.bind("ghost", format!("{host}/0123456789abcdefghijkl;tcp"));
    alice.says(&send("s0000001", "{A} {ghost} {bob}", "{alice}", "hello"));
    alice.hears_code("s0000001", "481");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
}

#[test]
fn r4975_5_4_07_r4975_5_4_08_s08_a_third_connection_gets_506_and_the_session_is_undisturbed() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        for from in ["{mallory}", "{bob}", "{alice}"] {
            let mut mallory = scene.stranger("mallory");
            mallory.says(&send("s0000001", "{A} {alice}", from, "hello"));
            let refused = mallory.message();
            assert_eq!(refused.what, TAKEN);
            assert_eq!(refused.the("From-Path"), scene.names.text("A"));
            mallory.hears_nothing(Duration::from_millis(50));
        }
        session.talks();
    }
}

#[test]
fn s08_another_from_path_in_a_bound_session_gets_481() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{mallory}", "hello"));
    bob.hears(
        "MSRP s0000001 481 Indicated session does not exist, please terminate: \
               From-Path does not match session source\nTo-Path: {mallory}\nFrom-Path: {A}\n\
               -------s0000001$",
    );
    bob.says(&send("s0000002", "{A} {alice}", "{carol} {bob}", "hello"));
    bob.hears_code("s0000002", "481");
    alice.hears_nothing(SILENCE);
    bob.says(&send("s0000003", "{A} {alice}", "{bob}", "hello"));
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn s08_a_response_counts_only_on_its_own_connection_and_transaction() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    let request = alice.message();
    let mut mallory = scene.stranger("mallory");
    mallory.answers(&request, "481 No");
    bob.answers(&request, "481 No");
    bob.hears_nothing(SILENCE);
    alice.answers(&request, "415 No");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 415 No", "1-5/5"));
}

#[test]
fn s09_bad_messages_do_not_use_up_a_waiting_session() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let bad = [
        send("s0000001", "{A} {carol}", "{mallory}", "hello"),
        send("s0000001", "{A}", "{mallory}", "hello"),
        send("s0000001", "{A} {alice}", "{mallory}", "hello").replace("1-5/5", "?"),
        send("s0000001", "{A} {alice}", "{mallory}", "hello").replace("Message-ID", "X"),
        send("s0000001", "{A} {alice} {alice}", "{mallory}", "hello"),
        send("s0000001", "{A} {alice}", "nonsense", "hello"),
        send("s0000001", "{A} {alice}", "{mallory}", "hello").replace("SEND", "FOOBAR"),
        "garbage".to_owned(),
    ];
    for text in &bad {
        let mut mallory = scene.stranger("mallory");
        mallory.says(text);
        if let Some(answer) = mallory.message_within(Duration::from_millis(500)) {
            assert!(!answer.what.starts_with('2'), "{answer:?}");
        }
    }
    alice.hears_nothing(SILENCE);
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn a_refused_stranger_may_try_again_on_the_same_connection() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {carol}", "{bob}", "hello"));
    bob.hears_code("s0000001", "481");
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000002", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn what_a_stranger_pipelines_behind_its_first_send_is_not_lost() {
    for scene in [Scene::plain(), Scene::tls()] {
        let mut alice = scene.client("alice");
        let mut bob = scene.stranger("bob");
        let mut octets = bob.octets(&send("refused1", "{A} {carol}", "{bob}", "no"));
        for number in 0..30 {
            let tid = format!("s{number:07}");
            octets.extend(bob.octets(&send(&tid, "{A} {alice}", "{bob}", &tid)));
        }
        bob.says_octets(&octets);
        bob.hears_code("refused1", "481");
        for number in 0..30 {
            let tid = format!("s{number:07}");
            bob.hears_response(&tid, "200 OK", "{A}");
            assert_eq!(alice.message().body, Some(tid.into_bytes()));
        }
    }
}

#[test]
fn a_stranger_may_join_octet_by_octet() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    let octets = bob.octets(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.says_in_pieces(octets.chunks(1), Duration::from_millis(1));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn a_session_that_is_dialling_out_is_taken() {
    let scene = Scene::plain();
    let _silent = scene.stalls("carol");
    let mut alice = scene.client("alice");
    alice.says(&send("s0000001", "{A} {carol}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", TAKEN, "{A}");
    let mut dave = scene.client("dave");
    dave.says(&send("s0000001", "{D} {A} {alice}", "{dave}", "hello"));
    let answer = dave.message();
    assert!(answer.what.starts_with("506") || answer.what.starts_with("481"), "{answer:?}");
    alice.hears_nothing(SILENCE);
}

#[test]
fn a_refresh_during_a_transfer_disturbs_neither() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let body = noise(21, 3 << 20);
        let octets = file(&session.bob, "s0000001", &session.to_alice, "{bob}", &body);
        let (alice, bob) = (&mut session.alice, &mut session.bob);
        let before = scene.names.text("A");
        thread::scope(|scope| {
            scope.spawn(|| bob.says_octets(&octets));
            alice.awaits_octets(100_000);
            let uri = alice.auth_uri();
            alice.says(&bare_auth("a0000001", &uri, "{alice}"));
            let mut transfer = Transfer::default();
            let mut done = false;
            let mut granted = None;
            while !(done && granted.is_some()) {
                let message = alice.message();
                match message.what.get(..3) {
                    Some("401") => {
                        let header = alice.credentials(&message).header();
                        alice.says_auth("a0000002", &header, "Expires: 900\n");
                    }
                    Some("200") => granted = Some(message),
                    _ => {
                        alice.answers(&message, "200 OK");
                        done = transfer.add(message);
                    }
                }
            }
            assert_eq!(granted.expect("a 200").the("Use-Path"), before);
            assert_eq!(fingerprint(&transfer.body), fingerprint(&body));
        });
        session.bob.hears_response("s0000001", "200 OK", &first(&session.back));
    }
}

#[test]
fn a_second_auth_while_the_first_is_looked_up_is_answered_too() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let one = alice.challenged("a0000001");
    let two = alice.challenged("a0000002");
    let mut octets = Vec::new();
    for (tid, credentials) in [("a0000003", &one), ("a0000004", &two)] {
        octets.extend(alice.octets(&format!(
            "MSRP {tid} AUTH\nTo-Path: {{relay}}\nFrom-Path: {{alice}}\n\
             Authorization: {}\n-------{tid}$",
            credentials.header()
        )));
    }
    alice.says_octets(&octets);
    let mut codes: Vec<String> = (0..2).map(|_| alice.message().what[..3].to_owned()).collect();
    codes.sort_unstable();
    assert!(codes == ["200", "200"] || codes == ["200", "400"], "{codes:?}");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

/// Everything that was said before the end of input is relayed, in every topology.
#[test]
fn what_was_said_before_leaving_arrives() {
    for kind in TOPOLOGIES {
        for scene in [Scene::plain(), Scene::tls()] {
            let session = scene.topology(kind);
            let (mut alice, mut bob) = (session.alice, session.bob);
            let octets: Vec<u8> = (0..50)
                .flat_map(|number| {
                    let tid = format!("s{number:07}");
                    alice.octets(&send(&tid, &session.to_bob, "{alice}", &tid))
                })
                .collect();
            alice.says_octets(&octets);
            alice.half_closes();
            for number in 0..50 {
                let body = format!("s{number:07}");
                assert_eq!(bob.message().body, Some(body.into_bytes()), "{kind:?}");
            }
            bob.is_closed_within(Duration::from_secs(15));
        }
    }
}

/// ... also what a session begins with, before there is another end.
#[test]
fn who_speaks_first_and_leaves_at_once_is_heard() {
    for round in 0..20 {
        let scene = Scene::plain();
        let listener = scene.listener("dave");
        let mut alice = scene.client("alice");
        let mut bob = scene.client("bob");
        let mut carol = scene.stranger("carol");
        let mut erin = scene.client("erin");
        // One is dialled, one is another session of the relay, one is joined by a stranger.
        erin.says(&send("s0000001", "{E} {dave}", "{erin}", "to dave"));
        erin.half_closes();
        alice.says(&send("s0000001", "{A} {B} {bob}", "{alice}", "to bob"));
        alice.half_closes();
        erin.hears_response("s0000001", "200 OK", "{E}");
        alice.hears_response("s0000001", "200 OK", "{A}");
        let mut dave = listener.accepts();
        assert_eq!(dave.message().body.as_deref(), Some(&b"to dave"[..]), "round {round}");
        assert_eq!(bob.message().body.as_deref(), Some(&b"to bob"[..]), "round {round}");
        let mut alice = scene.client("alice");
        carol.says(&send("s0000001", "{A} {alice}", "{carol}", "to alice"));
        carol.half_closes();
        carol.hears_response("s0000001", "200 OK", "{A}");
        assert_eq!(alice.message().body.as_deref(), Some(&b"to alice"[..]), "round {round}");
        for mut peer in [alice, bob, carol, dave, erin] {
            peer.is_closed();
        }
    }
}

#[test]
fn who_speaks_first_and_leaves_at_once_hears_that_nobody_is_there() {
    let scene = Scene::plain();
    scene.refuses("bob");
    for _ in 0..20 {
        let mut alice = scene.client("alice");
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
        alice.half_closes();
        alice.hears_response("s0000001", "200 OK", "{A}");
        let lost = "000 408 Session got disconnected";
        scene.names.unbind("r");
        alice.hears(&report("{r}", "{alice}", "{A}", lost, "1-5/5"));
        alice.is_closed();
    }
}

#[test]
fn r4975_5_4_11_a_message_id_seen_before_is_no_reason_to_drop() {
    let scene = Scene::plain();
    for _ in 0..2 {
        let (mut alice, mut bob) = scene.joined();
        for _ in 0..2 {
            bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
            bob.hears_response("s0000001", "200 OK", "{A}");
            let request = alice.message();
            alice.answers(&request, "200 OK");
        }
    }
}

#[test]
fn r4975_5_4_09_the_relay_does_not_speak_first() {
    let scene = Scene::plain();
    scene.stranger("bob").hears_nothing(SILENCE);
    let scene = Scene::tls();
    scene.stranger("bob").hears_nothing(SILENCE);
}
