//! Chunks: sizes, interruption, order, abortion, back-pressure (RFC 4975 §5.1, §7.1.1, §10.5;
//! RFC 4976 §6.4.1).

use std::{thread, time::Duration};

use crate::harness::{
    Peer, SILENCE, Scene, TOPOLOGIES, Transfer, empty_send, fingerprint, first, noise, report,
    send, send_with,
};

/// The head of a SEND whose body the test writes itself.
fn head(tid: &str, to: &str, from: &str, range: &str) -> String {
    format!(
        "MSRP {tid} SEND\nTo-Path: {to}\nFrom-Path: {from}\nMessage-ID: 87652491\n\
         Success-Report: no\nX-Kept: 1\nByte-Range: {range}\nContent-Disposition: attachment\n\
         Content-Type: application/octet-stream\n"
    )
}

/// Head, blank line and the first octets of a body that goes on.
#[track_caller]
fn begins(peer: &mut Peer, head: &str, body: &[u8]) {
    let mut octets = peer.octets(head);
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(body);
    peer.says_octets(&octets);
}

#[track_caller]
fn ends(peer: &mut Peer, body: &[u8], tid: &str, flag: char) {
    let mut octets = body.to_vec();
    octets.extend_from_slice(format!("\r\n-------{tid}{flag}\r\n").as_bytes());
    peer.says_octets(&octets);
}

/// A SEND of noise, whole, with this Byte-Range.
#[track_caller]
fn sends(peer: &mut Peer, head: &str, body: &[u8], tid: &str) {
    begins(peer, head, body);
    ends(peer, b"", tid, '$');
}

#[test]
fn r4975_7_1_1_06_r4975_7_1_1_07_what_is_longer_than_2048_leaves_with_an_open_end() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for (length, received, sent) in [
        (5000, "1-5000/5000", "1-*/5000"),
        (2049, "1-2049/2049", "1-*/2049"),
        (2048, "1-2048/2048", "1-2048/2048"),
        (5000, "1-*/5000", "1-*/5000"),
        (5000, "1-*/*", "1-*/*"),
        (5000, "5001-10000/20000", "5001-*/20000"),
    ] {
        let body = noise(1, length);
        sends(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", received), &body, "s0000001");
        bob.hears_response("s0000001", "200 OK", "{A}");
        let transfer = alice.receives();
        let first = &transfer.pieces[0];
        assert_eq!(first.the("Byte-Range"), sent);
        assert_eq!(transfer.body, body, "{received}");
    }
}

/// A SEND whose body is longer than declared leaves with an open end, so it can be interrupted.
#[test]
fn r4975_7_1_1_06_a_body_that_outgrows_its_range_leaves_with_an_open_end() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(2, 6000);
    sends(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", "1-10/10"), &body, "s0000001");
    let answer = bob.message();
    if answer.what.starts_with('4') {
        return;
    }
    let transfer = alice.receives();
    assert_eq!(transfer.body, body);
    assert_eq!(transfer.pieces[0].range().1, "*");
}

/// A SEND under way is cut when a message waits, and goes on with the next octet of body.
#[test]
fn r4975_5_1_01_r4975_7_1_1_08_r4975_7_1_1_10_a_response_interrupts_a_long_send() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let body = noise(3, 30_000);
        let text = head("s0000001", &session.to_bob, "{alice}", "1-30000/30000");
        begins(&mut session.alice, &text, &body[..10_000]);
        session.bob.awaits_octets(8000);
        session.bob.says(&send("s0000002", &session.to_alice, "{bob}", "and you?"));
        let mut transfer = Transfer::default();
        let piece = session.bob.message();
        assert_eq!(piece.flag, '+');
        assert!(piece.body_length() >= 2048);
        session.bob.answers(&piece, "200 OK");
        assert!(!transfer.add(piece));
        session.bob.hears_response("s0000002", "200 OK", &first(&session.back));
        let heard = session.alice.message();
        assert_eq!(heard.body.as_deref(), Some(&b"and you?"[..]));
        ends(&mut session.alice, &body[10_000..], "s0000001", '$');
        while !transfer.add(session.bob.message()) {}
        session.alice.hears_response("s0000001", "200 OK", &first(&session.out));
        assert_eq!(fingerprint(&transfer.body), fingerprint(&body));
        assert_eq!(transfer.pieces[0].the("Byte-Range"), "1-*/30000");
    }
}

