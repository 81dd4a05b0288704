//! Reading: bytes in any segmentation to events.
//!
//! Framing only: where a message starts, where its head ends, which bytes are body, where its
//! end-line is. A body is handed on as it arrives, and only bytes that can no longer be part of an
//! end-line leave (RFC 4975 §7.1).

use std::{fmt, ops::Range, sync::LazyLock};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem::Finder;
use thiserror::Error;

use super::{
    header::{HeaderError, Headers, Name},
    message::{Continuation, Head, Start, TransactId},
    uri::{Path, UriError},
};

/// Longest line, without its CRLF, in octets.
pub const MAX_LINE: usize = 16_384;
/// Most header lines of one message.
pub const MAX_HEADER_LINES: usize = 64;
/// Largest head (start line and headers), in octets.
pub const MAX_HEAD: usize = 64 * 1024;
/// Octets between messages that are no start line, over the life of a connection.
pub const MAX_SKIPPED: usize = 16 * 1024;

/// What every end-line in a body begins with.
const END_LINE: &[u8] = b"\r\n-------";
const DASHES: &[u8] = b"-------";

static END_LINE_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(END_LINE));

/// What was read.
#[derive(Debug)]
pub enum Event {
    /// A message starts.
    Head(Head),
    /// A message starts that must not be acted on; its body and end-line follow all the same.
    Malformed(Malformed),
    /// A piece of the body, in the allocation it was read into.
    Body(Bytes),
    /// The body holds what would be an end-line of [`Decoder::guard`]: the bytes of that line
    /// come next as body, and must leave under another transact-id.
    Collision,
    /// The end-line.
    End(Continuation),
}

/// A message whose start line is one, but whose head is not.
#[derive(Debug, Clone)]
pub struct Malformed {
    /// The transact-id.
    pub transact_id: TransactId,
    /// Request or response.
    pub start: Start,
    /// To-Path and From-Path, where both can be read: there is somebody to tell.
    pub paths: Option<(Path, Path)>,
    /// The lines that could be read.
    pub headers: Headers,
    /// What is wrong.
    pub error: HeaderError,
}

/// The place in the input is lost; the connection cannot go on.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A limit was exceeded inside of a head.
    #[error("{limit} exceeded in the head of a message")]
    Head {
        /// The limit, in words.
        limit: &'static str,
        /// The message, as far as it was read.
        message: Option<Box<Malformed>>,
    },
    /// Too much between messages that is no message.
    #[error("more than {MAX_SKIPPED} octets that are no MSRP message")]
    Garbage,
}

/// Turns what arrives on one connection into [`Event`]s.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    progress: Progress,
    max_head: usize,
    skipped: usize,
    stray: Stray,
    guard: Option<TransactId>,
    recent: RecentPaths,
}

/// Lines between messages that begin like a start line and are none.
#[derive(Debug, Default)]
enum Stray {
    #[default]
    Unseen,
    Seen(StrayLine),
    Told,
}

/// The beginning of a line that begins like a start line and is none.
#[derive(Debug, Clone)]
pub struct StrayLine(Bytes);

impl StrayLine {
    /// Octets kept of it: a start line of the longest transact-id and method.
    const SHOWN: usize = 104;

    fn new(line: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(&line[..line.len().min(Self::SHOWN)]))
    }
}

impl fmt::Display for StrayLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

#[derive(Debug)]
enum State {
    /// Between messages, or inside of a head.
    Head,
    /// In a body; the first octets of it may be the end-line without a CRLF of its own.
    Body { transact_id: TransactId, at_start: bool },
    /// The end-line came right after the headers.
    Bodiless(Continuation),
}

/// How far the head at the start of the buffer has been read.
#[derive(Debug, Default)]
struct Progress {
    /// Everything before is known to hold no line end.
    scanned: usize,
    /// Where the line under way starts.
    line: usize,
    /// The start line, once it is there.
    start: Option<(TransactId, Start)>,
    fields: Vec<Range<u32>>,
}

