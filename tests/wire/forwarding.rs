//! Where requests go and what happens to them on the way (RFC 4976 §6.2, §6.4; RFC 4975 §7.1).

use std::{collections::HashSet, time::Duration};

use crate::harness::{
    SILENCE, Scene, TOPOLOGIES, empty_send, fingerprint, first, noise, report, send, send_with,
};

const NO_SESSION: &str = "481 Indicated session does not exist, please terminate";

#[test]
fn r4976_6_2_01_an_invalid_request_is_not_forwarded_even_with_a_good_uri() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let listener = scene.listener("bob");
    alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello").replace("1-5/5", "x"));
    alice.hears_code("s0000001", "400");
    // The SEND is checked first: the relay has not dialled either.
    listener.is_left_alone(SILENCE);
    alice.says(&send("s0000002", "{A} {bob}", "{mallory}", "hello"));
    alice.hears(&format!(
        "MSRP s0000002 {NO_SESSION}: From-Path does not match session source\n\
         To-Path: {{mallory}}\nFrom-Path: {{A}}\n-------s0000002$"
    ));
    listener.is_left_alone(SILENCE);
    alice.says(&send("s0000003", "{A} {bob}", "{alice}", "hello"));
    listener.accepts().hears(&send("{t}", "{bob}", "{A} {alice}", "hello"));
}

/// Behaviour 8: 481, and the connection stays.
#[test]
fn r4976_6_2_02_r4976_6_4_1_02_a_request_for_another_machine_gets_481_and_goes_nowhere() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let other = scene.listener("carol");
    for (peer, from) in [(&mut alice, "{alice}"), (&mut bob, "{bob}")] {
        peer.says(&send("s0000001", "{carol} {dave}", from, "hello"));
        peer.hears_response(
            "s0000001",
            &format!("{NO_SESSION}: Wrong session id on relay MSRP URI"),
            "{carol}",
        );
    }
    other.is_left_alone(SILENCE);
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn r4976_6_4_01_only_a_uri_from_a_use_path_leads_anywhere_for_any_method() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let listener = scene.listener("bob");
    let uri = scene.names.text("A");
    let (host, _) = uri.rsplit_once('/').unwrap();
    scene.names.bind("generic", format!("{host};tcp"));
    scene.names.bind("guessed", format!("{host}/0123456789abcdefghijkl;tcp"));
    for method in ["SEND", "AUTH", "NICKNAME", "FOOBAR", "REPORT"] {
        for to in ["{generic} {bob}", "{guessed} {bob}", "{relay} {bob}"] {
            alice.says(
                &send("s0000001", to, "{alice}", "hello").replace(" SEND", &format!(" {method}")),
            );
            if method != "REPORT" {
                alice.hears_code("s0000001", "481");
            }
        }
    }
    listener.is_left_alone(SILENCE);
    alice.hears_nothing(SILENCE);
}

#[test]
fn r4976_9_3_01_what_comes_for_a_client_goes_to_its_connection_wherever_its_uri_points() {
    let scene = Scene::plain();
    let elsewhere = scene.listener("alice");
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    elsewhere.is_left_alone(SILENCE);
}

#[test]
fn r4976_6_4_03_transact_ids_are_new_and_answers_find_their_sender() {
    let scene = Scene::plain();
    let listener = scene.listener("carol");
    let mut clients = Vec::new();
    let mut tids = HashSet::new();
    for me in ["alice", "bob"] {
        let mut client = scene.client(me);
        let path = format!("{{{}}} {{carol}}", client.session_name());
        client.says(&send("samesame", &path, &format!("{{{me}}}"), "hello"));
        client.hears_code("samesame", "200");
        let mut far = listener.accepts();
        let request = far.message();
        assert_ne!(request.tid, "samesame");
        assert!(tids.insert(request.tid.clone()));
        clients.push((client, far, request));
    }
    for (index, (client, far, request)) in clients.iter_mut().enumerate() {
        far.answers(request, &format!("48{index} Number {index}"));
        let report = client.message();
        assert_eq!(report.the("Status"), format!("000 48{index} Number {index}"));
    }
}

