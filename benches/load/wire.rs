//! An MSRP codec of the load generator's own (RFC 4975 §5, §7, §9).
//!
//! It shares no line with `msrprelay::msrp`: a codec must not be its own witness. It reads what a
//! relay may send to an endpoint and refuses the rest; it need not be kind to strange peers.

use std::{io::Write as _, str};

use memchr::memmem;

use crate::Failure;

/// Heads of a relay are a few hundred octets; more means that framing was lost.
const MAX_HEAD: usize = 16 * 1024;
/// Room for some TLS records and what is left of the one before.
const BUFFER: usize = 64 * 1024;
const DASHES: &[u8] = b"-------";

/// Cuts a byte stream into heads, pieces of bodies and end-lines.
pub(crate) struct Parser {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// CRLF, seven dashes and the transact-id of the message being read.
    end_line: Vec<u8>,
    in_message: bool,
}

/// What comes next in the stream.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<'a> {
    Head(Head<'a>),
    Body(&'a [u8]),
    /// The continuation flag: `$`, `+` or `#`.
    End(u8),
}

/// Start line and headers of one message.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) transact_id: &'a str,
    pub(crate) kind: Kind<'a>,
    headers: &'a str,
}

#[derive(Debug, PartialEq, Clone, Copy)]
pub(crate) enum Kind<'a> {
    Request(&'a str),
    Response(u16),
}

impl Parser {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; BUFFER], start: 0, end: 0, end_line: Vec::new(), in_message: false }
    }

    /// Where the next octets of the stream go. Never empty as long as [`Parser::next`] was called
    /// until it gave nothing: what waits for more is a part of a head or of an end-line.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// Says how many octets were put into [`Parser::space`].
    pub(crate) fn filled(&mut self, octets: usize) {
        self.end += octets;
    }

    /// The next event, or nothing when it needs more octets.
    pub(crate) fn next(&mut self) -> Result<Option<Event<'_>>, Failure> {
        if self.in_message { self.body() } else { self.head() }
    }

    fn head(&mut self) -> Result<Option<Event<'_>>, Failure> {
        let pending = &self.buffer[self.start..self.end];
        let Some((lines, consumed)) = head_extent(pending) else {
            return if pending.len() > MAX_HEAD {
                Err(Failure::Wire("a head without end"))
            } else {
                Ok(None)
            };
        };
        let head = Head::parse(&pending[..lines])?;
        self.end_line.clear();
        self.end_line.extend_from_slice(b"\r\n");
        self.end_line.extend_from_slice(DASHES);
        self.end_line.extend_from_slice(head.transact_id.as_bytes());
        self.start += consumed;
        self.in_message = true;
        Ok(Some(Event::Head(head)))
    }

    fn body(&mut self) -> Result<Option<Event<'_>>, Failure> {
        let pending = &self.buffer[self.start..self.end];
        let length = match memmem::find(pending, &self.end_line) {
            Some(0) => return self.end_of_message(),
            Some(found) => found,
            None => pending.len().saturating_sub(self.end_line.len() - 1),
        };
        let body = &self.buffer[self.start..self.start + length];
        self.start += length;
        Ok(if body.is_empty() { None } else { Some(Event::Body(body)) })
    }

    fn end_of_message(&mut self) -> Result<Option<Event<'_>>, Failure> {
        let pending = &self.buffer[self.start + self.end_line.len()..self.end];
        let [flag, b'\r', b'\n', ..] = *pending else {
            return if pending.len() < 3 {
                Ok(None)
            } else {
                Err(Failure::Wire("an end-line without continuation flag"))
            };
        };
        self.start += self.end_line.len() + 3;
        self.in_message = false;
        match flag {
            b'$' | b'+' | b'#' => Ok(Some(Event::End(flag))),
            _ => Err(Failure::Wire("an unknown continuation flag")),
        }
    }
}

/// Length of the start line and headers, and of what to skip before the body or, where there is
/// none, before the CRLF of the end-line.
fn head_extent(pending: &[u8]) -> Option<(usize, usize)> {
    memmem::find_iter(pending, b"\r\n").find_map(|line_end| {
        let rest = &pending[line_end + 2..];
        if rest.starts_with(b"\r\n") {
            Some((line_end, line_end + 4))
        } else if rest.starts_with(DASHES) {
            Some((line_end, line_end))
        } else {
            None
        }
    })
}

