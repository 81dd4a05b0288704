//! Memory that a stranger can make the relay use, and hostile input (behaviour 3; the rows
//! of `docs/threats.md` that concern relaying).

use std::time::Duration;

use crate::harness::{
    Peer, SILENCE, Scene, bare_auth, empty_send, noise, now, send, send_with, sleep,
};

/// The end of a message whose framing is lost: perhaps a 400, and then the connection closes.
#[track_caller]
fn is_cut_off(peer: &mut Peer) {
    if let Some(answer) = peer.message_within(Duration::from_secs(3)) {
        assert!(answer.what.starts_with("400"), "{answer:?}");
    }
    assert!(peer.hung_up_within(Duration::from_secs(10)), "still connected");
}

#[test]
fn s15_a_line_has_16384_octets_at_most() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let header = |length: usize| format!("X-Long: {}\n", "l".repeat(length - "X-Long: ".len()));
    for length in [16_383, 16_384] {
        let text =
            |tid: &str, to: &str, from: &str| send_with(tid, to, from, &header(length), "hello");
        bob.says(&text("s0000001", "{A} {alice}", "{bob}"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        alice.hears(&text("{t}", "{alice}", "{A} {bob}"));
        scene.names.unbind("t");
    }
    let text = send_with("s0000002", "{A} {alice}", "{bob}", &header(16_400), "hello");
    let octets = bob.octets(&text);
    let _ = bob.tries(&octets);
    is_cut_off(&mut bob);
}

#[test]
fn a_path_has_16_uris_at_most_and_its_sender_is_told_at_once() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let detail = "400 Request was unintelligible, please try again (Error parsing To-Path header)";
    // Hops that do not exist, a loop through a session, and as many as fit in a line.
    let hops =
        |hop: &str, times: usize| format!("{{A}}{} {{alice}}", format!(" {hop}").repeat(times));
    for to in [hops("msrp://h:1/s;tcp", 15), hops("{A}", 15), hops("msrp://h;tcp", 1200)] {
        let began = now();
        bob.says(&send("s0000001", &to, "{bob}", "hello"));
        bob.hears_response("s0000001", detail, "{A}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    bob.says(&send("s0000002", &hops("msrp://h:1/s;tcp", 14), "{bob}", "hello"));
    bob.hears_code("s0000002", "481");
    alice.hears_nothing(SILENCE);
    bob.says(&send("s0000003", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000003", "200 OK", "{A}");
    // A stranger is told as well.
    let mut mallory = scene.stranger("mallory");
    mallory.says(&send("s0000004", &hops("{A}", 15), "{mallory}", "hello"));
    mallory.hears_response("s0000004", detail, "{A}");
}

#[test]
fn s15_a_head_has_64_header_lines_at_most() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    // To-Path, From-Path, Message-ID, Byte-Range and Content-Type are there already.
    let text =
        |lines: usize| send_with("s0000001", "{A} {alice}", "{bob}", &"X: 1\n".repeat(lines), "x");
    bob.says(&text(59));
    bob.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(alice.message().headers.len(), 64);
    let octets = bob.octets(&text(60));
    let _ = bob.tries(&octets);
    is_cut_off(&mut bob);
}

/// Says five and then six header lines of 12,000 octets in a session.
#[track_caller]
fn has_64_kib(sender: &mut Peer, to: &str, from: &str, receiver: &mut Peer) {
    let line = format!("X: {}\n", "h".repeat(12_000));
    sender.says(&send_with("s0000001", to, from, &line.repeat(5), "x"));
    sender.hears_response("s0000001", "200 OK", "{A}");
    receiver.message();
    let octets = sender.octets(&send_with("s0000002", to, from, &line.repeat(6), "x"));
    let _ = sender.tries(&octets);
    is_cut_off(sender);
}

#[test]
fn s15_a_head_in_a_session_has_64_kib_at_most() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    has_64_kib(&mut alice, "{A} {bob}", "{alice}", &mut bob);
}

#[test]
fn s15_a_head_from_the_far_end_of_a_session_has_64_kib_at_most() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    has_64_kib(&mut bob, "{A} {alice}", "{bob}", &mut alice);
}

#[test]
fn s15_a_head_before_auth_has_32_kib_at_most() {
    let scene = Scene::plain();
    let auth = |lines: usize| {
        let line = format!("X: {}\n", "h".repeat(12_000));
        format!(
            "MSRP a0000001 AUTH\nTo-Path: {{relay}}\nFrom-Path: {{alice}}\n{}-------a0000001$",
            line.repeat(lines)
        )
    };
    let mut peer = scene.stranger("alice");
    peer.says(&auth(2));
    peer.hears_code("a0000001", "401");
    let octets = peer.octets(&auth(3));
    let _ = peer.tries(&octets);
    is_cut_off(&mut peer);
}

#[test]
fn s16_s31_a_path_has_16_uris_at_most() {
    let scene = Scene::plain();
    let uris = |count: usize| {
        let list: Vec<String> =
            (0..count).map(|number| format!("msrp://h{number}.example:1/s;tcp")).collect();
        list.join(" ")
    };
    for count in [1, 2, 16] {
        let mut alice = scene.client("alice");
        let mut bob = scene.stranger("bob");
        let from = uris(count);
        scene.names.bind("from", &from);
        bob.says(&send("s0000001", "{A} {alice}", "{from}", "x"));
        bob.hears_code("s0000001", "200");
        assert!(alice.message().the("From-Path").ends_with(&from));
    }
    for count in [17, 64, 65, 400] {
        let mut alice = scene.client("alice");
        let mut bob = scene.stranger("bob");
        let since = now();
        scene.names.bind("from", uris(count));
        let octets = bob.octets(&send("s0000001", "{A} {alice}", "{from}", "x"));
        let _ = bob.tries(&octets);
        if let Some(answer) = bob.message_within(Duration::from_millis(500)) {
            assert!(answer.what.starts_with('4'), "{count}: {answer:?}");
        }
        alice.hears_nothing(Duration::from_millis(50));
        assert!(since.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn s16_empty_paths_are_no_paths() {
    let scene = Scene::plain();
    for from in ["", " ", "  {alice}", "{alice} ", "{alice}  {bob}", "{alice},{bob}"] {
        let mut peer = scene.stranger("alice");
        peer.says(&bare_auth("a0000001", "{relay}", from));
        peer.says(&bare_auth("a0000002", "{relay}", "{alice}"));
        let mut answer = peer.message();
        if answer.tid == "a0000001" {
            assert!(
                answer.what.starts_with("400") || answer.what.starts_with("401"),
                "{from:?}: {answer:?}"
            );
            answer = peer.message();
        }
        assert_eq!((answer.tid.as_str(), &answer.what[..3]), ("a0000002", "401"));
    }
}

#[test]
fn s31_ten_thousand_uris_cost_no_time() {
    let scene = Scene::plain();
    let mut peer = scene.stranger("alice");
    let since = now();
    let path = "msrp://h.example:1/s;tcp ".repeat(10_000);
    let octets = format!(
        "MSRP a0000001 AUTH\r\nTo-Path: {path}\r\nFrom-Path: {path}\r\n-------a0000001$\r\n"
    );
    let _ = peer.tries(octets.as_bytes());
    is_cut_off(&mut peer);
    assert!(since.elapsed() < Duration::from_secs(13));
    let mut alice = scene.client("alice");
    alice.hears_nothing(Duration::from_millis(20));
}

/// Says a SEND with this line among its headers, as octets.
fn with_line(peer: &Peer, line: &[u8]) -> Vec<u8> {
    let octets =
        peer.octets(&send_with("s0000001", "{A} {alice}", "{bob}", "X-Here: 1\n", "hello"));
    let at =
        octets.windows(9).position(|window| window == b"X-Here: 1").expect("the line to replace");
    let mut said = octets[..at].to_vec();
    said.extend_from_slice(line);
    said.extend_from_slice(&octets[at + 9..]);
    said
}

#[test]
fn s14_heads_that_two_readers_could_read_differently_get_400() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let alice_uri = scene.names.text("alice");
    let repeated_to = format!("To-Path: {} {alice_uri}", scene.names.text("A"));
    let repeated_from = format!("from-path: {}", scene.names.text("bob"));
    let lines: [&[u8]; 14] = [
        b"X-Foo : bar",
        b"X-Foo\t: bar",
        b"Failure-Report : no",
        b"X-Foo: a\nb",
        b"X-Foo: a\rb",
        b"X-Foo: a\0b",
        b"X-Foo: a\n\nTo-Path: x",
        b"X-Foo: a\r\n folded",
        b"X-Foo: a\r\n\tfolded",
        repeated_to.as_bytes(),
        repeated_from.as_bytes(),
        b"Message-ID: other",
        b"byte-range: 1-5/5",
        b"X-Foo\0: a",
    ];
    for line in lines {
        let octets = with_line(&bob, line);
        bob.says_octets(&octets);
        let answer = bob.message();
        assert!(answer.what.starts_with("400"), "{}: {answer:?}", line.escape_ascii());
        alice.hears_nothing(Duration::from_millis(30));
    }
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000002", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
}

#[test]
fn s14_a_blank_in_the_name_of_a_path_makes_no_path() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for name in ["To-Path :", "To-Path\t:", "To-Path", "\u{1}To-Path:"] {
        let text = send("s0000001", "{A} {alice}", "{bob}", "hello").replacen("To-Path:", name, 1);
        bob.says(&text);
        if let Some(answer) = bob.message_within(SILENCE) {
            assert!(answer.what.starts_with("400"), "{answer:?}");
        }
    }
    alice.hears_nothing(Duration::from_millis(50));
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000002", "200 OK", "{A}");
}

#[test]
fn garbage_is_skipped_for_16_kib_and_no_longer() {
    let scene = Scene::plain();
    let mut peer = scene.stranger("alice");
    let line = format!("{}\r\n", "g".repeat(998));
    peer.says_octets(line.repeat(16).as_bytes());
    peer.challenged("a0000001");
    let _ = peer.tries(line.repeat(17).as_bytes());
    assert!(peer.hung_up_within(Duration::from_secs(10)));

    // Each message starts it anew.
    let (mut alice, mut bob) = scene.joined();
    for _ in 0..3 {
        bob.says_octets(line.repeat(16).as_bytes());
        bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        assert_eq!(alice.message().what, "SEND");
    }
    let _ = bob.tries(line.repeat(17).as_bytes());
    assert!(bob.hung_up_within(Duration::from_secs(10)));
}

/// SIP clients send CRLF or CRLFCRLF every 30 s, and 16 KiB of that in 34 hours.
#[test]
fn blank_lines_keep_a_connection_and_cost_nothing() {
    let scene = Scene::plain();
    let mut stranger = scene.stranger("carol");
    stranger.says_octets(&b"\r\n".repeat(20_000));
    stranger.challenged("a0000001");

    for keep_alive in [&b"\r\n"[..], b"\r\n\r\n"] {
        let (mut alice, mut bob) = scene.joined();
        for peer in [&mut alice, &mut bob] {
            peer.says_octets(&keep_alive.repeat(20_000));
        }
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "hello"));
        alice.hears_response("s0000001", "200 OK", "{A}");
        assert_eq!(bob.message().what, "SEND");
        bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        assert_eq!(alice.message().what, "SEND");
    }
}

