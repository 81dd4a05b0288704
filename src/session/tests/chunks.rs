//! SENDs of more than 2048 octets: cut when another message waits, and complete when the receiver
//! puts the pieces together (RFC 4975 §7.1.1).

use super::*;

/// The head of a long SEND of Alice.
fn long(range: &str) -> String {
    format!(
        "MSRP tid1 SEND\nTo-Path: R B\nFrom-Path: A\nMessage-ID: m1\nByte-Range: {range}\n\
         Failure-Report: no\nX-Two: b\nContent-Disposition: attachment; filename=\"x\"\n\
         Content-Type: a/b\n\n"
    )
}

fn piece(id: &str, range: &str) -> String {
    format!(
        "MSRP <{id}> SEND\nTo-Path: B\nFrom-Path: R A\nMessage-ID: m1\nByte-Range: {range}\n\
         Failure-Report: no\nX-Two: b\nContent-Disposition: attachment; filename=\"x\"\n\
         Content-Type: a/b\n\n"
    )
}

/// A SEND of Bob, which the relay answers.
fn interrupting() -> String {
    send("psst", "R A", "B", "")
}

const ANSWER: &str = "MSRP tidSEND 200 OK\nTo-Path: B\nFrom-Path: R\n-------tidSEND$\n";

/// A pair in which Alice has sent the head and `octets` of a message of 5000.
fn in_the_midst(octets: usize) -> Pair {
    let mut pair = Pair::dialled();
    pair.says(Near, &long("1-*/5000"));
    pair.says_raw(Near, &vec![b'a'; octets]);
    pair
}

/// `hears` for a body that does not end in a line end yet.
fn hears_open(pair: &mut Pair, leg: Leg, text: &str) {
    let heard = pair.take(leg);
    let mut whole = String::from_utf8(heard).unwrap();
    whole.push_str("\r\n");
    let expected = String::from_utf8(wire_text(text)).unwrap();
    assert!(pair.matches(&expected, &whole), "{}", readable(&whole));
}

#[test]
fn r4975_7_1_1_11_an_idle_link_cuts_nothing() {
    let mut pair = Pair::dialled();
    let mut body = String::new();
    pair.says(Near, &long("1-*/5000"));
    pair.hears_nothing(Far);
    for _ in 0..5 {
        pair.says_raw(Near, &[b'a'; 1000]);
        pair.passes(seconds(3));
        body += "(1000×a)";
    }
    pair.says_raw(Near, b"\r\n-------tid1$\r\n");
    pair.hears(Far, &format!("{}{body}\n-------<x>$\n", piece("x", "1-*/5000")));
}

#[test]
fn r4975_7_1_1_08_an_answer_interrupts_after_2048_octets() {
    let mut pair = in_the_midst(3000);
    pair.says(Far, &interrupting());
    pair.hears(Far, &format!("{}(3000×a)\n-------<1>+\n{ANSWER}", piece("1", "1-*/5000")));
    // Nothing more is sent until more body arrives.
    pair.passes(seconds(1));
    pair.hears_nothing(Far);
    pair.says_raw(Near, &[b'b'; 2000]);
    hears_open(&mut pair, Far, &format!("{}(2000×b)", piece("2", "3001-*/5000")));
    pair.says_raw(Near, b"\r\n-------tid1$\r\n");
    pair.hears(Far, "\n-------<2>$\n");
    assert_ne!(pair.ids["1"], pair.ids["2"]);
}

#[test]
fn r4975_7_1_1_13_a_short_piece_grows_to_2048_octets_first() {
    let mut pair = in_the_midst(1);
    pair.says(Far, &interrupting());
    pair.says_raw(Near, &[b'a'; 2046]);
    pair.passes(millis(199));
    hears_open(&mut pair, Far, &format!("{}(2047×a)", piece("1", "1-*/5000")));
    pair.says_raw(Near, b"a");
    pair.hears(Far, &format!("a\n-------<1>+\n{ANSWER}"));
}

