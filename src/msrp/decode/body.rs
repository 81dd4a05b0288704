//! Bodies, and the end-lines that end them (RFC 4975 §7.1).

use std::sync::LazyLock;

use bytes::{Buf, BytesMut};
use memchr::memmem::Finder;

use super::event::Event;
use crate::msrp::message::{Continuation, TransactId};

/// What every end-line in a body begins with.
const END_LINE: &[u8] = b"\r\n-------";
const DASHES: &[u8] = b"-------";

static END_LINE_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END_LINE));

/// The flag, if the whole line is an end-line of this id.
pub(super) fn end_line(line: &[u8], transact_id: &TransactId) -> Option<Continuation> {
    let rest = line.strip_prefix(DASHES)?.strip_prefix(transact_id.as_bytes())?;
    match rest {
        [flag] => Continuation::parse(*flag),
        _ => None,
    }
}

/// The result of comparing bytes with an end-line.
enum EndLine {
    Is(Continuation),
    /// They may be the beginning of one.
    Prefix,
    No,
}

impl EndLine {
    /// `bytes` start where the dashes would.
    fn at(bytes: &[u8], transact_id: &TransactId) -> Self {
        let id = transact_id.as_bytes();
        let flag_at = DASHES.len() + id.len();
        let expected = DASHES.iter().chain(id);
        if !bytes.iter().zip(expected).all(|(a, b)| a == b) {
            return Self::No;
        }
        let Some(&flag) = bytes.get(flag_at) else {
            return Self::Prefix;
        };
        let Some(flag) = Continuation::parse(flag) else {
            return Self::No;
        };
        match &bytes[flag_at + 1..] {
            [] | [b'\r'] => Self::Prefix,
            [b'\r', b'\n', ..] => Self::Is(flag),
            _ => Self::No,
        }
    }

    fn len(transact_id: &TransactId) -> usize {
        DASHES.len() + transact_id.as_bytes().len() + 3
    }
}

/// The next event of a body; `buf` starts with body that has not been returned.
pub(super) fn body(
    buf: &mut BytesMut,
    transact_id: TransactId,
    at_start: bool,
    guard: Option<TransactId>,
) -> Option<Event> {
    if at_start {
        // The CRLF of the blank line before the body serves as the one of the end-line: there is
        // no legal message that reads otherwise (RFC 4975 §7.1).
        match EndLine::at(buf, &transact_id) {
            EndLine::Is(flag) => {
                buf.advance(EndLine::len(&transact_id));
                return Some(Event::End(flag));
            }
            EndLine::Prefix => return None,
            EndLine::No => {}
        }
        match guard.map_or(EndLine::No, |guard| EndLine::at(buf, &guard)) {
            EndLine::Is(_) => return Some(Event::Collision),
            EndLine::Prefix => return None,
            EndLine::No => {}
        }
    }
    let mut from = 0;
    while let Some(at) = END_LINE_FINDER.find(&buf[from..]).map(|at| from + at) {
        let line = &buf[at + 2..];
        match EndLine::at(line, &transact_id) {
            EndLine::Is(flag) if at == 0 => {
                buf.advance(2 + EndLine::len(&transact_id));
                return Some(Event::End(flag));
            }
            EndLine::Is(_) | EndLine::Prefix => return take_body(buf, at),
            EndLine::No => {}
        }
        match guard.map_or(EndLine::No, |guard| EndLine::at(line, &guard)) {
            EndLine::Is(_) if at == 0 => return Some(Event::Collision),
            EndLine::Is(_) | EndLine::Prefix => return take_body(buf, at),
            EndLine::No => {}
        }
        from = at + END_LINE.len();
    }
    let safe = buf.len() - partial_end_line(&buf[from.min(buf.len())..]);
    take_body(buf, safe)
}

fn take_body(buf: &mut BytesMut, len: usize) -> Option<Event> {
    (len > 0).then(|| Event::Body(buf.split_to(len).freeze()))
}

/// How many octets at the end may be the beginning of [`END_LINE`].
fn partial_end_line(buf: &[u8]) -> usize {
    let longest = buf.len().min(END_LINE.len() - 1);
    (1..=longest).rev().find(|&n| END_LINE.starts_with(&buf[buf.len() - n..])).unwrap_or(0)
}