#[test]
fn r4975_7_1_1_03_r4976_6_4_1_07_r4976_6_4_1_11_each_piece_has_all_headers_and_its_own_start() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(4, 12_000);
    begins(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", "1-*/12000"), &body[..4000]);
    let mut transfer = Transfer::default();
    for (round, tid) in ["s0000002", "s0000003"].iter().enumerate() {
        alice.awaits_octets(3000);
        alice.says(&send(tid, "{A} {bob}", "{alice}", "x"));
        assert!(!transfer.add(alice.message()));
        alice.hears_response(tid, "200 OK", "{A}");
        let from = 4000 * (round + 1);
        bob.says_octets(&body[from..from + 4000]);
    }
    ends(&mut bob, b"", "s0000001", '$');
    while !transfer.add(alice.message()) {}
    assert_eq!(transfer.body, body);
    assert_eq!(transfer.flags(), "++$");
    for piece in &transfer.pieces {
        let names: Vec<&str> = piece.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "To-Path",
                "From-Path",
                "Message-ID",
                "Success-Report",
                "X-Kept",
                "Byte-Range",
                "Content-Disposition",
                "Content-Type"
            ]
        );
        assert_eq!(piece.range().2, "12000");
    }
}

#[test]
fn r4976_6_4_1_07_each_piece_is_its_own_transaction_with_its_own_report() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(5, 8000);
    begins(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", "1-*/8000"), &body[..4000]);
    alice.awaits_octets(3000);
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "x"));
    let one = alice.message();
    alice.hears_response("s0000002", "200 OK", "{A}");
    assert_eq!(bob.message().body.as_deref(), Some(&b"x"[..]));
    ends(&mut bob, &body[4000..], "s0000001", '$');
    bob.hears_response("s0000001", "200 OK", "{A}");
    let two = alice.message();
    for piece in [&one, &two] {
        alice.answers(piece, "400 No");
        let (start, _, total) = piece.range();
        let range = format!("{start}-{}/{total}", start + piece.body_length() - 1);
        scene.names.unbind("r");
        bob.hears(&report("{r}", "{bob}", "{A}", "000 400 No", &range));
    }
}

#[test]
fn r4975_7_1_1_08_a_response_does_not_wait_for_the_end_of_a_large_transfer() {
    const LENGTH: usize = 24 << 20;

    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(6, LENGTH);
    let range = format!("1-*/{LENGTH}");
    let text = head("s0000001", "{A} {alice}", "{bob}", &range);
    thread::scope(|scope| {
        scope.spawn(|| sends(&mut bob, &text, &body, "s0000001"));
        alice.awaits_octets(1 << 20);
        alice.says(&send("s0000002", "{A} {bob}", "{alice}", "x"));
        let piece = alice.message();
        assert_eq!(piece.flag, '+', "the piece is cut");
        let taken = piece.body_length();
        assert!(taken < LENGTH, "{taken}");
        let mut transfer = Transfer::default();
        transfer.add(piece);
        alice.hears_response("s0000002", "200 OK", "{A}");
        while !transfer.add(alice.message()) {}
        assert_eq!(fingerprint(&transfer.body), fingerprint(&body));
    });
}

#[test]
fn r4975_7_1_1_11_an_idle_link_gets_one_chunk() {
    for kind in TOPOLOGIES {
        let scene = Scene::plain();
        let mut session = scene.topology(kind);
        let body = noise(7, 4 << 20);
        let range = format!("1-*/{}", body.len());
        let text = head("s0000001", &session.to_bob, "{alice}", &range);
        let (alice, bob) = (&mut session.alice, &mut session.bob);
        thread::scope(|scope| {
            scope.spawn(|| sends(alice, &text, &body, "s0000001"));
            let transfer = bob.receives();
            assert_eq!(transfer.flags(), "$");
            assert_eq!(fingerprint(&transfer.body), fingerprint(&body));
        });
    }
}

