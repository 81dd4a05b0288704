//! The relay's own responses and REPORTs, and the status code of each refusal.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::deadlines::Sent;
use crate::msrp::{
    Continuation, FailureReport, Head, HeaderError, Headers, Malformed, Method, Name, Path, Start,
    StatusCode, TransactId, Uri, encode,
};

/// Why one request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Reject {
    /// A header cannot be read.
    #[error("unintelligible: {0}")]
    Unintelligible(HeaderError),
    /// The head of the message exceeds a limit.
    #[error("unintelligible: {0} exceeded")]
    TooLarge(&'static str),
    /// It is a second AUTH while the first is being looked up.
    #[error("AUTH while another one is under way")]
    Busy,
    /// There is no such session, or the request does not belong to it.
    #[error("no session: {0}")]
    NoSession(&'static str),
    /// The session is bound to another connection.
    #[error("session is bound to another connection")]
    Bound,
    /// The method is not passed on.
    #[error("method {0} is not served")]
    UnknownMethod(Method),
    /// The receiver wants no more of this message.
    #[error("the receiver asked to stop")]
    StopSending,
    /// The next hop would have to be dialled, and there are too many connections.
    #[error("too many connections")]
    Full,
}

/// The details of a 481, in the words of msrprelay 1.x.
pub mod detail {
    /// The first To-Path URI is not that of this session.
    pub const WRONG_SESSION: &str = "Wrong session id on relay MSRP URI";
    /// No URI follows the relay's own.
    pub const NOWHERE: &str = "Non-response with me as endpoint, nowhere to relay to";
    /// From-Path is not the path of the peer on this leg.
    pub const SOURCE: &str = "From-Path does not match session source";
    /// To-Path does not lead to the peer on the other leg.
    pub const DESTINATION: &str = "To-Path does not match session destination";
    /// No detail.
    pub const NONE: &str = "";
}

impl Reject {
    /// The status code and comment on the wire. No other place chooses a code for a refused request,
    /// but for AUTH: those are chosen in `auth/error.rs`.
    pub fn status(&self) -> (StatusCode, Cow<'static, str>) {
        let unintelligible = |detail: &dyn std::fmt::Display| {
            let text = format!("Request was unintelligible, please try again ({detail})");
            (StatusCode::BAD_REQUEST, text.into())
        };
        match self {
            Self::Unintelligible(error) => unintelligible(error),
            Self::TooLarge(limit) => unintelligible(&format_args!("{limit} exceeded")),
            Self::Busy => unintelligible(&"an AUTH is under way"),
            Self::NoSession(detail) => {
                let text = "Indicated session does not exist, please terminate";
                let separator = if detail.is_empty() { "" } else { ": " };
                (StatusCode::NO_SESSION, format!("{text}{separator}{detail}").into())
            }
            Self::Bound => {
                let text = "This session is already bound to another network connection, stop sending messages";
                (StatusCode::BOUND_ELSEWHERE, text.into())
            }
            Self::UnknownMethod(method) => {
                (StatusCode::UNKNOWN_METHOD, format!("Unknown method: {method}").into())
            }
            Self::StopSending => {
                (StatusCode::STOP_SENDING, "Please abort the message you are sending".into())
            }
            Self::Full => (StatusCode::FORBIDDEN, "Too many connections".into()),
        }
    }
}

impl From<HeaderError> for Reject {
    fn from(error: HeaderError) -> Self {
        Self::Unintelligible(error)
    }
}

/// The response that refuses a request. `None` where none may be sent: to a REPORT, a response, or
/// a SEND with Failure-Report no (RFC 4975 §7.1.2, §7.1.4).
pub fn refusal(head: &Head, reject: &Reject) -> Option<BytesMut> {
    refuse(&head.start, head.transact_id, (&head.to_path, &head.from_path), &head.headers, reject)
}

/// The same for a malformed request; `None` also if its paths are unreadable.
pub fn refusal_of_malformed(message: &Malformed, reject: &Reject) -> Option<BytesMut> {
    let (to, from) = message.paths.as_ref()?;
    refuse(&message.start, message.transact_id, (to, from), &message.headers, reject)
}

fn refuse(
    start: &Start,
    transact_id: TransactId,
    (to, from): (&Path, &Path),
    headers: &Headers,
    reject: &Reject,
) -> Option<BytesMut> {
    let Start::Request(method) = start else { return None };
    if *method == Method::Report || headers.failure_report() == Ok(FailureReport::No) {
        return None;
    }
    let (status, comment) = reject.status();
    Some(encode::response(
        &transact_id,
        status,
        comment.as_bytes(),
        response_path(method, from),
        to.first(),
        &[],
    ))
}

/// The answer to an AUTH, or to any request but SEND, along the whole path back (RFC 4975 §7.2).
pub fn answer(
    head: &Head,
    status: StatusCode,
    comment: &str,
    headers: &[(Name, Bytes)],
) -> BytesMut {
    let (id, to, from) = (&head.transact_id, &head.from_path[..], head.to_path.first());
    encode::response(id, status, comment.as_bytes(), to, from, headers)
}

/// A response to SEND goes to the previous hop alone, any other to the far end (RFC 4975 §7.2).
fn response_path<'a>(method: &Method, from: &'a Path) -> &'a [Uri] {
    if *method == Method::Send { &from[..1] } else { from }
}

/// The 200 that a SEND gets at its end-line.
#[derive(Debug)]
pub(super) struct Acknowledgement {
    transact_id: TransactId,
    to: Uri,
    from: Uri,
}

impl Acknowledgement {
    pub(super) fn new(head: &Head) -> Self {
        Self {
            transact_id: head.transact_id,
            to: head.from_path.first().clone(),
            from: head.to_path.first().clone(),
        }
    }

    pub(super) fn response(&self) -> BytesMut {
        encode::response(&self.transact_id, StatusCode::OK, b"OK", [&self.to], &self.from, &[])
    }
}

/// A failure REPORT about a chunk (RFC 4975 §7.1.3); `own` are the relay's URIs, the one nearest
/// to the sender first.
pub(super) fn report<'a>(
    transact_id: TransactId,
    sent: &'a Sent,
    own: impl IntoIterator<Item = &'a Uri>,
    status: StatusCode,
    comment: &[u8],
) -> BytesMut {
    let mut out = BytesMut::with_capacity(512);
    encode::request_line(&mut out, &transact_id, &Method::Report);
    encode::paths(&mut out, &sent.from_path[..], own);
    let mut value = format!("000 {status}").into_bytes();
    if !comment.is_empty() {
        value.push(b' ');
        value.extend_from_slice(comment);
    }
    encode::header(&mut out, Name::Status, &value);
    encode::header(&mut out, Name::MessageId, &sent.message_id);
    let range = sent.range.received(sent.octets);
    encode::header(&mut out, Name::ByteRange, range.to_string().as_bytes());
    encode::end_line(&mut out, &transact_id, Continuation::End, false);
    out
}
