//! The decoder, with any input in any segmentation (RFC 4975 §7).
//!
//! The input is what arrives on a connection, as it is; an octet of 0xFF is not part of it, but
//! marks where one read ends and the next one starts. What is read must not depend on that, every
//! octet of a body must come out, end-lines must be where the plainest search finds them, and a
//! head that is written again must be read as the same head.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use msrprelay::msrp::{
    Continuation, Decoder, Event, Head, Name, Start, TransactId, decode, encode,
};

/// Ends a read.
const CUT: u8 = 0xFF;
/// The id under which bodies are sent on.
const GUARD: &[u8] = b"ours";
/// Small, so that inputs of a few KiB reach it.
const SMALL_HEAD: usize = 300;

fuzz_target!(|input: &[u8]| {
    let wire: Vec<u8> = input.iter().copied().filter(|&b| b != CUT).collect();
    let marked: Vec<&[u8]> = input.split(|&b| b == CUT).collect();
    let octets: Vec<&[u8]> = wire.chunks(1).collect();

    let read_all_ways = |max_head, guard| {
        let whole = read(&[&wire], max_head, guard);
        assert_eq!(read(&marked, max_head, guard), whole, "cut as marked");
        assert_eq!(read(&octets, max_head, guard), whole, "octet by octet");
        whole
    };
    let plain = read_all_ways(decode::MAX_HEAD, None);
    let guarded = read_all_ways(decode::MAX_HEAD, TransactId::parse(GUARD));
    assert_eq!(without_collisions(guarded), without_collisions(plain));
    read_all_ways(SMALL_HEAD, None);

    follow(&wire);
});

/// An event, in a form that can be compared; pieces of a body are joined.
#[derive(Debug, PartialEq)]
enum Seen {
    Message {
        what: String,
        lines: Vec<u8>,
    },
    Body(Vec<u8>),
    Collision,
    End(Continuation),
    /// The limit that is exceeded first may depend on the segmentation; whether the sender can be
    /// told must not.
    Lost {
        paths: bool,
    },
    /// What waits for more input.
    Rest(Vec<u8>),
}

fn read(pieces: &[&[u8]], max_head: usize, guard: Option<TransactId>) -> Vec<Seen> {
    let mut decoder = Decoder::new(max_head);
    decoder.guard(guard);
    let mut buf = BytesMut::new();
    let mut seen = Vec::new();
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            peek(&mut decoder, &mut buf);
            match decoder.next(&mut buf) {
                Ok(Some(event)) => note(&mut seen, event),
                Ok(None) => break,
                Err(error) => {
                    seen.push(lost(&error));
                    return seen;
                }
            }
        }
    }
    if !buf.is_empty() {
        seen.push(Seen::Rest(buf.to_vec()));
    }
    seen
}

/// Peeking must change nothing, except that it skips lines that are no message.
fn peek(decoder: &mut Decoder, buf: &mut BytesMut) {
    let before = buf.clone();
    if let Ok(event) = decoder.peek(buf) {
        assert!(before.ends_with(buf));
        assert!(matches!(event, None | Some(Event::Head(_) | Event::Malformed(_))));
    }
}

fn note(seen: &mut Vec<Seen>, event: Event) {
    match (event, seen.last_mut()) {
        (Event::Body(piece), Some(Seen::Body(body))) => body.extend_from_slice(&piece),
        (Event::Body(piece), _) => {
            assert!(!piece.is_empty());
            seen.push(Seen::Body(piece.to_vec()));
        }
        (Event::Head(head), _) => seen.push(Seen::Message {
            what: format!("{} {:?} {}", head.transact_id, head.start, head.has_body),
            lines: head.headers.lines().flat_map(|(_, line)| line).copied().collect(),
        }),
        (Event::Malformed(bad), _) => seen.push(Seen::Message {
            what: format!(
                "{} {:?} {:?} {}",
                bad.transact_id,
                bad.start,
                bad.error,
                bad.paths.is_some()
            ),
            lines: bad.headers.lines().flat_map(|(_, line)| line).copied().collect(),
        }),
        (Event::Collision, _) => seen.push(Seen::Collision),
        (Event::End(flag), _) => seen.push(Seen::End(flag)),
    }
}

fn lost(error: &decode::DecodeError) -> Seen {
    let decode::DecodeError::Head { message: Some(message), .. } = error else {
        return Seen::Lost { paths: false };
    };
    Seen::Lost { paths: message.paths.is_some() }
}

/// A decoder that watches for a second end-line holds back more, but loses nothing.
fn without_collisions(seen: Vec<Seen>) -> Vec<Seen> {
    let mut out: Vec<Seen> = Vec::new();
    for seen in seen {
        match (seen, out.last_mut()) {
            (Seen::Collision, _) => {}
            (Seen::Body(piece) | Seen::Rest(piece), Some(Seen::Body(body))) => {
                body.extend_from_slice(&piece);
            }
            (Seen::Body(piece) | Seen::Rest(piece), _) => out.push(Seen::Body(piece)),
            (other, _) => out.push(other),
        }
    }
    out
}