#[test]
fn a_sender_that_pauses_for_200_ms_is_interrupted_anyway() {
    let mut pair = in_the_midst(1);
    pair.says(Far, &interrupting());
    pair.passes(millis(150));
    pair.says_raw(Near, b"b");
    pair.passes(millis(199));
    hears_open(&mut pair, Far, &format!("{}ab", piece("1", "1-*/5000")));
    pair.passes(millis(1));
    pair.hears(Far, &format!("\n-------<1>+\n{ANSWER}"));
    pair.says_raw(Near, b"c\r\n-------tid1$\r\n");
    pair.hears(Far, &format!("{}c\n-------<2>$\n", piece("2", "3-*/5000")));
}

#[test]
fn a_sender_that_trickles_is_interrupted_after_a_second() {
    let mut pair = in_the_midst(1);
    pair.passes(millis(100));
    pair.says(Far, &interrupting());
    let mut body = "a".to_owned();
    for _ in 0..9 {
        pair.says_raw(Near, b"b");
        pair.passes(millis(105));
        body.push('b');
    }
    pair.passes(millis(54));
    hears_open(&mut pair, Far, &format!("{}{body}", piece("1", "1-*/5000")));
    pair.passes(millis(1));
    pair.hears(Far, &format!("\n-------<1>+\n{ANSWER}"));
    // The message that is held back next has a second of its own.
    pair.says_raw(Near, b"c");
    pair.passes(millis(150));
    pair.says(Far, &interrupting());
    for _ in 0..9 {
        pair.says_raw(Near, b"c");
        pair.passes(millis(105));
    }
    hears_open(&mut pair, Far, &format!("{}(10×c)", piece("2", "11-*/5000")));
    pair.passes(millis(55));
    pair.hears(Far, &format!("\n-------<2>+\n{ANSWER}"));
}

#[test]
fn the_end_comes_before_what_was_held_back() {
    let mut pair = in_the_midst(1);
    pair.says(Far, &interrupting());
    pair.says_raw(Near, b"\r\n-------tid1$\r\n");
    pair.hears(Far, &format!("{}a\n-------<1>$\n{ANSWER}", piece("1", "1-*/5000")));
    pair.passes(seconds(1));
    pair.hears_nothing(Far);
}

#[test]
fn nothing_waits_before_the_first_octet() {
    let mut pair = in_the_midst(0);
    pair.says(Far, &interrupting());
    pair.hears(Far, ANSWER);
    pair.says_raw(Near, b"a\r\n-------tid1$\r\n");
    pair.hears(Far, &format!("{}a\n-------<1>$\n", piece("1", "1-*/5000")));
}

#[test]
fn a_flag_without_an_octet_since_the_interruption_leaves_alone() {
    for flag in ["$", "#"] {
        let mut pair = in_the_midst(2048);
        pair.says(Far, &interrupting());
        pair.hears(Far, &format!("{}(2048×a)\n-------<1>+\n{ANSWER}", piece("1", "1-*/5000")));
        pair.says_raw(Near, format!("\r\n-------tid1{flag}\r\n").as_bytes());
        pair.hears(Far, &format!("{}\n-------<2>{flag}\n", piece("2", "2049-*/5000")));
    }
}

/// The piece before ended with `+` already, and no piece but the last is empty.
#[test]
fn a_chunk_that_goes_on_without_an_octet_since_the_interruption_adds_no_piece() {
    let mut pair = in_the_midst(2048);
    pair.says(Far, &interrupting());
    pair.hears(Far, &format!("{}(2048×a)\n-------<1>+\n{ANSWER}", piece("1", "1-*/5000")));
    pair.says_raw(Near, b"\r\n-------tid1+\r\n");
    pair.hears_nothing(Far);
    pair.says(Near, &format!("{}(2952×b)\n-------tid1$\n", long("2049-*/5000")));
    pair.hears(Far, &format!("{}(2952×b)\n-------<2>$\n", piece("2", "2049-*/5000")));
    // An empty chunk of the sender's own is passed on.
    pair.says(Near, &format!("{}\n-------tid1+\n", long("1-*/5000")));
    pair.hears(Far, &format!("{}\n-------<3>+\n", piece("3", "1-*/5000")));
}

