//! The decoder: framing in any segmentation, limits, errors.

use proptest::prelude::*;

use super::*;
use crate::msrp::message::Method;

const PATHS: &str = "To-Path: msrp://r:1/s;tcp msrp://b:2/t;tcp\r\nFrom-Path: msrp://a:3/u;tcp\r\n";

/// The events in `wire`, as words, when it is read in pieces. Body events are joined.
fn read_in(wire: &[u8], cuts: &[usize], guard: Option<TransactId>) -> Vec<String> {
    let mut decoder = Decoder::default();
    decoder.guard(guard);
    let mut out: Vec<String> = Vec::new();
    let mut buf = BytesMut::new();
    let mut body = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&wire.len()]) {
        buf.extend_from_slice(&wire[start..cut]);
        start = cut;
        loop {
            let event = match decoder.next(&mut buf) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    out.push(format!("lost: {error}"));
                    return out;
                }
            };
            if let Event::Body(bytes) = &event {
                assert!(!bytes.is_empty());
                body.extend_from_slice(bytes);
                continue;
            }
            if !body.is_empty() {
                out.push(format!("body {}", body.escape_ascii()));
                body.clear();
            }
            out.push(match event {
                Event::Head(head) => {
                    let lines = head.headers.lines().count();
                    format!("{} {:?} {lines} {}", head.transact_id, head.start, head.has_body)
                }
                Event::Malformed(bad) => {
                    format!("bad {} {} {}", bad.transact_id, bad.error, bad.paths.is_some())
                }
                Event::End(flag) => format!("end {flag:?}"),
                Event::Collision => "collision".to_owned(),
                Event::Body(_) => unreachable!(),
            });
        }
    }
    if !body.is_empty() {
        out.push(format!("open body {}", body.escape_ascii()));
    }
    if !buf.is_empty() {
        out.push(format!("rest {}", buf.escape_ascii()));
    }
    out
}

fn read(wire: &str) -> Vec<String> {
    read_in(wire.as_bytes(), &[], None)
}

/// One message of each kind, with end-line look-alikes of all kinds.
fn medley() -> String {
    let body =
        "\r\n-------abcX$\r\n-------abcd\r\n\r\n-------abcd!\r\n-------abcd$\n-------abcd$x\r\n--";
    format!(
        "\r\nrubbish\r\nMSRP abcd SEND\r\n{PATHS}Byte-Range: 1-*/*\r\nContent-Type: a/b\r\n\r\n{body}\r\n-------abcd+\r\n\
         MSRP abcde SEND\r\n{PATHS}-------abcde$\r\n\
         MSRP abcf 200\r\n{PATHS}-------abcf$\r\n\
         MSRP abcg SEND\r\n{PATHS}\r\n\r\n-------abcg#\r\n\
         MSRP abch SEND\r\n{PATHS}\r\n-------abch$\r\n\
         MSRP abci SEND\r\nTo-Path: x\r\n\r\nMSRP abcd SEND\r\n-------abcd$\r\n\r\n-------abci$\r\n\
         MSRP abcj SEND\r\n{PATHS}X : 1\r\n-------abcj$\r\n"
    )
}

#[test]
fn frames_a_medley() {
    let body = "\\r\\n-------abcX$\\r\\n-------abcd\\r\\n\\r\\n-------abcd!\\r\\n-------abcd$\\n-------abcd$x\\r\\n--";
    let expected = vec![
        "abcd Request(Send) 4 true".to_owned(),
        format!("body {body}"),
        "end More".into(),
        "abcde Request(Send) 2 false".into(),
        "end End".into(),
        "abcf Response { status: StatusCode(200), comment: b\"\" } 2 false".into(),
        "end End".into(),
        "abcg Request(Send) 2 true".into(),
        "end Abort".into(),
        "abch Request(Send) 2 true".into(),
        "end End".into(),
        "bad abci Error parsing To-Path header false".into(),
        "body MSRP abcd SEND\\r\\n-------abcd$\\r\\n".into(),
        "end End".into(),
        "bad abcj Error parsing header line true".into(),
        "end End".into(),
    ];
    assert_eq!(read(&medley()), expected);
}

#[test]
fn any_single_cut_and_byte_by_byte() {
    let wire = medley();
    let whole = read(&wire);
    for cut in 0..wire.len() {
        assert_eq!(read_in(wire.as_bytes(), &[cut], None), whole, "cut at {cut}");
    }
    let all: Vec<usize> = (0..wire.len()).collect();
    assert_eq!(read_in(wire.as_bytes(), &all, None), whole);
}