/// Follows the decoder through `wire`, octet for octet.
fn follow(wire: &[u8]) {
    let mut decoder = Decoder::default();
    let mut buf = BytesMut::from(wire);
    let mut open: Option<(TransactId, usize)> = None;
    loop {
        let before = wire.len() - buf.len();
        let event = decoder.next(&mut buf);
        let after = wire.len() - buf.len();
        match event {
            Ok(Some(Event::Head(head))) => {
                assert!(open.is_none());
                open = Some((head.transact_id, after));
                rewrite(&head);
            }
            Ok(Some(Event::Malformed(bad))) => {
                assert!(open.is_none());
                open = Some((bad.transact_id, after));
            }
            Ok(Some(Event::Body(piece))) => assert_eq!(piece, wire[before..after]),
            Ok(Some(Event::End(flag))) => {
                let (id, start) = open.take().expect("an end without a beginning");
                ends_here(&wire[..after], id, flag, start, before);
            }
            Ok(Some(Event::Collision)) => panic!("a collision without a guard"),
            Ok(None) | Err(_) => break,
        }
    }
    // The blank line's CRLF counts: it may be the one of the end-line.
    if let Some((id, start)) = open {
        assert_eq!(end_line_in(&wire[start - 2..], id), None, "an end-line was missed");
    }
}

/// The body that starts at `start` was read up to `before` and its end-line to the end of `wire`.
fn ends_here(wire: &[u8], id: TransactId, flag: Continuation, start: usize, before: usize) {
    let mut end_line = BytesMut::new();
    encode::end_line(&mut end_line, &id, flag, true);
    assert!(wire.ends_with(&end_line));
    if before == wire.len() {
        return; // The end-line took the place of the blank line.
    }
    let body = start - 2..wire.len();
    assert_eq!(end_line_in(&wire[body], id), Some(wire.len() - (start - 2) - end_line.len()));
    // Only an empty body shares its CRLF with the blank line.
    let own_crlf = wire.len() - before == end_line.len();
    assert!(own_crlf || (before == start && wire.len() - before == end_line.len() - 2));
}

/// Where the first end-line of `id` starts, CRLF included.
fn end_line_in(text: &[u8], id: TransactId) -> Option<usize> {
    let mut line = BytesMut::new();
    encode::end_line(&mut line, &id, Continuation::End, true);
    let flag_at = line.len() - 3;
    text.windows(line.len()).position(|window| {
        let mut window = window.to_vec();
        if b"+#".contains(&window[flag_at]) {
            window[flag_at] = b'$';
        }
        window == line
    })
}

/// Writes a head as a relay does that passes the message on, and reads it again.
fn rewrite(head: &Head) {
    let own = usize::from(head.to_path.len() > 1 && head.from_path.len() < head.to_path.len());
    let mut out = BytesMut::new();
    match &head.start {
        Start::Request(method) => encode::request_line(&mut out, &head.transact_id, method),
        Start::Response { status, comment } => {
            encode::status_line(&mut out, &head.transact_id, *status, comment);
        }
    }
    encode::moved_paths(&mut out, &head.to_path, &head.from_path, head.to_path[..own].iter());
    for (_, line) in encode::forwarded_lines(head) {
        out.extend_from_slice(line);
    }
    if head.has_body {
        out.extend_from_slice(b"\r\n");
    }
    encode::end_line(&mut out, &head.transact_id, Continuation::End, head.has_body);
    let written = out.clone();

    let mut decoder = Decoder::new(2 * decode::MAX_HEAD);
    let again = match decoder.next(&mut out) {
        Ok(Some(Event::Head(again))) => again,
        other => panic!("{other:?} from {}", written.escape_ascii()),
    };
    assert_eq!(again.transact_id, head.transact_id);
    assert_eq!(again.start, head.start);
    assert_eq!(again.has_body, head.has_body);
    assert_eq!(again.to_path[..], head.to_path[own..]);
    assert_eq!(again.from_path.len(), head.from_path.len() + own);
    assert_eq!(again.from_path[own..], head.from_path[..]);
    assert_eq!(other_lines(&again), other_lines(head));
    assert!(matches!(decoder.next(&mut out), Ok(Some(Event::End(Continuation::End)))));
    assert!(out.is_empty());
}

/// The header lines but the paths, as they came: `Content-*` last and Content-Type at the very end.
fn other_lines(head: &Head) -> Vec<&[u8]> {
    let mut lines: Vec<_> = head
        .headers
        .lines()
        .filter(|(name, _)| !matches!(name, Name::ToPath | Name::FromPath))
        .collect();
    lines.sort_by_key(|(name, _)| match name {
        Name::ContentType => 2,
        Name::Content => 1,
        _ => 0,
    });
    lines.into_iter().map(|(_, line)| line).collect()
}