impl<'a> Head<'a> {
    fn parse(lines: &'a [u8]) -> Result<Self, Failure> {
        let lines = str::from_utf8(lines).map_err(|_| Failure::Wire("a head is not UTF-8"))?;
        let (start_line, headers) = lines.split_once("\r\n").unwrap_or((lines, ""));
        let mut words = start_line.split(' ');
        let (Some("MSRP"), Some(transact_id), Some(kind)) =
            (words.next(), words.next(), words.next())
        else {
            return Err(Failure::Wire("not a start line"));
        };
        let kind = match kind.parse() {
            Ok(status) => Kind::Response(status),
            Err(_) => Kind::Request(kind),
        };
        Ok(Self { transact_id, kind, headers })
    }

    /// The value of a header, named in the letter case of the RFC.
    pub(crate) fn header(&self, name: &str) -> Result<&'a str, Failure> {
        self.headers
            .split("\r\n")
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .ok_or(Failure::Wire("a header is missing"))
    }

    /// The first octet of the chunk, counted from 1 (RFC 4975 §7.1.1).
    pub(crate) fn range_start(&self) -> Result<u64, Failure> {
        self.header("Byte-Range")?
            .split_once('-')
            .and_then(|(start, _)| start.parse().ok())
            .ok_or(Failure::Wire("an unreadable Byte-Range"))
    }
}

/// The first URI of a path.
fn first_uri(path: &str) -> &str {
    path.split(' ').next().unwrap_or(path)
}

/// The last URI of a path.
pub(crate) fn last_uri(path: &str) -> &str {
    path.rsplit(' ').next().unwrap_or(path)
}

/// The session-id of a URI.
pub(crate) fn session_id(uri: &str) -> Option<&str> {
    let (_, session_id) = uri.rsplit_once('/')?;
    session_id.strip_suffix(";tcp")
}

/// A SEND without its end-line.
pub(crate) struct SendHead<'a> {
    pub(crate) transact_id: &'a str,
    pub(crate) to_path: &'a str,
    pub(crate) from_path: &'a str,
    pub(crate) message_id: &'a str,
    /// Octets of the message before this chunk, in this chunk, and in all.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) total: u64,
}

impl SendHead<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let Self { transact_id, to_path, from_path, message_id, offset, length, total } = self;
        let (first, last) = (offset + 1, offset + length);
        write_all(
            out,
            format_args!(
                "MSRP {transact_id} SEND\r\nTo-Path: {to_path}\r\nFrom-Path: {from_path}\r\n\
                 Message-ID: {message_id}\r\nByte-Range: {first}-{last}/{total}\r\n\
                 Content-Type: application/octet-stream\r\n\r\n"
            ),
        );
    }
}

/// An AUTH request (RFC 4976 §5.1), with or without credentials.
pub(crate) fn write_auth(
    transact_id: &str,
    to: &str,
    from: &str,
    authorization: Option<&str>,
    out: &mut Vec<u8>,
) {
    write_all(
        out,
        format_args!("MSRP {transact_id} AUTH\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n"),
    );
    if let Some(credentials) = authorization {
        write_all(out, format_args!("Authorization: {credentials}\r\n"));
    }
    write_all(out, format_args!("-------{transact_id}$\r\n"));
}

/// The end-line of a message with a body.
pub(crate) fn write_end(transact_id: &str, flag: char, out: &mut Vec<u8>) {
    write_all(out, format_args!("\r\n-------{transact_id}{flag}\r\n"));
}

/// The 200 that a SEND is owed (RFC 4975 §7.2): one URI in each path.
#[derive(Default)]
pub(crate) struct Reply {
    transact_id: String,
    to: String,
    from: String,
}

impl Reply {
    pub(crate) fn to(head: &Head<'_>) -> Result<Self, Failure> {
        let mut reply = Self::default();
        reply.read(head)?;
        Ok(reply)
    }

    /// Becomes the reply to another SEND, in the space of the one before.
    pub(crate) fn read(&mut self, head: &Head<'_>) -> Result<(), Failure> {
        head.transact_id.clone_into(&mut self.transact_id);
        first_uri(head.header("From-Path")?).clone_into(&mut self.to);
        first_uri(head.header("To-Path")?).clone_into(&mut self.from);
        Ok(())
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let Self { transact_id, to, from } = self;
        write_all(
            out,
            format_args!(
                "MSRP {transact_id} 200 OK\r\nTo-Path: {to}\r\nFrom-Path: {from}\r\n\
                 -------{transact_id}$\r\n"
            ),
        );
    }
}

fn write_all(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes every octet");
}
