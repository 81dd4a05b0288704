//! Without a relay: one `msrpclient` dials another one, or a [`Peer`].

use std::{
    fs,
    net::{Shutdown, TcpListener},
    path::Path,
    process::Command,
};

use crate::{
    harness::{Room, number_after, numbered, sha256, text},
    peer::{Peer, cutting_proxy, header, transact_id},
};

#[test]
fn files_of_all_sizes_arrive_directly() {
    for size in [0, 1, 2048, 2049, 5 * 1024 * 1024] {
        let room = Room::new();
        let file = room.random("some file.bin", size);
        let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
        let sent = room.send(&file, &["--direct"]);
        let received = waiting.finish();
        assert_eq!(sent.code, 0, "{size}: {}", sent.stderr);
        assert_eq!(received.code, 0, "{size}: {}", received.stderr);
        let arrived = room.inbox().join("some file.bin");
        assert!(fs::read(&arrived).unwrap() == fs::read(&file).unwrap(), "{size}: other content");
        let digest = format!("SHA-256 {}", sha256(&file));
        assert!(sent.stderr.contains(&digest), "{}", sent.stderr);
        assert!(received.stderr.contains(&digest), "{}", received.stderr);
        let path = fs::read_to_string(room.path_file()).unwrap();
        assert_eq!(received.stdout, path, "stdout is the path, and nothing else");
        assert_eq!(path.lines().count(), 1);
        assert_eq!(room.leftovers(), 0, "no .part is left");
    }
}

#[test]
fn odd_names_arrive_and_nothing_is_overwritten() {
    let room = Room::new();
    for name in ["\u{fc}ml\u{e4}ut \u{1f600}.bin", "a \"quoted\"; back\\slash.txt", "-n"] {
        let file = room.random(name, 100);
        let shown = name.rsplit('\\').next().unwrap();
        for expected in [shown.to_owned(), numbered(shown)] {
            let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
            let sent = room.send(&file, &["--direct"]);
            let received = waiting.finish();
            assert_eq!((sent.code, received.code), (0, 0), "{} {}", sent.stderr, received.stderr);
            let arrived = room.inbox().join(&expected);
            assert!(fs::read(&arrived).unwrap() == fs::read(&file).unwrap(), "{expected}");
        }
    }
}

#[test]
fn a_named_output_is_exactly_that_file() {
    let room = Room::new();
    let file = room.random("x", 3000);
    let output = room.dir.path().join("exactly here");
    fs::write(&output, "old").unwrap();
    let output_text = output.to_str().unwrap();
    let args = ["--listen", "127.0.0.1", "--no-tls", "--output", output_text];
    let waiting = room.receive(&args);
    assert_eq!(room.send(&file, &["--direct"]).code, 0);
    let received = waiting.finish();
    assert_eq!(received.code, 0);
    assert!(received.stderr.contains("will be replaced"), "{}", received.stderr);
    assert!(fs::read(&output).unwrap() == fs::read(&file).unwrap());
}

#[test]
fn tls_is_checked_unless_told_otherwise() {
    let room = Room::new();
    let file = room.random("x", 100_000);
    let (certificate, key) = room.certificate();
    let listen =
        ["--listen", "localhost", "--certificate", text(&certificate), "--key", text(&key)];
    let waiting = room.receive(&listen);
    assert!(room.path().starts_with("msrps://localhost:"));

    let distrusting = room.send(&file, &["--direct"]);
    assert_eq!(distrusting.code, 1, "{}", distrusting.stderr);
    assert!(distrusting.stderr.contains("--ca"), "{}", distrusting.stderr);
    let by_address = room.path().replace("localhost", "127.0.0.1");
    let ca = ["--direct", "--ca", text(&certificate)];
    let misnamed = room.send_to(&by_address, &file, &ca);
    assert_eq!(misnamed.code, 1, "{}", misnamed.stderr);
    assert!(misnamed.stderr.contains("another name"), "{}", misnamed.stderr);

    let trusting = room.send(&file, &ca);
    assert_eq!(trusting.code, 0, "{}", trusting.stderr);
    let received = waiting.finish();
    assert_eq!(received.code, 0, "{}", received.stderr);

    let waiting = room.receive(&listen);
    assert_eq!(room.send(&file, &["--direct", "--insecure"]).code, 0);
    assert_eq!(waiting.finish().code, 0);
}

