//! What the decoder reads.

use bytes::Bytes;

use crate::msrp::{
    header::{HeaderError, Headers},
    message::{Continuation, Head, Start, TransactId},
    uri::Path,
};

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
    /// To-Path and From-Path, if the sender can be told. Of a path of more than
    /// [`MAX_PATH_URIS`](crate::msrp::uri::MAX_PATH_URIS) URIs only the first is here.
    pub paths: Option<(Path, Path)>,
    /// The lines that could be read.
    pub headers: Headers,
    /// What is wrong.
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
