//! Start lines, headers, bodies and end-lines (RFC 4975 §7.1, §9; RFC 4976 §3).

use std::{collections::HashSet, time::Duration};

use crate::harness::{
    Peer, SILENCE, Scene, TOPOLOGIES, bare_auth, empty_send, fingerprint, noise, report, send,
    send_with,
};

const NOT_ANSWERED: Duration = Duration::from_millis(500);

/// Says something that is no request; whatever comes back is no grant, and no echo of `tid`.
#[track_caller]
fn is_no_request(peer: &mut Peer, octets: &[u8], tid: &str) {
    let _ = peer.tries(octets);
    if let Some(answer) = peer.message_within(NOT_ANSWERED) {
        assert!(answer.what.starts_with("400"), "{answer:?}");
        assert_ne!(answer.tid, tid, "an unusable transact-id is reflected");
    }
}

#[test]
fn r4975_9_02_msrp_and_method_names_are_upper_case() {
    let scene = Scene::plain();
    for start in
        ["msrp a786hjs2 AUTH", "MSRP a786hjs2 auth", "MSRP a786hjs2 Auth", "MSRPa786hjs2 AUTH"]
    {
        let mut peer = scene.stranger("alice");
        peer.says(&format!("{start}\nTo-Path: {{relay}}\nFrom-Path: {{alice}}\n-------a786hjs2$"));
        if let Some(answer) = peer.message_within(NOT_ANSWERED) {
            assert!(
                answer.what.starts_with("400") || answer.what.starts_with("501"),
                "{start}: {answer:?}"
            );
        }
    }
}

/// Overruled by contract 8: Blink sends `FILE_OFFSET`.
#[test]
fn r4975_9_02_other_methods_may_have_digits_minus_and_underscore() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for method in ["FILE_OFFSET", "_", "A-1", &"X".repeat(32)] {
        let request = |tid: &str, to: &str, from: &str, end: &str| {
            format!("MSRP {tid} {method}{end}\nTo-Path: {to}\nFrom-Path: {from}\n-------{tid}$")
        };
        // The blank at the end is passed over.
        bob.says(&request("m0000001", "{A} {alice}", "{bob}", " "));
        let heard = alice.message();
        assert_eq!(heard.what, method);
        alice.answers(&heard, "501 Unknown");
        bob.hears_nothing(SILENCE);
    }
}

/// An operator finds the client that speaks another dialect.
#[test]
fn the_first_line_that_only_looks_like_a_start_line_is_logged() {
    let scene = Scene::with("log_level = INFO");
    let (mut alice, mut bob) = scene.joined();
    let rest = "To-Path: {A} {alice}\nFrom-Path: {bob}\n-------a1b2c3d4$";
    bob.says(&format!("MSRP a1b2c3d4 file_offset\n{rest}"));
    bob.says(&format!("MSRP a1b2c3d4 two words\n{rest}"));
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    let line = scene.relay.logs("start line");
    assert!(line.contains(r#"no MSRP start line: "MSRP a1b2c3d4 file_offset""#), "{line}");
    assert_eq!(scene.relay.log().matches("start line").count(), 1);
    // A stranger's as well.
    let mut mallory = scene.stranger("mallory");
    mallory.says_octets(b"MSRP \x1b[31m\r\n");
    scene.relay.logs(r#"no MSRP start line: "MSRP \x1b[31m""#);
}

#[test]
fn r4975_9_02_a_response_needs_no_comment() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    alice.responds("{t}", "481", "{A}");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 481", "1-5/5"));
}

#[test]
fn r4975_9_03_transact_ids_of_4_to_32_characters_of_the_whole_alphabet() {
    let scene = Scene::plain();
    let mut peer = scene.stranger("alice");
    for tid in ["a0b1", "abcdefghijklmnopqrstuvwxyz012345", "A.-+%=z9", "0..."] {
        peer.says(&bare_auth(tid, "{relay}", "{alice}"));
        peer.hears_code(tid, "401");
    }
}

/// Overruled by contract 8: of the original file clients' ids 3 in 100 begin so, and the original
/// took ids of up to 64 characters of a larger alphabet.
#[test]
fn r4975_9_03_other_transact_ids_are_taken_and_not_sent() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let longest = "x/~_".repeat(16);
    for tid in ["+abcdefghijklmno", "-abcdefghijklmno", "a", "~", "a/b", &longest] {
        bob.says(&send(tid, "{A} {alice}", "{bob}", "hello"));
        bob.hears_response(tid, "200 OK", "{A}");
        let heard = alice.message();
        assert!(heard.tid.starts_with(|c: char| c.is_ascii_alphanumeric()));
    }
}

#[test]
fn r4975_9_03_an_over_long_transact_id_is_never_reflected() {
    let scene = Scene::plain();
    for length in [65, 300, 10_000] {
        let mut peer = scene.stranger("alice");
        let tid = "a".repeat(length);
        let octets = peer.octets(&bare_auth(&tid, "{relay}", "{alice}"));
        is_no_request(&mut peer, &octets, &tid);
    }
}

#[test]
fn r4975_9_04_header_names_and_literals_are_read_without_case() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(
        "
        MSRP s0000001 SEND
        to-path: {A} {alice}
        FROM-PATH: {bob}
        message-id: 87652491
        FAILURE-REPORT: NO
        byte-range: 1-5/5
        content-type: text/plain

        hello
        -------s0000001$
        ",
    );
    let heard = alice.message();
    assert_eq!(heard.headers[0].0, "To-Path");
    assert_eq!(heard.headers[1].0, "From-Path");
    assert_eq!(heard.body.as_deref(), Some(&b"hello"[..]));
    bob.hears_nothing(SILENCE);
}

