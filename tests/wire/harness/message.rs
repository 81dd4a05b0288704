//! Reading MSRP where a test looks at parts of a message, written from RFC 4975 §9 alone.

use memchr::memmem;

use super::script::escaped;

/// One request or response, taken apart.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) tid: String,
    /// The start line after the transact-id: a method, or a code with its comment.
    pub(crate) what: String,
    pub(crate) headers: Vec<(String, String)>,
    /// `None` where the end-line follows the last header directly.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) flag: char,
}

impl Message {
    /// The first message in `octets` and its length, once all of it is there.
    ///
    /// `scanned` is where an earlier call may stop looking for the end-line; it is moved on.
    #[track_caller]
    pub(crate) fn read(octets: &[u8], scanned: &mut usize) -> Option<(Self, usize)> {
        let mut lines = Lines { octets, at: 0 };
        let start = lines.next_line()?;
        let (tid, what) = start
            .strip_prefix("MSRP ")
            .and_then(|rest| rest.split_once(' '))
            .unwrap_or_else(|| panic!("no start line:\n{}", escaped(octets)));
        let mut message = Self {
            tid: tid.to_owned(),
            what: what.to_owned(),
            headers: Vec::new(),
            body: None,
            flag: '?',
        };
        let end_line = format!("-------{tid}");
        loop {
            let line = lines.next_line()?;
            if let Some(flag) = line.strip_prefix(&end_line) {
                message.flag = only_flag(flag);
                return Some((message, lines.at));
            }
            if line.is_empty() {
                break;
            }
            let (name, value) = line
                .split_once(": ")
                .unwrap_or_else(|| panic!("no header: {line:?} in\n{}", escaped(octets)));
            message.headers.push((name.to_owned(), value.to_owned()));
        }
        message.read_body(octets, lines.at, scanned)
    }

    fn read_body(
        mut self,
        octets: &[u8],
        body: usize,
        scanned: &mut usize,
    ) -> Option<(Self, usize)> {
        let end_line = format!("\r\n-------{}", self.tid);
        let mut from = body.max(*scanned);
        loop {
            let Some(found) = memmem::find(&octets[from..], end_line.as_bytes()) else {
                *scanned = octets.len().saturating_sub(end_line.len()).max(body);
                return None;
            };
            let (at, after) = (from + found, from + found + end_line.len());
            let tail = octets.get(after..after + 3)?;
            if b"$+#".contains(&tail[0]) && &tail[1..] == b"\r\n" {
                self.flag = char::from(tail[0]);
                self.body = Some(octets[body..at].to_vec());
                return Some((self, after + 3));
            }
            from = at + 1;
        }
    }

    /// The value of a header whose name is written exactly so.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header that must be there.
    #[track_caller]
    pub(crate) fn the(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(crate) fn body_length(&self) -> usize {
        self.body.as_ref().map_or(0, Vec::len)
    }

    /// Byte-Range: start, range-end and total as written.
    #[track_caller]
    pub(crate) fn range(&self) -> (usize, &str, &str) {
        let (start, rest) = self.the("Byte-Range").split_once('-').expect("a range");
        let (end, total) = rest.split_once('/').expect("a total");
        (start.parse().expect("a range-start"), end, total)
    }
}

/// A message put together again from the pieces in which it came.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    pub(crate) body: Vec<u8>,
    pub(crate) pieces: Vec<Message>,
    /// What came between the pieces: REPORTs, other requests, responses.
    pub(crate) others: Vec<Message>,
}

impl Transfer {
    /// Takes a piece in; true if it was the last.
    ///
    /// RFC 4975 §7.1.1: the same Message-ID, contiguous ranges, the same total, and a range-end
    /// of `*` on what is longer than 2048 octets.
    #[track_caller]
    pub(crate) fn add(&mut self, piece: Message) -> bool {
        let (start, end, total) = piece.range();
        let length = piece.body_length();
        assert!(length <= 2048 || end == "*", "range-end {end}, {length} octets");
        if let Some(before) = self.pieces.last() {
            let (before_start, _, before_total) = before.range();
            assert_eq!(start, before_start + before.body_length(), "range-start");
            assert_eq!(total, before_total, "total");
            assert_eq!(piece.the("Message-ID"), before.the("Message-ID"));
            assert_eq!(before.flag, '+', "a piece follows");
            assert_ne!(piece.tid, before.tid, "each piece is its own transaction");
        }
        self.body.extend(piece.body.iter().flatten());
        self.pieces.push(piece);
        self.pieces.last().is_some_and(|last| last.flag != '+')
    }

    pub(crate) fn flags(&self) -> String {
        self.pieces.iter().map(|piece| piece.flag).collect()
    }
}

fn only_flag(text: &str) -> char {
    let mut flags = text.chars();
    match (flags.next(), flags.next()) {
        (Some(flag), None) if "$+#".contains(flag) => flag,
        _ => panic!("no continuation flag: {text:?}"),
    }
}

struct Lines<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Lines<'_> {
    fn next_line(&mut self) -> Option<String> {
        let rest = &self.octets[self.at..];
        let end = memmem::find(rest, b"\r\n")?;
        self.at += end + 2;
        Some(String::from_utf8_lossy(&rest[..end]).into_owned())
    }
}