/// `openssl req -x509` writes CA:TRUE, so that the certificate is no server's by the rules of a chain.
#[test]
fn a_self_signed_certificate_of_openssl_is_trusted_with_ca() {
    let room = Room::new();
    let file = room.random("x", 100_000);
    let make = |certificate: &str| {
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "own.key"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-out", certificate])
            .current_dir(room.dir.path())
            .output()
            .expect("the tests need openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    make("other.crt");
    make("own.crt");
    let listen = ["--listen", "localhost", "--certificate", "own.crt", "--key", "own.key"];
    let waiting = room.receive(&listen);
    // Of the same name, and not the same.
    let distrusting = room.send(&file, &["--direct", "--ca", "other.crt"]);
    assert_eq!(distrusting.code, 1, "{}", distrusting.stderr);
    assert!(distrusting.stderr.contains("the peer's certificate "), "{}", distrusting.stderr);
    assert!(distrusting.stderr.contains("--ca FILE"), "{}", distrusting.stderr);
    assert!(!distrusting.stderr.contains('['), "words, not numbers: {}", distrusting.stderr);
    let by_address = room.path().replace("localhost", "127.0.0.1");
    let misnamed = room.send_to(&by_address, &file, &["--direct", "--ca", "own.crt"]);
    let words = "is for another name: it has localhost, and 127.0.0.1 was dialled";
    assert!(misnamed.stderr.contains(words), "{}", misnamed.stderr);

    let trusting = room.send(&file, &["--direct", "--ca", "own.crt"]);
    assert_eq!(trusting.code, 0, "{}", trusting.stderr);
    assert_eq!(waiting.finish().code, 0);
}

#[test]
fn a_connection_cut_midway_is_exit_status_3_on_both_sides() {
    let room = Room::new();
    let file = room.random("x", 5 * 1024 * 1024);
    let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
    let path = room.path();
    let port: u16 = path.split(&[':', '/'][..]).nth(4).unwrap().parse().unwrap();
    let cutter = cutting_proxy(port, 1024 * 1024);
    let by_proxy = path.replace(&port.to_string(), &cutter.to_string());
    let sent = room.send_to(&by_proxy, &file, &["--direct"]);
    let received = waiting.finish();
    assert_eq!((sent.code, received.code), (3, 3), "{} {}", sent.stderr, received.stderr);
    let octets = number_after(&received.stderr, "connection lost after ");
    assert!((1_000_000..=1024 * 1024).contains(&octets), "{octets}");
    assert!(number_after(&sent.stderr, "connection lost after ") >= octets, "{}", sent.stderr);
    assert_eq!(room.leftovers(), 0, "an unfinished file is removed");
}

#[test]
fn wrong_usage_is_exit_status_2() {
    let room = Room::new();
    let file = room.random("x", 1);
    for args in [
        &["send"][..],
        &["send", text(&file), "alice@example.com"],
        &["send", text(&file), "--to", "msrp://h:1/s;tcp"],
        &["send", text(&file), "alice", "--to", "msrp://h:1/s;tcp"],
        &["send", text(&file), "--direct", "--to", "http://x"],
        &["receive"],
        &["receive", "alice@example.com", "--relay", "x:y"],
        &["receive", "--listen", "127.0.0.1"],
        &["receive", "--listen", "0.0.0.0", "--no-tls"],
        &["receive", "alice@example.com", "--frobnicate"],
        &["frobnicate"],
        &[],
    ] {
        let outcome = room.client(args).finish();
        assert_eq!(outcome.code, 2, "{args:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty());
    }
    assert_eq!(room.client(&["--help"]).finish().code, 0);
}

#[test]
fn what_cannot_work_is_said_in_words() {
    let room = Room::new();
    let file = room.random("x", 1);
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead = format!("msrp://127.0.0.1:{nowhere}/s;tcp");
    let outcome = room.send_to(&dead, &file, &["--direct"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("no relay there?"), "{}", outcome.stderr);

    let missing = room.send_to(&dead, Path::new("/nonexistent/file"), &["--direct"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stderr.contains("/nonexistent/file"), "{}", missing.stderr);

    let args = ["receive", "--listen", "127.0.0.1", "--no-tls", "--output", "/nonexistent/x"];
    let outcome = room.client(&args).finish();
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("/nonexistent"), "{}", outcome.stderr);
}

/// RFC 4975 §7.3.1: chunks in any order, overlapping, between chat lines and keep-alives.
#[test]
fn a_receiver_puts_chunks_together() {
    let room = Room::new();
    let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
    let mut peer = Peer::dial(&room.path());
    peer.says("t001", "SEND", &["Message-ID: ka", "Byte-Range: 1-0/0"], None, '$');
    assert!(peer.hears().starts_with("MSRP t001 200 OK\r\n"));
    let chat =
        ["Message-ID: c1", "Success-Report: yes", "Byte-Range: 1-5/5", "Content-Type: text/plain"];
    peer.says("t002", "SEND", &chat, Some(b"he\x1by!"), '$');
    assert!(peer.hears().starts_with("MSRP t002 200 OK\r\n"));
    let report = peer.hears();
    assert!(report.contains("REPORT\r\n") && report.contains("\r\nMessage-ID: c1\r\n"), "{report}");
    assert!(report.contains("\r\nStatus: 000 200 OK\r\n"), "{report}");

    let chunk = |range: &str, extra: &str| {
        vec![
            "Message-ID: f1".to_owned(),
            format!("Byte-Range: {range}"),
            extra.to_owned(),
            "Content-Disposition: attachment; filename=\"../../evil\"".to_owned(),
            "Content-Type: application/octet-stream".to_owned(),
        ]
    };
    peer.says("t003", "SEND", &chunk("7-*/10", "Success-Report: yes"), Some(b"ghij"), '$');
    assert!(peer.hears().starts_with("MSRP t003 200 OK\r\n"));
    assert!(peer.hears().contains("\r\nByte-Range: 7-10/10\r\n"));
    peer.says("t004", "SEND", &chunk("1-*/10", "Failure-Report: no"), Some(b"abc"), '+');
    // Another file meanwhile is not wanted; an unknown method is not known.
    let other = ["Message-ID: f2", "Byte-Range: 1-2/2", "Content-Type: image/png"];
    peer.says("t005", "SEND", &other, Some(b"xx"), '$');
    assert!(peer.hears().starts_with("MSRP t005 413 "), "t004 wants no response");
    peer.says("t006", "NICKNAME", &["Use-Nickname: \"x\""], None, '$');
    assert!(peer.hears().starts_with("MSRP t006 501 "));
    peer.says("t007", "SEND", &chunk("3-*/10", "Failure-Report: partial"), Some(b"cdef"), '+');
    let report = peer.hears_nothing_but_the_end();
    assert_eq!(report, "", "partial means no 200");
    let received = waiting.finish();
    assert_eq!(received.code, 0, "{}", received.stderr);
    assert_eq!(fs::read_to_string(room.inbox().join("evil")).unwrap(), "abcdefghij");
    assert!(received.stderr.contains("says: hey!"), "{}", received.stderr);
    assert!(received.stderr.contains(&format!("SHA-256 {}", sha256(&room.inbox().join("evil")))));
}

#[test]
fn a_receiver_tells_a_message_that_is_given_up_and_one_that_makes_no_sense() {
    for (body, flag, words) in [
        (&b"abc"[..], '#', "gave up after 3 octets"),
        (b"abcdefghijklm", '$', "more octets than announced"),
    ] {
        let room = Room::new();
        let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
        let mut peer = Peer::dial(&room.path());
        let head = ["Message-ID: f1", "Byte-Range: 1-*/10", "Content-Type: image/png"];
        peer.says("t001", "SEND", &head, Some(body), flag);
        let received = waiting.finish();
        assert_eq!(received.code, 1);
        assert!(received.stderr.contains(words), "{}", received.stderr);
        assert_eq!(fs::read_dir(room.inbox()).unwrap().count(), 0);
    }
}

/// A visitor that sends to another session does not take the place of the sender.
#[test]
fn a_listener_outlives_visitors() {
    let room = Room::new();
    let file = room.random("x", 10);
    let waiting = room.receive(&["--listen", "127.0.0.1", "--no-tls"]);
    let mut peer = Peer::dial(&room.path());
    let other = peer.to.replace(";tcp", "x;tcp");
    let own = std::mem::replace(&mut peer.to, other);
    peer.says("t001", "SEND", &["Message-ID: ka"], None, '$');
    assert!(peer.hears().starts_with("MSRP t001 481 "), "not the session of {own}");
    drop(peer);
    assert_eq!(room.send(&file, &["--direct"]).code, 0);
    assert_eq!(waiting.finish().code, 0);
}

/// RFC 4975 §7.1.1 and §10.5: one interruptible chunk; it is interrupted for a response, and ended
/// with `#` after 413.
#[test]
fn a_sender_interrupts_and_gives_up() {
    let room = Room::new();
    let file = room.random("x y.txt", 64 * 1024 * 1024);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = format!("msrp://127.0.0.1:{}/peer;tcp", listener.local_addr().unwrap().port());
    let sender = room.client(&["send", text(&file), "--direct", "--to", &path]);
    let mut peer = Peer::accept(&listener, &path);
    let head = peer.head();
    assert!(head.contains("\r\nByte-Range: 1-*/67108864\r\n"), "{head}");
    assert!(head.contains("\r\nSuccess-Report: yes\r\n"), "{head}");
    assert!(
        head.ends_with(
            "Content-Disposition: attachment; filename=\"x y.txt\"\r\nContent-Type: text/plain\r\n\r\n"
        ),
        "{head}"
    );
    peer.to = header(&head, "From-Path");
    peer.says("t001", "SEND", &["Message-ID: ka", "Byte-Range: 1-0/0"], None, '$');
    let first = transact_id(&head);
    let octets = peer.body(&first, '+');
    assert!((2048..64 * 1024 * 1024).contains(&octets), "{octets}");
    let response = peer.head();
    assert!(response.starts_with("MSRP t001 200 OK\r\n"), "{response}");
    let head = peer.head();
    assert!(head.contains(&format!("\r\nByte-Range: {}-*/67108864\r\n", octets + 1)), "{head}");
    peer.responds(&first, "413 Enough");
    peer.body(&transact_id(&head), '#');
    peer.link.shutdown(Shutdown::Both).unwrap();
    let sent = sender.finish();
    assert_eq!(sent.code, 1, "{}", sent.stderr);
    assert!(sent.stderr.contains("413") && sent.stderr.contains("Enough"), "{}", sent.stderr);
}

#[test]
fn a_failure_report_is_told_in_words() {
    let room = Room::new();
    let file = room.random("x", 10);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let path = format!("msrp://127.0.0.1:{}/peer;tcp", listener.local_addr().unwrap().port());
    let sender = room.client(&["send", text(&file), "--direct", "--to", &path]);
    let mut peer = Peer::accept(&listener, &path);
    let head = peer.head();
    assert!(head.contains("\r\nByte-Range: 1-10/10\r\n"), "{head}");
    peer.body(&transact_id(&head), '$');
    peer.to = header(&head, "From-Path");
    let message = format!("Message-ID: {}", header(&head, "Message-ID"));
    // A success REPORT on half of it and one on something else are not enough.
    peer.says("t001", "REPORT", &[&message, "Byte-Range: 1-5/10", "Status: 000 200 OK"], None, '$');
    let other = ["Message-ID: other", "Byte-Range: 1-10/10", "Status: 000 200 OK"];
    peer.says("t002", "REPORT", &other, None, '$');
    let bad = [&message, "Byte-Range: 6-10/10", "Status: 000 481 Gone"];
    peer.says("t003", "REPORT", &bad, None, '$');
    let sent = sender.finish();
    assert_eq!(sent.code, 1, "{}", sent.stderr);
    assert!(sent.stderr.contains("has the receiver gone?"), "{}", sent.stderr);
}
