//! The relay logic: what happens to a frame between two connections (RFC 4976 §6.2, §6.4).
//!
//! A [`Session`] owns the state of both legs and nothing else: no socket, no clock, no runtime.
//! Bytes that arrived go in by [`Session::receive`], bytes to write are in [`Session::outgoing`],
//! and `now` is an argument.
//!
//! ```text
//!            AUTH 200                    SEND of the owner: NeedsFar, dial()
//!   (lobby) ---------> unbound ------------------------------------------------> bound
//!                       |   ^   a stranger's SEND, or another session: arrive()   |
//!            Expires    v   | AUTH                                                | lost(), Expires
//!                       lapsed --- 30 s ---> the connection is closed             v
//!                                                                               ended
//! ```

mod outbox;
mod report;
mod transactions;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use thiserror::Error;

pub use self::report::{Reject, answer, detail, refusal, refusal_of_malformed};
use self::{
    outbox::{Message, Outbox},
    report::Acknowledgement,
    transactions::{Sent, Transaction},
};
use crate::msrp::{
    ByteRange, ChunkQueue, Continuation, DecodeError, Decoder, Event, FailureReport, Head,
    HeaderError, Malformed, Method, Name, Path, Start, StatusCode, TransactId, Uri,
    encode::{self, Template},
};

/// What a session may take of memory and time.
///
/// One session holds at most about `2 * (outbox + own + read buffer)` octets and
/// `2 * transactions` records of a few hundred octets.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets waiting for one leg beyond which the other leg is not read.
    pub outbox: usize,
    /// Octets of responses and REPORTs of our own waiting for a leg beyond which it is not read.
    pub own: usize,
    /// Requests waiting for a leg's answers beyond which the other leg is not read.
    pub transactions: usize,
    /// A peer that takes not one octet for this long is lost.
    pub stall: Duration,
    /// How long the owner of a lapsed session has for a new AUTH.
    pub lapse: Duration,
}

impl Limits {
    /// The limits in force.
    pub const DEFAULT: Self = Self {
        outbox: 128 * 1024,
        own: 64 * 1024,
        transactions: 1024,
        stall: Duration::from_secs(120),
        lapse: Duration::from_secs(30),
    };
}

/// SENDs up to this many octets are passed on whole, and are never cut (RFC 4975 §7.1.1).
pub const WHOLE_SEND: usize = 2048;
/// Largest body of any other request, in octets (RFC 4975 §7.1).
pub const MAX_OTHER_BODY: usize = 10_240;

/// The two connections of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// The client that authenticated.
    Near,
    /// The other party, or a relay in front of it.
    Far,
}

impl Leg {
    /// The one at the other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Near => Self::Far,
            Self::Far => Self::Near,
        }
    }
}

/// What a leg brings along that holds a session: it authenticated.
#[derive(Debug, Clone)]
pub struct Holding {
    /// The URI given out in Use-Path.
    pub uri: Uri,
    /// From-Path of its AUTH: the way back to the client.
    pub client: Path,
    /// When the URI expires.
    pub expiry: Expiry,
    /// Whether methods other than SEND, REPORT, NICKNAME and AUTH are served.
    pub other_methods: bool,
}

/// When a session expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// The moment.
    pub at: Instant,
    /// Whether that ends a bound session too: the client asked for it (RFC 4976 §6.3).
    pub strict: bool,
}

/// What [`Session::receive`] needs from outside before it can go on.
#[derive(Debug)]
pub enum Received {
    /// Nothing: more bytes, or room in the other leg's queue.
    Idle,
    /// The owner's first request goes to this path, its next hop first. The request has not been
    /// taken: call [`Session::dial`], [`Session::refuse_next`] or hand the connection over.
    NeedsFar(Path),
    /// An AUTH for this relay; answer with [`Session::answer`].
    Auth {
        /// Where it came.
        leg: Leg,
        /// The request.
        head: Box<Head>,
    },
}

/// The input of a leg makes no sense any more; the leg is to be closed.
#[derive(Debug, Error)]
pub enum Violation {
    /// The place in the input is lost.
    #[error(transparent)]
    Framing(#[from] DecodeError),
    /// The body of a request that must be passed on whole is too large for that.
    #[error("body of a {0} request of more than {MAX_OTHER_BODY} octets")]
    BodyTooLarge(Method),
}

/// What time brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// Nobody joined the session before its Expires: its URI is no longer valid.
    Lapsed,
    /// ... and its owner did not ask for it again.
    Abandoned,
    /// The session of this leg has expired, and with it the bound session.
    Expired(Leg),
    /// The peer takes nothing.
    Stalled(Leg),
}

