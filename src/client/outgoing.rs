//! Sending a message in as few chunks as possible (RFC 4975 §7.1.1).

use std::path::Path as FilePath;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use rand::distr::{Alphanumeric, SampleString};
use tokio::{sync::mpsc, time::sleep_until};

use super::{ClientError, Endpoint, REPORT_TIMEOUT, RangeSet, Report, Step, disposition};
use crate::{
    clock,
    msrp::{ByteRange, Continuation, Head, Method, Name, StatusCode, TransactId, Uri, encode},
};

/// A chunk with at least this many octets is interrupted when something else waits to be sent (RFC
/// 4975 §7.1.1). Shorter chunks need not be interruptible.
const INTERRUPTIBLE: u64 = 2048;
/// Above this many unsent octets no more of the file is taken.
const ENOUGH: usize = 512 * 1024;
/// Once it has paused, the file goes on when the unsent octets have fallen to this.
const FEW: usize = 256 * 1024;
/// Start of each end-line.
const SEVEN_DASHES: &[u8] = b"-------";

/// A message that is being sent.
#[derive(Debug)]
pub struct Message {
    to: Vec<Uri>,
    own: Uri,
    id: String,
    content: Vec<u8>,
    total: u64,
    pushed: u64,
    chunk: Option<OpenChunk>,
    ended: bool,
}

/// The chunk that is being written.
#[derive(Debug)]
struct OpenChunk {
    transact_id: TransactId,
    octets: u64,
    scan: Scan,
}

impl Message {
    /// Makes a message from a file of `total` octets, addressed to the peer of the session.
    pub fn file(endpoint: &Endpoint, name: &FilePath, total: u64) -> Self {
        let name = name.file_name().unwrap_or_default();
        // Content-Type is the last header (RFC 4975 §7.1).
        let content = format!(
            "Content-Disposition: {}\r\nContent-Type: {}\r\n",
            disposition::attachment(name),
            disposition::media_type(name),
        );
        let peer = endpoint.peer().map(|path| path.to_vec()).unwrap_or_default();
        Self {
            to: endpoint.relays().iter().cloned().chain(peer).collect(),
            own: endpoint.own().clone(),
            id: Alphanumeric.sample_string(&mut rand::rng(), 22),
            content: content.into_bytes(),
            total,
            pushed: 0,
            chunk: None,
            ended: false,
        }
    }

    /// Appends octets of the message. Ends the message after its last octet.
    fn push(&mut self, endpoint: &mut Endpoint, mut octets: Bytes) -> Result<(), ClientError> {
        loop {
            let chunk = self.open_chunk(endpoint);
            // RFC 4975 §7.1: the end-line of a chunk must not occur in its body. Start a new chunk
            // before.
            let cut = chunk.scan.collision(&octets).unwrap_or(octets.len());
            let piece = octets.split_to(cut);
            chunk.octets += piece.len() as u64;
            self.pushed += piece.len() as u64;
            endpoint.push_body(piece);
            if octets.is_empty() {
                break;
            }
            self.end_chunk(endpoint, Continuation::More)?;
        }
        if self.pushed == self.total {
            return self.end(endpoint, Continuation::End);
        }
        self.let_replies_pass(endpoint)
    }

    /// Interrupts a long chunk if replies wait, so that they need not wait for the end of the
    /// message (RFC 4975 §7.1.1).
    fn let_replies_pass(&mut self, endpoint: &mut Endpoint) -> Result<(), ClientError> {
        let long = self.chunk.as_ref().is_some_and(|chunk| chunk.octets >= INTERRUPTIBLE);
        if long && endpoint.has_replies() {
            self.end_chunk(endpoint, Continuation::More)?;
        }
        Ok(())
    }