#[test]
fn r4975_7_1_1_13_pieces_are_not_shorter_than_2048_octets() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(8, 2 << 20);
    let range = format!("1-*/{}", body.len());
    let text = head("s0000001", "{A} {alice}", "{bob}", &range);
    thread::scope(|scope| {
        scope.spawn(|| sends(&mut bob, &text, &body, "s0000001"));
        let mut transfer = Transfer::default();
        let mut asked = 0;
        loop {
            if asked < 200 {
                asked += 1;
                let tid = format!("q{asked:07}");
                alice.says(&send_with(&tid, "{A} {bob}", "{alice}", "Failure-Report: yes\n", "x"));
            }
            let message = alice.message();
            if message.what == "SEND" && transfer.add(message) {
                break;
            }
        }
        assert_eq!(fingerprint(&transfer.body), fingerprint(&body));
        let (_, but_last) = transfer.pieces.split_last().expect("a piece");
        let short = but_last.iter().filter(|piece| piece.body_length() < 2048).count();
        // A shorter piece is allowed after a pause of 200 ms, as a loaded machine makes them.
        assert!(short <= but_last.len() / 10, "{short} of {}", but_last.len());
    });
}

/// A short SEND that is not complete holds up no other message.
#[test]
fn a_short_send_is_collected_whole_and_holds_nobody_up() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let octets = bob.octets(&send("s0000001", "{A} {alice}", "{bob}", &"z".repeat(2048)));
    bob.says_octets(&octets[..1000]);
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "meanwhile"));
    alice.hears_response("s0000002", "200 OK", "{A}");
    alice.hears_nothing(SILENCE);
    bob.says_octets(&octets[1000..]);
    alice.hears(&send("{t}", "{alice}", "{A} {bob}", &"z".repeat(2048)));
}

#[test]
fn a_stalled_long_send_is_interrupted_after_a_while_however_short() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    begins(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", "1-*/9000"), &noise(9, 500));
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "meanwhile"));
    let mut heard = alice.message();
    let mut transfer = Transfer::default();
    if heard.what == "SEND" {
        assert_eq!(heard.flag, '+');
        transfer.add(heard);
        heard = alice.message();
    }
    assert_eq!(heard.what, "200 OK");
    ends(&mut bob, &noise(10, 8500), "s0000001", '$');
    while !transfer.add(alice.message()) {}
    assert_eq!(transfer.body.len(), 9000);
}

/// One octet per 150 ms does not hold an answer up for more than a second.
#[test]
fn a_trickling_long_send_is_interrupted_after_a_second() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    begins(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", "1-*/5000"), b"x");
    alice.awaits_octets(1);
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "and you?"));
    for _ in 0..12 {
        bob.says_octets(b"x");
        thread::sleep(Duration::from_millis(150));
    }
    let piece = alice.message();
    assert_eq!(piece.flag, '+');
    assert!(piece.body_length() <= 9, "{} octets first", piece.body_length());
    alice.hears_response("s0000002", "200 OK", "{A}");
}

/// The piece before ended with `+` already: no piece but the last is empty.
#[test]
fn a_chunk_that_ends_where_it_was_interrupted_adds_no_empty_piece() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(4, 120_000);
    let chunk = |start| head("s0000001", "{A} {alice}", "{bob}", &format!("{start}-*/120000"));
    begins(&mut bob, &chunk(1), &body[..60_000]);
    alice.awaits_octets(60_000);
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "and you?"));
    let mut transfer = Transfer::default();
    transfer.add(alice.message());
    alice.hears_response("s0000002", "200 OK", "{A}");
    ends(&mut bob, b"", "s0000001", '+');
    begins(&mut bob, &chunk(60_001), &body[60_000..]);
    ends(&mut bob, b"", "s0000001", '$');
    while !transfer.add(alice.message()) {}
    assert!(transfer.pieces.iter().all(|piece| piece.body_length() > 0));
    assert_eq!(fingerprint(&transfer.body), fingerprint(&body));
}

