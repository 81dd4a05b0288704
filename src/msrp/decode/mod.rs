//! Reading: turns bytes, in any segmentation, into events.
//!
//! Framing only: where a message starts, where its head ends, which bytes are body, and where the
//! end-line is (RFC 4975 §7.1). Body is returned as it arrives, except for bytes that may be the
//! beginning of an end-line.

mod body;
mod event;
mod recent;

use std::{fmt, ops::Range};

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

pub use self::event::{Event, Malformed};
use self::{
    body::{body, end_line},
    recent::RecentPaths,
};
use super::{
    header::{HeaderError, Headers},
    message::{Continuation, Start, TransactId},
    queue::Allocation,
};

/// Longest line, without its CRLF, in octets.
pub const MAX_LINE: usize = 16_384;
/// Most header lines of one message.
pub const MAX_HEADER_LINES: usize = 64;
/// Largest head (start line and headers), in octets.
pub const MAX_HEAD: usize = 64 * 1024;
/// Most octets of lines between two messages that are no start line. Blank lines do not count:
/// clients send them for hours to keep the connection through a NAT.
pub const MAX_SKIPPED: usize = 16 * 1024;

/// The decoder cannot tell where the next message begins: the connection cannot go on.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// A head exceeds a limit.
    #[error("{limit} exceeded in the head of a message")]
    Head {
        /// The limit, in words.
        limit: &'static str,
        /// The message, as far as it was read.
        message: Option<Box<Malformed>>,
    },
    /// More than [`MAX_SKIPPED`] octets between messages.
    #[error("more than {MAX_SKIPPED} octets that are no MSRP message")]
    Garbage,
}

/// Turns the input of one connection into [`Event`]s.
#[derive(Debug)]
pub struct Decoder {
    upcoming: Upcoming,
    progress: HeadScan,
    max_head: usize,
    /// Octets skipped since the last message; see [`MAX_SKIPPED`].
    skipped: usize,
    stray: Stray,
    guard: Option<TransactId>,
    recent: RecentPaths,
    allocation: Allocation,
}

/// Whether a line between messages began like a start line and was none.
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

/// What is read next.
#[derive(Debug)]
enum Upcoming {
    /// Between messages, or in a head.
    Head,
    /// In a body; `at_start`: an end-line may follow the blank line directly, without another CRLF.
    Body { transact_id: TransactId, at_start: bool },
    /// After a head without a body; its end-line has been read already.
    Bodiless(Continuation),
}

/// How far the head at the start of the buffer has been read.
#[derive(Debug, Default)]
struct HeadScan {
    /// Everything before this place has been searched for line ends.
    scanned: usize,
    /// Where the line under way starts.
    line: usize,
    /// The start line, once it has been read.
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
            upcoming: Upcoming::Head,
            progress: HeadScan::default(),
            max_head,
            skipped: 0,
            stray: Stray::Unseen,
            guard: None,
            recent: RecentPaths::default(),
            allocation: Allocation::default(),
        }
    }

    /// Changes the largest head accepted, in octets.
    pub fn set_max_head(&mut self, max_head: usize) {
        self.max_head = max_head;
    }

    /// Looks for the end-line of this id in bodies too: the id under which the body is passed on.
    pub fn guard(&mut self, transact_id: Option<TransactId>) {
        self.guard = transact_id;
    }

    /// The memory that the last event was cut from: what a slice of its body keeps alive.
    pub fn allocation(&self) -> Allocation {
        self.allocation
    }

    /// The first skipped line that began like a start line; returned once per decoder.
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
        self.allocation.follow(buf);
        match self.upcoming {
            Upcoming::Head => {
                let Some(complete) = self.scan(buf)? else {
                    return Ok(None);
                };
                let block = buf.split_to(complete.len).freeze();
                Ok(self.take_head(block, &complete))
            }
            Upcoming::Body { transact_id, at_start } => {
                let event = body(buf, transact_id, at_start, self.guard);
                match event {
                    Some(Event::End(_)) => self.upcoming = Upcoming::Head,
                    // The same bytes are read again as body; the caller sets a new guard.
                    Some(Event::Collision) => self.guard = None,
                    Some(_) => self.upcoming = Upcoming::Body { transact_id, at_start: false },
                    None => {}
                }
                Ok(event)
            }
            Upcoming::Bodiless(flag) => {
                self.upcoming = Upcoming::Head;
                Ok(Some(Event::End(flag)))
            }
        }
    }

    /// Like [`next`](Self::next) between messages, but takes nothing: `next` returns the same head.
    /// `None` also while a message is under way.
    pub fn peek(&mut self, buf: &mut BytesMut) -> Result<Option<Event>, DecodeError> {
        if !matches!(self.upcoming, Upcoming::Head) {
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

    /// Reads lines until the head is complete; skips lines before it that are no start line.
    fn scan(&mut self, buf: &mut BytesMut) -> Result<Option<Complete>, DecodeError> {
        let progress = &mut self.progress;
        loop {
            if progress.start.is_none() {
                progress.skip_blank_lines(buf);
            }
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
                // After `peek`, `next` finds it again.
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
        self.skipped = 0;
        self.upcoming = match complete.end {
            Some(flag) => Upcoming::Bodiless(flag),
            None => Upcoming::Body { transact_id, at_start: true },
        };
        let headers = Headers::read(block, &self.progress.fields);
        self.progress.restart();
        Some(self.recent.head(transact_id, start, headers, complete.end.is_none()))
    }

    /// The error for a limit, with what was read of the message, so that its sender can be told.
    fn lost(&mut self, limit: &'static str, buf: &BytesMut) -> DecodeError {
        // After `peek`, `next` finds it again.
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

impl HeadScan {
    /// Begins anew, with the memory at hand.
    fn restart(&mut self) {
        self.fields.clear();
        *self = Self { fields: std::mem::take(&mut self.fields), ..Self::default() };
    }

    /// Takes the blank lines at the start of `buf`, all at once. They leave the buffer at once, so
    /// that a flood of them takes no memory.
    fn skip_blank_lines(&mut self, buf: &mut BytesMut) {
        let blank = buf.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2;
        if blank > 0 {
            buf.advance(blank);
            self.restart();
        }
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

#[cfg(test)]
mod tests;