#[test]
fn r4976_6_4_1_01_the_own_uri_moves_from_to_path_to_from_path() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        session.alice.says(&send("s0000001", &session.to_bob, "{alice}", "hello"));
        session.bob.hears(&send("{t1}", "{bob}", &session.from_alice, "hello"));
        session.bob.says(&send("s0000002", &session.to_alice, "{bob}", "back"));
        session.bob.hears_response("s0000002", "200 OK", &first(&session.back));
        session.alice.hears_response("s0000001", "200 OK", &first(&session.out));
        session.alice.hears(&send("{t2}", "{alice}", &session.from_bob, "back"));
    }
}

#[test]
fn r4976_6_4_1_01_longer_paths_on_either_side_pass() {
    let scene = Scene::plain();
    for (name, uri) in [
        ("x", "msrps://x.example:2855/x+/=;tcp"),
        ("y", "msrp://Y.Example:1/y;ws;p=1"),
        ("z", "msrps://u@z.example:3/z;tcp"),
    ] {
        scene.names.bind(name, uri);
    }
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.says(&send("s0000001", "{A} {alice}", "{x} {y} {bob}", "hello"));
    bob.hears("MSRP s0000001 200 OK\nTo-Path: {x}\nFrom-Path: {A}\n-------s0000001$");
    alice.hears(&send("{t}", "{alice}", "{A} {x} {y} {bob}", "hello"));
    alice.says(&send("s0000002", "{A} {x} {y} {bob}", "{alice}", "back"));
    alice.hears_response("s0000002", "200 OK", "{A}");
    bob.hears(&send("{u}", "{x} {y} {bob}", "{A} {alice}", "back"));

    let listener = scene.listener("carol");
    let mut dave = scene.client("dave");
    dave.says(&send("s0000003", "{D} {carol} {x} {z}", "{dave}", "far"));
    dave.hears_response("s0000003", "200 OK", "{D}");
    let mut carol = listener.accepts();
    carol.hears(&send("{v}", "{carol} {x} {z}", "{D} {dave}", "far"));
}

#[test]
fn r4976_6_4_2_01_requests_of_any_method_cross_both_ways() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        for (number, method) in ["NICKNAME", "FOOBAR", "REPORT", "X"].iter().enumerate() {
            let request = |tid: &str, to: &str, from: &str| {
                format!(
                    "MSRP {tid} {method}\nTo-Path: {to}\nFrom-Path: {from}\n\
                     Use-Nickname: \"Alice the great\"\nStatus: 000 200 OK\nMessage-ID: 87652491\n\
                     X-Other: a: b\nContent-Type: text/plain\n\nbody\n-------{tid}$"
                )
            };
            session.alice.says(&request("n0000001", &session.to_bob, "{alice}"));
            let tid = format!("{{t{number}}}");
            session.bob.hears(&request(&tid, "{bob}", &session.from_alice));
            session.bob.says(&request("n0000002", &session.to_alice, "{bob}"));
            let tid = format!("{{u{number}}}");
            session.alice.hears(&request(&tid, "{alice}", &session.from_bob));
        }
    }
}

#[test]
fn r4976_6_4_2_02_an_unknown_method_is_answered_by_the_far_end_alone() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says("MSRP n0000001 FOOBAR\nTo-Path: {A} {alice}\nFrom-Path: {bob}\n-------n0000001$");
    let request = alice.message();
    assert_eq!(request.what, "FOOBAR");
    bob.hears_nothing(SILENCE);
    alice.says(&format!(
        "MSRP {tid} 299 As you like\nTo-Path: {{A}} {{bob}}\nFrom-Path: {{alice}}\nX-A: b\n-------{tid}$",
        tid = request.tid
    ));
    bob.hears(
        "
        MSRP n0000001 299 As you like
        To-Path: {bob}
        From-Path: {A} {alice}
        X-A: b
        -------n0000001$
        ",
    );
}