#[test]
fn r4975_9_04_the_paths_leave_first_wherever_they_came() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(
        "
        MSRP s0000001 SEND
        Message-ID: 87652491
        X-First: 1
        From-Path: {bob}
        Byte-Range: 1-5/5
        To-Path: {A} {alice}
        X-Last: 2
        Content-Type: text/plain

        hello
        -------s0000001$
        ",
    );
    alice.hears(
        "
        MSRP {t} SEND
        To-Path: {alice}
        From-Path: {A} {bob}
        Message-ID: 87652491
        X-First: 1
        Byte-Range: 1-5/5
        X-Last: 2
        Content-Type: text/plain

        hello
        -------{t}$
        ",
    );
}

#[test]
fn r4976_3_01_header_lines_are_not_folded() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    scene.names.bind("blank", " ");
    bob.says(
        "
        MSRP s0000001 SEND
        To-Path: {A} {alice}
        From-Path: {bob}
        Message-ID: 87652491
        X-Long: one
        {blank}two
        Byte-Range: 1-5/5
        Content-Type: text/plain

        hello
        -------s0000001$
        ",
    );
    bob.hears_code("s0000001", "400");
    alice.hears_nothing(SILENCE);
}

#[test]
fn r4975_9_05_utf_8_passes_in_headers_and_comments() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let extra = "X-Gruss: Gr\u{fc}\u{df}e \u{4f60}\u{597d} \u{1f600}\n";
    bob.says(&send_with("s0000001", "{A} {alice}", "{bob}", extra, "\u{fc}\u{1f600}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send_with("{t}", "{alice}", "{A} {bob}", extra, "\u{fc}\u{1f600}"));
    alice.responds("{t}", "488 nicht m\u{f6}glich \u{1f600}", "{A}");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 488 nicht m\u{f6}glich \u{1f600}", "1-6/6"));
}

#[test]
fn r4975_9_06_unknown_headers_bring_no_blank_line() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let headers = "X-One: 1\nKeep-Alive: yes\nX-Two: 2\n";
    bob.says(&send_with("s0000001", "{A} {alice}", "{bob}", headers, "hello"));
    alice.hears(&send_with("{t}", "{alice}", "{A} {bob}", headers, "hello"));
}

#[test]
fn r4975_12_01_unknown_headers_pass_unchanged_and_in_order() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let headers = "X-Foo: bar\nX-Url: http://h/a: b: c\nx-foo:tight\nX-Foo: again\n\
                   X-Empty: \nX-Tab: a\tb  c\nX-Quoted: \"a;b=\\\"c\\\"\"\n";
    bob.says(&send_with("s0000001", "{A} {alice}", "{bob}", headers, "hello"));
    alice.hears(&send_with("{t}", "{alice}", "{A} {bob}", headers, "hello"));
}