/// A complete head at the start of the buffer.
struct Complete {
    len: usize,
    end: Option<Continuation>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(MAX_HEAD)
    }
}

impl Decoder {
    /// A decoder that accepts heads up to `max_head` octets.
    pub fn new(max_head: usize) -> Self {
        Self {
            state: State::Head,
            progress: Progress::default(),
            max_head,
            skipped: 0,
            stray: Stray::Unseen,
            guard: None,
            recent: RecentPaths::default(),
        }
    }

    /// Changes the largest head accepted, in octets.
    pub fn set_max_head(&mut self, max_head: usize) {
        self.max_head = max_head;
    }

    /// Has bodies watched for the end-line of this id too, under which they are sent on.
    pub fn guard(&mut self, transact_id: Option<TransactId>) {
        self.guard = transact_id;
    }

    /// The first line that was skipped although it begins like a start line; once per decoder.
    pub fn take_stray(&mut self) -> Option<StrayLine> {
        if !matches!(self.stray, Stray::Seen(_)) {
            return None;
        }
        match std::mem::replace(&mut self.stray, Stray::Told) {
            Stray::Seen(line) => Some(line),
            Stray::Unseen | Stray::Told => None,
        }
    }

    /// Takes the next event from the start of `buf`; `None` when more bytes are needed. Bytes of
    /// an event that is not complete stay in `buf`.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Event>, DecodeError> {
        match self.state {
            State::Head => {
                let Some(complete) = self.scan(buf)? else {
                    return Ok(None);
                };
                let block = buf.split_to(complete.len).freeze();
                Ok(self.take_head(block, &complete))
            }
            State::Body { transact_id, at_start } => {
                let event = body(buf, transact_id, at_start, self.guard);
                match event {
                    Some(Event::End(_)) => self.state = State::Head,
                    // The same bytes come again, to be sent under an id that is not known yet.
                    Some(Event::Collision) => self.guard = None,
                    Some(_) => self.state = State::Body { transact_id, at_start: false },
                    None => {}
                }
                Ok(event)
            }
            State::Bodiless(flag) => {
                self.state = State::Head;
                Ok(Some(Event::End(flag)))
            }
        }
    }

    /// Like [`next`](Self::next) between messages, but takes nothing: the same head will come
    /// again. `None` also while a message is under way.
    pub fn peek(&mut self, buf: &mut BytesMut) -> Result<Option<Event>, DecodeError> {
        if !matches!(self.state, State::Head) {
            return Ok(None);
        }
        let Some(complete) = self.scan(buf)? else {
            return Ok(None);
        };
        let progress = &self.progress;
        let Some((transact_id, start)) = progress.start.clone() else {
            return Ok(None);
        };
        let headers = Headers::read(Bytes::copy_from_slice(&buf[..complete.len]), &progress.fields);
        Ok(Some(self.recent.head(transact_id, start, headers, complete.end.is_none())))
    }

    /// Reads lines until the head is complete, dropping what is no start line.
    fn scan(&mut self, buf: &mut BytesMut) -> Result<Option<Complete>, DecodeError> {
        let progress = &mut self.progress;
        loop {
            let Some(end) = progress.next_line(buf) else {
                let unfinished = buf.len() - progress.line;
                return if unfinished > MAX_LINE + 1 {
                    Err(self.lost("line length", buf))
                } else if buf.len() > self.max_head {
                    Err(self.lost("head length", buf))
                } else {
                    Ok(None)
                };
            };
            let line = progress.line..end;
            if line.len() > MAX_LINE + 2 {
                return Err(self.lost("line length", buf));
            }
            if end > self.max_head {
                return Err(self.lost("head length", buf));
            }
            let Some((transact_id, _)) = &progress.start else {
                let text = &buf[line.start..line.end - 2];
                progress.start = Start::parse(text);
                if progress.start.is_some() {
                    progress.line = end;
                    continue;
                }
                if matches!(self.stray, Stray::Unseen) && text.starts_with(Start::PREFIX) {
                    self.stray = Stray::Seen(StrayLine::new(text));
                }
                self.skipped += end;
                if self.skipped > MAX_SKIPPED {
                    progress.scanned = 0;
                    return Err(DecodeError::Garbage);
                }
                buf.advance(end);
                progress.restart();
                continue;
            };
            let text = &buf[line.start..line.end - 2];
            let flag = end_line(text, transact_id);
            if text.is_empty() || flag.is_some() {
                // Found again by whoever takes what was only peeked at.
                progress.scanned = line.start;
                return Ok(Some(Complete { len: end, end: flag }));
            }
            if progress.fields.len() == MAX_HEADER_LINES {
                return Err(self.lost("number of header lines", buf));
            }
            // Heads are at most 64 KiB long.
            let range =
                u32::try_from(line.start).unwrap_or(0)..u32::try_from(line.end).unwrap_or(0);
            progress.fields.push(range);
            progress.line = end;
        }
    }

    fn take_head(&mut self, block: Bytes, complete: &Complete) -> Option<Event> {
        let (transact_id, start) = self.progress.start.take()?;
        self.state = match complete.end {
            Some(flag) => State::Bodiless(flag),
            None => State::Body { transact_id, at_start: true },
        };
        let headers = Headers::read(block, &self.progress.fields);
        self.progress.restart();
        Some(self.recent.head(transact_id, start, headers, complete.end.is_none()))
    }

    /// The error for a limit, with what is known of the message, so that its sender can be told.
    fn lost(&mut self, limit: &'static str, buf: &BytesMut) -> DecodeError {
        // Found again by whoever asks once more.
        self.progress.scanned = self.progress.line;
        let progress = &self.progress;
        let message = progress.start.clone().map(|(transact_id, start)| {
            let block = Bytes::copy_from_slice(&buf[..progress.line]);
            let headers = Headers::read(block, &progress.fields);
            let event = self.recent.head(transact_id, start, headers, false);
            Box::new(Malformed::from_event(event, HeaderError::Line))
        });
        DecodeError::Head { limit, message }
    }
}