#[test]
fn r4976_6_4_2_03_other_methods_may_be_blocked() {
    let scene = Scene::with("allow_other_methods = No");
    let (mut alice, mut bob) = scene.joined();
    bob.says("MSRP n0000001 FOOBAR\nTo-Path: {A} {alice}\nFrom-Path: {bob}\n-------n0000001$");
    bob.hears_response("n0000001", "501 Unknown method: FOOBAR", "{A}");
    alice.hears_nothing(SILENCE);
    for method in ["NICKNAME", "REPORT"] {
        bob.says(&format!(
            "MSRP n0000002 {method}\nTo-Path: {{A}} {{alice}}\nFrom-Path: {{bob}}\n\
             Status: 000 200 OK\nMessage-ID: 1\n-------n0000002$"
        ));
        assert_eq!(alice.message().what, method);
    }
}

#[test]
fn r4975_12_02_an_unknown_method_for_the_relay_itself_gets_501() {
    let scene = Scene::plain();
    let mut peer = scene.stranger("alice");
    for method in ["FOOBAR", "NICKNAME", "SEND"] {
        peer.says(&format!(
            "MSRP n0000001 {method}\nTo-Path: {{relay}}\nFrom-Path: {{alice}}\nMessage-ID: 1\n\
             Byte-Range: 1-0/0\n-------n0000001$"
        ));
        let comment = format!("501 Unknown method: {method}");
        peer.hears_response("n0000001", &comment, "{relay}");
    }
    peer.says(
        "
        MSRP n0000002 FOOBAR
        To-Path: {relay} {bob}
        From-Path: {alice}
        -------n0000002$
        ",
    );
    peer.hears_response("n0000002", "501 Unknown method: FOOBAR", "{relay}");
}

#[test]
fn r4976_6_4_2_05_the_first_send_of_the_owner_makes_one_connection() {
    let scene = Scene::plain();
    let listener = scene.listener("bob");
    let mut alice = scene.client("alice");
    let three: Vec<u8> = ["s0000001", "s0000002", "s0000003"]
        .iter()
        .flat_map(|tid| alice.octets(&send(tid, "{A} {bob}", "{alice}", tid)))
        .collect();
    alice.says_octets(&three);
    let mut bob = listener.accepts();
    for tid in ["s0000001", "s0000002", "s0000003"] {
        alice.hears_response(tid, "200 OK", "{A}");
        assert_eq!(bob.message().body.as_deref(), Some(tid.as_bytes()));
    }
    listener.is_left_alone(SILENCE);
}

#[test]
fn r4976_1_01_two_mebibytes_of_noise_arrive_unchanged_in_every_topology() {
    for kind in TOPOLOGIES {
        for scene in [Scene::plain(), Scene::tls()] {
            let mut session = scene.topology(kind);
            let mut body = noise(1, 2 << 20);
            let tricky = b"\r\n-------\0\r\n\r\n-------s0000001\r\n\r\r\n----------\n";
            for at in (0..body.len() - 100).step_by(4093) {
                body[at..at + tricky.len()].copy_from_slice(tricky);
            }
            scene.names.bind("body", &body);
            let length = body.len();
            let text = send_with(
                "s0000001",
                &session.to_bob,
                "{alice}",
                "Content-Disposition: attachment\n",
                "{body}",
            )
            .replace("1-6/6", &format!("1-*/{length}"));
            let octets = session.alice.octets(&text);
            let (alice, bob) = (&mut session.alice, &mut session.bob);
            std::thread::scope(|scope| {
                scope.spawn(|| alice.says_octets(&octets));
                let transfer = bob.receives();
                assert_eq!(transfer.body.len(), length);
                assert_eq!(fingerprint(&transfer.body), fingerprint(&body), "{kind:?}");
            });
            session.alice.hears_response("s0000001", "200 OK", &first(&session.out));
        }
    }
}