#[test]
fn r4975_7_1_01_content_headers_come_last_and_content_type_at_the_end() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(
        "
        MSRP s0000001 SEND
        To-Path: {A} {alice}
        From-Path: {bob}
        Content-Type: text/plain;charset=utf-8
        Content-ID: <4711@bob.invalid>
        Message-ID: 87652491
        Content-Disposition: attachment;filename=\"a; b.bin\"
        Byte-Range: 1-5/5

        hello
        -------s0000001$
        ",
    );
    alice.hears(
        "
        MSRP {t} SEND
        To-Path: {alice}
        From-Path: {A} {bob}
        Message-ID: 87652491
        Byte-Range: 1-5/5
        Content-ID: <4711@bob.invalid>
        Content-Disposition: attachment;filename=\"a; b.bin\"
        Content-Type: text/plain;charset=utf-8

        hello
        -------{t}$
        ",
    );
}

#[test]
fn r4975_7_1_02_a_blank_line_stands_before_the_body() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        session.alice.says(&send("s0000001", &session.to_bob, "{alice}", "hello"));
        session.bob.hears(&send("{t}", "{bob}", &session.from_alice, "hello"));
    }
}

#[test]
fn r4975_7_1_03_content_type_without_a_body_is_refused_or_an_empty_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(
        "
        MSRP s0000001 SEND
        To-Path: {A} {alice}
        From-Path: {bob}
        Message-ID: 87652491
        Byte-Range: 1-0/0
        Content-Type: text/plain
        -------s0000001$
        ",
    );
    let answer = bob.message();
    if answer.what == "200 OK" {
        let heard = alice.message();
        assert_eq!(heard.body_length(), 0);
        assert_eq!(heard.header("Content-Type").is_some(), heard.body.is_some());
    } else {
        assert!(answer.what.starts_with("400"), "{answer:?}");
    }
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000002", "200 OK", "{A}");
}

#[test]
fn r4975_7_1_04_no_body_stays_no_body_and_an_empty_body_an_empty_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    alice.hears(&empty_send("{t1}", "{alice}", "{A} {bob}"));
    bob.hears_response("s0000001", "200 OK", "{A}");
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", ""));
    alice.hears(&send("{t2}", "{alice}", "{A} {bob}", ""));
    bob.hears_response("s0000002", "200 OK", "{A}");
}

#[test]
fn an_end_line_directly_after_the_blank_line_ends_an_empty_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(
        "
        MSRP s0000001 SEND
        To-Path: {A} {alice}
        From-Path: {bob}
        Message-ID: 87652491
        Byte-Range: 1-0/0
        Content-Type: text/plain

        -------s0000001$
        ",
    );
    bob.hears_response("s0000001", "200 OK", "{A}");
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", ""));
}

#[test]
fn r4975_7_1_05_the_crlf_before_the_end_line_is_not_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for body in ["", "\r\n", "hello\r\n", "\r\n\r\n", "\r", "\n", "a\r\n\r", "\r\n--"] {
        bob.says(&scene.send_octets("s0000001", "{A} {alice}", "{bob}", body));
        bob.hears_response("s0000001", "200 OK", "{A}");
        let heard = alice.message();
        assert_eq!(heard.body.as_deref(), Some(body.as_bytes()), "{body:?}");
        alice.answers(&heard, "200 OK");
    }
}

#[test]
fn r4975_7_1_06_each_flag_in_gives_the_same_flag_out() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        for flag in ["+", "$", "#"] {
            let with_flag = |text: String| {
                let cut = text.len() - 1;
                format!("{}{flag}", &text[..cut])
            };
            session.alice.says(&with_flag(send("s0000001", &session.to_bob, "{alice}", "hello")));
            let answer = session.alice.hears_code("s0000001", "200");
            assert_eq!(answer.flag, '$');
            let heard = session.bob.message();
            assert_eq!(heard.flag.to_string(), flag);
            assert_eq!(heard.body.as_deref(), Some(&b"hello"[..]));
            session.bob.answers(&heard, "200 OK");
        }
    }
}