/// One relayed session.
#[derive(Debug)]
pub struct Session {
    near: Side,
    far: Side,
    /// Our URIs, in the order in which a request from the near leg names them: one, or two where
    /// two sessions of this relay are joined.
    own: Vec<Uri>,
    link: Link,
    phase: Phase,
    /// What becomes of the owner's request that waits for the far leg.
    refusal: Option<Reject>,
    limits: Limits,
}

/// How the far leg came to be.
#[derive(Debug)]
enum Link {
    /// It is not there.
    None,
    /// We connected to this next hop.
    Dialled {
        next_hop: Uri,
        /// What a relay there handed out to our client (RFC 4976 §5.1).
        use_path: Option<Path>,
    },
    /// It came to us.
    Arrived,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Lapsed { since: Instant },
    Ended,
}

/// One leg.
#[derive(Debug)]
struct Side {
    holding: Option<Holding>,
    /// From-Path of what comes from here.
    party: Option<Path>,
    decoder: Decoder,
    inbound: Inbound,
    outbox: Outbox,
    /// An AUTH is being looked up.
    authenticating: bool,
    /// The message that the other leg wants no more of.
    stopped: Option<Bytes>,
}

impl Side {
    fn new(holding: Option<Holding>, decoder: Decoder, outbox: Outbox) -> Self {
        let party = holding.as_ref().map(|holding| holding.client.clone());
        Self {
            holding,
            party,
            decoder,
            inbound: Inbound::Nothing,
            outbox,
            authenticating: false,
            stopped: None,
        }
    }
}

/// The message under way on the input of a leg.
#[derive(Debug)]
enum Inbound {
    Nothing,
    /// Read to its end-line, to no effect but perhaps a 200.
    Discard(Option<Acknowledgement>),
    /// Gathered until it is whole.
    Collect(Box<Collected>),
    /// A long SEND; its body goes straight into the other leg's outbox.
    Stream(Option<Acknowledgement>),
    /// An AUTH for us.
    Login(Box<Head>),
}

#[derive(Debug)]
struct Collected {
    head: Head,
    body: BytesMut,
    /// What a REPORT would need, if it is a SEND.
    send: Option<Sent>,
}

impl Session {
    /// The session of a client that has just been answered 200 to its AUTH.
    pub fn new(holding: Holding, decoder: Decoder, limits: Limits) -> Self {
        Self::with_ids(holding, decoder, limits, TransactId::random)
    }

    fn with_ids(
        holding: Holding,
        decoder: Decoder,
        limits: Limits,
        new_id: fn() -> TransactId,
    ) -> Self {
        Self {
            own: vec![holding.uri.clone()],
            near: Side::new(Some(holding), decoder, Outbox::new(new_id)),
            far: Side::new(None, Decoder::default(), Outbox::new(new_id)),
            link: Link::None,
            phase: Phase::Open,
            refusal: None,
            limits,
        }
    }

    /// The relay connects to the next hop: from now on requests are taken and wait for it.
    pub fn dial(&mut self, next_hop: Uri) {
        debug_assert!(matches!(self.link, Link::None), "bound twice");
        self.link = Link::Dialled { next_hop, use_path: None };
    }

    /// The owner's request that waits for the far leg is refused; the session stays unbound.
    pub fn refuse_next(&mut self, reject: Reject) {
        self.refusal = Some(reject);
    }

    /// The far leg came to us: a stranger, or with `holding` another session of this relay. Its
    /// input goes on where `decoder` is, and `queued` is still to be written to it.
    pub fn arrive(
        &mut self,
        holding: Option<Holding>,
        decoder: Decoder,
        queued: ChunkQueue,
        now: Instant,
    ) {
        debug_assert!(matches!(self.link, Link::None), "bound twice");
        self.own.extend(holding.as_ref().map(|holding| holding.uri.clone()));
        self.far.party = holding.as_ref().map(|holding| holding.client.clone());
        self.far.holding = holding;
        self.far.decoder = decoder;
        self.far.outbox.adopt(queued, now);
        self.link = Link::Arrived;
    }