    /// Ends the message with `flag`: [`Continuation::End`] or [`Continuation::Abort`].
    fn end(&mut self, endpoint: &mut Endpoint, flag: Continuation) -> Result<(), ClientError> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        self.open_chunk(endpoint);
        self.end_chunk(endpoint, flag)
    }

    /// Aborts the message with `#`, unless its end has been written.
    fn abort(&mut self, endpoint: &mut Endpoint) -> Result<(), ClientError> {
        // Before its first chunk the peer does not know the message, so there is nothing to abort.
        let begun = self.pushed > 0 || self.chunk.is_some();
        if begun { self.end(endpoint, Continuation::Abort) } else { Ok(()) }
    }

    fn open_chunk(&mut self, endpoint: &mut Endpoint) -> &mut OpenChunk {
        let (start, total) = (self.pushed + 1, self.total);
        let left = total - self.pushed;
        self.chunk.get_or_insert_with(|| {
            let transact_id = TransactId::random();
            let end = (left <= INTERRUPTIBLE).then_some(total);
            let range = ByteRange { start, end, total: Some(total) };
            let mut out = BytesMut::with_capacity(1024);
            encode::request_line(&mut out, &transact_id, &Method::Send);
            encode::paths(&mut out, &self.to, [&self.own]);
            encode::header(&mut out, Name::MessageId, self.id.as_bytes());
            encode::header(&mut out, Name::ByteRange, range.to_string().as_bytes());
            encode::header(&mut out, Name::SuccessReport, b"yes");
            encode::header(&mut out, Name::FailureReport, b"yes");
            out.extend_from_slice(&self.content);
            out.extend_from_slice(b"\r\n");
            endpoint.begin_chunk(&out);
            OpenChunk { transact_id, octets: 0, scan: Scan::new(&transact_id) }
        })
    }

    fn end_chunk(
        &mut self,
        endpoint: &mut Endpoint,
        flag: Continuation,
    ) -> Result<(), ClientError> {
        match self.chunk.take() {
            Some(chunk) => endpoint.end_chunk(chunk.transact_id, flag),
            None => Ok(()),
        }
    }
}

/// Searches the body of a chunk for what would be the end-line of this chunk.
#[derive(Debug)]
struct Scan {
    needle: memmem::Finder<'static>,
    len: usize,
    /// The last octets that passed, one less than the needle has, to find a needle across two
    /// blocks.
    tail: Vec<u8>,
}

impl Scan {
    fn new(transact_id: &TransactId) -> Self {
        let needle = [SEVEN_DASHES, transact_id.as_bytes()].concat();
        let len = needle.len();
        Self { needle: memmem::Finder::new(&needle).into_owned(), len, tail: Vec::new() }
    }

    /// Returns how many of these octets may still go into the chunk, or `None` if all of them may.
    fn collision(&mut self, octets: &[u8]) -> Option<usize> {
        let keep = self.len - 1;
        let mut seam = std::mem::take(&mut self.tail);
        seam.extend_from_slice(&octets[..octets.len().min(keep)]);
        if self.needle.find(&seam).is_some() {
            // The needle began in octets that are already sent. Its end must go into another chunk.
            return Some(0);
        }
        let found = self.needle.find(octets);
        let last = if octets.len() < keep { &seam } else { octets };
        self.tail = last[last.len().saturating_sub(keep)..].to_vec();
        found
    }
}

/// Progress of a message, in octets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Handed to the kernel.
    pub sent: u64,
    /// Confirmed by success REPORTs.
    pub confirmed: u64,
}

/// Sends `message`, whose octets come from `blocks`, and waits until success REPORTs cover all of
/// them. `progress` is called after each step, also before an error is returned.
///
/// An error response, a failure REPORT, a missing response or REPORT, and an error from `blocks`
/// end the message.
pub async fn send_file(
    endpoint: &mut Endpoint,
    mut message: Message,
    mut blocks: mpsc::Receiver<Result<Bytes, ClientError>>,
    mut progress: impl FnMut(Progress),
) -> Result<(), ClientError> {
    let mut confirmed = Confirmed::default();
    let mut asked = None;
    if message.total == 0 {
        message.end(endpoint, Continuation::End)?;
    }
    let mut news = clock::now();
    while !confirmed.covers(&message) {
        let room = endpoint.unsent() <= ENOUGH;
        let mark = if message.ended {
            (endpoint.unsent() > 0).then_some(0)
        } else {
            (!room).then_some(FEW)
        };
        let silence = news + REPORT_TIMEOUT;
        let outcome = tokio::select! {
            biased;
            step = endpoint.step(mark) => match step {
                Ok(Step::Chunk(head)) => {
                    asked = Some(head);
                    Ok(())
                }
                Ok(Step::ChunkEnd(_)) => answer(endpoint, asked.take()),
                Ok(step) => confirmed.take(step, &message),
                Err(error) => Err(error),
            },
            block = blocks.recv(), if room && !message.ended => match block {
                Some(Ok(octets)) => message.push(endpoint, octets),
                Some(Err(error)) => Err(error),
                None => Err(ClientError::Nonsense("the source ended before the message")),
            },
            () = sleep_until(silence.into()), if message.ended && endpoint.unsent() == 0 => {
                Err(confirmed.missing(&message))
            }
        };
        news = clock::now();
        progress(Progress {
            sent: message.pushed.saturating_sub(endpoint.unsent() as u64),
            confirmed: confirmed.ranges.octets(),
        });
        if let Err(error) = outcome {
            message.abort(endpoint)?;
            return Err(error);
        }
        message.let_replies_pass(endpoint)?;
    }
    Ok(())
}

