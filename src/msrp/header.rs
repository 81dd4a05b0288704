//! Header fields (RFC 4975 §9, RFC 4976 §7): kept as the bytes that came, in their order, with
//! typed views of those that a relay reads.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use thiserror::Error;

use super::status::StatusCode;

/// What is wrong with a header field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The value of this header cannot be read.
    #[error("Error parsing {0} header")]
    Unreadable(&'static str),
    /// This header may occur only once.
    #[error("{0} header occurs more than once")]
    Repeated(&'static str),
    /// A line is not of the form `Name: value`.
    #[error("Error parsing header line")]
    Line,
    /// The message needs this header.
    #[error("{method} received without {header}")]
    Missing {
        /// The method of the request.
        method: &'static str,
        /// The header that it lacks.
        header: &'static str,
    },
}

/// Names of the headers that a relay reads or reorders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `To-Path`
    ToPath,
    /// `From-Path`
    FromPath,
    /// `Message-ID`
    MessageId,
    /// `Byte-Range`
    ByteRange,
    /// `Failure-Report`
    FailureReport,
    /// `Success-Report`
    SuccessReport,
    /// `Status`
    Status,
    /// `Use-Path`
    UsePath,
    /// `Expires`
    Expires,
    /// `Min-Expires`
    MinExpires,
    /// `Max-Expires`
    MaxExpires,
    /// `WWW-Authenticate`
    WwwAuthenticate,
    /// `Authorization`
    Authorization,
    /// `Authentication-Info`
    AuthenticationInfo,
    /// `Content-Type`, which comes last (RFC 4975 §7.1).
    ContentType,
    /// Any other `Content-...`, which come just before it.
    Content,
    /// Anything else; passed on untouched (RFC 4975 §12).
    Other,
}

/// The spelling in which each known name is sent.
const NAMES: [(Name, &str); 15] = [
    (Name::ToPath, "To-Path"),
    (Name::FromPath, "From-Path"),
    (Name::MessageId, "Message-ID"),
    (Name::ByteRange, "Byte-Range"),
    (Name::FailureReport, "Failure-Report"),
    (Name::SuccessReport, "Success-Report"),
    (Name::Status, "Status"),
    (Name::UsePath, "Use-Path"),
    (Name::Expires, "Expires"),
    (Name::MinExpires, "Min-Expires"),
    (Name::MaxExpires, "Max-Expires"),
    (Name::WwwAuthenticate, "WWW-Authenticate"),
    (Name::Authorization, "Authorization"),
    (Name::AuthenticationInfo, "Authentication-Info"),
    (Name::ContentType, "Content-Type"),
];

impl Name {
    /// Names are read without case (RFC 4975 §9).
    pub fn parse(text: &[u8]) -> Self {
        let known = NAMES.iter().find(|(_, name)| text.eq_ignore_ascii_case(name.as_bytes()));
        match known {
            Some(&(name, _)) => name,
            None if text.get(..8).is_some_and(|t| t.eq_ignore_ascii_case(b"Content-")) => {
                Self::Content
            }
            None => Self::Other,
        }
    }

    /// The name as it is sent.
    pub fn as_str(self) -> &'static str {
        NAMES.iter().find(|(name, _)| *name == self).map_or("", |(_, text)| text)
    }

    /// Whether a second one would be ambiguous: one reader could take the first, another the last.
    fn only_once(self) -> bool {
        matches!(self, Self::ToPath | Self::FromPath | Self::MessageId | Self::ByteRange)
    }
}

/// One header line.
#[derive(Debug, Clone)]
struct Field {
    name: Name,
    /// The line, CRLF included.
    line: Range<u32>,
    /// Where the value starts.
    value: u32,
}

/// The header fields of one message.
#[derive(Debug, Clone, Default)]
pub struct Headers {
    block: Bytes,
    fields: Vec<Field>,
    defect: Option<HeaderError>,
}

