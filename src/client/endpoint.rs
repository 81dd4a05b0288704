//! One MSRP session: paths, authentication, and which requests are meant for this end (RFC 4975
//! §7.3).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rand::distr::{Alphanumeric, SampleString};
use tokio::time::sleep_until;

use super::{
    ClientError, Connection, LoginCredentials, TRANSACTION_TIMEOUT,
    login::{Login, LoginOutcome},
};
use crate::{
    clock,
    msrp::{
        ByteRange, Continuation, Event, FailureReport, Head, Malformed, Method, Name, Path, Start,
        StatusCode, TransactId, Uri, encode,
    },
    transport::Link,
};

/// Length of a session-id. 24 letters and digits hold 142 random bits.
const SESSION_ID: usize = 24;
/// Most requests that may wait for a response at one time.
const MAX_PENDING: usize = 4096;
/// Most unsent octets. A peer that sends requests but reads no answers cannot make the queue
/// longer.
const MAX_UNREAD: usize = 16 * 1024 * 1024;
/// Longest time for the last octets to leave when a session ends.
const DRAIN: Duration = Duration::from_secs(10);

/// What happened in a session.
#[derive(Debug)]
pub enum Step {
    /// A SEND for this end starts. Its [`Body`](Self::Body) and [`ChunkEnd`](Self::ChunkEnd)
    /// follow.
    Chunk(Box<Head>),
    /// Octets of the SEND that has started.
    Body(Bytes),
    /// The SEND ends with this flag.
    ChunkEnd(Continuation),
    /// A REPORT on a message.
    Report(Report),
    /// A response to a SEND of this end.
    Response {
        /// That of the SEND.
        transact_id: TransactId,
        status: StatusCode,
        /// The text after the status code, as the peer sent it.
        comment: String,
    },
    /// A SEND of this end got no response within [`TRANSACTION_TIMEOUT`].
    NoResponse(TransactId),
    /// Our relay has granted AUTH, or its refresh.
    Registered,
    /// The output has fallen to the mark.
    Drained,
}

/// A REPORT (RFC 4975 §7.1.2).
#[derive(Debug)]
pub struct Report {
    /// Message-ID of the message.
    pub message_id: Bytes,
    /// Status code: what became of the message.
    pub status: StatusCode,
    /// The text after the status code, as the peer sent it.
    pub comment: String,
    /// The octets that the REPORT is about. `None`: all of the message.
    pub range: Option<ByteRange>,
}

/// One end of an MSRP session, over one connection.
#[derive(Debug)]
pub struct Endpoint {
    connection: Connection,
    own: Uri,
    relays: Vec<Uri>,
    peer: Option<Path>,
    login: Option<Login>,
    pending: Vec<Pending>,
    /// Responses and requests that wait until our open chunk ends or is interrupted.
    replies: VecDeque<Bytes>,
    chunk_open: bool,
    reading_ours: bool,
}

/// A request that waits for its response.
#[derive(Debug)]
struct Pending {
    transact_id: TransactId,
    purpose: Purpose,
    /// Position of its end in the output; `u64::MAX` while it waits behind an open chunk. The
    /// timeout starts when the output has been written up to here.
    end: u64,
    deadline: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Auth,
    Send,
}

impl Endpoint {
    /// Starts a session without a relay of our own, over a link that was dialled or accepted.
    pub fn direct(link: Link, own: Uri) -> Self {
        Self {
            connection: Connection::new(link),
            own,
            relays: Vec::new(),
            peer: None,
            login: None,
            pending: Vec::new(),
            replies: VecDeque::new(),
            chunk_open: false,
            reading_ours: false,
        }
    }

    /// Authenticates at the relay that `link` leads to, and returns when AUTH is granted.
    ///
    /// The To-Path of AUTH has the domain of the user and `port` (RFC 4976 §5.1). The relay's
    /// session is refreshed in time as long as [`step`](Self::step) is called. The errors are a
    /// refusal, a relay that does not answer, and a lost connection.
    pub async fn login(
        link: Link,
        credentials: LoginCredentials,
        port: u16,
    ) -> Result<Self, ClientError> {
        let own = own_uri(&link)?;
        let scheme = if link.security().is_tls() { "msrps" } else { "msrp" };
        let relay = format!("{scheme}://{}:{port};tcp", credentials.domain);
        let relay = Uri::parse(relay.clone().into())
            .map_err(|cause| ClientError::Uri { what: relay, cause })?;
        let mut endpoint = Self::direct(link, own.clone());
        let mut login = Login::new(credentials, relay, own);
        let (id, request) = login.start();
        endpoint.login = Some(login);
        endpoint.ask(id, Purpose::Auth, request.freeze())?;
        while endpoint.relays.is_empty() {
            // Nobody knows our URI yet, so anything but the answer to AUTH can be ignored.
            endpoint.step(None).await?;
        }
        Ok(endpoint)
    }