#[test]
fn several_sessions_at_once_do_not_mix() {
    let mut sessions = Vec::new();
    for number in 0..6_usize {
        let scene = Scene::plain();
        let session = scene.topology(TOPOLOGIES[number % 3]);
        sessions.push((scene, session));
    }
    std::thread::scope(|scope| {
        for (number, (scene, session)) in sessions.iter_mut().enumerate() {
            let body = noise(100 + number as u64, 1 << 20);
            scene.names.bind("body", &body);
            let text = send("s0000001", &session.to_bob, "{alice}", "{body}")
                .replace("1-6/6", &format!("1-*/{}", body.len()));
            let octets = session.alice.octets(&text);
            let (alice, bob) = (&mut session.alice, &mut session.bob);
            scope.spawn(move || alice.says_octets(&octets));
            scope.spawn(move || {
                assert_eq!(fingerprint(&bob.receives().body), fingerprint(&body));
            });
        }
    });
}

#[test]
fn r4975_7_1_1_02_the_relay_adds_no_header() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let text = |tid: &str, to: &str, from: &str| {
        let text = scene.send_octets(tid, to, from, [0, 255, 13, 10]);
        text.replace("text/plain", "application/octet-stream")
    };
    bob.says(&text("s0000001", "{A} {alice}", "{bob}"));
    alice.hears(&text("{t}", "{alice}", "{A} {bob}"));
}

#[test]
fn r4975_7_1_1_04_absent_report_headers_are_not_added_and_mean_their_defaults() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    alice.responds("{t}", "400 No", "{A}");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 400 No", "1-5/5"));
}

#[test]
fn r4975_7_1_1_05_a_hundred_sends_in_one_write() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let octets: Vec<u8> = (0..100)
            .flat_map(|number| {
                let tid = format!("s{number:07}");
                let body = format!("body {number}");
                session.alice.octets(&send(&tid, &session.to_bob, "{alice}", &body))
            })
            .collect();
        session.alice.says_octets(&octets);
        for number in 0..100 {
            let heard = session.bob.message();
            assert_eq!(heard.body, Some(format!("body {number}").into_bytes()));
            session.bob.answers(&heard, "200 OK");
            let tid = format!("s{number:07}");
            session.alice.hears_response(&tid, "200 OK", &first(&session.out));
        }
        session.alice.hears_nothing(Duration::from_millis(100));
    }
}

#[test]
fn r4975_5_3_01_the_answer_does_not_wait_for_the_next_hop() {
    let scene = Scene::plain();
    let _silent = scene.stalls("bob");
    let mut alice = scene.client("alice");
    for tid in ["s0000001", "s0000002"] {
        alice.says(&send(tid, "{A} {bob}", "{alice}", "hello"));
        alice.hears_response(tid, "200 OK", "{A}");
    }
    alice.says(&send("s0000003", "{A} {carol}", "{alice}", "hello"));
    alice.hears_code("s0000003", "481");
    alice.hears_nothing(SILENCE);
}

#[test]
fn r4975_7_3_01_a_send_to_the_relay_itself_gets_481() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let comment = format!("{NO_SESSION}: Non-response with me as endpoint, nowhere to relay to");
    alice.says(&send("s0000001", "{A}", "{alice}", "hello"));
    alice.hears_response("s0000001", &comment, "{A}");
    let (mut alice, mut bob) = scene.joined();
    alice.says(&empty_send("s0000002", "{A}", "{alice}"));
    alice.hears_response("s0000002", &comment, "{A}");
    bob.says(&empty_send("s0000003", "{A}", "{bob}"));
    bob.hears_response("s0000003", &comment, "{A}");
}

#[test]
fn other_requests_do_not_open_a_session() {
    let scene = Scene::plain();
    let mut alice = scene.client("alice");
    let mut bob = scene.stranger("bob");
    bob.says("MSRP n0000001 NICKNAME\nTo-Path: {A} {alice}\nFrom-Path: {bob}\n-------n0000001$");
    bob.hears_response("n0000001", "501 Unknown method: NICKNAME", "{A}");
    bob.says(&report("n0000002", "{A} {alice}", "{bob}", "000 200 OK", "1-5/5"));
    bob.hears_nothing(SILENCE);
    alice.hears_nothing(SILENCE);
    let mut carol = scene.stranger("carol");
    carol.says(&empty_send("s0000001", "{A} {alice}", "{carol}"));
    carol.hears_response("s0000001", "200 OK", "{A}");
}
