//! Writing: start lines, header lines and end-lines (RFC 4975 §7.1).

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    header::{ByteRange, Name},
    message::{Continuation, Head, Method, TransactId},
    status::StatusCode,
    uri::{Path, Uri},
};

/// `MSRP tid METHOD`
pub fn request_line(out: &mut BytesMut, transact_id: &TransactId, method: &Method) {
    start(out, transact_id);
    out.put_slice(method.as_bytes());
    out.put_slice(b"\r\n");
}

/// `MSRP tid 200 OK`. Without a comment no blank follows the code: a client in use cannot read it.
pub fn status_line(
    out: &mut BytesMut,
    transact_id: &TransactId,
    status: StatusCode,
    comment: &[u8],
) {
    start(out, transact_id);
    out.put_slice(status.to_string().as_bytes());
    if !comment.is_empty() {
        out.put_u8(b' ');
        out.put_slice(comment);
    }
    out.put_slice(b"\r\n");
}

fn start(out: &mut BytesMut, transact_id: &TransactId) {
    out.put_slice(b"MSRP ");
    out.put_slice(transact_id.as_bytes());
    out.put_u8(b' ');
}

/// `To-Path: ...` and `From-Path: ...`, always first and in this order (RFC 4975 §9).
pub fn paths<'a>(
    out: &mut BytesMut,
    to: impl IntoIterator<Item = &'a Uri>,
    from: impl IntoIterator<Item = &'a Uri>,
) {
    path(out, Name::ToPath, to);
    path(out, Name::FromPath, from);
}

fn path<'a>(out: &mut BytesMut, name: Name, uris: impl IntoIterator<Item = &'a Uri>) {
    out.put_slice(name.as_str().as_bytes());
    out.put_u8(b':');
    for uri in uris {
        out.put_u8(b' ');
        out.put_slice(uri.text());
    }
    out.put_slice(b"\r\n");
}

/// `Name: value`. The value must hold no line end.
pub fn header(out: &mut BytesMut, name: Name, value: &[u8]) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

/// The end-line of a message. Behind a body it begins with a CRLF that is not part of the body.
pub fn end_line(
    out: &mut BytesMut,
    transact_id: &TransactId,
    flag: Continuation,
    after_body: bool,
) {
    if after_body {
        out.put_slice(b"\r\n");
    }
    out.put_slice(b"-------");
    out.put_slice(transact_id.as_bytes());
    out.put_u8(flag.as_byte());
    out.put_slice(b"\r\n");
}

/// A whole response without a body.
pub fn response<'a>(
    transact_id: &TransactId,
    status: StatusCode,
    comment: &[u8],
    to: impl IntoIterator<Item = &'a Uri>,
    from: &'a Uri,
    headers: &[(Name, Bytes)],
) -> BytesMut {
    let mut out = BytesMut::with_capacity(512);
    status_line(&mut out, transact_id, status, comment);
    paths(&mut out, to, [from]);
    for (name, value) in headers {
        header(&mut out, *name, value);
    }
    end_line(&mut out, transact_id, Continuation::End, false);
    out
}

/// The header lines of a message that is passed on, without its paths. They leave as the bytes that
/// came and in their order, except that `Content-*` follow the others and Content-Type is last (RFC
/// 4975 §7.1).
pub fn forwarded_lines(head: &Head) -> impl Iterator<Item = (Name, &[u8])> {
    let rank = |name: Name| match name {
        Name::ToPath | Name::FromPath => None,
        Name::Content => Some(1),
        Name::ContentType => Some(2),
        _ => Some(0),
    };
    let all =
        move |wanted| head.headers.lines().filter(move |(name, _)| rank(*name) == Some(wanted));
    all(0).chain(all(1)).chain(all(2))
}

/// The two paths of a message that is passed on. The relay's URIs move from the front of To-Path to
/// the front of From-Path (RFC 4976 §6.4.1). They leave as `own` has them, in the order of To-Path:
/// as they were given out, whatever a middlebox made of them.
pub fn moved_paths<'a>(
    out: &mut BytesMut,
    to: &'a Path,
    from: &'a Path,
    own: impl DoubleEndedIterator<Item = &'a Uri> + ExactSizeIterator,
) {
    paths(out, &to[own.len()..], own.rev().chain(from.iter()));
}

/// The head of a SEND that leaves in pieces: all but the start line and the Byte-Range.
#[derive(Debug, Clone)]
pub struct Template {
    lines: Bytes,
    range_at: usize,
}

impl Template {
    /// The template of `head`, whose To-Path begins with the relay's URIs `own`.
    pub fn new<'a>(
        head: &'a Head,
        own: impl DoubleEndedIterator<Item = &'a Uri> + ExactSizeIterator,
    ) -> Self {
        let mut out = BytesMut::with_capacity(512);
        moved_paths(&mut out, &head.to_path, &head.from_path, own);
        let mut range_at = out.len();
        for (name, line) in forwarded_lines(head) {
            match name {
                Name::ByteRange => range_at = out.len(),
                _ => out.put_slice(line),
            }
        }
        Self { lines: out.freeze(), range_at }
    }

    /// The head of one piece, the blank line before its body included.
    pub fn write(&self, out: &mut BytesMut, transact_id: &TransactId, range: &ByteRange) {
        request_line(out, transact_id, &Method::Send);
        out.put_slice(&self.lines[..self.range_at]);
        header(out, Name::ByteRange, range.to_string().as_bytes());
        out.put_slice(&self.lines[self.range_at..]);
        out.put_slice(b"\r\n");
    }
}
