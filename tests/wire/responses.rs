//! Responses: which requests get one, which get none, and where they go (RFC 4975 §7.1.4, §7.2;
//! RFC 4976 §6.4.1, §6.4.3).

use std::time::Duration;

use crate::harness::{
    SILENCE, Scene, TOPOLOGIES, empty_send, first, quiet_send, report, send, send_with, sleep,
};

#[test]
fn r4976_6_4_1_03_a_send_is_answered_at_its_end_line_before_the_next_hop_says_anything() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let hop = first(&session.out);
        let octets = session.alice.octets(&send_with(
            "s0000001",
            &session.to_bob,
            "{alice}",
            "Failure-Report: yes\n",
            "hello",
        ));
        let (front, back) = octets.split_at(octets.len() - 3);
        session.alice.says_octets(front);
        session.alice.hears_nothing(SILENCE);
        session.alice.says_octets(back);
        session.alice.hears_response("s0000001", "200 OK", &hop);
        session.alice.hears_nothing(SILENCE);
    }
}

#[test]
fn r4976_6_4_1_04_the_answer_goes_to_the_previous_hop_alone() {
    let scene = Scene::plain();
    scene.names.bind("x", "msrps://x.example:2855/x;tcp");
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{x} {carol} {bob}", "hello"));
    bob.hears("MSRP s0000001 200 OK\nTo-Path: {x}\nFrom-Path: {A}\n-------s0000001$");
    bob.says(&send("s0000002", "{A} {dave}", "{x} {carol} {bob}", "hello"));
    let refused = bob.hears_code("s0000002", "481");
    assert_eq!(refused.the("To-Path"), scene.names.text("x"));
    alice.hears(&send("{t}", "{alice}", "{A} {x} {carol} {bob}", "hello"));
}

#[test]
fn r4975_7_2_02_r4975_7_2_04_an_answer_has_the_tid_the_responders_uri_and_no_body() {
    let scene = Scene::plain();
    let (_alice, mut bob) = scene.joined();
    for tid in ["abcd", "A.-+%=z9abcdefghijklmnopqrstuvwx"] {
        bob.says(&send(tid, "{A} {alice}", "{bob}", "hello"));
        bob.hears(&format!("MSRP {tid} 200 OK\nTo-Path: {{bob}}\nFrom-Path: {{A}}\n-------{tid}$"));
    }
}

#[test]
fn r4975_7_2_03_an_answer_takes_the_connection_of_its_request() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut again = scene.client("alice");
    let listener = scene.listener("bob");
    again.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    again.hears_response("s0000001", "200 OK", "{A}");
    alice.hears_nothing(SILENCE);
    drop(listener);
}

#[test]
fn r4975_7_2_05_answers_to_other_methods_are_end_to_end() {
    for kind in TOPOLOGIES {
        for status in ["200 OK", "425 Nickname reserved or already in use", "423"] {
            let scene = Scene::plain();
            let mut session = scene.topology(kind);
            session.alice.says(&format!(
                "MSRP n0000001 NICKNAME\nTo-Path: {}\nFrom-Path: {{alice}}\n\
                 Use-Nickname: \"Alice\"\n-------n0000001$",
                session.to_bob
            ));
            let request = session.bob.message();
            session.alice.hears_nothing(Duration::from_millis(100));
            let tid = &request.tid;
            session.bob.says(&format!(
                "MSRP {tid} {status}\nTo-Path: {}\nFrom-Path: {{bob}}\n-------{tid}$",
                session.from_alice
            ));
            let from = format!("{} {{bob}}", session.out);
            session.alice.hears(&format!(
                "MSRP n0000001 {status}\nTo-Path: {{alice}}\nFrom-Path: {from}\n-------n0000001$"
            ));
        }
    }
}

