//! REPORTs: those that the relay makes, and those that it passes on (RFC 4975 §7.1.2 to §7.1.4;
//! RFC 4976 §3, §6.4).

use std::{io::Write as _, net::TcpListener, thread, time::Duration};

use crate::harness::{
    Peer, SILENCE, Scene, TOPOLOGIES, empty_send, file_head, first, noise, now, quiet_send, report,
    send, send_with, sleep,
};

/// The comments of msrprelay 1.x for a lost connection and for a failed dial.
const LOST: &str = "000 408 Session got disconnected";

/// Long enough for a resolver that waits for name servers.
const SLOW: Duration = Duration::from_secs(40);

#[test]
fn r4976_6_4_1_06_r4975_7_1_3_01_r4975_7_1_2_03_an_error_of_the_next_hop_becomes_a_report() {
    for kind in TOPOLOGIES {
        for failure in ["Failure-Report: yes\n", "Failure-Report: partial\n"] {
            let scene = Scene::plain();
            let mut session = scene.topology(kind);
            session.alice.says(&send_with(
                "s0000001",
                &session.to_bob,
                "{alice}",
                failure,
                "hello",
            ));
            if failure.contains("yes") {
                let hop = first(&session.out);
                session.alice.hears_response("s0000001", "200 OK", &hop);
            }
            let request = session.bob.message();
            session.bob.answers(&request, "415 Unsupported media type");
            session.alice.hears(&report(
                "{r}",
                "{alice}",
                &session.out,
                "000 415 Unsupported media type",
                "1-5/5",
            ));
        }
    }
}

#[test]
fn r4976_6_4_1_06_a_refused_connection_becomes_a_report() {
    let scene = Scene::plain();
    scene.refuses("bob");
    for failure in ["", "Failure-Report: partial\n"] {
        let mut alice = scene.client("alice");
        alice.says(&send_with("s0000001", "{A} {bob}", "{alice}", failure, "hello"));
        if failure.is_empty() {
            alice.hears_response("s0000001", "200 OK", "{A}");
        }
        alice.hears(&report("{r}", "{alice}", "{A}", LOST, "1-5/5"));
        scene.names.unbind("r");
    }
}

#[test]
fn r4976_6_4_3_06_every_code_is_carried_over_as_received() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for status in [
        "415 Unsupported media type",
        "481 No such session",
        "506",
        "499 Never heard of",
        "408 Timeout",
        "600 What",
        // 413 is the last one: it ends the message (RFC 4975 §10.5).
        "413 Please abort the message you are sending",
    ] {
        bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        let request = alice.message();
        alice.answers(&request, status);
        let status = format!("000 {status}");
        bob.hears(&report("{r}", "{bob}", "{A}", &status, "1-5/5"));
        scene.names.unbind("r");
    }
    let quiet = quiet_send("s0000002", "{A} {alice}", "{bob}", "hello");
    bob.says(&quiet.replace("87652491", "quiet"));
    let request = alice.message();
    alice.answers(&request, "481 No");
    bob.hears_nothing(SILENCE);
}

#[test]
fn r4976_3_05_a_name_that_does_not_resolve_is_reported() {
    let scene = Scene::plain();
    scene.names.bind("bob", "msrp://no-such-host.invalid:2855/bob;tcp");
    let mut alice = scene.client("alice");
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    alice.hears_within(SLOW, &report("{r}", "{alice}", "{A}", LOST, "1-5/5"));
}

#[test]
fn r4976_3_05_a_failed_handshake_is_reported() {
    let scene = Scene::plain();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    scene.names.bind("bob", format!("msrps://127.0.0.1:{port}/bob;tcp"));
    let talker = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let _ = socket.write_all(b"MSRP is not TLS\r\n");
        sleep(500);
    });
    let mut alice = scene.client("alice");
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
    alice.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&report("{r}", "{alice}", "{A}", LOST, "1-5/5"));
    talker.join().unwrap();
}

#[test]
fn r4976_3_05_r4975_5_4_01_each_open_send_is_reported_when_the_next_hop_leaves() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let hop = first(&session.out);
        for tid in ["s0000001", "s0000002", "s0000003"] {
            let failure = if tid == "s0000003" { "Failure-Report: partial\n" } else { "" };
            session.alice.says(&send_with(tid, &session.to_bob, "{alice}", failure, tid));
            session.bob.message();
            if failure.is_empty() {
                session.alice.hears_response(tid, "200 OK", &hop);
            }
        }
        session.alice.says(&quiet_send("s0000004", &session.to_bob, "{alice}", "quiet"));
        session.bob.message();
        drop(session.bob);
        for name in ["{r1}", "{r2}", "{r3}"] {
            session.alice.hears(&report(name, "{alice}", &session.out, LOST, "1-8/8"));
        }
        session.alice.is_closed_within(Duration::from_secs(15));
    }
}