#[test]
fn r4975_7_1_1_14_chunks_of_any_size() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for length in [0, 1, 2, 1023, 1024, 2047, 2048, 2049, 4096, 65_535, 65_536, 300_000] {
        let body = noise(11, length);
        let range = format!("1-{length}/{length}");
        let text = head("s0000001", "{A} {alice}", "{bob}", &range);
        thread::scope(|scope| {
            scope.spawn(|| sends(&mut bob, &text, &body, "s0000001"));
            let transfer = alice.receives();
            assert_eq!(fingerprint(&transfer.body), fingerprint(&body), "{length}");
        });
        bob.hears_response("s0000001", "200 OK", "{A}");
    }
    // Past 32 bits: the relay counts from the start that the head declares.
    let body = noise(12, 5000);
    let range = "8589934593-*/17179869184";
    begins(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", range), &body[..3000]);
    alice.awaits_octets(2500);
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "x"));
    let mut transfer = Transfer::default();
    transfer.add(alice.message());
    alice.hears_response("s0000002", "200 OK", "{A}");
    ends(&mut bob, &body[3000..], "s0000001", '$');
    while !transfer.add(alice.message()) {}
    assert_eq!(transfer.body, body);
    assert_eq!(transfer.pieces[0].range().0, 8_589_934_593);
}

#[test]
fn r4975_7_1_1_15_a_send_without_byte_range_is_a_whole_message() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for length in [5, 2048] {
        let body = "w".repeat(length);
        let text = |tid: &str, to: &str, from: &str| {
            send(tid, to, from, &body).replace(&format!("Byte-Range: 1-{length}/{length}\n"), "")
        };
        bob.says(&text("s0000001", "{A} {alice}", "{bob}"));
        bob.hears_response("s0000001", "200 OK", "{A}");
        alice.hears(&text("{t}", "{alice}", "{A} {bob}"));
        alice.responds("{t}", "200 OK", "{A}");
        scene.names.unbind("t");
    }
}

#[test]
fn r4975_7_1_1_16_pieces_of_a_send_without_byte_range_have_one() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(13, 9000);
    let text = head("s0000001", "{A} {alice}", "{bob}", "?").replace("Byte-Range: ?\n", "");
    begins(&mut bob, &text, &body[..5000]);
    alice.awaits_octets(3000);
    alice.says(&send("s0000002", "{A} {bob}", "{alice}", "x"));
    let mut transfer = Transfer::default();
    transfer.add(alice.message());
    alice.hears_response("s0000002", "200 OK", "{A}");
    ends(&mut bob, &body[5000..], "s0000001", '$');
    while !transfer.add(alice.message()) {}
    assert_eq!(transfer.body, body);
    assert_eq!(transfer.pieces[0].the("Byte-Range"), "1-*/*");
    let resumed = transfer.pieces[0].body_length() + 1;
    assert_eq!(transfer.pieces[1].the("Byte-Range"), format!("{resumed}-*/*"));
}

#[test]
fn r4975_7_1_1_17_r4976_3_09_chunks_leave_in_the_order_in_which_they_came() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let ranges = ["1-5/20", "6-10/20", "16-20/20", "11-15/20", "6-10/20"];
    let octets: Vec<u8> = ranges
        .iter()
        .flat_map(|range| {
            let text = send("s0000001", "{A} {alice}", "{bob}", "chunk").replace("1-5/5", range);
            bob.octets(&text.replace("-------s0000001$", "-------s0000001+"))
        })
        .collect();
    bob.says_octets(&octets);
    for range in ranges {
        let heard = alice.message();
        assert_eq!(heard.the("Byte-Range"), range);
        assert_eq!(heard.flag, '+');
    }
}