/// Bodies that look like the end of their own chunk.
fn look_alikes(tid: &str) -> Vec<String> {
    vec![
        format!("x-------{tid}$"),
        format!("x-------{tid}$\r\n"),
        format!("-------{tid}x$"),
        format!("\r\n-------{tid}"),
        format!("\r\n-------{tid}\r\n"),
        format!("\r\n-------{tid}*\r\n"),
        format!("\r\n-------{tid}$x\r\n"),
        format!("\r\n-------{tid}$\r"),
        format!("\r\n-------{tid}$\n"),
        format!("\r\n--------{tid}$\r\n"),
        format!("\r\n------{tid}$\r\n"),
        format!("\n-------{tid}$\r\n"),
        format!("\r-------{tid}$\r\n"),
        format!("\r\n-------{}$\r\n", &tid[..tid.len() - 1]),
        format!("\r\n-------{}$\r\n", tid.to_uppercase()),
        format!("\r\n-------{tid}9$\r\n"),
        format!("\r\r\n------\r\n-------{}", &tid[1..]),
        "\r\n-------a786hjs2$\r\n".to_owned(),
        "\r\n\r\n-------\r\n-------\r\n".to_owned(),
        "MSRP a786hjs2 SEND\r\nTo-Path: x\r\n\r\nnested\r\n-------a786hjs2$\r\n".to_owned(),
    ]
}

#[test]
fn r4975_7_1_07_look_alikes_of_end_lines_stay_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let tid = "s000.+%1";
    for body in look_alikes(tid) {
        bob.says(&scene.send_octets(tid, "{A} {alice}", "{bob}", &body));
        bob.hears_response(tid, "200 OK", "{A}");
        let heard = alice.message();
        assert_eq!(
            heard.body.as_deref().map(<[u8]>::escape_ascii).map(|b| b.to_string()),
            Some(body.as_bytes().escape_ascii().to_string())
        );
        alice.answers(&heard, "200 OK");
    }
}

/// The choice of erratum 4177: without CRLF before it, it means nothing.
#[test]
fn r4975_7_1_08_an_end_line_without_crlf_before_it_is_data() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = "x-------s0000001$\r\ny";
    bob.says(&scene.send_octets("s0000001", "{A} {alice}", "{bob}", body));
    alice.hears(&scene.send_octets("{t}", "{alice}", "{A} {bob}", body));
}

#[test]
fn r4975_7_1_09_transact_ids_of_the_relay_are_random_and_fit_the_grammar() {
    const REQUESTS: usize = 2000;

    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let mut seen = HashSet::new();
    let mut last = String::new();
    for round in 0..REQUESTS / 50 {
        let octets: Vec<u8> = (0..50)
            .flat_map(|_| {
                bob.octets(&send_with(
                    "s0000001",
                    "{A} {alice}",
                    "{bob}",
                    "Failure-Report: no\n",
                    "x",
                ))
            })
            .collect();
        bob.says_octets(&octets);
        for _ in 0..50 {
            let tid = alice.message().tid;
            // The pattern of msrplib, which is the RFC's.
            assert!((4..=32).contains(&tid.len()), "{tid}");
            assert!(tid.len() >= 11, "at least 64 bits: {tid}");
            assert!(tid.starts_with(|c: char| c.is_ascii_alphanumeric()));
            assert!(tid.chars().all(|c| c.is_ascii_alphanumeric() || ".+%=-".contains(c)));
            let shared = tid.bytes().zip(last.bytes()).filter(|(a, b)| a == b).count();
            assert!(shared <= tid.len() / 2, "{last} and {tid} in round {round}");
            assert!(seen.insert(tid.clone()), "{tid} twice");
            last = tid;
        }
    }
}

fn other_request(method: &str, tid: &str, to: &str, from: &str, length: usize) -> String {
    format!(
        "MSRP {tid} {method}\nTo-Path: {to}\nFrom-Path: {from}\nContent-Type: text/plain\n\n\
         {}\n-------{tid}$",
        "x".repeat(length)
    )
}