#[test]
fn a_flood_of_blank_lines_takes_no_memory() {
    let scene = Scene::with("");
    let (mut alice, mut bob) = scene.joined();
    let before = scene.relay.resident_kib();
    for _ in 0..64 {
        bob.says_octets(&b"\r\n".repeat(512 * 1024));
    }
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(alice.message().what, "SEND");
    let grown = scene.relay.resident_kib().saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB");
}

#[test]
fn s18_a_body_that_holds_a_whole_message_stays_a_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let mut inner = bob.octets(&send("inner001", "{A} {alice}", "{bob}", "smuggled"));
    inner.extend(bob.octets(&send("s000000", "{A} {alice}", "{bob}", "smuggled")));
    inner.extend(bob.octets(&send("s00000011", "{A} {alice}", "{bob}", "smuggled")));
    bob.says(&scene.send_octets("s0000001", "{A} {alice}", "{bob}", &inner));
    bob.hears_response("s0000001", "200 OK", "{A}");
    assert_eq!(alice.message().body, Some(inner));
    alice.hears_nothing(SILENCE);
}

#[test]
fn s18_transact_ids_are_compared_as_octets_and_not_as_patterns() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for (tid, other) in [("a.b.c.d.", "aXbXcXdX"), ("a+++++++", "aaaaaaaa"), ("abcd", "abcde")] {
        let body = format!("x\r\n-------{other}$\r\ny");
        bob.says(&scene.send_octets(tid, "{A} {alice}", "{bob}", &body));
        bob.hears_response(tid, "200 OK", "{A}");
        assert_eq!(alice.message().body, Some(body.into_bytes()));
    }
}