/// Answers a SEND of the peer. A SEND without a body only keeps the session alive: 200. Any other
/// SEND is refused, because this end only sends.
fn answer(endpoint: &mut Endpoint, head: Option<Box<Head>>) -> Result<(), ClientError> {
    match head {
        Some(head) if head.headers.value(Name::ContentType).is_none() => {
            endpoint.respond(&head, StatusCode::OK, "OK")
        }
        Some(head) => endpoint.respond(&head, StatusCode::STOP_SENDING, "This end only sends"),
        None => Ok(()),
    }
}

/// The octets that the receiver has confirmed.
#[derive(Debug, Default)]
struct Confirmed {
    ranges: RangeSet,
    any: bool,
}

impl Confirmed {
    /// Takes in what was received. An error means that the message has failed.
    fn take(&mut self, step: Step, message: &Message) -> Result<(), ClientError> {
        match step {
            Step::Response { status, .. } if status.is_ok() => Ok(()),
            Step::Response { status, comment, .. } => Err(ClientError::Refused { status, comment }),
            Step::NoResponse(_) => Err(ClientError::NoResponse),
            Step::Report(report) if report.message_id == message.id => self.report(report, message),
            // RFC 4975 §7.1.2: a REPORT on an unknown message is ignored.
            _ => Ok(()),
        }
    }

    fn report(&mut self, report: Report, message: &Message) -> Result<(), ClientError> {
        let Report { status, comment, range, .. } = report;
        if status != StatusCode::OK {
            return Err(ClientError::Undelivered { status, comment });
        }
        let range = range.unwrap_or(ByteRange::WHOLE);
        // Octets that were not sent cannot have arrived.
        let end = range.end.or(range.total).unwrap_or(message.total).min(message.pushed);
        if !self.ranges.insert(range.start.max(1) - 1, end) {
            return Err(ClientError::Nonsense("the success reports have too many gaps"));
        }
        self.any = true;
        Ok(())
    }

    /// Whether all octets of a finished message are confirmed. An empty message needs a REPORT,
    /// too.
    fn covers(&self, message: &Message) -> bool {
        self.any && message.ended && self.ranges.covers(message.total)
    }

    fn missing(&self, message: &Message) -> ClientError {
        ClientError::NoReport { confirmed: self.ranges.octets(), total: message.total }
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use proptest::prelude::*;
    use tokio::net::{TcpListener, TcpStream};

    use super::{super::own_uri, *};
    use crate::{
        msrp::{ChunkQueue, Decoder, Event},
        transport,
    };

    /// A session over plain TCP with its peer's end of the connection.
    async fn endpoint() -> (Endpoint, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, address) = listener.accept().await.unwrap();
        let link = transport::accept(tcp, address, None).await.unwrap();
        let own = own_uri(&link).unwrap();
        (Endpoint::direct(link, own), peer)
    }

