//! Connections without a session, and time (RFC 4976 §6.1, §6.4.1, §6.5).
//!
//! What takes 30 s is gathered in two tests whose parts run side by side.

use std::{net::TcpStream, thread, time::Duration};

use crate::harness::{
    PATIENCE, Peer, SILENCE, Scene, TOPOLOGIES, Topology, empty_send, first, now, report, send,
    send_with, sleep,
};

/// A little less than the 30 s: the test's clock may start before the relay's.
const THIRTY: Duration = Duration::from_millis(29_800);

/// Runs the parts at the same time; each fails the test.
fn side_by_side(parts: &[fn()]) {
    thread::scope(|scope| {
        let running: Vec<_> = parts.iter().map(|part| scope.spawn(part)).collect();
        for part in running {
            if let Err(panic) = part.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// The relay closes the connection 30 s after it could be used, give or take a busy machine.
#[track_caller]
fn is_closed_after_thirty_seconds(peer: &mut Peer, since: std::time::Instant) {
    assert!(peer.hung_up_within(Duration::from_secs(45)), "still connected");
    let waited = since.elapsed();
    assert!(
        (Duration::from_secs(28)..Duration::from_secs(37)).contains(&waited),
        "closed after {waited:?}"
    );
}

#[test]
fn r4976_6_1_04_r4976_6_1_05_probation_lasts_thirty_seconds() {
    side_by_side(&[
        r4976_6_1_04_nothing_said,
        r4976_6_1_04_half_a_head_said,
        r4976_6_1_04_an_octet_now_and_then,
        r4976_6_1_04_nothing_said_over_tls,
        r4976_6_1_04_no_handshake,
        r4976_6_1_05_only_challenges_heard,
        r4976_6_1_05_only_refused,
        r4976_6_1_05_garbage_said,
        r4976_6_5_01_those_with_a_session_stay,
    ]);
}

fn r4976_6_1_04_nothing_said() {
    let scene = Scene::plain();
    let since = now();
    let mut peer = scene.stranger("bob");
    is_closed_after_thirty_seconds(&mut peer, since);
    assert!(peer.unread().is_empty());
}

fn r4976_6_1_04_half_a_head_said() {
    let scene = Scene::plain();
    let since = now();
    let mut peer = scene.stranger("alice");
    peer.says("MSRP a0000001 AUTH\nTo-Path: {relay}");
    is_closed_after_thirty_seconds(&mut peer, since);
}

fn r4976_6_1_04_an_octet_now_and_then() {
    let scene = Scene::plain();
    let since = now();
    let mut peer = scene.stranger("alice");
    let octets = peer.octets("MSRP a0000001 AUTH\nTo-Path: {relay}\nFrom-Path: {alice}\n");
    for octet in octets.chunks(1) {
        if peer.tries(octet).is_err() || peer.hung_up_within(Duration::from_millis(900)) {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(40), "slowness prolongs it");
    }
    assert!(since.elapsed() > Duration::from_secs(28));
}

fn r4976_6_1_04_nothing_said_over_tls() {
    let scene = Scene::tls();
    let since = now();
    let mut peer = scene.stranger("bob");
    is_closed_after_thirty_seconds(&mut peer, since);
}

fn r4976_6_1_04_no_handshake() {
    let scene = Scene::tls();
    let since = now();
    let socket = TcpStream::connect(scene.relay.address()).expect("a connection");
    socket.set_read_timeout(Some(Duration::from_secs(45))).expect("SO_RCVTIMEO");
    let mut octets = [0; 64];
    // An alert, the end, or a reset: anything but the time-out.
    let _ = std::io::Read::read(&mut &socket, &mut octets);
    let waited = since.elapsed();
    assert!(
        (Duration::from_secs(28)..Duration::from_secs(37)).contains(&waited),
        "closed after {waited:?}"
    );
}

fn r4976_6_1_05_only_challenges_heard() {
    let scene = Scene::plain();
    let since = now();
    let mut peer = scene.stranger("alice");
    for _ in 0..10 {
        peer.challenged("a0000001");
        sleep(2000);
    }
    is_closed_after_thirty_seconds(&mut peer, since);
}

fn r4976_6_1_05_only_refused() {
    let scene = Scene::plain();
    let since = now();
    let mut peer = scene.stranger("bob");
    for _ in 0..10 {
        peer.says(&empty_send("s0000001", "{carol} {alice}", "{bob}"));
        peer.hears_code("s0000001", "481");
        sleep(2000);
    }
    is_closed_after_thirty_seconds(&mut peer, since);
}

fn r4976_6_1_05_garbage_said() {
    let scene = Scene::plain();
    let since = now();
    let mut peer = scene.stranger("bob");
    for _ in 0..10 {
        peer.says("GET / HTTP/1.1\nHost: example.com\n");
        sleep(2000);
    }
    is_closed_after_thirty_seconds(&mut peer, since);
}

/// R4976-6.5-01, R6135-4.5-01: the owner of a session may be silent for long, and then be called.
fn r4976_6_5_01_those_with_a_session_stay() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let other = Scene::plain();
    let mut session = other.topology(Topology::Joined);
    let lonely = Scene::plain();
    let mut waiting = lonely.stranger("alice");
    waiting.logs_in("Expires: 40\n");
    alice.hears_nothing(Duration::from_secs(33));
    session.talks();
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn r4976_6_4_1_05_r4976_3_08_transactions_last_thirty_seconds() {
    side_by_side(&[
        r4976_6_4_1_05_a_silent_next_hop_is_reported,
        r4976_6_4_1_05_counted_from_the_last_octet_sent,
        r4976_3_04_partial_and_no_have_no_timer,
        r4976_6_4_3_03_an_answer_at_the_last_moment_counts,
        r4976_3_08_a_late_answer_is_ignored,
        r7701_7_1_01_other_methods_expire_in_silence,
        a_stalled_dial_is_reported,
        a_lapsed_session_has_thirty_seconds_to_come_back,
    ]);
}

/// `000 408`, with or without a comment.
#[track_caller]
fn hears_408(peer: &mut Peer, patience: Duration) -> crate::harness::Message {
    let told = peer.message_within(patience).expect("a REPORT");
    assert_eq!(told.what, "REPORT", "{told:?}");
    let status = told.the("Status");
    assert!(status == "000 408" || status.starts_with("000 408 "), "{status}");
    told
}

fn r4976_6_4_1_05_a_silent_next_hop_is_reported() {
    thread::scope(|scope| {
        for kind in TOPOLOGIES {
            scope.spawn(move || {
                let scene = Scene::plain();
                let mut session = scene.topology(kind);
                session.alice.says(&send("s0000001", &session.to_bob, "{alice}", "hello"));
                let since = now();
                let hop = first(&session.out);
                session.alice.hears_response("s0000001", "200 OK", &hop);
                session.bob.message();
                let told = hears_408(&mut session.alice, Duration::from_secs(40));
                let waited = since.elapsed();
                assert!(waited > THIRTY, "{waited:?}");
                assert!(waited < THIRTY + Duration::from_secs(5), "{waited:?}");
                assert_eq!(told.the("Message-ID"), "87652491");
                assert_eq!(told.the("Byte-Range"), "1-5/5");
                assert_eq!(told.the("To-Path"), scene.names.text("alice"));
                session.alice.hears_nothing(Duration::from_secs(2));
                session.talks();
            });
        }
    });
}

fn r4976_6_4_1_05_counted_from_the_last_octet_sent() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let octets = bob.octets(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    let (front, back) = octets.split_at(octets.len() - 5);
    bob.says_octets(front);
    sleep(4000);
    bob.says_octets(back);
    let since = now();
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.message();
    hears_408(&mut bob, Duration::from_secs(40));
    assert!(since.elapsed() > THIRTY);
}

fn r4976_3_04_partial_and_no_have_no_timer() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for failure in ["Failure-Report: partial\n", "Failure-Report: no\n"] {
        bob.says(&send_with("s0000001", "{A} {alice}", "{bob}", failure, "hello"));
        alice.message();
    }
    bob.hears_nothing(Duration::from_secs(34));
}

fn r4976_6_4_3_03_an_answer_at_the_last_moment_counts() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    let request = alice.message();
    sleep(27_000);
    alice.answers(&request, "200 OK");
    bob.hears_nothing(Duration::from_secs(6));
}

fn r4976_3_08_a_late_answer_is_ignored() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    let request = alice.message();
    hears_408(&mut bob, Duration::from_secs(40));
    alice.answers(&request, "481 No");
    bob.hears_nothing(SILENCE);
}

fn r7701_7_1_01_other_methods_expire_in_silence() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says("MSRP n0000001 NICKNAME\nTo-Path: {A} {alice}\nFrom-Path: {bob}\n-------n0000001$");
    assert_eq!(alice.message().what, "NICKNAME");
    bob.hears_nothing(Duration::from_secs(33));
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
}