#[test]
fn r4976_3_05_r4975_7_1_4_04_a_chunk_in_the_middle_is_reported_with_what_was_seen_of_it() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let octets = session.alice.octets(&format!(
            "MSRP s0000001 SEND\nTo-Path: {}\nFrom-Path: {{alice}}\nMessage-ID: 87652491\n\
             Byte-Range: 1-*/9000\nContent-Type: text/plain\n\n{}",
            session.to_bob,
            "x".repeat(5000)
        ));
        session.alice.says_octets(&octets);
        session.bob.awaits_octets(3000);
        drop(session.bob);
        let heard = session.alice.message();
        assert_eq!(heard.what, "REPORT", "{heard:?}");
        assert_eq!(heard.the("Status"), LOST);
        let (start, end, total) = heard.range();
        assert_eq!((start, total), (1, "9000"));
        let end: usize = end.parse().unwrap();
        assert!((3000..=5002).contains(&end), "{end}");
    }
}

#[test]
fn r4975_7_1_4_04_the_range_of_a_report_is_what_was_really_seen() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = "y".repeat(2048);
    let text = send("s0000001", "{A} {alice}", "{bob}", &body)
        .replace("1-2048/2048", "1-*/5000")
        .replace("-------s0000001$", "-------s0000001+");
    bob.says(&text);
    bob.hears_response("s0000001", "200 OK", "{A}");
    let request = alice.message();
    alice.answers(&request, "400 No");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 400 No", "1-2048/5000"));

    // Later chunks keep their start, declared ends do not count, an unknown total stays unknown.
    for (range, reported) in
        [("2049-2053/5000", "2049-2053/5000"), ("1-100/100", "1-5/100"), ("7-*/*", "7-11/*")]
    {
        let text = send("s0000002", "{A} {alice}", "{bob}", "hello").replace("1-5/5", range);
        bob.says(&text.replace("-------s0000002$", "-------s0000002+"));
        bob.hears_response("s0000002", "200 OK", "{A}");
        let request = alice.message();
        alice.answers(&request, "400 No");
        scene.names.unbind("r");
        bob.hears(&report("{r}", "{bob}", "{A}", "000 400 No", reported));
    }
}

#[test]
fn r4976_3_06_an_error_response_of_the_relay_is_the_only_word() {
    let scene = Scene::plain();
    let (_alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {carol}", "{bob}", "hello"));
    bob.hears_code("s0000001", "481");
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello").replace("1-5/5", "?"));
    bob.hears_code("s0000002", "400");
    bob.hears_nothing(SILENCE);
}

#[test]
fn r4975_7_1_2_02_a_report_of_the_relay_asks_for_no_report() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let headers = "Success-Report: yes\nFailure-Report: yes\n";
    bob.says(&send_with("s0000001", "{A} {alice}", "{bob}", headers, "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    let request = alice.message();
    alice.answers(&request, "400 No");
    let heard = bob.message();
    assert_eq!(heard.what, "REPORT");
    for name in ["Success-Report", "Failure-Report"] {
        assert!(heard.header(name).is_none(), "{heard:?}");
    }
    bob.hears_nothing(SILENCE);
}

#[test]
fn r4975_7_1_3_01_a_report_goes_back_the_whole_path() {
    let scene = Scene::plain();
    scene.names.bind("x", "msrps://x.example:2855/x;tcp");
    scene.names.bind("y", "msrps://Y.example:2855/y;ws;z");
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{x} {y} {bob}", "hello"));
    bob.hears_code("s0000001", "200");
    let request = alice.message();
    alice.answers(&request, "404 Gone");
    bob.hears(&report("{r}", "{x} {y} {bob}", "{A}", "000 404 Gone", "1-5/5"));
}

#[test]
fn r4975_7_1_2_04_an_undeliverable_report_is_dropped() {
    let scene = Scene::plain();
    scene.refuses("bob");
    let (mut alice, bob) = scene.joined();
    alice.says(&report("r0000001", "{A} {bob}", "{alice}", "000 200 OK", "1-5/5"));
    bob.resets();
    let octets = alice.octets(&report("r0000002", "{A} {bob}", "{alice}", "000 200 OK", "1-5/5"));
    let _ = alice.tries(&octets);
    alice.is_closed_within(Duration::from_secs(15));
}

#[test]
fn r4975_7_1_2_05_nobody_is_dialled_to_get_a_report() {
    let scene = Scene::plain();
    let home = scene.listener("bob");
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    let request = alice.message();
    bob.resets();
    let refusal = alice.octets(&format!(
        "MSRP {tid} 481 No\nTo-Path: {{A}}\nFrom-Path: {{alice}}\n-------{tid}$",
        tid = request.tid
    ));
    let _ = alice.tries(&refusal);
    home.is_left_alone(Duration::from_secs(1));
}

#[test]
fn r4976_6_4_2_06_reports_of_others_pass_without_any_knowledge_of_their_message() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        for (name, status) in [
            ("{t1}", "000 200 OK"),
            ("{t2}", "000 413 Stop"),
            ("{t3}", "001 299 Another namespace"),
        ] {
            session.bob.says(&report("r0000001", &session.to_alice, "{bob}", status, "1-*/*"));
            session.alice.hears(&report(name, "{alice}", &session.from_bob, status, "1-*/*"));
        }
        session.bob.hears_nothing(Duration::from_millis(100));
    }
}