#[test]
fn s23_nothing_that_a_stranger_says_shapes_the_log() {
    let scene = Scene::with("log_failed_auth = Yes\nmax_auth_attempts = 0");
    let mut alice = scene.stranger("alice");
    let users = [
        "x: AUTH failed from 6.6.6.6:666 for y@z: w",
        "\u{1b}[31mred",
        "tab\there",
        "\u{202e}right to left",
        "a%s%n%d{}{0}",
        "' OR 1=1 --",
        "back\\\\slash",
        "line\u{2028}separator\u{85}",
    ];
    for user in users {
        let mut credentials = alice.challenged("a0000001");
        credentials.user = user.to_owned();
        alice.says_auth("a0000002", &credentials.header(), "");
        let answer = alice.message();
        assert!(answer.what.starts_with("401") || answer.what.starts_with("400"), "{answer:?}");
    }
    alice.says_octets(b"GARBAGE \x1b[2J\x07\r\n");
    scene.relay.logs("AUTH failed");
    sleep(200);
    let log = scene.relay.log();
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "{}", log.escape_debug());
    let address = format!("AUTH failed from {} for ", alice.local_address());
    for line in log.lines().filter(|line| line.contains("AUTH failed")) {
        let forged = line.find("AUTH failed from 6.6.6.6");
        let real = line.find(&address).unwrap_or_else(|| panic!("{line}"));
        assert!(forged.is_none_or(|forged| real < forged), "{line}");
    }
}

