//! Receives one file, its chunks in any order, and the text messages that come before and between
//! them (RFC 4975 §7.3.1).

use bytes::Bytes;

use super::{
    ClientError, Endpoint, RangeSet, Step,
    disposition::{Disposition, UNNAMED},
    files::{Destination, FileSink, Kept},
};
use crate::msrp::{ByteRange, Continuation, Head, Name, StatusCode};

/// Longest text message that is shown, in octets.
const MAX_TEXT: usize = 64 * 1024;

/// Follows a transfer, to show it to the user.
pub trait Watcher {
    /// The peer has offered a file, which is being accepted. `total` is its size in octets, if the
    /// peer gives it.
    fn offered(&mut self, name: &str, total: Option<u64>);
    /// `octets` of the file have arrived so far.
    fn arrived(&mut self, octets: u64);
    /// The peer has sent a text message. The text is unfiltered: remove control characters before
    /// showing it on a terminal.
    fn said(&mut self, text: &str);
}

/// What a SEND carries, judged by its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// No body. Such a SEND keeps a connection alive or joins a session.
    Bodiless,
    /// A text message.
    Text,
    /// Typing notifications (RFC 3994).
    Aside,
    /// A file with the name that the sender gave.
    File(String),
}

impl Kind {
    fn of(head: &Head) -> Self {
        let media_type = head.headers.value(Name::ContentType).map(media_type);
        let disposition = disposition(head);
        let name = disposition.as_ref().and_then(|disposition| disposition.name.clone());
        let attached = disposition.is_some_and(|disposition| disposition.kind == "attachment");
        match (name, media_type.as_deref()) {
            (Some(name), _) => Self::File(name),
            (None, None) if !attached => Self::Bodiless,
            _ if attached => Self::File(UNNAMED.to_owned()),
            (None, Some("application/im-iscomposing+xml")) => Self::Aside,
            (None, Some("message/cpim")) => Self::Text,
            (None, Some(text)) if text.starts_with("text/") => Self::Text,
            (None, _) => Self::File(UNNAMED.to_owned()),
        }
    }
}

fn media_type(value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value);
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn disposition(head: &Head) -> Option<Disposition> {
    const NAME: &[u8] = b"content-disposition:";
    head.headers.lines().find_map(|(name, line)| {
        let named = name == Name::Content
            && line.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME));
        named.then(|| Disposition::parse(line[NAME.len()..].trim_ascii()))
    })
}

/// Receives one file. Text messages that come in the meantime go to `watcher`. Returns when the
/// file is complete and has its name, or with the error that ended the transfer.
pub async fn receive_file(
    endpoint: &mut Endpoint,
    destination: &Destination,
    watcher: &mut impl Watcher,
) -> Result<Kept, ClientError> {
    let mut receiver = Receiver { destination, watcher, file: None, chunk: None };
    loop {
        match endpoint.step(None).await? {
            Step::Chunk(head) => receiver.begin(endpoint, *head)?,
            Step::Body(octets) => receiver.body(endpoint, octets).await?,
            Step::ChunkEnd(flag) => {
                if let Some(kept) = receiver.end(endpoint, flag).await? {
                    return Ok(kept);
                }
            }
            // This end sends no SEND, so these mean nothing.
            Step::Report(_)
            | Step::Response { .. }
            | Step::NoResponse(_)
            | Step::Registered
            | Step::Drained => {}
        }
    }
}

struct Receiver<'a, W> {
    destination: &'a Destination,
    watcher: &'a mut W,
    file: Option<Incoming>,
    chunk: Option<Chunk>,
}

/// The file that is being received.
struct Incoming {
    message_id: Bytes,
    sink: FileSink,
    arrived: RangeSet,
    total: Option<u64>,
}

/// The chunk that is being received.
struct Chunk {
    head: Head,
    range: ByteRange,
    octets: u64,
    part: Part,
}

/// What is done with the octets of a chunk.
enum Part {
    File,
    Text(Vec<u8>),
    Ignored,
    /// The chunk was answered with an error. The rest of it is ignored.
    Refused,
}