#[test]
fn r4975_7_1_07_our_own_id_in_a_body_is_seen() {
    let wire = format!("MSRP abcd SEND\r\n{PATHS}\r\nxx\r\n-------ours$\r\nyy\r\n-------abcd$\r\n");
    let guard = TransactId::parse(b"ours");
    let expected = [
        "abcd Request(Send) 2 true",
        "body xx",
        "collision",
        "body \\r\\n-------ours$\\r\\nyy",
        "end End",
    ];
    for cut in 0..wire.len() {
        assert_eq!(read_in(wire.as_bytes(), &[cut], guard), expected);
    }
}

#[test]
fn limits() {
    let line =
        |n: usize| format!("MSRP abcd SEND\r\n{PATHS}X: {}\r\n-------abcd$\r\n", "x".repeat(n - 3));
    assert_eq!(read(&line(MAX_LINE)).len(), 2);
    assert_eq!(read(&line(MAX_LINE + 1)), ["lost: line length exceeded in the head of a message"]);
    let lines =
        |n: usize| format!("MSRP abcd SEND\r\n{PATHS}{}-------abcd$\r\n", "X: 1\r\n".repeat(n - 2));
    assert_eq!(read(&lines(MAX_HEADER_LINES)).len(), 2);
    let lost = "lost: number of header lines exceeded in the head of a message";
    assert_eq!(read(&lines(MAX_HEADER_LINES + 1)), [lost]);
    let big =
        format!("MSRP abcd SEND\r\n{PATHS}{}", format!("X: {}\r\n", "x".repeat(9000)).repeat(8));
    assert_eq!(read(&big), ["lost: head length exceeded in the head of a message"]);
    assert_eq!(
        read(&"x".repeat(MAX_LINE + 3)),
        ["lost: line length exceeded in the head of a message"]
    );
    assert_eq!(read(&garbage(MAX_SKIPPED)), Vec::<String>::new());
    assert_eq!(read(&garbage(MAX_SKIPPED + 4)), [GARBAGE]);
}

const GARBAGE: &str = "lost: more than 16384 octets that are no MSRP message";

/// Lines that are no start lines: so many octets, a multiple of 4.
fn garbage(octets: usize) -> String {
    "ab\r\n".repeat(octets / 4)
}

/// A client that sends CRLFCRLF every 30 s has sent 16 KiB after 34 hours.
#[test]
fn blank_lines_between_messages_are_free() {
    let message = format!("MSRP abcd SEND\r\n{PATHS}-------abcd$\r\n");
    let blank = "\r\n".repeat(MAX_SKIPPED);
    let wire = format!("{blank}{message}{blank}{}{blank}{message}{blank}", garbage(MAX_SKIPPED));
    let seen = ["abcd Request(Send) 2 false", "end End"].repeat(2);
    assert_eq!(read(&wire), seen);
    let octets: Vec<usize> = (0..wire.len()).collect();
    assert_eq!(read_in(wire.as_bytes(), &octets, None), seen);
    // Among other garbage they neither cost nor help.
    assert_eq!(read(&format!("{}{blank}ab\r\n", garbage(MAX_SKIPPED))), [GARBAGE]);
}

#[test]
fn each_message_starts_the_budget_for_garbage_anew() {
    for message in [
        format!("MSRP abcd SEND\r\n{PATHS}-------abcd$\r\n"),
        format!("MSRP abcd SEND\r\n{PATHS}\r\nbody\r\n-------abcd$\r\n"),
        format!("MSRP abcd 200 OK\r\n{PATHS}-------abcd$\r\n"),
    ] {
        let wire = format!("{}{message}", garbage(MAX_SKIPPED)).repeat(3);
        assert_eq!(read(&wire).iter().filter(|event| *event == "end End").count(), 3);
        assert_eq!(read(&(wire + &garbage(MAX_SKIPPED + 4))).last().unwrap(), GARBAGE);
    }
    // A head that never ends is no message.
    let wire = format!("{}MSRP abcd SEND\r\n{}", garbage(MAX_SKIPPED), garbage(400));
    assert_eq!(read(&wire), ["lost: number of header lines exceeded in the head of a message"]);
}

/// Blank lines leave the buffer, however they are cut, so that it need not grow for the next ones.
#[test]
fn a_flood_of_blank_lines_pins_no_memory() {
    let flood = b"\r\n".repeat(64 * 1024);
    for size in [1, 2, 3, 1000, 4001] {
        let mut decoder = Decoder::default();
        let mut buf = BytesMut::with_capacity(4096);
        for piece in flood.chunks(size) {
            buf.extend_from_slice(piece);
            assert!(decoder.peek(&mut buf).unwrap().is_none());
            assert!(decoder.next(&mut buf).unwrap().is_none());
            assert!(buf.len() < 2, "{} octets stay", buf.len());
        }
        assert!(buf.capacity() <= 8192, "{} octets", buf.capacity());
    }
}