/// The incoming chunk gets its 200, and the piece that was sent has its transaction.
#[test]
fn a_chunk_without_a_piece_of_its_own_is_acknowledged() {
    let mut pair = Pair::dialled();
    let chunk = |range: &str| long(range).replace("Failure-Report: no\n", "");
    pair.says(Near, &chunk("1-*/5000"));
    pair.says_raw(Near, &[b'a'; 2048]);
    pair.says(Far, &interrupting());
    pair.says_raw(Near, b"\r\n-------tid1+\r\n");
    let acknowledged = property::messages(&pair.take(Near));
    assert_eq!(acknowledged.len(), 2, "Bob's SEND, and the 200 to the chunk");
    pair.take(Far);
    assert_eq!(pair.session.far.outbox.transactions.len(), 1);
    pair.passes(seconds(30));
    let reports = property::messages(&pair.take(Near));
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].head.headers.value(Name::ByteRange), Some(&b"1-2048/5000"[..]));
}

/// RFC 7977 §5.1: each chunk leaves in a message of its own, whatever interrupts it.
#[test]
fn the_queue_knows_where_each_chunk_ends() {
    let mut pair = in_the_midst(3000);
    assert_eq!(pair.chunks(Far).len(), 1, "one, and it is not complete");
    pair.says(Far, &interrupting());
    pair.says(Near, "");
    pair.says_raw(Near, b"b\r\n-------tid1$\r\n");
    pair.says(Near, &send("more", "R B", "A", ""));
    let chunks = pair.chunks(Far);
    let last_octets = |chunk: &Vec<u8>| chunk[chunk.len() - 3..].to_vec();
    let ends: Vec<_> = chunks[..chunks.len() - 1].iter().map(last_octets).collect();
    assert_eq!(ends, [b"+\r\n", b"$\r\n", b"$\r\n", b"$\r\n"]);
    assert!(chunks.iter().take(4).all(|chunk| chunk.starts_with(b"MSRP ")));
    assert!(chunks[4].is_empty());
}

#[test]
fn flags_pass() {
    for flag in ["$", "#", "+"] {
        let mut pair = in_the_midst(4000);
        pair.says_raw(Near, format!("\r\n-------tid1{flag}\r\n").as_bytes());
        pair.hears(Far, &format!("{}(4000×a)\n-------<1>{flag}\n", piece("1", "1-*/5000")));
    }
}

#[test]
fn r4975_7_1_1_06_what_is_over_2048_octets_leaves_interruptible() {
    for (range, out) in [
        ("1-5000/5000", "1-*/5000"),
        ("5001-*/10000", "5001-*/10000"),
        ("1-*/*", "1-*/*"),
        ("1-2049/*", "1-*/*"),
        ("1-*/18446744073709551615", "1-*/18446744073709551615"),
        ("18446744073709551615-*/*", "18446744073709551615-*/*"),
        ("0-9000/3", "0-*/3"),
    ] {
        let mut pair = Pair::dialled();
        pair.says(Near, &long(range));
        pair.says_raw(Near, &[b'a'; 4000]);
        pair.says_raw(Near, b"\r\n-------tid1$\r\n");
        pair.hears(Far, &format!("{}(4000×a)\n-------<1>$\n", piece("1", out)));
    }
}

#[test]
fn up_to_2048_octets_a_send_is_never_cut() {
    for range in ["1-2048/2048", "1-2048/9999", "1-*/2048", "7953-*/10000"] {
        let mut pair = Pair::dialled();
        pair.says(Near, &long(range));
        pair.says_raw(Near, &[b'a'; 2000]);
        pair.says(Far, &interrupting());
        pair.passes(seconds(1));
        pair.hears(Far, ANSWER);
        pair.says_raw(Near, &[b'b'; 48]);
        pair.says_raw(Near, b"\r\n-------tid1$\r\n");
        pair.hears(Far, &format!("{}(2000×a)(48×b)\n-------<1>$\n", piece("1", range)));
    }
}