fn a_stalled_dial_is_reported() {
    let scene = Scene::plain();
    let _silent = scene.stalls("bob");
    let mut alice = scene.client("alice");
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    let lost = report("{r}", "{alice}", "{A}", "000 408 Session got disconnected", "1-5/5");
    alice.hears_within(Duration::from_secs(45), &lost);
}

fn a_lapsed_session_has_thirty_seconds_to_come_back() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    alice.logs_in("Expires: 1\n");
    let since = now();
    assert!(alice.hung_up_within(Duration::from_secs(50)));
    let waited = since.elapsed();
    assert!(waited > Duration::from_secs(28), "{waited:?}");
}

#[test]
fn r4976_6_1_06_many_refused_requests_cost_the_connection() {
    let scene = Scene::plain();
    let mut mallory = scene.stranger("mallory");
    let octets = mallory.octets(&empty_send("s0000001", "{carol} {alice}", "{mallory}"));
    let mut answers = 0;
    for _ in 0..40 {
        if mallory.tries(&octets).is_err() {
            break;
        }
        let Some(answer) = mallory.message_within(PATIENCE) else {
            break;
        };
        assert!(answer.what.starts_with("481"), "{answer:?}");
        answers += 1;
    }
    assert!((8..=20).contains(&answers), "{answers} answers");
    assert!(mallory.hung_up_within(PATIENCE));
}