impl Headers {
    /// Cuts `block` into the lines given, each with its CRLF. Lines that are no header fields
    /// are left out and remembered as the [`defect`](Self::defect).
    pub(super) fn read(block: Bytes, lines: &[Range<u32>]) -> Self {
        let mut headers = Self { block, fields: Vec::with_capacity(lines.len()), defect: None };
        for line in lines {
            if let Err(defect) = headers.push(line.clone()) {
                headers.defect.get_or_insert(defect);
            }
        }
        headers
    }

    fn push(&mut self, line: Range<u32>) -> Result<(), HeaderError> {
        let text = &self.block[line.start as usize..line.end as usize - 2];
        let colon = memchr::memchr(b':', text).ok_or(HeaderError::Line)?;
        if !is_name(&text[..colon]) || text.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
            return Err(HeaderError::Line);
        }
        let name = Name::parse(&text[..colon]);
        let blanks = text[colon + 1..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
        #[expect(clippy::cast_possible_truncation, reason = "a line is at most 16 KiB long")]
        let value = line.start + (colon + 1 + blanks) as u32;
        if name.only_once() && self.fields.iter().any(|field| field.name == name) {
            return Err(HeaderError::Repeated(name.as_str()));
        }
        self.fields.push(Field { name, line, value });
        Ok(())
    }

    /// The first error in the lines, if there is one.
    pub fn defect(&self) -> Option<HeaderError> {
        self.defect
    }

    /// The value of the first header of this name, blanks at its ends left out.
    pub fn value(&self, name: Name) -> Option<&[u8]> {
        self.values(name).next()
    }

    /// The values of all headers of this name, in order.
    pub fn values(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |field| field.name == name).map(|field| {
            self.block[field.value as usize..field.line.end as usize - 2].trim_ascii_end()
        })
    }

    /// All lines as they came, CRLF included.
    pub fn lines(&self) -> impl Iterator<Item = (Name, &[u8])> {
        self.fields.iter().map(|field| {
            (field.name, &self.block[field.line.start as usize..field.line.end as usize])
        })
    }

    /// Checks the headers that a relay reads, so that it passes on none that it cannot read. Status
    /// is left to the two ends.
    pub fn check(&self) -> Result<(), HeaderError> {
        if let Some(defect) = self.defect {
            return Err(defect);
        }
        for name in [Name::Expires, Name::MinExpires, Name::MaxExpires] {
            self.seconds(name)?;
        }
        self.byte_range()?;
        self.failure_report()?;
        match self.value(Name::SuccessReport) {
            Some(v) if !v.eq_ignore_ascii_case(b"yes") && !v.eq_ignore_ascii_case(b"no") => {
                Err(HeaderError::Unreadable(Name::SuccessReport.as_str()))
            }
            _ => Ok(()),
        }
    }

    /// `Byte-Range: start-end/total`.
    pub fn byte_range(&self) -> Result<Option<ByteRange>, HeaderError> {
        self.view(Name::ByteRange, ByteRange::parse)
    }

    /// `Failure-Report`; absent means yes (RFC 4975 §7.1.1).
    pub fn failure_report(&self) -> Result<FailureReport, HeaderError> {
        let view = self.view(Name::FailureReport, FailureReport::parse)?;
        Ok(view.unwrap_or(FailureReport::Yes))
    }

    /// `Status: 000 code comment`: the code and the comment.
    pub fn status(&self) -> Result<Option<(StatusCode, &[u8])>, HeaderError> {
        self.view(Name::Status, |value| {
            let rest = value.strip_prefix(b"000 ")?;
            let (code, comment) = rest.split_at_checked(3)?;
            if !(comment.is_empty() || comment.starts_with(b" ")) {
                return None;
            }
            Some((StatusCode::parse(code)?, comment.trim_ascii()))
        })
    }

    /// A header that holds whole seconds (RFC 4976 §7).
    pub fn seconds(&self, name: Name) -> Result<Option<Duration>, HeaderError> {
        self.view(name, |value| Some(Duration::from_secs(number(value)?)))
    }

    fn view<'a, T>(
        &'a self,
        name: Name,
        read: impl FnOnce(&'a [u8]) -> Option<T>,
    ) -> Result<Option<T>, HeaderError> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        read(value).map(Some).ok_or(HeaderError::Unreadable(name.as_str()))
    }
}

