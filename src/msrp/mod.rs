//! The wire: what MSRP looks like (RFC 4975 §5-7 and §9, RFC 4976 §4 and §7).
//!
//! Pure: bytes in, bytes out. Framing comes first and meaning second: a message with unreadable
//! headers is read to its end-line all the same, so its body is never taken for the next message.
//! Nothing here knows what a relay does with a message, or what a socket is.

pub mod decode;
pub mod digest;
pub mod encode;
pub mod header;
pub mod message;
pub mod queue;
pub mod status;
pub mod uri;

pub use decode::{DecodeError, Decoder, Event, Malformed};
pub use header::{ByteRange, FailureReport, HeaderError, Headers, Name};
pub use message::{Continuation, Head, Method, Start, TransactId};
pub use queue::{Allocation, ChunkQueue};
pub use status::StatusCode;
pub use uri::{Path, Uri, UriError};