/// An operator who reads that a connection was closed needs its address.
#[test]
fn a_line_about_a_stranger_names_him() {
    let scene = Scene::with("log_level = INFO");
    let mut alice = scene.stranger("alice");
    let _ = alice.tries(&b"x".repeat(40_000));
    alice.is_closed();
    let line = scene.relay.logs(" closed: ");
    assert!(line.contains(&alice.local_address().to_string()), "{line}");
}

#[test]
fn s26_r4976_9_4_04_no_secret_reaches_the_log() {
    let scene = Scene::with("log_failed_auth = Yes\nlog_level = NOTSET");
    let (mut alice, mut bob) = scene.joined();
    let credentials = alice.challenged("a0000001");
    alice.says_auth("a0000002", &credentials.header(), "");
    alice.hears_code("a0000002", "200");
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "the-body-is-private"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.message();
    let mut stranger = scene.stranger("carol");
    stranger.says(&empty_send("s0000001", "{A} {alice}", "{carol}"));
    stranger.hears_code("s0000001", "506");
    drop((alice, bob, stranger));
    sleep(500);
    let uri = scene.names.text("A");
    let (_, session) = uri.rsplit_once('/').unwrap();
    let session = session.strip_suffix(";tcp").unwrap();
    let secrets = [
        session.to_owned(),
        credentials.nonce.clone(),
        credentials.response(),
        credentials.opaque.clone(),
        "secret-alice".to_owned(),
        "the-body-is-private".to_owned(),
    ];
    let log = scene.relay.log();
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} in\n{log}");
    }
}

/// After random input the relay lives, and so do all other sessions.
#[test]
fn noise_from_strangers_and_in_sessions_hurts_nobody() {
    let scene = Scene::with("");
    let mut session = scene.topology(crate::harness::Topology::Joined);
    for seed in 0..40 {
        let mut octets = noise(seed, 3000);
        for at in (0..octets.len() - 40).step_by(97) {
            octets[at..at + 5].copy_from_slice(b"MSRP ");
            octets[at + 20..at + 22].copy_from_slice(b"\r\n");
        }
        let mut stranger = scene.stranger("mallory");
        let _ = stranger.tries(&octets);
        let inside = Scene::plain();
        let (_alice, mut bob) = inside.joined();
        let _ = bob.tries(&octets);
        drop(stranger);
    }
    session.talks();
}

/// A connection that is not authenticated takes bounded memory.
#[test]
fn s20_strangers_cost_little_memory() {
    let scene = Scene::with("max_unauthenticated = 0");
    let before = scene.relay.resident_kib();
    let head = "MSRP a0000001 AUTH\nTo-Path: {relay}\nFrom-Path: {alice}\n";
    let mut strangers: Vec<Peer> = (0..200).map(|_| scene.stranger("alice")).collect();
    for stranger in &mut strangers {
        let mut octets = stranger.octets(head);
        for _ in 0..20 {
            octets.extend_from_slice(format!("X: {}\r\n", "x".repeat(1000)).as_bytes());
        }
        stranger.says_octets(&octets);
    }
    sleep(1000);
    let grown = scene.relay.resident_kib().saturating_sub(before);
    assert!(grown < 200 * 160, "{grown} KiB for 200 strangers");
    drop(strangers);
}

#[test]
fn r4976_1_05_one_request_gives_at_most_one_answer_and_one_report() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for text in [
        send("s0000001", "{A} {alice}", "{bob}", "hello").replace("1-5/5", "?"),
        send("s0000001", "{A} {carol}", "{bob}", "hello"),
        send_with("s0000001", "{A} {alice}", "{bob}", "Failure-Report: maybe\n", "hello"),
        send_with("s0000001", "{A} {alice}", "{bob}", "Expires: x\n", "hello"),
    ] {
        bob.says(&text);
        bob.hears_answer("s0000001");
        bob.hears_nothing(Duration::from_millis(100));
        while alice.message_within(Duration::from_millis(50)).is_some() {}
    }
}