#[test]
fn r4975_7_3_1_01_the_length_is_that_of_the_body() {
    // Declared longer than it is.
    let mut pair = Pair::dialled();
    pair.says(Near, &long("1-9000/9000"));
    pair.says_raw(Near, b"short\r\n-------tid1+\r\n");
    pair.hears(Far, &format!("{}short\n-------<1>+\n", piece("1", "1-*/9000")));
    // Longer than declared, but still short enough to be passed on whole.
    pair.says(Near, &format!("{}(2000×a)\n-------tid1$\n", long("1-5/5")));
    pair.hears(Far, &format!("{}(2000×a)\n-------<2>$\n", piece("2", "1-5/5")));
    // Too long to be passed on whole: it leaves as it arrives, and can be cut.
    pair.says(Near, &long("1-5/5"));
    pair.says_raw(Near, &[b'a'; 2048]);
    pair.hears_nothing(Far);
    pair.says_raw(Near, b"b");
    hears_open(&mut pair, Far, &format!("{}(2048×a)b", piece("3", "1-*/5")));
    pair.says(Far, &interrupting());
    pair.says_raw(Near, b"c\r\n-------tid1$\r\n");
    pair.hears(Far, &format!("\n-------<3>+\n{ANSWER}{}c\n-------<4>$\n", piece("4", "2050-*/5")));
}

#[test]
fn r4975_7_1_1_15_a_send_without_byte_range() {
    let head = "MSRP tid1 SEND\nTo-Path: R B\nFrom-Path: A\nMessage-ID: m1\nFailure-Report: no\nContent-Type: a/b\n\n";
    let mut pair = Pair::dialled();
    pair.says(Near, &format!("{head}(2048×a)\n-------tid1$\n"));
    let plain =
        "To-Path: B\nFrom-Path: R A\nMessage-ID: m1\nFailure-Report: no\nContent-Type: a/b\n\n";
    pair.hears(Far, &format!("MSRP <1> SEND\n{plain}(2048×a)\n-------<1>$\n"));
    // Where it is cut, its pieces need one.
    pair.says(Near, head);
    pair.says_raw(Near, &[b'a'; 3000]);
    pair.says(Far, &interrupting());
    pair.says_raw(Near, b"b\r\n-------tid1$\r\n");
    let ranged = |range: &str| {
        format!(
            "To-Path: B\nFrom-Path: R A\nByte-Range: {range}\nMessage-ID: m1\nFailure-Report: no\nContent-Type: a/b\n\n"
        )
    };
    pair.hears(
        Far,
        &format!(
            "MSRP <2> SEND\n{}(3000×a)\n-------<2>+\n{ANSWER}MSRP <3> SEND\n{}b\n-------<3>$\n",
            ranged("1-*/*"),
            ranged("3001-*/*")
        ),
    );
}