    /// The URI of this end.
    pub fn own(&self) -> &Uri {
        &self.own
    }

    /// The URIs of our relays, the nearest first. Empty without a relay.
    pub fn relays(&self) -> &[Uri] {
        &self.relays
    }

    /// The To-Path for a peer that wants to reach us: our relays, the farthest first, then our own
    /// URI.
    pub fn path(&self) -> Path {
        let uris: Vec<Uri> = self.relays.iter().rev().chain([&self.own]).cloned().collect();
        Path::from_uris(&uris).unwrap_or_else(|| unreachable!("our own URI is in it"))
    }

    /// The path to the peer, once it is known.
    pub fn peer(&self) -> Option<&Path> {
        self.peer.as_ref()
    }

    /// Sets the path to the peer: its relays, the nearest to us first, then its own URI.
    pub fn set_peer(&mut self, peer: Path) {
        self.peer = Some(peer);
    }

    /// Number of octets that wait to be written.
    pub fn unsent(&self) -> usize {
        self.connection.output().len()
    }

    /// Drives the session until something happens that the caller must know.
    ///
    /// If there is a `mark`, the call also returns, with [`Step::Drained`], when no more than
    /// `mark` octets wait to be written. The future may be dropped and called again without losing
    /// anything.
    pub async fn step(&mut self, mark: Option<usize>) -> Result<Step, ClientError> {
        loop {
            self.start_timers();
            let wake = self.next_mark(mark);
            let deadline = self.deadline();
            let step = tokio::select! {
                biased;
                event = self.connection.turn(wake) => match event? {
                    Some(event) => self.read(event)?,
                    // The mark may have been that of a timeout, which is not the caller's business.
                    None => mark.filter(|&mark| self.unsent() <= mark).map(|_| Step::Drained),
                },
                () = sleep_until(deadline.unwrap_or_else(clock::now).into()), if deadline.is_some() => {
                    self.expire()?
                }
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Responds to a request (RFC 4975 §7.2). The response goes to the previous hop only, and comes
    /// from the URI that the previous hop addressed.
    ///
    /// Sends nothing where the Failure-Report of the request excludes this response (RFC 4975
    /// §7.1.4).
    pub fn respond(
        &mut self,
        request: &Head,
        status: StatusCode,
        comment: &str,
    ) -> Result<(), ClientError> {
        match request.headers.failure_report() {
            Ok(FailureReport::No) => return Ok(()),
            Ok(FailureReport::Partial) if status.is_ok() => return Ok(()),
            _ => {}
        }
        let to = [request.from_path.first()];
        let from = request.to_path.first();
        let response =
            encode::response(&request.transact_id, status, comment.as_bytes(), to, from, &[]);
        self.say(response.freeze())
    }

    /// Sends a success REPORT for the octets in `range` of the message to which `chunk` belongs
    /// (RFC 4975 §7.1.3).
    pub fn report(&mut self, chunk: &Head, range: ByteRange) -> Result<(), ClientError> {
        let id = TransactId::random();
        let mut out = BytesMut::with_capacity(512);
        encode::request_line(&mut out, &id, &Method::Report);
        encode::paths(&mut out, chunk.from_path.iter(), [&self.own]);
        let message_id = chunk.headers.value(Name::MessageId).unwrap_or_default();
        encode::header(&mut out, Name::MessageId, message_id);
        encode::header(&mut out, Name::ByteRange, range.to_string().as_bytes());
        encode::header(&mut out, Name::Status, b"000 200 OK");
        encode::end_line(&mut out, &id, Continuation::End, false);
        self.say(out.freeze())
    }

    /// Closes the session so that the last octets arrive.
    pub async fn close(self) {
        self.connection.close(DRAIN).await;
    }

    #[cfg(test)]
    pub(super) fn output(&self) -> &crate::msrp::ChunkQueue {
        self.connection.output()
    }

    /// Whether replies wait for our open chunk to be interrupted.
    pub(super) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Queues the head of a chunk. Until [`end_chunk`](Self::end_chunk) only its body may follow.
    pub(super) fn begin_chunk(&mut self, head: &[u8]) {
        self.chunk_open = true;
        self.connection.output_mut().push_slice(head);
    }

    /// Queues octets of the open chunk.
    pub(super) fn push_body(&mut self, octets: Bytes) {
        self.connection.output_mut().push(octets);
    }

    /// Queues the end-line of the open chunk, then the replies that waited for it.
    pub(super) fn end_chunk(
        &mut self,
        id: TransactId,
        flag: Continuation,
    ) -> Result<(), ClientError> {
        let output = self.connection.output_mut();
        output.write(|out| encode::end_line(out, &id, flag, true));
        output.mark_chunk_end();
        self.chunk_open = false;
        self.await_response(id, Purpose::Send)?;
        while let Some(reply) = self.replies.pop_front() {
            self.connection.output_mut().push_chunk(reply);
        }
        // If an AUTH is among the replies, it ends here at the latest.
        let end = self.connection.output().end();
        for pending in self.pending.iter_mut().filter(|pending| pending.end == u64::MAX) {
            pending.end = end;
        }
        Ok(())
    }

    fn say(&mut self, message: Bytes) -> Result<(), ClientError> {
        let waiting: usize = self.replies.iter().map(Bytes::len).sum();
        if self.unsent() + waiting > MAX_UNREAD {
            return Err(ClientError::NotReading);
        }
        if self.chunk_open {
            self.replies.push_back(message);
        } else {
            self.connection.output_mut().push_chunk(message);
        }
        Ok(())
    }

    fn ask(&mut self, id: TransactId, purpose: Purpose, message: Bytes) -> Result<(), ClientError> {
        self.say(message)?;
        self.await_response(id, purpose)
    }

    fn await_response(&mut self, id: TransactId, purpose: Purpose) -> Result<(), ClientError> {
        if self.pending.len() == MAX_PENDING {
            return Err(ClientError::NotReading);
        }
        // A request that waits behind an open chunk gets its position when the chunk ends.
        let end = if self.chunk_open { u64::MAX } else { self.connection.output().end() };
        self.pending.push(Pending { transact_id: id, purpose, end, deadline: None });
        Ok(())
    }

    /// Starts the timeouts of requests whose last octet has been sent (RFC 4975 §7.3).
    fn start_timers(&mut self) {
        let taken = self.connection.output().taken();
        let unstarted = |p: &&mut Pending| p.deadline.is_none() && p.end <= taken;
        for pending in self.pending.iter_mut().filter(unstarted) {
            pending.deadline = Some(clock::now() + TRANSACTION_TIMEOUT);
        }
    }

    /// The mark at which [`step`](Self::step) must look again: that of the caller, or the one at
    /// which the next timeout starts if that is reached first.
    fn next_mark(&self, mark: Option<usize>) -> Option<usize> {
        let output = self.connection.output();
        let unstarted = self.pending.iter().filter(|p| p.deadline.is_none() && p.end < u64::MAX);
        let timer = unstarted.map(|p| usize::try_from(output.end() - p.end).unwrap_or(0)).max();
        mark.max(timer)
    }

    fn deadline(&self) -> Option<Instant> {
        let timers = self.pending.iter().filter_map(|pending| pending.deadline);
        timers.chain(self.login.as_ref().and_then(Login::refresh_at)).min()
    }

    fn expire(&mut self) -> Result<Option<Step>, ClientError> {
        let now = clock::now();
        if let Some(login) =
            self.login.as_mut().filter(|l| l.refresh_at().is_some_and(|t| t <= now))
        {
            let (id, request) = login.start();
            self.ask(id, Purpose::Auth, request.freeze())?;
        }
        let late = |p: &Pending| p.deadline.is_some_and(|deadline| deadline <= now);
        let Some(at) = self.pending.iter().position(late) else {
            return Ok(None);
        };
        let pending = self.pending.remove(at);
        match pending.purpose {
            Purpose::Send => Ok(Some(Step::NoResponse(pending.transact_id))),
            Purpose::Auth => Err(ClientError::NoResponse),
        }
    }

    fn read(&mut self, event: Event) -> Result<Option<Step>, ClientError> {
        match event {
            Event::Head(head) => self.read_head(head),
            Event::Malformed(malformed) => self.read_malformed(&malformed),
            Event::Body(octets) => Ok(self.reading_ours.then_some(Step::Body(octets))),
            Event::End(flag) => {
                let ours = std::mem::take(&mut self.reading_ours);
                Ok(ours.then_some(Step::ChunkEnd(flag)))
            }
            Event::Collision => Ok(None),
        }
    }

    fn read_head(&mut self, head: Head) -> Result<Option<Step>, ClientError> {
        match &head.start {
            Start::Response { status, comment } => {
                let (status, comment) = (*status, String::from_utf8_lossy(comment).into_owned());
                self.read_response(&head, status, comment)
            }
            Start::Request(Method::Send) => self.read_send(head),
            Start::Request(Method::Report) => Ok(read_report(&head).map(Step::Report)),
            Start::Request(_) => {
                self.respond(&head, StatusCode::UNKNOWN_METHOD, "Unknown method")?;
                Ok(None)
            }
        }
    }

    fn read_send(&mut self, head: Head) -> Result<Option<Step>, ClientError> {
        if !self.is_for_us(&head) {
            self.respond(&head, StatusCode::NO_SESSION, "No such session")?;
            return Ok(None);
        }
        let readable = head.headers.check().is_ok();
        if !readable || head.headers.value(Name::MessageId).is_none() {
            self.respond(&head, StatusCode::BAD_REQUEST, "Request was unintelligible")?;
            return Ok(None);
        }
        self.peer.get_or_insert_with(|| head.from_path.clone());
        self.reading_ours = true;
        Ok(Some(Step::Chunk(Box::new(head))))
    }

    /// Whether a request is for this session. The session-id identifies this end, because hosts and
    /// ports may be rewritten on the way (RFC 6714). The sender must be the known peer, if there is
    /// one.
    fn is_for_us(&self, head: &Head) -> bool {
        let ours =
            head.to_path.len() == 1 && head.to_path.first().session_id() == self.own.session_id();
        let known = |peer: &Path| peer.last().session_id() == head.from_path.last().session_id();
        ours && self.peer.as_ref().is_none_or(known)
    }

    fn read_response(
        &mut self,
        head: &Head,
        status: StatusCode,
        comment: String,
    ) -> Result<Option<Step>, ClientError> {
        let transact_id = head.transact_id;
        let Some(at) = self.pending.iter().position(|p| p.transact_id == transact_id) else {
            return Ok(None);
        };
        if self.pending.remove(at).purpose == Purpose::Send {
            return Ok(Some(Step::Response { transact_id, status, comment }));
        }
        let Some(login) = self.login.as_mut() else {
            return Ok(None);
        };
        match login.answer(head, clock::now())? {
            LoginOutcome::Again(id, request) => {
                self.ask(id, Purpose::Auth, request.freeze())?;
                return Ok(None);
            }
            LoginOutcome::Granted(path) if self.relays.is_empty() => self.relays = path.to_vec(),
            // A refresh may return another path, but peers have been told the first one.
            LoginOutcome::Granted(_) => {}
        }
        Ok(Some(Step::Registered))
    }

    fn read_malformed(&mut self, malformed: &Malformed) -> Result<Option<Step>, ClientError> {
        let answerable = match &malformed.start {
            Start::Request(method) => *method != Method::Report,
            Start::Response { .. } => false,
        };
        let Some((to, from)) = malformed.paths.as_ref().filter(|_| answerable) else {
            return Ok(None);
        };
        let comment = malformed.error.to_string();
        let status = StatusCode::BAD_REQUEST;
        let id = &malformed.transact_id;
        let response =
            encode::response(id, status, comment.as_bytes(), [from.first()], to.first(), &[]);
        self.say(response.freeze())?;
        Ok(None)
    }
}

fn read_report(head: &Head) -> Option<Report> {
    let (status, comment) = head.headers.status().ok()??;
    Some(Report {
        message_id: Bytes::copy_from_slice(head.headers.value(Name::MessageId)?),
        status,
        comment: String::from_utf8_lossy(comment).into_owned(),
        range: head.headers.byte_range().ok()?,
    })
}

/// Makes a URI for this end of a link. Nothing dials it: a peer either uses the link itself or goes
/// through our relay.
pub fn own_uri(link: &Link) -> Result<Uri, ClientError> {
    let local = link.local();
    mint(link.security().is_tls(), &local.ip().to_string(), local.port())
}

/// Makes a URI with a random session-id that cannot be guessed.
pub fn mint(secure: bool, host: &str, port: u16) -> Result<Uri, ClientError> {
    let id = Alphanumeric.sample_string(&mut rand::rng(), SESSION_ID);
    Uri::mint(secure, host, port, &id)
        .map_err(|cause| ClientError::Uri { what: host.to_owned(), cause })
}
