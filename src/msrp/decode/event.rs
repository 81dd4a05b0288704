//! The events of a decoder.

use bytes::Bytes;

use crate::msrp::{
    header::{HeaderError, Headers},
    message::{Continuation, Head, Start, TransactId},
    uri::Path,
};

/// What the decoder has read.
#[derive(Debug)]
pub enum Event {
    /// A message starts.
    Head(Head),
    /// A message starts that must not be acted on. Its body and end-line follow as in any other.
    Malformed(Malformed),
    /// Octets of the body, in the allocation that they were read into.
    Body(Bytes),
    /// The body holds an end-line of the [guard](super::Decoder::guard). The bytes of that line
    /// come next as body, and must be passed on under another transact-id.
    Collision,
    /// The end-line.
    End(Continuation),
}

/// A message with a start line, but with headers that cannot be read.
#[derive(Debug, Clone)]
pub struct Malformed {
    /// The transact-id.
    pub transact_id: TransactId,
    /// Request or response.
    pub start: Start,
    /// To-Path and From-Path, if the sender can be told. Of a path of more than
    /// [`MAX_PATH_URIS`](crate::msrp::uri::MAX_PATH_URIS) URIs only the first is here.
    pub paths: Option<(Path, Path)>,
    /// The header lines that could be read.
    pub headers: Headers,
    /// The first error.
    pub error: HeaderError,
}

impl Malformed {
    pub(super) fn from_event(event: Event, otherwise: HeaderError) -> Self {
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