#[test]
fn reports_and_responses_of_others_interrupt_too() {
    let mut pair = Pair::dialled();
    pair.says(Far, "MSRP nick NICKNAME\nTo-Path: R A\nFrom-Path: B\n-------nick$\n");
    pair.hears(Near, "MSRP <n> NICKNAME\nTo-Path: A\nFrom-Path: R B\n-------<n>$\n");
    pair.says(Far, &send("x", "R A", "B", "Failure-Report: partial\n"));
    pair.ids.insert("s".into(), nth_id(MADE.get()).to_string());
    pair.take(Near);
    // Alice answers between two chunks of a file; the second one opens with nothing before it.
    pair.says(Near, &format!("{}(3000×a)\n-------tid1+\n", long("1-*/6000")));
    pair.says(Near, "MSRP <s> 499 Hm\nTo-Path: R\nFrom-Path: A\n-------<s>$\n");
    pair.says(Near, "MSRP <n> 200 OK\nTo-Path: R B\nFrom-Path: A\n-------<n>$\n");
    pair.says(Near, &format!("{}(3000×a)\n-------tid1$\n", long("3001-*/6000")));
    pair.hears(
        Far,
        &format!(
            "{}(3000×a)\n-------<1>+\n\
             MSRP <r> REPORT\nTo-Path: B\nFrom-Path: R\nStatus: 000 499 Hm\nMessage-ID: msg1\n\
             Byte-Range: 1-1/1\n-------<r>$\n\
             MSRP nick 200 OK\nTo-Path: B\nFrom-Path: R A\n-------nick$\n\
             {}(3000×a)\n-------<2>$\n",
            piece("1", "1-*/6000"),
            piece("2", "3001-*/6000")
        ),
    );
}

/// A body that holds the end-line of the id under which it leaves.
fn colliding(n: u32) -> Vec<u8> {
    let id = nth_id(n);
    format!("before\r\n-------{id}$\r\nafter").into_bytes()
}

#[test]
fn r4975_7_1_07_an_id_that_the_body_holds_is_not_used() {
    let body = |id: u32| String::from_utf8(colliding(id)).unwrap().replace("\r\n", "\n");
    // A short SEND is collected whole, so the id is chosen after its body is known.
    let mut pair = Pair::dialled();
    let next = MADE.get() + 1;
    pair.says(Near, &send(&body(next), "R B", "A", ""));
    pair.hears(
        Far,
        &format!(
            "MSRP <1> SEND\nTo-Path: B\nFrom-Path: R A\nMessage-ID: msg1\nByte-Range: 1-33/33\n\
             Content-Type: text/plain\n\n{}\n-------<1>$\n",
            body(next)
        )
        .replace("1-33/33", &format!("1-{0}/{0}", body(next).len())),
    );
    assert_eq!(pair.ids["1"], nth_id(next + 1).to_string());
}

#[test]
fn r4975_7_1_07_a_stream_that_collides_changes_its_id() {
    for lead in [0, 1, 10, 3000] {
        for split in 0..34 {
            let mut pair = Pair::dialled();
            let mut body = vec![b'a'; lead];
            body.extend(colliding(MADE.get() + 1));
            pair.says(Near, &long("1-*/9000"));
            let cut = lead + split;
            pair.says_raw(Near, &body[..cut.min(body.len())]);
            pair.says_raw(Near, &body[cut.min(body.len())..]);
            pair.says_raw(Near, b"\r\n-------tid1$\r\n");
            let heard = pair.take(Far);
            let messages = property::messages(&heard);
            assert_eq!(messages.len(), 2);
            assert_eq!(messages.iter().flat_map(|m| m.body.clone()).collect::<Vec<_>>(), body);
            assert_eq!(messages[0].flag, Continuation::More);
            assert_eq!(messages[1].flag, Continuation::End);
        }
    }
}

#[test]
fn a_body_that_begins_with_the_end_line_of_its_id() {
    let mut pair = Pair::dialled();
    pair.says(Near, &long("1-*/9000"));
    let line = format!("-------{}$\r\nrest", nth_id(MADE.get()));
    pair.says_raw(Near, line.as_bytes());
    pair.says_raw(Near, b"\r\n-------tid1$\r\n");
    let messages = property::messages(&pair.take(Far));
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].body, line.as_bytes());
}

#[test]
fn s18_messages_in_a_body_stay_body() {
    let nested = format!("{}\n-------tid\n-------tid12$\n", send("x", "R B", "A", ""));
    let mut pair = Pair::dialled();
    pair.says(Near, &format!("{}{nested}\n-------tid1$\n", long("1-*/9000")));
    let messages = property::messages(&pair.take(Far));
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].body, wire_text(&nested));
    pair.hears_nothing(Near);
}