    /// Gives up an unbound session, so that its connection can become the far leg of another.
    pub fn hand_over(self) -> (Option<Holding>, Decoder, ChunkQueue) {
        (self.near.holding, self.near.decoder, self.near.outbox.into_queue())
    }

    /// Whether there is a far leg, or one on its way.
    pub fn is_bound(&self) -> bool {
        !matches!(self.link, Link::None)
    }

    /// Reads what `from` sent, as far as the limits allow.
    pub fn receive(
        &mut self,
        from: Leg,
        buf: &mut BytesMut,
        now: Instant,
    ) -> Result<Received, Violation> {
        let received = self.read(from, buf, now);
        self.settle(now);
        received
    }

    /// The answer to an AUTH, and the new Expires if it was accepted.
    pub fn answer(&mut self, leg: Leg, response: BytesMut, extend: Option<Expiry>, now: Instant) {
        let side = self.side_mut(leg);
        side.authenticating = false;
        if let (Some(holding), Some(expiry)) = (&mut side.holding, extend) {
            holding.expiry = expiry;
            if matches!(self.phase, Phase::Lapsed { .. }) {
                self.phase = Phase::Open;
            }
        }
        self.say(leg, Some(response), now);
        self.settle(now);
    }

    /// What is to be written to a leg.
    pub fn outgoing(&self, leg: Leg) -> &ChunkQueue {
        self.side(leg).outbox.queue()
    }

    /// The first `octets` of [`outgoing`](Self::outgoing) are with the socket.
    pub fn sent(&mut self, leg: Leg, octets: usize, now: Instant) {
        self.side_mut(leg).outbox.sent(octets, now);
        self.settle(now);
    }

    /// Whether a leg may be read: back-pressure, all of it.
    pub fn wants_read(&self, leg: Leg) -> bool {
        let other = &self.side(leg.other()).outbox;
        self.phase != Phase::Ended
            && other.cost() < self.limits.outbox
            && other.transactions.len() < self.limits.transactions
            && self.side(leg).outbox.own_octets() < self.limits.own
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        [Leg::Near, Leg::Far].into_iter().filter_map(|leg| self.leg_deadline(leg)).min()
    }

    /// Does what is due; call it again until it returns `None`.
    pub fn expire(&mut self, now: Instant) -> Option<Timeout> {
        for leg in [Leg::Near, Leg::Far] {
            self.side_mut(leg).outbox.expire_pause(now);
            while let Some(transaction) = self.side_mut(leg).outbox.transactions.expired(now) {
                // RFC 4976 §3: only Failure-Report yes runs a timer; the rest is forgotten.
                if let Transaction::Send(sent) = transaction
                    && sent.failure_report == FailureReport::Yes
                {
                    self.report(leg.other(), &sent, StatusCode::TIMEOUT, b"", now);
                }
            }
        }
        let timeout = [Leg::Near, Leg::Far].into_iter().find_map(|leg| self.timeout(leg, now));
        if timeout == Some(Timeout::Lapsed) {
            self.phase = Phase::Lapsed { since: now };
        }
        self.settle(now);
        timeout
    }

    /// The connection of a leg is gone, or could not be made: what was under way there is
    /// reported to the other leg with this status, and what came from there in part is given up.
    /// The session is over; what is queued for the other leg is still to be written.
    pub fn lost(&mut self, leg: Leg, status: StatusCode, comment: &[u8], now: Instant) {
        self.side_mut(leg.other()).outbox.close(Continuation::Abort, now);
        // Nobody is left to hear of these.
        self.side_mut(leg.other()).outbox.transactions.drain();
        for sent in self.side_mut(leg).outbox.fail() {
            self.report(leg.other(), &sent, status, comment, now);
        }
        self.phase = Phase::Ended;
    }

    /// The session ends although both connections are there: each side hears what became of what
    /// it sent, and both queues are still to be written.
    pub fn end(&mut self, status: StatusCode, comment: &[u8], now: Instant) {
        let failed = [Leg::Near, Leg::Far].map(|leg| {
            let outbox = &mut self.side_mut(leg).outbox;
            outbox.close(Continuation::Abort, now);
            (leg, outbox.fail())
        });
        for (leg, sends) in failed {
            for sent in sends {
                self.report(leg.other(), &sent, status, comment, now);
            }
        }
        self.phase = Phase::Ended;
    }