#[test]
fn r4976_6_4_1_10_chunks_of_different_messages_stay_apart() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for (tid, id, range, flag) in [
        ("s0000001", "one", "1-5/10", '+'),
        ("s0000002", "two", "1-5/10", '+'),
        ("s0000003", "one", "6-10/10", '$'),
        ("s0000004", "two", "6-10/10", '$'),
    ] {
        let text = |tid: &str, to: &str, from: &str| {
            let text = send(tid, to, from, "chunk").replace("1-5/5", range).replace("87652491", id);
            format!("{}{flag}", &text[..text.len() - 1])
        };
        bob.says(&text(tid, "{A} {alice}", "{bob}"));
        alice.hears(&text(&format!("{{t{tid}}}"), "{alice}", "{A} {bob}"));
    }
}

#[test]
fn r4975_7_3_1_01_the_length_of_a_chunk_is_that_of_its_body() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let short =
        send("s0000001", "{A} {alice}", "{bob}", &"a".repeat(60)).replace("1-60/60", "1-100/100");
    bob.says(&short.replace("-------s0000001$", "-------s0000001+"));
    let first = alice.message();
    assert_eq!((first.range().0, first.body_length(), first.flag), (1, 60, '+'));
    let rest =
        send("s0000002", "{A} {alice}", "{bob}", &"b".repeat(40)).replace("1-40/40", "61-100/100");
    bob.says(&rest);
    let second = alice.message();
    assert_eq!((second.range().0, second.body_length(), second.flag), (61, 40, '$'));
    alice.answers(&first, "400 No");
    bob.hears_response("s0000001", "200 OK", "{A}");
    bob.hears_response("s0000002", "200 OK", "{A}");
    bob.hears(&report("{r}", "{bob}", "{A}", "000 400 No", "1-60/100"));
}

#[test]
fn r4975_7_1_11_an_aborted_message_is_aborted_once() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(14, 5000);
    begins(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", "1-*/9000"), &body);
    ends(&mut bob, b"", "s0000001", '#');
    bob.hears_response("s0000001", "200 OK", "{A}");
    let transfer = alice.receives();
    assert!(transfer.flags().ends_with('#'), "{}", transfer.flags());
    assert_eq!(transfer.body, body);
    alice.hears_nothing(SILENCE);
    // Interrupted, and then aborted without a further octet: an empty piece carries the `#`.
    begins(&mut bob, &head("s0000002", "{A} {alice}", "{bob}", "1-*/9000"), &body);
    alice.awaits_octets(4000);
    alice.says(&send("s0000003", "{A} {bob}", "{alice}", "x"));
    let mut transfer = Transfer::default();
    transfer.add(alice.message());
    alice.hears_response("s0000003", "200 OK", "{A}");
    ends(&mut bob, b"", "s0000002", '#');
    while !transfer.add(alice.message()) {}
    assert!(transfer.flags().ends_with('#'), "{}", transfer.flags());
    assert_eq!(transfer.body, body);
}

#[test]
fn r4975_10_5_01_r4975_10_5_02_after_413_the_chunk_under_way_is_aborted_and_the_sender_told() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    let body = noise(15, 20_000);
    begins(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", "1-*/20000"), &body[..5000]);
    alice.awaits_octets(4000);
    let unread = String::from_utf8_lossy(alice.unread()).into_owned();
    let tid = unread.split(' ').nth(1).expect("a transact-id").to_owned();
    alice.responds(&tid, "413 Enough", "{A}");
    let told = bob.message();
    assert_eq!(told.what, "REPORT");
    assert_eq!(told.the("Status"), "000 413 Enough");
    let cut = alice.message();
    assert_eq!(cut.flag, '#');
    assert!(cut.body_length() <= 5002);
    ends(&mut bob, &body[5000..], "s0000001", '$');
    let answer = bob.message();
    assert_eq!(answer.tid, "s0000001");
    assert!(["200", "413"].contains(&&answer.what[..3]), "{answer:?}");
    alice.hears_nothing(SILENCE);
    bob.says(&send("s0000002", "{A} {alice}", "{bob}", "another").replace("87652491", "other"));
    assert_eq!(alice.message().body.as_deref(), Some(&b"another"[..]));
}

