//! What the load generator says and reads, by the codec of the library. (The tests on the wire read
//! and write MSRP by themselves; here only the cost counts.)

use bytes::{BufMut as _, BytesMut};
use msrprelay::msrp::{
    ByteRange, Continuation, Decoder, Event, Head, Method, Name, Path, Start, StatusCode,
    TransactId, Uri, encode,
};

use crate::failure::Failure;

/// Room for some TLS records and the rest of the one before.
const BUFFER: usize = 64 * 1024;

/// Cuts a byte stream into heads, pieces of bodies and end-lines.
#[derive(Default)]
pub(crate) struct Parser {
    buffer: BytesMut,
    decoder: Decoder,
}

impl Parser {
    /// The buffer, with room for the next octets of the stream.
    pub(crate) fn space(&mut self) -> &mut BytesMut {
        self.buffer.reserve(BUFFER);
        &mut self.buffer
    }

    /// The next event, or nothing when it needs more octets.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, Failure> {
        match self.decoder.next(&mut self.buffer) {
            Ok(Some(Event::Malformed(_))) => Err(Failure::Wire("a head that cannot be read")),
            Ok(event) => Ok(event),
            Err(_) => Err(Failure::Wire("framing was lost")),
        }
    }
}

/// Fails unless this is the head of a 200.
pub(crate) fn demand_ok(head: &Head) -> Result<(), Failure> {
    match &head.start {
        Start::Response { status, .. } if status.is_ok() => Ok(()),
        Start::Response { status, .. } => Err(Failure::Refused(*status)),
        Start::Request(_) => Err(Failure::Reported(header(head, Name::Status)?)),
    }
}

pub(crate) fn is_send(head: &Head) -> bool {
    head.start == Start::Request(Method::Send)
}

/// The value of a header.
pub(crate) fn header(head: &Head, name: Name) -> Result<String, Failure> {
    let value = head.headers.value(name).ok_or(Failure::Wire("a header is missing"))?;
    Ok(String::from_utf8_lossy(value).into_owned())
}

/// The first octet of the chunk, counted from 1 (RFC 4975 §7.1.1).
pub(crate) fn range_start(head: &Head) -> Result<u64, Failure> {
    let range = head.headers.byte_range().ok().flatten();
    range.map(|range| range.start).ok_or(Failure::Wire("an unreadable Byte-Range"))
}

pub(crate) fn uri(text: String) -> Result<Uri, Failure> {
    Uri::parse(text.into()).map_err(|_| Failure::Wire("an unreadable URI"))
}

pub(crate) fn path(text: &str) -> Result<Path, Failure> {
    Path::parse(text.as_bytes()).map_err(|_| Failure::Wire("an unreadable path"))
}

/// An ID of our own.
pub(crate) fn transact_id(text: &str) -> TransactId {
    TransactId::parse(text.as_bytes()).expect("a transact-id of letters and digits")
}

/// A SEND without its end-line.
pub(crate) struct SendHead<'a> {
    pub(crate) transact_id: TransactId,
    pub(crate) to_path: &'a Path,
    pub(crate) from: &'a Uri,
    pub(crate) message_id: &'a str,
    /// Octets of the message before this chunk, in this chunk, and in all.
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) total: u64,
}

impl SendHead<'_> {
    pub(crate) fn write(&self, out: &mut BytesMut) {
        let range = ByteRange {
            start: self.offset + 1,
            end: Some(self.offset + self.length),
            total: Some(self.total),
        };
        encode::request_line(out, &self.transact_id, &Method::Send);
        encode::paths(out, self.to_path.iter(), [self.from]);
        encode::header(out, Name::MessageId, self.message_id.as_bytes());
        encode::header(out, Name::ByteRange, range.to_string().as_bytes());
        encode::header(out, Name::ContentType, b"application/octet-stream");
        out.put_slice(b"\r\n");
    }

    /// The end-line, after the body.
    pub(crate) fn write_end(&self, out: &mut BytesMut) {
        let is_last = self.offset + self.length == self.total;
        let flag = if is_last { Continuation::End } else { Continuation::More };
        encode::end_line(out, &self.transact_id, flag, true);
    }
}

/// An AUTH request (RFC 4976 §5.1), with or without credentials.
pub(crate) fn write_auth(
    transact_id: TransactId,
    to: &Uri,
    from: &Uri,
    authorization: Option<&str>,
    out: &mut BytesMut,
) {
    encode::request_line(out, &transact_id, &Method::Auth);
    encode::paths(out, [to], [from]);
    if let Some(credentials) = authorization {
        encode::header(out, Name::Authorization, credentials.as_bytes());
    }
    encode::end_line(out, &transact_id, Continuation::End, false);
}

/// The 200 that a SEND is owed (RFC 4975 §7.2): one URI in each path.
pub(crate) fn write_reply(head: &Head, out: &mut BytesMut) {
    let (to, from) = (head.from_path.first(), head.to_path.first());
    encode::status_line(out, &head.transact_id, StatusCode::OK, b"OK");
    encode::paths(out, [to], [from]);
    encode::end_line(out, &head.transact_id, Continuation::End, false);
}