#[test]
fn r4976_6_3_20_guessing_sessions_costs_the_connection() {
    let scene = Scene::plain();
    scene.client("alice");
    let uri = scene.names.text("A");
    let (host, _) = uri.rsplit_once('/').unwrap();
    let mut mallory = scene.stranger("mallory");
    let octets: Vec<u8> = (0..1000)
        .flat_map(|guess| {
            scene.names.bind("guess", format!("{host}/{guess:022};tcp"));
            mallory.octets(&empty_send("s0000001", "{guess} {alice}", "{mallory}"))
        })
        .collect();
    let _ = mallory.tries(&octets);
    let mut answers = 0;
    while let Some(answer) = mallory.message_within(Duration::from_secs(3)) {
        assert!(answer.what.starts_with("481"), "{answer:?}");
        answers += 1;
    }
    assert!(answers < 40, "{answers} guesses");
    assert!(mallory.hung_up_within(PATIENCE));
}

#[test]
fn s19_those_who_stall_keep_nobody_out() {
    let scene = Scene::tls();
    let stalled: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(scene.relay.address()).unwrap()).collect();
    let since = now();
    let mut session = scene.topology(Topology::Joined);
    session.talks();
    assert!(since.elapsed() < Duration::from_secs(8));
    drop(stalled);
}
