//! What the relay or the peer answered, in words.

use crate::msrp::StatusCode;

/// Quotes a comment of the peer and escapes it for a terminal.
pub(super) fn quoted(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!(" \"{}\"", comment.escape_debug()) }
}

/// Says in words what a status code means (RFC 4975 §10, RFC 4976 §10).
pub fn meaning(status: StatusCode) -> &'static str {
    match status {
        StatusCode::OK => "accepted",
        StatusCode::BAD_REQUEST => "the request was not understood",
        StatusCode::UNAUTHORIZED => "user and password are wanted",
        StatusCode::FORBIDDEN => "this is not allowed",
        StatusCode::TIMEOUT => "the next hop could not be reached, or did not answer in time",
        StatusCode::STOP_SENDING => "the receiver does not want this file",
        StatusCode::OUT_OF_BOUNDS => "the lifetime asked for is out of bounds",
        StatusCode::NO_SESSION => "there is no such session: has the receiver gone?",
        StatusCode::UNAVAILABLE => "the relay cannot do it just now",
        StatusCode::UNKNOWN_METHOD => "the method is not known",
        StatusCode::BOUND_ELSEWHERE => "somebody else is already connected to that session",
        other if other.to_string() == "415" => "the receiver does not take files of this type",
        _ => "a code that MSRP does not define",
    }
}