impl Progress {
    /// Forgets everything but the memory at hand.
    fn restart(&mut self) {
        self.fields.clear();
        *self = Self { fields: std::mem::take(&mut self.fields), ..Self::default() };
    }

    /// The end of the line under way, just behind its CRLF.
    fn next_line(&mut self, buf: &[u8]) -> Option<usize> {
        loop {
            let Some(at) = memchr::memchr(b'\n', &buf[self.scanned..]) else {
                self.scanned = buf.len();
                return None;
            };
            let newline = self.scanned + at;
            self.scanned = newline + 1;
            // A bare LF ends no line; the line will be refused for it.
            if newline > self.line && buf[newline - 1] == b'\r' {
                return Some(newline + 1);
            }
        }
    }
}

impl Malformed {
    fn from_event(event: Event, otherwise: HeaderError) -> Self {
        match event {
            Event::Malformed(malformed) => malformed,
            Event::Head(head) => Self {
                transact_id: head.transact_id,
                start: head.start,
                paths: Some((head.to_path, head.from_path)),
                headers: head.headers,
                error: otherwise,
            },
            Event::Body(_) | Event::Collision | Event::End(_) => unreachable!("a head was read"),
        }
    }
}

/// The flag, if the whole line is an end-line of this id.
fn end_line(line: &[u8], transact_id: &TransactId) -> Option<Continuation> {
    let rest = line.strip_prefix(DASHES)?.strip_prefix(transact_id.as_bytes())?;
    match rest {
        [flag] => Continuation::parse(*flag),
        _ => None,
    }
}

