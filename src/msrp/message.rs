//! The parts of a request or response that are not headers (RFC 4975 §7 and §9).

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use bytes::Bytes;

use super::{header::Headers, status::StatusCode, uri::Path};

/// A transact-id: 1 to 64 characters.
///
/// RFC 4975 §9 wants 4 to 32, the first one alphanumeric. Clients in use start some with `+` or
/// `-`, send shorter ones, and use `_`, `/` and `~`. All of these are read; the relay never sends
/// them, because each request leaves under an id of the relay's own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TransactId {
    len: u8,
    text: [u8; Self::MAX],
}

impl TransactId {
    const MAX: usize = 64;
    /// Characters of an id that the relay makes: 95 random bits (RFC 4975 §7.1 asks for 64).
    const MADE: usize = 16;

    /// Reads an id; `None` if it is malformed.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let legal = |b: &u8| b.is_ascii_alphanumeric() || b".-+%=_/~".contains(b);
        if !(1..=Self::MAX).contains(&text.len()) || !text.iter().all(legal) {
            return None;
        }
        let mut id = Self { len: u8::try_from(text.len()).ok()?, text: [0; Self::MAX] };
        id.text[..text.len()].copy_from_slice(text);
        Some(id)
    }

    /// A new id, of letters and digits: every client in use reads these.
    pub fn random() -> Self {
        use rand::distr::{Alphanumeric, Distribution};
        let mut id = Self { len: 0, text: [0; Self::MAX] };
        let mut rng = rand::rng();
        id.text[..Self::MADE].fill_with(|| Alphanumeric.sample(&mut rng));
        id.len = u8::try_from(Self::MADE).unwrap_or_default();
        id
    }

    /// The id as it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..usize::from(self.len)]
    }
}

impl Hash for TransactId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for TransactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

impl fmt::Debug for TransactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// Carries (a piece of) a message (RFC 4975).
    Send,
    /// Tells what became of a message (RFC 4975).
    Report,
    /// Asks a relay for a URI (RFC 4976).
    Auth,
    /// Asks a chat room for a name (RFC 7701).
    Nickname,
    /// A method that the relay does not know.
    Other(Bytes),
}

impl Method {
    /// The longest method name that is read.
    pub const MAX: usize = 32;

    /// Reads a method: upper case letters, digits, `-` and `_`, no digit first.
    ///
    /// RFC 4975 §9 allows letters only, but Blink sends `FILE_OFFSET`. Lower case is refused: a
    /// next hop that ignores case would take `send` for a SEND, which this relay had not checked.
    /// A digit at the start is refused: a next hop could take `2000` for a status code.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Some(match text {
            b"SEND" => Self::Send,
            b"REPORT" => Self::Report,
            b"AUTH" => Self::Auth,
            b"NICKNAME" => Self::Nickname,
            other => {
                let legal = |b: &u8| {
                    b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_')
                };
                let is_method = other.first().is_some_and(|first| !first.is_ascii_digit())
                    && other.len() <= Self::MAX
                    && other.iter().all(legal);
                return is_method.then(|| Self::Other(Bytes::copy_from_slice(other)));
            }
        })
    }

    /// The method as it stands on the wire.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Send => b"SEND",
            Self::Report => b"REPORT",
            Self::Auth => b"AUTH",
            Self::Nickname => b"NICKNAME",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(self.as_bytes()).unwrap_or_default())
    }
}

/// The part of a start line behind the transact-id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// `MSRP tid METHOD`
    Request(Method),
    /// `MSRP tid 200 OK`
    Response {
        /// The code.
        status: StatusCode,
        /// The text behind the code; empty if there is none.
        comment: Bytes,
    },
}

impl Start {
    /// What every start line begins with.
    pub(super) const PREFIX: &[u8] = b"MSRP ";