impl<W: Watcher> Receiver<'_, W> {
    fn begin(&mut self, endpoint: &mut Endpoint, head: Head) -> Result<(), ClientError> {
        let range = head.headers.byte_range().ok().flatten().unwrap_or(ByteRange::WHOLE);
        let part = match Kind::of(&head) {
            Kind::Bodiless | Kind::Aside => Part::Ignored,
            Kind::Text => Part::Text(Vec::new()),
            Kind::File(name) => self.begin_file(endpoint, &head, range, &name)?,
        };
        self.chunk = Some(Chunk { head, range, octets: 0, part });
        Ok(())
    }

    fn begin_file(
        &mut self,
        endpoint: &mut Endpoint,
        head: &Head,
        range: ByteRange,
        name: &str,
    ) -> Result<Part, ClientError> {
        let message_id = head.headers.value(Name::MessageId).unwrap_or_default();
        if let Some(file) = &mut self.file {
            if file.message_id != message_id {
                endpoint.respond(head, StatusCode::STOP_SENDING, "One file at a time, please")?;
                return Ok(Part::Refused);
            }
            let total = file.total.or(range.total);
            if range.total.is_some_and(|other| file.total.is_some_and(|total| total != other)) {
                return refuse(endpoint, head, "the size of the file changes from chunk to chunk");
            }
            file.total = total;
            return Ok(Part::File);
        }
        let sink = match FileSink::create(self.destination, name) {
            Ok(sink) => sink,
            Err(error) => {
                endpoint.respond(head, StatusCode::STOP_SENDING, "Cannot store the file")?;
                return Err(error);
            }
        };
        self.watcher.offered(name, range.total);
        self.file = Some(Incoming {
            message_id: Bytes::copy_from_slice(message_id),
            sink,
            arrived: RangeSet::default(),
            total: range.total,
        });
        Ok(Part::File)
    }

    async fn body(&mut self, endpoint: &mut Endpoint, octets: Bytes) -> Result<(), ClientError> {
        let Some(chunk) = &mut self.chunk else {
            return Ok(());
        };
        let at = chunk.at();
        chunk.octets += octets.len() as u64;
        match (&mut chunk.part, &mut self.file) {
            (Part::Text(text), _) if text.len() + octets.len() > MAX_TEXT => {
                endpoint.respond(&chunk.head, StatusCode::STOP_SENDING, "Message too long")?;
                chunk.part = Part::Refused;
            }
            (Part::Text(text), _) => text.extend_from_slice(&octets),
            (Part::File, Some(file)) => {
                let Some(end) = at.checked_add(octets.len() as u64) else {
                    return refuse(endpoint, &chunk.head, "an octet number is too large");
                };
                if file.total.is_some_and(|total| end > total) {
                    return refuse(endpoint, &chunk.head, "more octets than announced");
                }
                file.sink.write(at, octets).await;
                if !file.arrived.insert(at, end) {
                    return refuse(endpoint, &chunk.head, "too many gaps");
                }
                self.watcher.arrived(file.arrived.octets());
            }
            (Part::File | Part::Ignored | Part::Refused, _) => {}
        }
        Ok(())
    }

    /// Ends and answers the chunk. Returns the file if this chunk completed it.
    async fn end(
        &mut self,
        endpoint: &mut Endpoint,
        flag: Continuation,
    ) -> Result<Option<Kept>, ClientError> {
        let Some(chunk) = self.chunk.take() else {
            return Ok(None);
        };
        match &chunk.part {
            Part::Refused => return Ok(None),
            Part::File => return self.end_file_chunk(endpoint, &chunk, flag).await,
            Part::Text(text) if flag != Continuation::Abort => {
                self.watcher.said(&String::from_utf8_lossy(text));
            }
            Part::Text(_) | Part::Ignored => {}
        }
        chunk.accept(endpoint, chunk.range.total)?;
        Ok(None)
    }

    async fn end_file_chunk(
        &mut self,
        endpoint: &mut Endpoint,
        chunk: &Chunk,
        flag: Continuation,
    ) -> Result<Option<Kept>, ClientError> {
        let Some(mut file) = self.file.take() else {
            return Ok(None);
        };
        if flag == Continuation::Abort {
            endpoint.respond(&chunk.head, StatusCode::OK, "OK")?;
            return Err(ClientError::GivenUp { received: file.arrived.octets() });
        }
        if flag == Continuation::End {
            file.total.get_or_insert(chunk.at());
        }
        // Confirm only what has been written to the file.
        let stored = file.sink.sync().await;
        let total = file.total.filter(|&total| file.arrived.covers(total));
        let kept = match (stored, total) {
            (Err(error), _) => Err(error),
            (Ok(()), Some(total)) => file.sink.keep(total).await.map(Some),
            (Ok(()), None) => {
                self.file = Some(file);
                Ok(None)
            }
        };
        if let Err(error) = kept {
            endpoint.respond(&chunk.head, StatusCode::STOP_SENDING, "Cannot store the file")?;
            return Err(error);
        }
        chunk.accept(endpoint, total.or(chunk.range.total))?;
        kept
    }
}

impl Chunk {
    /// Position in the message, counted from 0, of the next octet of the chunk.
    fn at(&self) -> u64 {
        (self.range.start.max(1) - 1).saturating_add(self.octets)
    }

    /// Answers 200, and sends a success REPORT for this chunk if the SEND asks for one (RFC 4975
    /// §7.1.3).
    fn accept(&self, endpoint: &mut Endpoint, total: Option<u64>) -> Result<(), ClientError> {
        endpoint.respond(&self.head, StatusCode::OK, "OK")?;
        let wanted = self.head.headers.value(Name::SuccessReport);
        if wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(b"yes")) {
            let start = self.range.start.max(1);
            let range = ByteRange { start, end: None, total }.received(self.octets);
            endpoint.report(&self.head, range)?;
        }
        Ok(())
    }
}

/// Answers 400 and ends the transfer: the chunks of the sender contradict each other.
fn refuse<T>(endpoint: &mut Endpoint, head: &Head, what: &'static str) -> Result<T, ClientError> {
    endpoint.respond(head, StatusCode::BAD_REQUEST, what)?;
    Err(ClientError::Nonsense(what))
}