#[test]
fn r4975_7_1_12_other_requests_are_never_cut() {
    let scene = Scene::plain();
    let (mut alice, mut bob) = scene.joined();
    for method in ["NICKNAME", "REPORT"] {
        let body = "n".repeat(10_000);
        let request = |tid: &str, to: &str, from: &str| {
            format!(
                "MSRP {tid} {method}\nTo-Path: {to}\nFrom-Path: {from}\nMessage-ID: 1\n\
                 Status: 000 200 OK\nContent-Type: text/plain\n\n{body}\n-------{tid}$"
            )
        };
        let octets = bob.octets(&request("n0000001", "{A} {alice}", "{bob}"));
        bob.says_octets(&octets[..6000]);
        alice.says(&send("s0000001", "{A} {bob}", "{alice}", "meanwhile"));
        alice.hears_response("s0000001", "200 OK", "{A}");
        alice.hears_nothing(SILENCE);
        bob.says_octets(&octets[6000..]);
        scene.names.unbind("t");
        alice.hears(&request("{t}", "{alice}", "{A} {bob}"));
        assert_eq!(bob.message().body.as_deref(), Some(&b"meanwhile"[..]));
    }
}

#[test]
fn r4976_1_02_a_slow_reader_stops_its_own_sender_and_nobody_else() {
    const BLOCK: usize = 1 << 20;
    const FAR_TOO_MUCH: usize = 64 << 20;

    let scene = Scene::with("");
    let before = scene.relay.resident_kib();
    let (mut alice, mut bob) = scene.joined();
    let block = noise(16, BLOCK);
    begins(&mut bob, &head("s0000001", "{A} {alice}", "{bob}", "1-*/*"), b"");
    bob.set_write_timeout(Duration::from_secs(2));
    let mut written = 0;
    while let Some(taken) = bob.writes_some(&block[written % BLOCK..]) {
        written += taken;
        assert!(written < FAR_TOO_MUCH, "{written} octets and no end");
    }
    let grown = scene.relay.resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");

    let others = Scene::on(std::sync::Arc::clone(&scene.relay));
    others.topology(crate::harness::Topology::Bridged).talks();

    let expected: Vec<u8> = block.iter().copied().cycle().take(written).collect();
    thread::scope(|scope| {
        bob.set_write_timeout(Duration::from_mins(1));
        scope.spawn(|| ends(&mut bob, b"", "s0000001", '$'));
        let transfer = alice.receives();
        assert_eq!(fingerprint(&transfer.body), fingerprint(&expected));
    });
}

/// A peer that sends and never reads its answers cannot make the relay's memory grow.
#[test]
fn a_peer_that_never_reads_its_answers_is_stopped() {
    let scene = Scene::with("");
    let before = scene.relay.resident_kib();
    let mut alice = scene.client("alice");
    alice.set_write_timeout(Duration::from_secs(2));
    let request = alice.octets(&empty_send("s0000001", "{A}", "{alice}"));
    let many = request.repeat(1000);
    let mut written = 0;
    while let Some(taken) = alice.writes_some(&many[written % request.len()..]) {
        written += taken;
        assert!(written < 256 << 20, "{written} octets and no end");
    }
    let grown = scene.relay.resident_kib().saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

#[test]
fn messages_while_the_next_hop_is_dialled_arrive_in_order() {
    let scene = Scene::plain();
    let listener = scene.listener("bob");
    let mut alice = scene.client("alice");
    let body = noise(17, 60_000);
    let text = head("s0000001", "{A} {bob}", "{alice}", "1-*/60000");
    let mut octets = alice.octets(&empty_send("s0000000", "{A} {bob}", "{alice}"));
    octets.extend(alice.octets(&text));
    octets.extend_from_slice(b"\r\n");
    octets.extend_from_slice(&body);
    octets.extend_from_slice(b"\r\n-------s0000001$\r\n");
    alice.says_octets(&octets);
    alice.hears_response("s0000000", "200 OK", "{A}");
    alice.hears_response("s0000001", "200 OK", "{A}");
    let mut bob = listener.accepts();
    assert_eq!(bob.message().body, None);
    assert_eq!(bob.receives().body, body);
}
