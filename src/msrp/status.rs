//! Status codes (RFC 4975 §10, RFC 4976 §10).

use std::fmt;

/// A status code of three digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatusCode(u16);

impl StatusCode {
    /// Accepted.
    pub const OK: Self = Self(200);
    /// Unintelligible request.
    pub const BAD_REQUEST: Self = Self(400);
    /// No or wrong credentials (RFC 4976 §10.3).
    pub const UNAUTHORIZED: Self = Self(401);
    /// Not allowed.
    pub const FORBIDDEN: Self = Self(403);
    /// No answer in time.
    pub const TIMEOUT: Self = Self(408);
    /// Stop sending this message.
    pub const STOP_SENDING: Self = Self(413);
    /// Expires is out of bounds.
    pub const OUT_OF_BOUNDS: Self = Self(423);
    /// No such session.
    pub const NO_SESSION: Self = Self(481);
    /// The relay cannot answer just now. RFC 4975 has no code for this.
    pub const UNAVAILABLE: Self = Self(500);
    /// Unknown method.
    pub const UNKNOWN_METHOD: Self = Self(501);
    /// The session is in use on another connection.
    pub const BOUND_ELSEWHERE: Self = Self(506);

    /// Reads exactly three digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 3 || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(Self(text.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'))))
    }

    /// Whether this is 200, the one code that means success (RFC 4975 §10.1).
    pub fn is_ok(self) -> bool {
        self == Self::OK
    }
}

impl fmt::Display for StatusCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}", self.0)
    }
}
