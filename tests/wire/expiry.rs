//! Expires: what is granted, and what it ends (RFC 4976 §4.6, §5.1, §6.3; behaviour 4).

use std::{thread, time::Duration};

use crate::harness::{
    Peer, SILENCE, Scene, empty_send, file_head, noise, now, report, send, sleep,
};

/// AUTH with right credentials and this Expires.
#[track_caller]
fn asks_for(peer: &mut Peer, expires: &str) {
    let credentials = peer.challenged("a0000001");
    peer.says_auth("a0000002", &credentials.header(), &format!("Expires: {expires}\n"));
}

fn strangers_answer(scene: &Scene) -> String {
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    bob.message().what
}

#[test]
fn r4976_6_3_13_r4976_6_5_05_a_waiting_session_ends_at_its_expires_and_its_connection_stays() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    assert_eq!(alice.logs_in("Expires: 2\n").the("Expires"), "2");
    sleep(3200);
    assert!(strangers_answer(&scene).starts_with("481"));
    let listener = scene.listener("carol");
    alice.says(&send("s0000001", "{A} {carol}", "{alice}", "hello"));
    alice.hears_code("s0000001", "481");
    listener.is_left_alone(SILENCE);
    let before = scene.names.text("A");
    alice.logs_in("Expires: 60\n");
    assert_eq!(scene.names.text("A"), before);
    assert_eq!(strangers_answer(&scene), "200 OK");
}

#[test]
fn r4976_6_3_13_until_then_it_is_there() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    alice.logs_in("Expires: 3\n");
    sleep(1500);
    assert_eq!(strangers_answer(&scene), "200 OK");
}

#[test]
fn r4976_6_3_13_a_bound_session_with_an_expires_of_the_client_ends_then() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    let granted = now();
    alice.logs_in("Expires: 3\n");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(alice.message().what, "SEND");
    // The SEND was not answered: it is reported 408, and both connections are closed.
    let told = bob.message();
    assert_eq!(told.what, "REPORT");
    assert!(told.the("Status").starts_with("000 408"), "{told:?}");
    assert!(granted.elapsed() > Duration::from_millis(2500));
    bob.is_closed_within(Duration::from_secs(15));
    alice.is_closed_within(Duration::from_secs(15));
}

/// Overruled by behaviour 4 and 8: Blink never refreshes, and its chats go on.
#[test]
fn r4976_6_3_14_without_expires_the_default_is_granted_and_ends_no_bound_session() {
    let scene = Scene::with("session_expiration_time_default = 2");
    let mut alice = scene.stranger("alice");
    assert_eq!(alice.logs_in("").the("Expires"), "2");
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    let request = alice.message();
    alice.answers(&request, "200 OK");
    sleep(3500);
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000002", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn r4976_6_3_14_without_expires_a_waiting_session_ends_at_the_default() {
    let scene = Scene::with("session_expiration_time_default = 1");
    let mut alice = scene.client("alice");
    sleep(2200);
    assert!(strangers_answer(&scene).starts_with("481"));
    alice.hears_nothing(Duration::from_millis(50));
}

#[test]
fn r4976_6_3_14_with_strict_expiry_bound_sessions_end_too() {
    let scene = Scene::with("strict_expiry = Yes\nsession_expiration_time_default = 2");
    let (mut alice, mut bob) = scene.joined();
    bob.is_closed_within(Duration::from_secs(16));
    alice.is_closed_within(Duration::from_secs(16));
}

#[test]
fn r4976_5_1_06_what_is_granted_is_what_was_asked_for() {
    let scene = Scene::plain();
    for expires in ["1", "600", "601", "3600"] {
        let mut alice = scene.stranger("alice");
        asks_for(&mut alice, expires);
        assert_eq!(alice.hears_code("a0000002", "200").the("Expires"), expires);
    }
}

#[test]
fn r4976_6_3_15_r4976_4_6_01_out_of_bounds_is_423_with_the_bound_alone() {
    let scene = Scene::with("session_expiration_time_minimum = 60");
    let mut alice = scene.stranger("alice");
    asks_for(&mut alice, "59");
    alice.hears(
        "
        MSRP a0000002 423 Parameter out of bounds
        To-Path: {alice}
        From-Path: {relay}
        Min-Expires: 60
        -------a0000002$
        ",
    );
    asks_for(&mut alice, "3601");
    alice.hears(
        "
        MSRP a0000002 423 Parameter out of bounds
        To-Path: {alice}
        From-Path: {relay}
        Max-Expires: 3600
        -------a0000002$
        ",
    );
    asks_for(&mut alice, "60");
    let granted = alice.hears_code("a0000002", "200");
    for name in ["Min-Expires", "Max-Expires"] {
        assert!(granted.header(name).is_none());
    }
    assert_eq!(granted.the("Expires"), "60");
}