    /// Decodes one chunk, which must be whole and alone. Returns its start line and its end flag.
    fn decode_chunk(octets: &[u8]) -> (String, Continuation) {
        let line_end = octets.iter().position(|octet| *octet == b'\r').unwrap();
        let line = String::from_utf8(octets[..line_end].to_vec()).unwrap();
        let mut input = BytesMut::from(octets);
        let mut decoder = Decoder::default();
        loop {
            match decoder.next(&mut input).unwrap() {
                Some(Event::End(flag)) => {
                    assert!(input.is_empty(), "the next message begins in the chunk of {line}");
                    return (line, flag);
                }
                Some(Event::Head(_) | Event::Body(_)) => {}
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    /// The complete chunks of a queue from which nothing was taken, and the octets after them.
    fn chunks(queue: &ChunkQueue) -> (Vec<(String, Continuation)>, usize) {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = queue.slices(&mut slices);
        let octets: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        let ends = queue.chunk_ends().map(|end| usize::try_from(end).unwrap());
        let mut start = 0;
        let chunks = ends.map(|end| decode_chunk(&octets[std::mem::replace(&mut start, end)..end]));
        (chunks.collect(), octets.len() - start)
    }

    /// RFC 7977 §5.1: a transport with messages sends each chunk as one message.
    #[tokio::test]
    async fn the_queue_knows_the_end_of_each_chunk() {
        let (mut endpoint, _peer) = endpoint().await;
        let mut request = BytesMut::from(
            &b"MSRP aaaa1111 SEND\r\nTo-Path: msrp://a.example:1/a;tcp\r\n\
               From-Path: msrp://b.example:2/b;tcp\r\nMessage-ID: m\r\n-------aaaa1111$\r\n"[..],
        );
        let Some(Event::Head(head)) = Decoder::default().next(&mut request).unwrap() else {
            panic!("no head")
        };
        endpoint.set_peer(head.from_path.clone());
        let response = "MSRP aaaa1111 200 OK".to_owned();

        // A response between two chunks.
        endpoint.respond(&head, StatusCode::OK, "OK").unwrap();
        let (first, rest) = chunks(endpoint.output());
        assert_eq!(first, [(response.clone(), Continuation::End)]);
        assert_eq!((rest, endpoint.output().next_chunk_end()), (0, Some(endpoint.output().end())));

        // An open chunk has no end yet. A response to the peer waits until the chunk is cut.
        let mut message = Message::file(&endpoint, FilePath::new("x"), 5000);
        message.push(&mut endpoint, vec![b'x'; 3000].into()).unwrap();
        endpoint.respond(&head, StatusCode::OK, "OK").unwrap();
        endpoint.report(&head, ByteRange::WHOLE).unwrap();
        let (still, rest) = chunks(endpoint.output());
        assert_eq!(still, first);
        assert!(rest > 3000, "{rest}");

        message.push(&mut endpoint, vec![b'x'; 1000].into()).unwrap();
        message.push(&mut endpoint, vec![b'x'; 1000].into()).unwrap();
        let (all, rest) = chunks(endpoint.output());
        let kinds = all.iter().map(|(line, flag)| (line.split(' ').nth(2).unwrap(), *flag));
        assert_eq!(
            kinds.collect::<Vec<_>>(),
            [
                ("200", Continuation::End),
                ("SEND", Continuation::More),
                ("200", Continuation::End),
                ("REPORT", Continuation::End),
                ("SEND", Continuation::End),
            ]
        );
        assert_eq!(rest, 0);
    }

    fn scan() -> Scan {
        Scan::new(&TransactId::parse(b"abcd").unwrap())
    }

    proptest! {
        /// RFC 4975 §7.1: however the body is cut into blocks, no chunk contains its own end-line.
        #[test]
        fn r4975_7_1_no_end_line_in_a_chunk(
            noise in "[-abcdx]{0,30}", before in 0usize..30, block in 1usize..40
        ) {
            let mut body = noise.clone().into_bytes();
            let at = before.min(body.len());
            body.splice(at..at, *b"-------abcd$");
            let mut scan = scan();
            let mut chunk = Vec::new();
            for octets in body.chunks(block) {
                let cut = scan.collision(octets);
                chunk.extend_from_slice(&octets[..cut.unwrap_or(octets.len())]);
                if cut.is_some() {
                    break;
                }
            }
            prop_assert!(memmem::find(&chunk, b"-------abcd").is_none());
            prop_assert!(chunk.len() < body.len());
        }
    }

    #[test]
    fn what_is_no_end_line_goes_through() {
        let mut scan = scan();
        for octets in ["-------", "abc", "-------abce", "------", "-abc", "\r\n-------abCd$"] {
            assert_eq!(scan.collision(octets.as_bytes()), None, "{octets}");
        }
        assert_eq!(scan.collision(b"xx-------abcd+"), Some(2));
    }
}