/// What `bytes` are, compared with an end-line.
enum EndLine {
    Is(Continuation),
    /// They may become one.
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

/// The next event of a body; `buf` starts with body that has not been handed on.
fn body(
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

/// The paths read last. In a session they are always the same few, so that most need no reading.
#[derive(Debug, Default)]
struct RecentPaths {
    paths: [Option<Path>; 4],
    next: usize,
}

impl RecentPaths {
    fn parse(&mut self, value: &[u8]) -> Result<Path, UriError> {
        if let Some(path) = self.paths.iter().flatten().find(|path| path.text() == value) {
            return Ok(path.clone());
        }
        let path = Path::parse(value)?;
        self.paths[self.next] = Some(path.clone());
        self.next = (self.next + 1) % self.paths.len();
        Ok(path)
    }

    fn path(&mut self, headers: &Headers, name: Name) -> Result<Path, HeaderError> {
        let value = headers.value(name).ok_or(HeaderError::Unreadable(name.as_str()))?;
        self.parse(value).map_err(|_| HeaderError::Unreadable(name.as_str()))
    }

    fn head(
        &mut self,
        transact_id: TransactId,
        start: Start,
        headers: Headers,
        has_body: bool,
    ) -> Event {
        let to_path = self.path(&headers, Name::ToPath);
        let from_path = self.path(&headers, Name::FromPath);
        match (to_path, from_path, headers.defect()) {
            (Ok(to_path), Ok(from_path), None) => {
                Event::Head(Head { transact_id, start, to_path, from_path, headers, has_body })
            }
            (to, from, defect) => {
                let broken_path = to.as_ref().err().or(from.as_ref().err()).copied();
                let error = defect.or(broken_path).unwrap_or(HeaderError::Line);
                let paths = to.ok().zip(from.ok());
                Event::Malformed(Malformed { transact_id, start, paths, headers, error })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::msrp::message::Method;

    const PATHS: &str =
        "To-Path: msrp://r:1/s;tcp msrp://b:2/t;tcp\r\nFrom-Path: msrp://a:3/u;tcp\r\n";

    /// Everything that `wire` holds, in words, body pieces joined, read in the pieces given.
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

    /// A wire that holds one of everything, with end-line look-alikes of all kinds.
    fn medley() -> String {
        let body = "\r\n-------abcX$\r\n-------abcd\r\n\r\n-------abcd!\r\n-------abcd$\n-------abcd$x\r\n--";
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
        let wire =
            format!("MSRP abcd SEND\r\n{PATHS}\r\nxx\r\n-------ours$\r\nyy\r\n-------abcd$\r\n");
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
        let line = |n: usize| {
            format!("MSRP abcd SEND\r\n{PATHS}X: {}\r\n-------abcd$\r\n", "x".repeat(n - 3))
        };
        assert_eq!(read(&line(MAX_LINE)).len(), 2);
        assert_eq!(
            read(&line(MAX_LINE + 1)),
            ["lost: line length exceeded in the head of a message"]
        );
        let lines = |n: usize| {
            format!("MSRP abcd SEND\r\n{PATHS}{}-------abcd$\r\n", "X: 1\r\n".repeat(n - 2))
        };
        assert_eq!(read(&lines(MAX_HEADER_LINES)).len(), 2);
        let lost = "lost: number of header lines exceeded in the head of a message";
        assert_eq!(read(&lines(MAX_HEADER_LINES + 1)), [lost]);
        let big = format!(
            "MSRP abcd SEND\r\n{PATHS}{}",
            format!("X: {}\r\n", "x".repeat(9000)).repeat(8)
        );
        assert_eq!(read(&big), ["lost: head length exceeded in the head of a message"]);
        assert_eq!(
            read(&"x".repeat(MAX_LINE + 3)),
            ["lost: line length exceeded in the head of a message"]
        );
        assert_eq!(read(&"\r\n".repeat(MAX_SKIPPED / 2)), Vec::<String>::new());
        assert_eq!(
            read(&"\r\n".repeat(MAX_SKIPPED / 2 + 1)),
            ["lost: more than 16384 octets that are no MSRP message"]
        );
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
        for wire in [many, long, "\r\n".repeat(MAX_SKIPPED / 2 + 1)] {
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
}