#[test]
fn r4976_7_02_s16_expires_is_a_number() {
    let scene = Scene::plain();
    for (expires, codes) in [
        ("0", &["423"][..]),
        ("-1", &["400", "423"]),
        ("abc", &["400"]),
        ("1.5", &["400"]),
        ("60 seconds", &["400"]),
        ("999999999999999999999999999999", &["400", "423"]),
        ("18446744073709551676", &["400", "423"]),
        ("4294967356", &["423"]),
    ] {
        let mut alice = scene.stranger("alice");
        asks_for(&mut alice, expires);
        let answer = alice.message();
        assert!(codes.contains(&&answer.what[..3]), "{expires}: {answer:?}");
    }
}

#[test]
fn r4976_9_4_02_auth_on_the_connection_extends_the_session() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    alice.logs_in("Expires: 2\n");
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    let request = alice.message();
    alice.answers(&request, "200 OK");
    let before = scene.names.text("A");
    alice.logs_in("Expires: 600\n");
    assert_eq!(scene.names.text("A"), before);
    sleep(3200);
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000002", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn an_attempt_to_extend_that_fails_changes_nothing() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    asks_for(&mut alice, "99999");
    alice.hears_code("a0000002", "423");
    let mut credentials = alice.challenged("a0000003");
    credentials.password = "wrong".to_owned();
    alice.says_auth("a0000004", &credentials.header(), "");
    alice.hears_code("a0000004", "401");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    alice.responds("{t}", "481 No", "{A}");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 481 No", "1-5/5"));
}

/// The inner relay grants its own Expires, and passes on that of the outer one.
#[test]
fn r4976_5_1_07_the_expires_of_another_relay_passes() {
    let scene = Scene::plain();
    let listener = scene.listener("bob");
    let mut alice = scene.client("alice");
    alice.says(
        "
        MSRP a0000001 AUTH
        To-Path: {A} {bob}
        From-Path: {alice}
        Expires: 12345678
        -------a0000001$
        ",
    );
    let mut outer = listener.accepts();
    let request = outer.message();
    assert_eq!(request.the("Expires"), "12345678");
    scene.names.bind("t", &request.tid);
    outer.says(
        "
        MSRP {t} 200 OK
        To-Path: {A} {alice}
        From-Path: {bob}
        Use-Path: {A} {carol}
        Expires: 1800
        -------{t}$
        ",
    );
    alice.hears(
        "
        MSRP a0000001 200 OK
        To-Path: {alice}
        From-Path: {A} {bob}
        Use-Path: {A} {carol}
        Expires: 1800
        -------a0000001$
        ",
    );
}

/// Of two joined sessions each has its own Expires, and the first to expire ends both.
#[test]
fn the_expiry_of_one_of_two_joined_sessions_ends_both() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.logs_in("Expires: 2\n");
    alice.says(&empty_send("s0000001", "{A} {B} {bob}", "{alice}"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    let request = bob.message();
    bob.answers(&request, "200 OK");
    alice.is_closed_within(Duration::from_secs(16));
    bob.is_closed_within(Duration::from_secs(16));
}

/// A session expires even while its input never runs out.
#[test]
fn a_session_expires_while_both_ends_talk_without_a_pause() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    alice.logs_in("Expires: 2\n");
    let granted = now();
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(alice.message().what, "SEND");
    thread::scope(|scope| {
        // These are refused, so only the relay's own reading limits their rate.
        for (mut peer, to, from) in
            [(alice, "{A} {carol}", "{alice}"), (bob, "{A} {carol}", "{bob}")]
        {
            scope.spawn(move || {
                peer.says_octets(&file_head(&peer, "f0000001", to, from, "1-*/*"));
                let block = noise(22, 1 << 20);
                while peer.tries(&block).is_ok() {
                    assert!(granted.elapsed() < Duration::from_secs(12), "it goes on and on");
                }
            });
        }
    });
    assert!(granted.elapsed() > Duration::from_millis(1900));
}