#[test]
fn r4975_7_1_2_06_a_report_for_the_relay_is_swallowed() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for peer in [&mut alice, &mut bob] {
        peer.says(&report("r0000001", "{A}", "{bob}", "000 408", "1-5/5"));
    }
    alice.hears_nothing(SILENCE);
    bob.hears_nothing(Duration::from_millis(50));
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
}

#[test]
fn r4976_3_07_a_success_report_comes_from_the_far_client_alone() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        session.alice.says(&send_with(
            "s0000001",
            &session.to_bob,
            "{alice}",
            "Success-Report: yes\n",
            "hello",
        ));
        let hop = first(&session.out);
        session.alice.hears_response("s0000001", "200 OK", &hop);
        let request = session.bob.message();
        assert_eq!(request.the("Success-Report"), "yes");
        session.bob.answers(&request, "200 OK");
        session.alice.hears_nothing(SILENCE);
        session.bob.says(&report("r0000001", &session.to_alice, "{bob}", "000 200 OK", "1-5/5"));
        session.alice.hears(&report("{r}", "{alice}", &session.from_bob, "000 200 OK", "1-5/5"));
    }
}

#[test]
fn r4975_5_4_01_the_end_of_one_connection_ends_the_session_and_no_other() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut other = Scene::plain().topology(kind);
        let session = scene.topology(kind);
        let (leaves, mut stays): (Peer, Peer) = (session.alice, session.bob);
        drop(leaves);
        stays.is_closed_within(Duration::from_secs(15));
        other.talks();
    }
}

/// A peer that dies in the middle of a body: the receiver gets the end of a chunk and `#`.
#[test]
fn a_sender_that_dies_in_mid_body_leaves_an_aborted_chunk_with_right_framing() {
    for kind in TOPOLOGIES {
        for reset in [false, true] {
            let scene = Scene::plain();
            let session = scene.topology(kind);
            let (mut alice, mut bob) = (session.alice, session.bob);
            let body = noise(3, 20_000);
            let mut octets = file_head(&alice, "s0000001", &session.to_bob, "{alice}", "1-*/90000");
            octets.extend_from_slice(&body);
            alice.says_octets(&octets);
            bob.awaits_octets(10_000);
            if reset {
                alice.resets();
            } else {
                drop(alice);
            }
            let mut transfer = crate::harness::Transfer::default();
            while !transfer.add(bob.message()) {}
            assert!(transfer.flags().ends_with('#'), "{}", transfer.flags());
            assert!(!transfer.flags().contains('$'));
            assert!(transfer.body.len() >= 10_000);
            assert!(body.starts_with(&transfer.body), "what came is what was sent");
            bob.is_closed_within(Duration::from_secs(15));
        }
    }
}

#[test]
fn r4975_7_3_2_01_nobody_is_told_of_failures_that_did_not_happen() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for round in 0..200 {
        let tid = format!("s{round:07}");
        bob.says(&send(&tid, "{A} {alice}", "{bob}", "hello"));
        bob.hears_response(&tid, "200 OK", "{A}");
        let request = alice.message();
        alice.answers(&request, "200 OK");
    }
    bob.says(&empty_send("s0000999", "{A} {alice}", "{bob}"));
    bob.hears_response("s0000999", "200 OK", "{A}");
    alice.message();
    bob.hears_nothing(SILENCE);
}

/// A thousand SENDs of a sender with a long From-Path fail at once. The REPORTs are more than one
/// turn of writing, 1 MiB at most, and arrive at once.
#[test]
fn a_thousand_failures_at_once_are_told_to_the_last_that_fits() {
    const SENDS: usize = 1000;

    let scene = Scene::plain();
    let way: Vec<String> =
        (0..14).map(|n| format!("msrp://h{n}.{}.example:1/s;tcp", "x".repeat(100))).collect();
    scene.names.bind("way", way.join(" "));
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    let octets: Vec<u8> = (0..SENDS)
        .flat_map(|number| {
            let tid = format!("s{number:07}");
            let quiet = "Failure-Report: partial\n";
            bob.octets(&send_with(&tid, "{A} {alice}", "{way} {bob}", quiet, &tid))
        })
        .collect();
    thread::scope(|scope| {
        scope.spawn(|| bob.says_octets(&octets));
        (0..SENDS).for_each(|_| assert_eq!(alice.message().what, "SEND"));
    });
    drop(alice);
    let since = now();
    assert!(bob.hung_up_within(Duration::from_secs(20)), "the end does not come");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let told = bob.unread().len();
    assert!((1 << 20..(1 << 20) + 4096).contains(&told), "{told} octets");
    let mut reports = 0;
    while !bob.unread().is_empty() {
        let message = bob.message();
        assert_eq!((message.what.as_str(), message.the("Status")), ("REPORT", LOST));
        assert_eq!(
            message.the("To-Path"),
            scene.names.text("way") + " " + &scene.names.text("bob")
        );
        reports += 1;
    }
    assert!(reports > 500, "{reports} REPORTs");
}
