//! Bodies and end-lines, also cut at every position (RFC 4975 §7.1).

use std::time::Duration;

use crate::harness::{SILENCE, Scene, TOPOLOGIES, empty_send, fingerprint, send, send_of};

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
    let lines = "Message-ID: 87652491\nByte-Range: 1-0/0\nContent-Type: text/plain";
    bob.says(&send_of("s0000001", "{A} {alice}", "{bob}", lines));
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
    let lines = "Message-ID: 87652491\nByte-Range: 1-0/0\nContent-Type: text/plain\n";
    bob.says(&send_of("s0000001", "{A} {alice}", "{bob}", lines));
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

/// As erratum 4177 has it: an end-line without CRLF before it is body.
#[test]
fn r4975_7_1_08_an_end_line_without_crlf_before_it_is_data() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = "x-------s0000001$\r\ny";
    bob.says(&scene.send_octets("s0000001", "{A} {alice}", "{bob}", body));
    alice.hears(&scene.send_octets("{t}", "{alice}", "{A} {bob}", body));
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
fn a_body_without_content_type_is_forwarded_with_right_framing_or_refused() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let lines = "Message-ID: 87652491\nByte-Range: 1-5/5\n\nhello";
    bob.says(&send_of("s0000001", "{A} {alice}", "{bob}", lines));
    let answer = bob.message();
    if answer.what.starts_with("400") {
        alice.hears_nothing(SILENCE);
        return;
    }
    assert_eq!(answer.what, "200 OK");
    alice.hears(&send_of("{t}", "{alice}", "{A} {bob}", lines));
}

/// A body that may confuse a decoder that gets it in parts.
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