/// `hname` of RFC 4975 §9, with erratum 1282: a letter, then token characters.
fn is_name(text: &[u8]) -> bool {
    let token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(b);
    text.first().is_some_and(u8::is_ascii_alphabetic) && text.iter().all(token)
}

/// 1*DIGIT that fits 64 bits.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add(u64::from(d - b'0')))
}

/// `Byte-Range: start-end/total`, each in octets, counted from 1; `None` is `*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Number of the first octet.
    pub start: u64,
    /// Number of the last octet of this chunk.
    pub end: Option<u64>,
    /// Octets of the whole message.
    pub total: Option<u64>,
}

impl ByteRange {
    /// The range of a SEND without the header (RFC 4975 §7.1.1): from the first octet on.
    pub const WHOLE: Self = Self { start: 1, end: None, total: None };

    /// Reads a value; `None` if it is malformed or ends before it starts. `0-0/0`, which a client
    /// in use sends for an empty message, is accepted.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let dash = memchr::memchr(b'-', value)?;
        let slash = memchr::memchr(b'/', value)?;
        if slash < dash {
            return None;
        }
        let start = number(&value[..dash])?;
        let end = number_or_star(&value[dash + 1..slash]).ok()?;
        let total = number_or_star(&value[slash + 1..]).ok()?;
        if end.is_some_and(|end| end < start.saturating_sub(1)) {
            return None;
        }
        Some(Self { start, end, total })
    }

    /// Octets of body that the range declares: up to the end of the chunk or, if that is `*`, up to
    /// the end of the message. `None` if both are `*`.
    pub fn declared(&self) -> Option<u64> {
        let before = self.start.max(1) - 1;
        self.end.or(self.total).map(|last| last.saturating_sub(before))
    }

    /// The range of a chunk that starts here and holds `octets`.
    #[must_use]
    pub fn received(&self, octets: u64) -> Self {
        let end = self.start.saturating_add(octets).saturating_sub(1);
        Self { end: Some(end), ..*self }
    }
}

impl std::fmt::Display for ByteRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let star = |n: Option<u64>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{}-{}/{}", self.start, star(self.end), star(self.total))
    }
}

/// A number, or `None` for `*`; an error for anything else.
fn number_or_star(text: &[u8]) -> Result<Option<u64>, ()> {
    if text == b"*" { Ok(None) } else { number(text).map(Some).ok_or(()) }
}

/// Which failures of a SEND its sender is told of (RFC 4975 §7.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureReport {
    /// Each chunk is answered, and a REPORT tells of later failures.
    Yes,
    /// Only failures are answered or reported.
    Partial,
    /// The sender is told nothing.
    No,
}