#[test]
fn r4975_7_1_10_other_requests_carry_at_most_10240_octets() {
    let scene = Scene::plain();
    for method in ["NICKNAME", "FOOBAR"] {
        let (mut alice, mut bob) = scene.joined();
        bob.says(&other_request(method, "n0000001", "{A} {alice}", "{bob}", 10_240));
        alice.hears(&other_request(method, "{t}", "{alice}", "{A} {bob}", 10_240));
        let _ = bob.tries(&bob.octets(&other_request(
            method,
            "n0000002",
            "{A} {alice}",
            "{bob}",
            10_241,
        )));
        if let Some(answer) = bob.message_within(Duration::from_secs(3)) {
            assert!(answer.what.starts_with('4'), "{answer:?}");
        } else {
            bob.is_closed();
        }
        assert!(alice.unread().is_empty());
        scene.names.unbind("t");
    }
}

#[test]
fn r4975_7_1_1_01_no_content_is_1_0_0() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&empty_send("s0000001", "{A} {alice}", "{bob}"));
    assert_eq!(alice.message().the("Byte-Range"), "1-0/0");
}

#[test]
fn r4975_14_5_01_no_memory_is_sized_from_byte_range() {
    let scene = Scene::with("");
    let before = scene.relay.resident_kib();
    for range in [
        "1-*/18446744073709551615",
        "1-*/18446744073709551616",
        "1-9223372036854775807/9223372036854775807",
        "1-5/99999999999999999999999999999999999999999",
        "99999999999999999999999999999999999999999-*/*",
        "0-5/5",
        "9-5/5",
        "5-3/5",
        "-1-5/5",
        "1-5",
        "1-5/",
        "*-5/5",
        "1-5/5/5",
        "1 - 5 / 5",
        "",
    ] {
        let (mut alice, mut bob) = scene.joined();
        bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello").replace("1-5/5", range));
        let answer = bob.message();
        if answer.what.starts_with("200") {
            assert_eq!(alice.message().body.as_deref(), Some(&b"hello"[..]), "{range}");
        } else {
            assert!(answer.what.starts_with("400"), "{range}: {answer:?}");
            alice.hears_nothing(Duration::from_millis(50));
        }
    }
    let grown = scene.relay.resident_kib().saturating_sub(before);
    assert!(grown < 32 * 1024, "{grown} KiB more");
}

#[test]
fn r4975_10_2_01_a_request_that_is_not_understood_gets_400() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello").replace("1-5/5", "some"));
    bob.hears_response(
        "s0000001",
        "400 Request was unintelligible, please try again (Error parsing Byte-Range header)",
        "{A}",
    );
    bob.says(
        "
        MSRP s0000002 SEND
        To-Path: {A} {alice}
        From-Path: {bob}
        Byte-Range: 1-5/5
        Content-Type: text/plain

        hello
        -------s0000002$
        ",
    );
    bob.hears_response(
        "s0000002",
        "400 Request was unintelligible, please try again (SEND received without Message-ID)",
        "{A}",
    );
    alice.hears_nothing(SILENCE);
    bob.says(&send("s0000003", "{A} {alice}", "{bob}", "hello"));
    bob.hears_response("s0000003", "200 OK", "{A}");
}

#[test]
fn a_body_without_content_type_is_forwarded_with_right_framing_or_refused() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    bob.says(
        "
        MSRP s0000001 SEND
        To-Path: {A} {alice}
        From-Path: {bob}
        Message-ID: 87652491
        Byte-Range: 1-5/5

        hello
        -------s0000001$
        ",
    );
    let answer = bob.message();
    if answer.what.starts_with("400") {
        alice.hears_nothing(SILENCE);
        return;
    }
    assert_eq!(answer.what, "200 OK");
    alice.hears(
        "
        MSRP {t} SEND
        To-Path: {alice}
        From-Path: {A} {bob}
        Message-ID: 87652491
        Byte-Range: 1-5/5

        hello
        -------{t}$
        ",
    );
}

/// A message whose body holds all that could confuse a reader that is given it in parts.
fn tricky(tid: &str) -> Vec<u8> {
    let mut body = b"\r\n-------\r\n------".to_vec();
    body.extend_from_slice(format!("-{tid}\r\n-------{tid}x\r\r\n").as_bytes());
    body.extend_from_slice(&[0, 255, 13, 10, 45, 13]);
    body
}