#[test]
fn r4975_7_1_4_01_failure_report_no_is_never_answered() {
    let scene = Scene::plain();
    // With a dead session, on a fresh connection and on one that holds a session.
    let mut alice = scene.client("alice");
    let uri = scene.names.text("A");
    let (host, _) = uri.rsplit_once('/').unwrap();
    scene.names.bind("dead", format!("{host}/0123456789abcdefghijkl;tcp"));
    let mut mallory = scene.stranger("mallory");
    for peer in [&mut mallory, &mut alice] {
        peer.says(&quiet_send("s0000001", "{dead} {bob}", "{mallory}", "hello"));
        peer.hears_nothing(SILENCE);
    }
    // Malformed.
    alice.says(&quiet_send("s0000002", "{A} {bob}", "{alice}", "x").replace("1-1/1", "?"));
    alice.hears_nothing(SILENCE);
    // The next hop refuses the connection.
    scene.refuses("bob");
    alice.says(&quiet_send("s0000003", "{A} {bob}", "{alice}", "hello"));
    let heard = alice.message_within(Duration::from_secs(1));
    assert!(heard.is_none(), "{heard:?}");
    // The far end answers it with an error, although it should not.
    let (mut alice, mut bob) = scene.joined();
    bob.says(&quiet_send("s0000004", "{A} {alice}", "{bob}", "hello"));
    let request = alice.message();
    alice.answers(&request, "481 No");
    bob.hears_nothing(SILENCE);
}

#[test]
fn r4975_7_1_4_02_failure_report_partial_gets_no_200() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let partial = "Failure-Report: partial\n";
    bob.says(&send_with("s0000001", "{A} {alice}", "{bob}", partial, "hello"));
    alice.hears(&send_with("{t}", "{alice}", "{A} {bob}", partial, "hello"));
    alice.responds("{t}", "200 OK", "{A}");
    bob.hears_nothing(SILENCE);
}

#[test]
fn r4975_7_1_4_03_failure_report_partial_gets_an_error() {
    let scene = Scene::plain();
    let (_alice, mut bob) = scene.joined();
    let partial = "Failure-Report: partial\n";
    bob.says(&send_with("s0000001", "{A} {carol}", "{bob}", partial, "hello"));
    bob.hears_code("s0000001", "481");
    bob.says(&send_with("s0000002", "{A} {alice}", "{bob}", partial, "hi").replace("1-2/2", "?"));
    bob.hears_code("s0000002", "400");
}

#[test]
fn r4975_7_1_2_01_a_report_is_never_answered() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    scene.names.bind("dead", "msrp://relay.example.com:1/dead;tcp");
    let bad = [
        report("r0000001", "{dead} {alice}", "{bob}", "000 200 OK", "1-5/5"),
        report("r0000002", "{A} {carol}", "{bob}", "000 200 OK", "1-5/5"),
        report("r0000003", "{A} {alice}", "{mallory}", "000 200 OK", "1-5/5"),
        report("r0000004", "{A}", "{bob}", "000 200 OK", "1-5/5"),
        report("r0000005", "{dead}", "{bob}", "000 200 OK", "1-5/5"),
        report("r0000006", "{A} {alice}", "{bob}", "000 200 OK", "1-5/5")
            .replace("Message-ID", "Failure-Report: yes\nMessage-ID")
            .replace("{alice}", "{carol}"),
    ];
    for text in &bad {
        bob.says(text);
    }
    bob.hears_nothing(SILENCE);
    // A REPORT that is passed on is not answered either, nor is one with an unknown Status.
    for status in ["000 200 OK", "001 200", "whatever"] {
        bob.says(&report("r0000007", "{A} {alice}", "{bob}", status, "1-5/5"));
    }
    bob.hears_nothing(SILENCE);
    assert_eq!(alice.message().the("Status"), "000 200 OK");

    let mut mallory = scene.stranger("mallory");
    mallory.says(&report("r0000008", "{A} {alice}", "{mallory}", "000 200 OK", "1-5/5"));
    mallory.says(&report("r0000009", "{relay}", "{mallory}", "000 200 OK", "1-5/5"));
    mallory.hears_nothing(SILENCE);
}

#[test]
fn r4976_6_4_3_01_r4976_6_4_3_02_bad_responses_are_dropped() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    alice.says("MSRP {t} 481 No\nTo-Path: {carol}\nFrom-Path: {alice}\n-------{t}$");
    alice.says("MSRP {t} 481 No\nTo-Path: {carol} {bob}\nFrom-Path: {alice}\n-------{t}$");
    alice.says("MSRP {t} 481 No\nTo-Path: nonsense\nFrom-Path: {alice}\n-------{t}$");
    alice.says("MSRP {t} 481 No\nFrom-Path: {alice}\n-------{t}$");
    alice.says("MSRP {t} 481 No\nTo-Path: {A}\n-------{t}$");
    alice.says("MSRP unknown1 481 No\nTo-Path: {A}\nFrom-Path: {alice}\n-------unknown1$");
    alice.says("MSRP unknown2 481 No\nTo-Path: {A} {bob}\nFrom-Path: {alice}\n-------unknown2$");
    bob.hears_nothing(SILENCE);
    alice.hears_nothing(SILENCE);
    // The transaction is still open and the connections stay.
    alice.responds("{t}", "481 No", "{A}");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 481 No", "1-5/5"));

    let mut mallory = scene.stranger("mallory");
    mallory.says("MSRP abcdefgh 200 OK\nTo-Path: {A}\nFrom-Path: {mallory}\n-------abcdefgh$");
    mallory.says("MSRP abcdefgh 200\nTo-Path: {A} {bob}\nFrom-Path: {mallory}\n-------abcdefgh$");
    mallory.hears_nothing(SILENCE);
}