    fn side(&self, leg: Leg) -> &Side {
        match leg {
            Leg::Near => &self.near,
            Leg::Far => &self.far,
        }
    }

    fn side_mut(&mut self, leg: Leg) -> &mut Side {
        match leg {
            Leg::Near => &mut self.near,
            Leg::Far => &mut self.far,
        }
    }

    /// Our URIs in the order in which a request from `leg` meets them.
    fn own_from(&self, leg: Leg) -> impl DoubleEndedIterator<Item = &Uri> + ExactSizeIterator {
        let last = self.own.len() - 1;
        (0..self.own.len()).map(move |n| match leg {
            Leg::Near => &self.own[n],
            Leg::Far => &self.own[last - n],
        })
    }

    /// A leg's answers can only be waited for while it is read.
    fn settle(&mut self, now: Instant) {
        for leg in [Leg::Near, Leg::Far] {
            let reading = self.wants_read(leg);
            self.side_mut(leg).outbox.transactions.set_reading(reading, now);
        }
    }

    // --- reading -------------------------------------------------------------------------------

    fn read(
        &mut self,
        from: Leg,
        buf: &mut BytesMut,
        now: Instant,
    ) -> Result<Received, Violation> {
        while self.wants_read(from) {
            if let Some(path) = self.needs_far(from, buf)? {
                return Ok(Received::NeedsFar(path));
            }
            let guard = match self.side(from).inbound {
                Inbound::Stream(_) => self.side(from.other()).outbox.piece_id(),
                _ => None,
            };
            let side = self.side_mut(from);
            side.decoder.guard(guard);
            let event = match side.decoder.next(buf) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    self.refuse_lost_place(from, &error, now);
                    return Err(error.into());
                }
            };
            match event {
                Event::Head(head) => self.head(from, head, now),
                Event::Malformed(message) => self.malformed(from, &message, now),
                Event::Body(bytes) => self.body(from, bytes, now)?,
                Event::Collision => self.side_mut(from.other()).outbox.change_id(),
                Event::End(flag) => {
                    if let Some(head) = self.message_end(from, flag, now) {
                        return Ok(Received::Auth { leg: from, head });
                    }
                }
            }
        }
        Ok(Received::Idle)
    }

    /// Where the owner's first request goes, if that is what comes next and it may go there.
    fn needs_far(&mut self, from: Leg, buf: &mut BytesMut) -> Result<Option<Path>, Violation> {
        if self.is_bound() || self.refusal.is_some() || self.phase != Phase::Open {
            return Ok(None);
        }
        debug_assert_eq!(from, Leg::Near, "nobody is there yet");
        // Errors are for whoever takes the head, who can tell the sender.
        let Ok(Some(Event::Head(head))) = self.near.decoder.peek(buf) else { return Ok(None) };
        let Start::Request(method) = &head.start else { return Ok(None) };
        if is_login(method, &head) || self.admit(from, &head, method).is_err() {
            return Ok(None);
        }
        Ok(Path::from_uris(&head.to_path[self.own.len()..]))
    }

    fn head(&mut self, from: Leg, head: Head, now: Instant) {
        let method = match &head.start {
            Start::Response { status, comment } => {
                let (status, comment) = (*status, comment.clone());
                self.response(from, &head, status, &comment, now);
                self.side_mut(from).inbound = Inbound::Discard(None);
                return;
            }
            Start::Request(method) => method.clone(),
        };
        let taken = if is_login(&method, &head) {
            self.login(from, head.clone())
        } else {
            match self.refusal.take() {
                Some(reject) => Err(reject),
                None => self.take(from, &method, head.clone(), now),
            }
        };
        self.side_mut(from).inbound = match taken {
            Ok(inbound) => inbound,
            Err(reject) => {
                self.say(from, refusal(&head, &reject), now);
                Inbound::Discard(None)
            }
        };
    }

    fn malformed(&mut self, from: Leg, message: &Malformed, now: Instant) {
        let reject = Reject::Unintelligible(message.error);
        self.say(from, refusal_of_malformed(message, &reject), now);
        self.side_mut(from).inbound = Inbound::Discard(None);
    }

    fn refuse_lost_place(&mut self, from: Leg, error: &DecodeError, now: Instant) {
        if let DecodeError::Head { limit, message: Some(message) } = error {
            let response = refusal_of_malformed(message, &Reject::TooLarge(limit));
            self.say(from, response, now);
        }
    }

    fn body(&mut self, from: Leg, bytes: Bytes, now: Instant) -> Result<(), Violation> {
        let side = self.side_mut(from);
        match &mut side.inbound {
            Inbound::Stream(_) => self.side_mut(from.other()).outbox.body(bytes, now),
            Inbound::Collect(collected) => {
                let limit = match &collected.head.start {
                    Start::Request(Method::Send) => WHOLE_SEND,
                    _ => MAX_OTHER_BODY,
                };
                if collected.body.len() + bytes.len() <= limit {
                    collected.body.extend_from_slice(&bytes);
                    return Ok(());
                }
                let Inbound::Collect(collected) =
                    std::mem::replace(&mut side.inbound, Inbound::Discard(None))
                else {
                    return Ok(());
                };
                self.outgrown(from, *collected, bytes, now)?;
            }
            Inbound::Nothing | Inbound::Discard(_) | Inbound::Login(_) => {}
        }
        Ok(())
    }

    /// A message does not fit what it was expected to have: a SEND is let through as it comes,
    /// anything else must not be (RFC 4975 §7.1).
    fn outgrown(
        &mut self,
        from: Leg,
        collected: Collected,
        bytes: Bytes,
        now: Instant,
    ) -> Result<(), Violation> {
        let Collected { head, body, send } = collected;
        let Some(sent) = send else {
            let Start::Request(method) = head.start else { return Ok(()) };
            return Err(Violation::BodyTooLarge(method));
        };
        self.side_mut(from).inbound = self.stream(from, &head, sent, now);
        let outbox = &mut self.side_mut(from.other()).outbox;
        if !body.is_empty() {
            outbox.body(body.freeze(), now);
        }
        outbox.body(bytes, now);
        Ok(())
    }

    /// Returns an AUTH that is now complete.
    fn message_end(&mut self, from: Leg, flag: Continuation, now: Instant) -> Option<Box<Head>> {
        match std::mem::replace(&mut self.side_mut(from).inbound, Inbound::Nothing) {
            Inbound::Nothing => {}
            Inbound::Discard(acknowledgement) => self.acknowledge(from, acknowledgement, now),
            Inbound::Collect(collected) => self.forward(from, *collected, flag, now),
            Inbound::Stream(acknowledgement) => {
                self.side_mut(from.other()).outbox.close(flag, now);
                self.acknowledge(from, acknowledgement, now);
            }
            Inbound::Login(head) => {
                self.side_mut(from).authenticating = true;
                return Some(head);
            }
        }
        None
    }

    // --- requests ------------------------------------------------------------------------------

    /// An AUTH addressed to this relay: only the connection that holds a session extends it.
    fn login(&self, from: Leg, head: Head) -> Result<Inbound, Reject> {
        head.headers.check()?;
        let side = self.side(from);
        let Some(holding) = &side.holding else {
            return Err(Reject::NoSession(detail::WRONG_SESSION));
        };
        let asked = head.to_path.first().session_id();
        if asked.is_some_and(|id| Some(id) != holding.uri.session_id()) {
            return Err(Reject::NoSession(detail::WRONG_SESSION));
        }
        if head.from_path != holding.client {
            return Err(Reject::NoSession(detail::SOURCE));
        }
        if side.authenticating {
            return Err(Reject::Busy);
        }
        Ok(Inbound::Login(Box::new(head)))
    }

    /// Whether a request may pass (RFC 4976 §6.4): changes nothing.
    fn admit(&self, from: Leg, head: &Head, method: &Method) -> Result<(), Reject> {
        self.route(from, head, method)?;
        head.headers.check()?;
        let known = matches!(method, Method::Send | Method::Report | Method::Auth | Method::Nickname);
        if !known && !self.serves_other_methods(from) {
            return Err(Reject::UnknownMethod(method.clone()));
        }
        if *method != Method::Send {
            return Ok(());
        }
        let Some(message_id) = head.headers.value(Name::MessageId).filter(|id| !id.is_empty()) else {
            let missing = HeaderError::Missing { method: "SEND", header: Name::MessageId.as_str() };
            return Err(missing.into());
        };
        // RFC 4975 §10.5: no further chunks after a 413.
        if self.side(from).stopped.as_deref() == Some(message_id) {
            return Err(Reject::StopSending);
        }
        Ok(())
    }

    fn route(&self, from: Leg, head: &Head, method: &Method) -> Result<(), Reject> {
        let no_session = |detail| Err(Reject::NoSession(detail));
        let (mine, beyond) = head.to_path.split_at(self.own.len().min(head.to_path.len()));
        if self.phase != Phase::Open {
            return no_session(detail::NONE);
        }
        if Some(head.to_path.first()) != self.own_from(from).next() {
            return no_session(detail::WRONG_SESSION);
        }
        if beyond.is_empty() {
            return no_session(detail::NOWHERE);
        }
        if !mine.iter().eq(self.own_from(from)) {
            return no_session(detail::DESTINATION);
        }
        if !self.is_source(from, head, method) {
            return no_session(detail::SOURCE);
        }
        if !self.is_destination(from, beyond, method) {
            return no_session(detail::DESTINATION);
        }
        Ok(())
    }

    fn is_source(&self, from: Leg, head: &Head, method: &Method) -> bool {
        match &self.side(from).party {
            Some(party) => head.from_path == *party,
            // The first SEND says who the far party is.
            None => *method == Method::Send && self.is_next_hop(head.from_path.first()),
        }
    }

    fn is_destination(&self, from: Leg, beyond: &[Uri], method: &Method) -> bool {
        // RFC 4976 §9.4: a way that leads back here leads nowhere.
        if beyond.iter().any(|uri| self.own.contains(uri)) {
            return false;
        }
        match &self.side(from.other()).party {
            Some(party) if beyond == &party[..] => true,
            // An AUTH goes to the relay next door, not to the party.
            Some(_) => *method == Method::Auth && self.is_dialled(&beyond[0]),
            None => self.is_next_hop(&beyond[0]),
        }
    }

    fn is_dialled(&self, hop: &Uri) -> bool {
        matches!(&self.link, Link::Dialled { next_hop, .. } if next_hop == hop)
    }

    /// Whether the far leg leads to this URI: the one that was dialled, or what the relay there
    /// gave out.
    fn is_next_hop(&self, hop: &Uri) -> bool {
        match &self.link {
            Link::None | Link::Arrived => true,
            Link::Dialled { next_hop, use_path } => {
                next_hop == hop || use_path.as_ref().is_some_and(|path| path.contains(hop))
            }
        }
    }

    fn serves_other_methods(&self, from: Leg) -> bool {
        let holding = self.side(from).holding.as_ref().or(self.near.holding.as_ref());
        holding.is_none_or(|holding| holding.other_methods)
    }

    /// Admits a request and says how its body is to be read.
    fn take(
        &mut self,
        from: Leg,
        method: &Method,
        head: Head,
        now: Instant,
    ) -> Result<Inbound, Reject> {
        self.admit(from, &head, method)?;
        if *method != Method::Send {
            return Ok(Inbound::Collect(Box::new(Collected {
                head,
                body: BytesMut::new(),
                send: None,
            })));
        }
        self.fix_parties(from, &head);
        let range = head.headers.byte_range()?;
        let sent = Sent {
            failure_report: head.headers.failure_report()?,
            from_path: head.from_path.clone(),
            // Kept for up to 30 s: a copy, so that it does not keep a read buffer.
            message_id: Bytes::copy_from_slice(head.headers.value(Name::MessageId).unwrap_or(b"")),
            range: range.unwrap_or(ByteRange::WHOLE),
            octets: 0,
        };
        let long = range.is_some_and(|range| range.declared().is_none_or(|n| n > WHOLE_SEND as u64));
        if long && head.has_body {
            return Ok(self.stream(from, &head, sent, now));
        }
        Ok(Inbound::Collect(Box::new(Collected { head, body: BytesMut::new(), send: Some(sent) })))
    }

    /// The first SEND, in either direction, says who the two parties are.
    fn fix_parties(&mut self, from: Leg, head: &Head) {
        if self.far.party.is_some() {
            return;
        }
        self.far.party = match from {
            Leg::Near => Path::from_uris(&head.to_path[self.own.len()..]),
            Leg::Far => Some(head.from_path.clone()),
        };
    }

    fn stream(&mut self, from: Leg, head: &Head, sent: Sent, now: Instant) -> Inbound {
        let acknowledgement = acknowledgement(head, &sent);
        let template = Template::new(head, self.own.len());
        self.side_mut(from.other()).outbox.open(template, sent, now);
        Inbound::Stream(acknowledgement)
    }

    /// Passes on a message that was collected whole.
    fn forward(&mut self, from: Leg, collected: Collected, flag: Continuation, now: Instant) {
        let Collected { head, body, send } = collected;
        let Start::Request(method) = &head.start else { return };
        let id = self.side(from.other()).outbox.next_id();
        let mut out = BytesMut::with_capacity(512 + body.len());
        encode::request_line(&mut out, &id, method);
        self.forwarded(&mut out, &head);
        if head.has_body {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&body);
        }
        encode::end_line(&mut out, &id, flag, head.has_body);
        let acknowledgement = send.as_ref().and_then(|sent| acknowledgement(&head, sent));
        let octets = body.len() as u64;
        let transaction = match (method, send) {
            // RFC 4975 §7.1.2: nobody answers a REPORT.
            (Method::Report, _) => None,
            (_, Some(sent)) if sent.failure_report == FailureReport::No => None,
            (_, Some(sent)) => Some(Transaction::Send(Sent { octets, ..sent })),
            (method, None) => Some(Transaction::Other {
                incoming: head.transact_id,
                auth: *method == Method::Auth,
            }),
        };
        let message = Message {
            bytes: out.freeze(),
            transaction: transaction.map(|transaction| (id, transaction)),
            own: false,
        };
        self.side_mut(from.other()).outbox.push(message, now);
        self.acknowledge(from, acknowledgement, now);
    }

    /// The lines of a message that passes us, paths first (RFC 4976 §6.4.1).
    fn forwarded(&self, out: &mut BytesMut, head: &Head) {
        encode::moved_paths(out, &head.to_path, &head.from_path, self.own.len());
        for (_, line) in encode::forwarded_lines(head) {
            out.extend_from_slice(line);
        }
    }

    // --- responses -----------------------------------------------------------------------------

    /// RFC 4976 §6.4.3. A response that belongs to nothing is dropped.
    fn response(&mut self, from: Leg, head: &Head, status: StatusCode, comment: &[u8], now: Instant) {
        if Some(head.to_path.first()) != self.own_from(from).next() || self.phase == Phase::Ended {
            return;
        }
        let outbox = &mut self.side_mut(from).outbox;
        if outbox.piece_id() == Some(head.transact_id) {
            outbox.answered_early();
            if !status.is_ok() {
                self.stop(from, status, comment, now);
            }
            return;
        }
        match outbox.transactions.complete(&head.transact_id) {
            Some(Transaction::Send(sent)) if !status.is_ok() => {
                self.failed(from, &sent, status, comment, now);
            }
            Some(Transaction::Other { incoming, auth }) => {
                self.forward_response(from, head, (status, comment), (incoming, auth), now);
            }
            Some(Transaction::Send(_)) | None => {}
        }
    }

    /// The next hop refused a chunk.
    fn failed(&mut self, by: Leg, sent: &Sent, status: StatusCode, comment: &[u8], now: Instant) {
        self.report(by.other(), sent, status, comment, now);
        if status != StatusCode::STOP_SENDING {
            return;
        }
        // RFC 4975 §10.5: whatever else there is of this message stays here.
        let same = |under_way: &Sent| under_way.message_id == sent.message_id;
        if self.side(by).outbox.under_way().as_ref().is_some_and(same) {
            self.stop(by, status, comment, now);
        } else {
            self.side_mut(by.other()).stopped = Some(sent.message_id.clone());
        }
    }

    /// Gives up the SEND that is on its way to `by`, who refused it.
    fn stop(&mut self, by: Leg, status: StatusCode, comment: &[u8], now: Instant) {
        let outbox = &mut self.side_mut(by).outbox;
        let Some(sent) = outbox.under_way() else { return };
        outbox.answered_early();
        outbox.close(Continuation::Abort, now);
        let sender = self.side_mut(by.other());
        if let Inbound::Stream(acknowledgement) = &mut sender.inbound {
            sender.inbound = Inbound::Discard(acknowledgement.take());
        }
        if status == StatusCode::STOP_SENDING {
            sender.stopped = Some(sent.message_id.clone());
        }
        if sent.failure_report != FailureReport::No {
            self.report(by.other(), &sent, status, comment, now);
        }
    }

    fn forward_response(
        &mut self,
        from: Leg,
        head: &Head,
        (status, comment): (StatusCode, &[u8]),
        (incoming, auth): (TransactId, bool),
        now: Instant,
    ) {
        let ours = head.to_path.len() > self.own.len()
            && self.own_from(from).eq(&head.to_path[..self.own.len()]);
        if !ours || head.headers.check().is_err() {
            return;
        }
        if auth && status.is_ok() {
            self.note_use_path(head);
        }
        let mut out = BytesMut::with_capacity(512);
        encode::status_line(&mut out, &incoming, status, comment);
        self.forwarded(&mut out, head);
        encode::end_line(&mut out, &incoming, Continuation::End, false);
        let message = Message { bytes: out.freeze(), transaction: None, own: false };
        self.side_mut(from.other()).outbox.push(message, now);
    }

    /// A relay further out gave our client a URI: the client will name it behind ours.
    fn note_use_path(&mut self, head: &Head) {
        let Some(Ok(given)) = head.headers.value(Name::UsePath).map(Path::parse) else { return };
        let given: Vec<Uri> = given.iter().filter(|uri| !self.own.contains(uri)).cloned().collect();
        if let Link::Dialled { use_path, .. } = &mut self.link {
            *use_path = Path::from_uris(&given);
        }
    }

    // --- what we say ourselves -----------------------------------------------------------------

    fn say(&mut self, leg: Leg, response: Option<BytesMut>, now: Instant) {
        if let Some(response) = response {
            self.side_mut(leg).outbox.push(Message::own(response), now);
        }
    }

    fn acknowledge(&mut self, leg: Leg, acknowledgement: Option<Acknowledgement>, now: Instant) {
        self.say(leg, acknowledgement.map(|acknowledgement| acknowledgement.response()), now);
    }

    fn report(&mut self, to: Leg, sent: &Sent, status: StatusCode, comment: &[u8], now: Instant) {
        let id = self.side(to).outbox.next_id();
        // The URI nearest to the addressee comes first, as if each session had passed it on.
        let report = report::report(id, sent, self.own_from(to), status, comment);
        self.say(to, Some(report), now);
    }

    // --- time ----------------------------------------------------------------------------------

    fn leg_deadline(&self, leg: Leg) -> Option<Instant> {
        if self.phase == Phase::Ended {
            return None;
        }
        let outbox = &self.side(leg).outbox;
        let deadlines = [
            outbox.transactions.deadline(),
            outbox.pause_deadline(),
            outbox.waiting_since().map(|since| since + self.limits.stall),
            self.expiry(leg),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// When the session that this leg holds ends, or what it had to do by then.
    fn expiry(&self, leg: Leg) -> Option<Instant> {
        let expiry = self.side(leg).holding.as_ref()?.expiry;
        match self.phase {
            Phase::Lapsed { since } => Some(since + self.limits.lapse),
            _ if self.is_bound() && !expiry.strict => None,
            _ => Some(expiry.at),
        }
    }

    fn timeout(&self, leg: Leg, now: Instant) -> Option<Timeout> {
        if self.phase == Phase::Ended {
            return None;
        }
        let stalled = self.side(leg).outbox.waiting_since().map(|since| since + self.limits.stall);
        if stalled.is_some_and(|deadline| deadline <= now) {
            return Some(Timeout::Stalled(leg));
        }
        if self.expiry(leg).is_none_or(|deadline| deadline > now) {
            return None;
        }
        Some(match self.phase {
            Phase::Lapsed { .. } => Timeout::Abandoned,
            _ if self.is_bound() => Timeout::Expired(leg),
            _ => Timeout::Lapsed,
        })
    }
}

/// Whether a request is an AUTH for this relay itself, not for one behind it.
pub fn is_login(method: &Method, head: &Head) -> bool {
    *method == Method::Auth && head.to_path.len() == 1
}

/// RFC 4976 §6.4.1: 200 at once to the previous hop; none for partial and no (RFC 4975 §7.1.4).
fn acknowledgement(head: &Head, sent: &Sent) -> Option<Acknowledgement> {
    (sent.failure_report == FailureReport::Yes).then(|| Acknowledgement::new(head))
}