    /// Reads a start line without its CRLF; `None` if the line is not one. A blank at its end is
    /// accepted, because clients in use write it.
    pub fn parse(line: &[u8]) -> Option<(TransactId, Self)> {
        let rest = line.strip_prefix(Self::PREFIX)?;
        let rest = rest.strip_suffix(b" ").unwrap_or(rest);
        let blank = memchr::memchr(b' ', rest)?;
        let transact_id = TransactId::parse(&rest[..blank])?;
        let rest = &rest[blank + 1..];
        if rest.first().is_some_and(u8::is_ascii_digit) {
            let (code, comment) = rest.split_at_checked(3)?;
            let comment = match comment {
                [] => comment,
                [b' ', comment @ ..] => comment,
                _ => return None,
            };
            // The comment is passed on, so it must hold no byte that may be taken for a line end.
            if comment.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                return None;
            }
            let status = StatusCode::parse(code)?;
            // A copy, so that it does not keep the read buffer alive.
            let comment = Bytes::copy_from_slice(comment);
            return Some((transact_id, Self::Response { status, comment }));
        }
        Method::parse(rest).map(|method| (transact_id, Self::Request(method)))
    }
}

/// The flag that ends an end-line (RFC 4975 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuation {
    /// `$`: the message ends here.
    End,
    /// `+`: more chunks follow.
    More,
    /// `#`: the message is given up.
    Abort,
}

impl Continuation {
    /// Reads a flag.
    pub fn parse(flag: u8) -> Option<Self> {
        match flag {
            b'$' => Some(Self::End),
            b'+' => Some(Self::More),
            b'#' => Some(Self::Abort),
            _ => None,
        }
    }

    /// The flag as it stands on the wire.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::End => b'$',
            Self::More => b'+',
            Self::Abort => b'#',
        }
    }
}

/// The part of a request or response before its body or, if it has none, before its end-line.
#[derive(Debug, Clone)]
pub struct Head {
    /// The transact-id.
    pub transact_id: TransactId,
    /// Request or response.
    pub start: Start,
    /// To-Path, the nearest hop first.
    pub to_path: Path,
    /// From-Path, the nearest hop first.
    pub from_path: Path,
    /// All header fields, the two paths included.
    pub headers: Headers,
    /// Whether a blank line, and so a body (which may be empty), follows.
    pub has_body: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4975_9_03_transact_ids() {
        for good in
            ["abcd", "a.-+%=Z9", &"x".repeat(64), "+abc", "-abc", "abc", "a", "ab/d", "a_b~", "/"]
        {
            assert_eq!(TransactId::parse(good.as_bytes()).unwrap().to_string(), good);
        }
        for bad in [&"x".repeat(65), "ab d", "ab,d", "ab\u{e4}", "ab\\d", ""] {
            assert_eq!(TransactId::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn r4975_7_1_09_ids_we_make() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100_000 {
            let id = TransactId::random();
            assert_eq!(id.as_bytes().len(), 16);
            assert!(id.as_bytes().iter().all(u8::is_ascii_alphanumeric));
            assert!(seen.insert(id));
        }
    }

    #[test]
    fn r4975_9_02_start_lines() {
        let read = |line: &'static str| Start::parse(line.as_bytes()).map(|(_, start)| start);
        assert_eq!(read("MSRP a786hjs2 SEND"), Some(Start::Request(Method::Send)));
        assert_eq!(read("MSRP a786hjs2 SEND "), Some(Start::Request(Method::Send)));
        let longest: &'static str = "X".repeat(Method::MAX).leak();
        for other in ["FOO", "FILE_OFFSET", "A-B", "X9", "_", "-", longest] {
            let line = format!("MSRP a786hjs2 {other}").leak();
            assert_eq!(read(line), Some(Start::Request(Method::Other(other.into()))), "{other}");
        }
        for (line, comment) in
            [("MSRP abcd 200 OK", "OK"), ("MSRP abcd 200", ""), ("MSRP abcd 200 ", "")]
        {
            let status = StatusCode::OK;
            assert_eq!(read(line), Some(Start::Response { status, comment: comment.into() }));
        }
        for bad in [
            "msrp a786hjs2 SEND",
            "MSRP a786hjs2 Send",
            "MSRP  a786hjs2 SEND",
            "MSRP abcd",
            "MSRP abcd ",
            "MSRP abcd 20",
            "MSRP abcd 2000",
            "MSRP abcd 2x0",
            "MSRP abcd XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
            "MSRP ab,c SEND",
            "SEND",
            "",
            "MSRP abcd SEND x",
            "MSRP abcd 200 O\nK",
            " MSRP abcd SEND",
            "MSRP abcd SEND  ",
            "MSRP abcd FILE_offset",
            "MSRP abcd 2FOO",
            "MSRP abcd F.O",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