#[test]
fn r4976_6_4_3_03_the_first_response_completes_a_transaction() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    alice.responds("{t}", "200 OK", "{A}");
    alice.responds("{t}", "481 No", "{A}");
    bob.hears_nothing(SILENCE);
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000002", "200 OK", "{A}");
    alice.hears(&send("{u}", "{alice}", "{A} {bob}", "hello"));
    alice.responds("{u}", "481 No", "{A}");
    alice.responds("{u}", "481 No", "{A}");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 481 No", "1-5/5"));
    bob.hears_nothing(SILENCE);
}

#[test]
fn r4976_6_4_3_04_r4976_5_1_05_a_response_moves_on_with_the_tid_of_its_hop_and_all_headers() {
    let scene = Scene::plain();
    scene.names.bind("x", "msrps://x.example:2855/x;tcp");
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.says(&empty_send("s0000001", "{A} {alice}", "{x} {bob}"));
    bob.hears_code("s0000001", "200");
    let request = alice.message();
    alice.answers(&request, "200 OK");
    bob.says("MSRP m2nbvw00 FOOBAR\nTo-Path: {A} {alice}\nFrom-Path: {x} {bob}\n-------m2nbvw00$");
    let request = alice.message();
    assert_ne!(request.tid, "m2nbvw00");
    scene.names.bind("t", &request.tid);
    alice.says(
        "
        MSRP {t} 499 What's: this \u{fc}
        To-Path: {A} {x} {bob}
        From-Path: {alice}
        X-One:  two  blanks
        Expires: 12
        x-one: again
        -------{t}$
        ",
    );
    bob.hears(
        "
        MSRP m2nbvw00 499 What's: this \u{fc}
        To-Path: {x} {bob}
        From-Path: {A} {alice}
        X-One:  two  blanks
        Expires: 12
        x-one: again
        -------m2nbvw00$
        ",
    );
}

#[test]
fn r4976_6_4_3_05_r4976_3_02_a_response_for_somebody_gone_is_dropped() {
    let scene = Scene::plain();
    let back = scene.listener("alice");
    let (mut alice, mut bob) = scene.dialled();
    alice.says("MSRP n0000001 NICKNAME\nTo-Path: {A} {bob}\nFrom-Path: {alice}\n-------n0000001$");
    let request = bob.message();
    drop(alice);
    let (tid, to) = (&request.tid, request.the("From-Path"));
    let answer =
        bob.octets(&format!("MSRP {tid} 200 OK\nTo-Path: {to}\nFrom-Path: {{bob}}\n-------{tid}$"));
    let _ = bob.tries(&answer);
    back.is_left_alone(SILENCE);
    bob.is_closed_within(Duration::from_secs(12));
}

#[test]
fn r4976_3_03_a_downstream_200_is_consumed() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        session.talks();
        session.alice.hears_nothing(SILENCE);
        session.bob.hears_nothing(Duration::from_millis(20));
    }
}

#[test]
fn responses_made_by_the_relay_use_the_whole_path_back_but_for_send() {
    let scene = Scene::plain();
    scene.names.bind("x", "msrps://x.example:2855/x;tcp");
    let mut peer = scene.stranger("alice");
    peer.says("MSRP n0000001 FOOBAR\nTo-Path: {relay}\nFrom-Path: {x} {alice}\n-------n0000001$");
    peer.hears(
        "
        MSRP n0000001 501 Unknown method: FOOBAR
        To-Path: {x} {alice}
        From-Path: {relay}
        -------n0000001$
        ",
    );
}

#[test]
fn answers_reach_a_sender_that_half_closes() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "goodbye"));
    bob.half_closes();
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "goodbye"));
    sleep(20);
    alice.is_closed_within(Duration::from_secs(12));
}