#[test]
fn a_message_cut_in_two_at_every_position_arrives_whole() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let tid = "s0000001";
    let body = tricky(tid);
    let text = scene.send_octets(tid, "{A} {alice}", "{bob}", &body);
    let octets = bob.octets(&text);
    for cut in 1..octets.len() {
        let (front, back) = octets.split_at(cut);
        bob.says_in_pieces([front, back], Duration::from_millis(3));
        let heard = alice.message();
        assert_eq!(heard.body.as_ref(), Some(&body), "cut at {cut}");
        alice.answers(&heard, "200 OK");
        bob.hears_response(tid, "200 OK", "{A}");
    }
}

#[test]
fn messages_sent_octet_by_octet_arrive_whole() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let tid = "s0000001";
    let body = tricky(tid);
    let text = scene.send_octets(tid, "{A} {alice}", "{bob}", &body);
    let mut octets = bob.octets(&text);
    octets.extend(bob.octets(&empty_send("s0000002", "{A} {alice}", "{bob}")));
    bob.says_in_pieces(octets.chunks(1), Duration::from_millis(1));
    assert_eq!(alice.message().body.as_ref(), Some(&body));
    assert_eq!(alice.message().body, None);
    bob.hears_response(tid, "200 OK", "{A}");
    bob.hears_response("s0000002", "200 OK", "{A}");
}

#[test]
fn a_login_sent_octet_by_octet_is_a_login() {
    let scene = Scene::plain();
    let mut alice = scene.stranger("alice");
    let credentials = alice.challenged("a0000001").header();
    let octets = alice.octets(&format!(
        "MSRP a0000002 AUTH\nTo-Path: {{relay}}\nFrom-Path: {{alice}}\n\
         Authorization: {credentials}\n-------a0000002$"
    ));
    alice.says_in_pieces(octets.chunks(1), Duration::from_millis(1));
    alice.hears_code("a0000002", "200");
}

#[test]
fn every_octet_value_passes_in_short_and_in_streamed_bodies() {
    let every: Vec<u8> = (0..=255).collect();
    for repeats in [1, 40] {
        for kind in TOPOLOGIES {
            let scene = Scene::plain();
            let mut session = scene.topology(kind);
            let body = every.repeat(repeats);
            let length = body.len();
            scene.names.bind("body", &body);
            session.alice.says(
                &send("s0000001", &session.to_bob, "{alice}", "{body}")
                    .replace("1-6/6", &format!("1-*/{length}")),
            );
            let transfer = session.bob.receives();
            assert_eq!(fingerprint(&transfer.body), fingerprint(&body));
        }
    }
}

#[test]
fn garbage_between_messages_is_skipped() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let mut octets = b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n-------s0000001$\r\n".to_vec();
    octets.extend(bob.octets(&send("s0000001", "{A} {alice}", "{bob}", "hello")));
    bob.says_octets(&octets);
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", "hello"));
    bob.hears_response("s0000001", "200 OK", "{A}");
}

#[test]
fn a_request_without_readable_paths_is_dropped_with_its_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for paths in [
        "From-Path: {bob}\n",
        "To-Path: {A} {alice}\n",
        "To-Path: nonsense\nFrom-Path: {bob}\n",
        "To-Path: {A} {alice}\nFrom-Path: \n",
    ] {
        bob.says(&format!(
            "MSRP x0000001 SEND\n{paths}Message-ID: 1\nByte-Range: 1-5/5\nContent-Type: text/plain\n\n\
             MSRP inner001 SEND\nTo-Path: {{A}} {{alice}}\nFrom-Path: {{bob}}\n-------inner001$\n\
             -------x0000001$"
        ));
        bob.says(&send("s0000001", "{A} {alice}", "{bob}", "hello"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        assert_eq!(alice.message().body.as_deref(), Some(&b"hello"[..]), "{paths}");
    }
}

#[test]
fn noise_is_the_same_in_each_run() {
    assert_eq!(noise(7, 100), noise(7, 100));
    assert_ne!(noise(7, 100), noise(8, 100));
}