/// Half a blank line is looked at again and again, what was before it is not.
#[test]
fn a_flood_of_blank_lines_is_looked_at_once() {
    let flood = b"\r\n".repeat(2 * 1024 * 1024);
    let mut decoder = Decoder::default();
    let mut buf = BytesMut::from(&flood[..flood.len() - 1]);
    for _ in 0..100_000 {
        assert!(decoder.next(&mut buf).unwrap().is_none());
        assert_eq!(&buf[..], b"\r");
    }
}

#[test]
fn a_lost_place_still_names_the_sender() {
    let wire = format!("MSRP abcd SEND\r\n{PATHS}{}", "X: 1\r\n".repeat(70));
    let mut decoder = Decoder::default();
    let error = decoder.next(&mut BytesMut::from(wire.as_bytes())).unwrap_err();
    let DecodeError::Head { message: Some(message), .. } = error else { panic!("{error}") };
    assert!(message.paths.is_some());
    assert_eq!(message.start, Start::Request(Method::Send));
}

#[test]
fn the_first_stray_line_is_told_once() {
    let mut decoder = Decoder::default();
    let mut buf = BytesMut::from("rubbish\r\n MSRP abcd SEND\r\nMSRP a FOO.\x1b\r\nMSRP b\r\n");
    assert!(decoder.take_stray().is_none());
    assert!(decoder.peek(&mut buf).unwrap().is_none());
    assert_eq!(decoder.take_stray().unwrap().to_string(), r#""MSRP a FOO.\x1b""#);
    buf.extend_from_slice(b"MSRP c!\r\n");
    assert!(decoder.next(&mut buf).unwrap().is_none());
    assert!(decoder.take_stray().is_none());
}

#[test]
fn peeking_takes_nothing() {
    let wire = medley();
    let mut decoder = Decoder::default();
    let mut buf = BytesMut::from(wire.as_bytes());
    for _ in 0..2 {
        let Ok(Some(Event::Head(head))) = decoder.peek(&mut buf) else { panic!() };
        assert_eq!(head.transact_id.to_string(), "abcd");
    }
    let Ok(Some(Event::Head(head))) = decoder.next(&mut buf) else { panic!() };
    assert_eq!(head.transact_id.to_string(), "abcd");
    assert!(decoder.peek(&mut buf).unwrap().is_none());
}

#[test]
fn an_error_that_was_peeked_at_is_found_again() {
    let many = format!("MSRP abcd SEND\r\n{PATHS}{}", "X: 1\r\n".repeat(MAX_HEADER_LINES));
    let long = format!("MSRP abcd SEND\r\n{PATHS}X: {}\r\n", "x".repeat(MAX_LINE));
    for wire in [many, long, garbage(MAX_SKIPPED + 4)] {
        let mut decoder = Decoder::default();
        let mut buf = BytesMut::from(wire.as_bytes());
        let peeked = decoder.peek(&mut buf).unwrap_err();
        assert_eq!(decoder.next(&mut buf).unwrap_err().to_string(), peeked.to_string());
    }
}

proptest! {
    #[test]
    fn any_segmentation_gives_the_same(
        pieces in proptest::collection::vec(prop_oneof![
            Just("\r\n".to_owned()), Just("-------".into()), Just("abcd".into()), Just("$".into()),
            Just("\r\n-------abcd$\r\n".into()), Just("\r\n-------ours+\r\n".into()), Just("-".into()), Just("\r".into()),
            Just(format!("MSRP abcd SEND\r\n{PATHS}\r\n")), Just(format!("MSRP abcd 200 OK\r\n{PATHS}")),
            "[ -~]{0,20}",
        ], 0..30),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let wire = pieces.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|i| i.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        let whole = read_in(wire.as_bytes(), &[], None);
        prop_assert_eq!(read_in(wire.as_bytes(), &cuts, None), whole);
    }

    #[test]
    fn bodies_arrive_as_they_left(body in any::<Vec<u8>>(), cut in any::<prop::sample::Index>()) {
        let mut wire = format!("MSRP abcd SEND\r\n{PATHS}\r\n").into_bytes();
        wire.extend_from_slice(&body);
        wire.extend_from_slice(b"\r\n-------abcd$\r\n");
        let events = read_in(&wire, &[cut.index(wire.len())], None);
        let mut expected = vec!["abcd Request(Send) 2 true".to_owned()];
        if !body.is_empty() {
            expected.push(format!("body {}", body.escape_ascii()));
        }
        expected.push("end End".into());
        prop_assert_eq!(events, expected);
    }
}