impl FailureReport {
    /// Reads a value, without case.
    pub fn parse(value: &[u8]) -> Option<Self> {
        match value {
            v if v.eq_ignore_ascii_case(b"yes") => Some(Self::Yes),
            v if v.eq_ignore_ascii_case(b"partial") => Some(Self::Partial),
            v if v.eq_ignore_ascii_case(b"no") => Some(Self::No),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[&str]) -> Headers {
        let mut block = Vec::new();
        let mut ranges = Vec::new();
        for line in lines {
            let start = u32::try_from(block.len()).unwrap();
            block.extend_from_slice(line.as_bytes());
            block.extend_from_slice(b"\r\n");
            ranges.push(start..u32::try_from(block.len()).unwrap());
        }
        Headers::read(block.into(), &ranges)
    }

    #[test]
    fn r4975_9_04_names_without_case_values_trimmed() {
        let h = headers(&["failure-REPORT:NO", "Message-ID: a b  ", "X-Colon: a: b"]);
        assert_eq!(h.defect(), None);
        assert_eq!(h.failure_report(), Ok(FailureReport::No));
        assert_eq!(h.value(Name::MessageId), Some(&b"a b"[..]));
        assert_eq!(h.value(Name::Other), Some(&b"a: b"[..]));
    }

    #[test]
    fn s14_lines_that_two_readers_may_read_differently() {
        for line in [
            "To-Path : x",
            "To-Path\t: x",
            " folded",
            "\tfolded",
            "no colon",
            "",
            ": x",
            "a\x01b: x",
            "Subject: a\rb",
            "Subject: a\nb",
            "Subject: a\0b",
            "1abc: x",
            "-------abcd$",
        ] {
            assert_eq!(headers(&[line]).defect(), Some(HeaderError::Line), "{line:?}");
        }
        for name in ["To-Path", "From-Path", "Message-ID", "Byte-Range"] {
            let line = format!("{name}: x");
            let h = headers(&[&line, &line.to_lowercase()]);
            assert_eq!(h.defect(), Some(HeaderError::Repeated(name)));
        }
        assert_eq!(headers(&["X: 1", "X: 2", "X: \u{e4}\x7f"]).defect(), None);
    }

    #[test]
    fn byte_ranges() {
        for (text, start, end, total, declared) in [
            ("1-5/10", 1, Some(5), Some(10), Some(5)),
            ("1-*/10", 1, None, Some(10), Some(10)),
            ("6-*/10", 6, None, Some(10), Some(5)),
            ("1-*/*", 1, None, None, None),
            ("1-0/0", 1, Some(0), Some(0), Some(0)),
            ("0-0/0", 0, Some(0), Some(0), Some(0)),
            ("1-*/18446744073709551615", 1, None, Some(u64::MAX), Some(u64::MAX)),
            ("5-9/3", 5, Some(9), Some(3), Some(5)),
        ] {
            let range = ByteRange::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((range.start, range.end, range.total), (start, end, total), "{text}");
            assert_eq!(range.to_string(), text);
            assert_eq!(range.declared(), declared, "{text}");
        }
        for bad in [
            "",
            "1",
            "1-5",
            "1/5",
            "-5/5",
            "*-5/5",
            "1-5/",
            "1-/5",
            "a-5/5",
            "1-5/1/1",
            "+1-5/5",
            "9-5/10",
            "1 -5/5",
            "18446744073709551616-*/*",
            "1-99999999999999999999999999999999999999999/5",
        ] {
            assert_eq!(ByteRange::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(
            ByteRange::parse(b"1-*/5000").unwrap().received(2048).to_string(),
            "1-2048/5000"
        );
        assert_eq!(ByteRange::parse(b"1-*/5000").unwrap().received(0).to_string(), "1-0/5000");
    }

    #[test]
    fn r4976_7_02_typed_views_refuse_what_has_no_meaning() {
        for line in [
            "Expires: -1",
            "Expires: abc",
            "Expires: 999999999999999999999999999999",
            "Expires:",
            "Byte-Range: x",
            "Failure-Report: maybe",
            "Success-Report: partial",
        ] {
            let name = line.split(':').next().unwrap();
            let error = headers(&[line]).check().unwrap_err();
            assert_eq!(error.to_string(), format!("Error parsing {name} header"), "{line}");
        }
        for line in ["Status: 200 OK", "Status: 001 200", "Status: 000 20", "Status: 000 2000"] {
            let error = headers(&[line]).status().unwrap_err();
            assert_eq!(error.to_string(), "Error parsing Status header", "{line}");
        }
        let h = headers(&["Status: 000 413 Too much", "Expires: 600"]);
        assert_eq!(h.check(), Ok(()));
        let (code, comment) = h.status().unwrap().unwrap();
        assert_eq!((code, comment), (StatusCode::STOP_SENDING, &b"Too much"[..]));
    }

    proptest! {
        #[test]
        fn byte_range_reads_what_it_writes(start: u64, end: Option<u64>, total: Option<u64>) {
            let range = ByteRange { start, end, total };
            if end.is_none_or(|end| end >= start.saturating_sub(1)) {
                prop_assert_eq!(ByteRange::parse(range.to_string().as_bytes()), Some(range));
                let _ = range.declared();
                let _ = range.received(u64::MAX);
            }
        }

        #[test]
        fn any_value_is_read_without_panic(value in any::<Vec<u8>>()) {
            let _ = ByteRange::parse(&value);
            let _ = Name::parse(&value);
        }
    }
}
