//! The relay logic: what happens to a frame between two connections (RFC 4976 §6.2, §6.4).
//!
//! A [`Session`] owns the state of both legs and nothing else: no socket, no clock, no runtime.
//! The caller passes the bytes that a leg sent to [`Session::receive`], writes the bytes in
//! [`Session::outgoing`], and tells the time by `now`.
//!
//! ```text
//!            AUTH 200                    SEND of the owner: NeedsFar, dial()
//!   (lobby) ---------> unbound ------------------------------------------------> bound
//!                       |   ^   a stranger's SEND, or another session: arrive()   |
//!            Expires    v   | AUTH                                                | lost(), Expires
//!                       lapsed --- 30 s ---> the connection is closed             v
//!                                                                               ended
//! ```

mod deadlines;
mod limits;
mod outbox;
mod reading;
mod report;
mod requests;
mod responses;
mod side;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use thiserror::Error;
use tracing::debug;

pub use self::{
    deadlines::{Arrival, Expiry},
    limits::{Limits, MAX_MESSAGE_ID, MAX_OTHER_BODY, WHOLE_SEND},
    reading::log_stray,
    report::{Reject, answer, detail, refusal, refusal_of_malformed},
    requests::{check_send, is_login},
    side::{Holding, LEGS, Leg},
};
use self::{
    deadlines::{Sent, Transaction},
    outbox::{Frame, Outbox},
    report::Acknowledgement,
    side::{Inbound, Side},
};
use crate::msrp::{
    ChunkQueue, DecodeError, Decoder, FailureReport, Head, Method, Path, StatusCode, TransactId,
    Uri,
};

/// What [`Session::receive`] needs from outside before it can go on.
#[derive(Debug)]
pub enum Received {
    /// Nothing but more input, or room in the other leg's queue.
    Idle,
    /// The owner's first request goes to this path, its next hop first. The request has not been
    /// taken: call [`Session::dial`], [`Session::refuse_next`] or hand the connection over.
    NeedsFar(Path),
    /// An AUTH for this relay. Answer it with [`Session::answer`].
    Auth {
        /// The leg that sent it.
        leg: Leg,
        head: Box<Head>,
    },
    /// The client on this leg has failed too often to log in at relays further out (RFC 4976
    /// §6.3). The last answer is queued for it. Give the leg up: call [`Session::lost`], write
    /// what is queued, close the connection.
    LockedOut(Leg),
}

/// The input of a leg cannot be read any further. Close the leg.
#[derive(Debug, Error)]
pub enum Violation {
    /// The decoder cannot tell where the next message begins.
    #[error(transparent)]
    Framing(#[from] DecodeError),
    /// A request other than SEND, which must be passed on whole, has too large a body.
    #[error("body of a {0} request of more than {MAX_OTHER_BODY} octets")]
    BodyTooLarge(Method),
}

/// A deadline of the session that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timeout {
    /// No peer joined the session before its Expires: its URI is no longer valid.
    Lapsed,
    /// The owner of a lapsed session sent no new AUTH in time.
    Abandoned,
    /// The session of this leg has expired, and with it the bound session.
    Expired(Leg),
    /// The peer on this leg has taken nothing of what is queued for it.
    Stalled(Leg),
    /// No octet has passed either way for this time, the idle timeout of one of the sessions.
    Idle(Duration),
}

/// One relayed session.
#[derive(Debug)]
pub struct Session {
    near: Side,
    far: Side,
    /// The relay's URIs, in the order in which a request from the near leg names them: one, or two
    /// if two sessions of this relay are joined.
    own: Vec<Uri>,
    binding: Binding,
    life: Life,
    /// Why the owner's next request, which would need a far leg, is to be refused.
    refusal: Option<Reject>,
    /// The leg whose client has just reached `max_auth_attempts`.
    locked_out: Option<Leg>,
    /// When an octet came, was taken by a socket, or is known to have arrived at a peer.
    active: Instant,
    limits: Limits,
}

/// How the far leg came to be.
#[derive(Debug)]
enum Binding {
    /// There is no far leg yet.
    None,
    /// The relay dialled this next hop, or is dialling it.
    Dialled {
        next_hop: Uri,
        /// The Use-Path that a relay there granted to the client (RFC 4976 §5.1).
        use_path: Option<Path>,
    },
    /// The peer connected to the relay.
    Arrived,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Open,
    Lapsed { since: Instant },
    Ended,
}

impl Session {
    /// The session of a client whose AUTH has been accepted. `decoder` has read the client's input
    /// so far, and `queued` is still to be written to the client: the 200, for instance.
    pub fn new(
        holding: Holding,
        decoder: Decoder,
        queued: ChunkQueue,
        limits: Limits,
        now: Instant,
    ) -> Self {
        let mut session = Self::with_ids(holding, decoder, limits, TransactId::random, now);
        session.near.outbox.adopt(queued, now);
        session
    }

    fn with_ids(
        holding: Holding,
        decoder: Decoder,
        limits: Limits,
        new_id: fn() -> TransactId,
        now: Instant,
    ) -> Self {
        Self {
            own: vec![holding.uri.clone()],
            near: Side::new(Some(holding), decoder, Outbox::new(new_id, &limits)),
            far: Side::new(None, Decoder::default(), Outbox::new(new_id, &limits)),
            binding: Binding::None,
            life: Life::Open,
            refusal: None,
            locked_out: None,
            active: now,
            limits,
        }
    }

    /// The relay dials the next hop. From now on the session takes the owner's requests and queues
    /// them for the far leg.
    pub fn dial(&mut self, next_hop: Uri) {
        debug_assert!(matches!(self.binding, Binding::None), "bound twice");
        self.binding = Binding::Dialled { next_hop, use_path: None };
    }

    /// Refuses the owner's request for which [`Received::NeedsFar`] was returned. The session stays
    /// unbound.
    pub fn refuse_next(&mut self, reject: Reject) {
        self.refusal = Some(reject);
    }

    /// The far leg connected to the relay: a stranger, or with `holding` the client of another
    /// session of this relay. `decoder` has read its input so far, and `queued` is still to be
    /// written to it.
    pub fn arrive(
        &mut self,
        holding: Option<Holding>,
        decoder: Decoder,
        queued: ChunkQueue,
        now: Instant,
    ) {
        debug_assert!(matches!(self.binding, Binding::None), "bound twice");
        self.own.extend(holding.as_ref().map(|holding| holding.uri.clone()));
        self.far.hold(holding, now);
        self.far.decoder = decoder;
        self.far.outbox.adopt(queued, now);
        self.binding = Binding::Arrived;
        // A refusal was for the unbound session: the owner's request is checked again.
        self.refusal = None;
        // The peer claimed the session before it lapsed.
        self.life = Life::Open;
    }

    /// Gives up an unbound session, so that its connection can become the far leg of another.
    pub fn hand_over(self) -> (Option<Holding>, Decoder, ChunkQueue) {
        (self.near.holding, self.near.decoder, self.near.outbox.into_queue())
    }

    /// What each leg is still to be told, near and far, once the session is over.
    pub fn into_outgoing(self) -> [ChunkQueue; 2] {
        [self.near, self.far].map(|side| side.outbox.into_queue())
    }

    /// What the session of a leg was granted, if its client holds one.
    pub fn holding(&self, leg: Leg) -> Option<&Holding> {
        self.side(leg).holding.as_ref()
    }

    /// Whether there is a far leg, or one on its way.
    pub fn is_bound(&self) -> bool {
        !matches!(self.binding, Binding::None)
    }

    /// Whether the URI expired before a peer joined.
    pub fn is_lapsed(&self) -> bool {
        matches!(self.life, Life::Lapsed { .. })
    }

    /// Reads what leg `from` sent, as far as the limits allow.
    pub fn receive(
        &mut self,
        from: Leg,
        buf: &mut BytesMut,
        now: Instant,
    ) -> Result<Received, Violation> {
        if !buf.is_empty() {
            self.active = now;
        }
        let received = self.read(from, buf, now);
        self.settle(now);
        received
    }

    /// Queues the answer to an AUTH; with `extend` the AUTH was accepted, and the session lasts
    /// until then.
    pub fn answer(&mut self, leg: Leg, response: BytesMut, extend: Option<Expiry>, now: Instant) {
        let side = self.side_mut(leg);
        side.authenticating = false;
        if let Some(expiry) = extend {
            side.extend(expiry, now);
            if matches!(self.life, Life::Lapsed { .. }) {
                self.life = Life::Open;
            }
        }
        self.say(leg, Some(response), now);
        self.settle(now);
    }

    /// The bytes to be written to a leg.
    pub fn outgoing(&self, leg: Leg) -> &ChunkQueue {
        self.side(leg).outbox.queue()
    }

    /// The first `octets` of [`outgoing`](Self::outgoing) are with the socket.
    pub fn sent(&mut self, leg: Leg, octets: usize, now: Instant) {
        self.active = now;
        self.side_mut(leg).outbox.sent(octets, now);
        self.settle(now);
    }

    /// Whether it must be known what has [`arrived`](Self::arrived) on a leg, to judge a deadline
    /// of it later.
    pub fn wants_look(&self, leg: Leg, now: Instant) -> bool {
        self.side(leg).outbox.transactions.wants_look(now)
    }

    /// Tells what of the octets that were [`sent`](Self::sent) has arrived at the kernel of the peer
    /// on a leg. Only then does the time for an answer begin (RFC 4976 §6.4.1).
    pub fn arrived(&mut self, leg: Leg, arrival: &Arrival, now: Instant) {
        let side = self.side_mut(leg);
        let (were, are) = (side.under_way, arrival.outstanding > 0);
        side.under_way = are;
        // If all had arrived by the first look, nobody knows when: the socket's time counts.
        if side.outbox.arrived(arrival, now) && (were || are) {
            self.active = self.active.max(arrival.at);
        }
    }

    /// Tells whether a leg is blocked: its socket takes nothing more, although bytes wait for it in
    /// [`outgoing`](Self::outgoing) or in the buffers of TLS. Call it when that changes, and again
    /// whenever the socket took some of these bytes.
    pub fn set_blocked(&mut self, leg: Leg, blocked: bool, now: Instant) {
        self.side_mut(leg).outbox.set_blocked(blocked, now);
        self.settle(now);
    }

    /// Whether a leg may be read: the one place that decides on back-pressure.
    ///
    /// While one leg is blocked the other one is not read: the kernel holds enough for the blocked
    /// peer already, and more in the queue would only cost memory.
    pub fn wants_read(&self, leg: Leg) -> bool {
        let other = leg.other();
        self.life != Life::Ended
            && !(leg == Leg::Near && self.awaits_stranger())
            && !self.side(other).outbox.is_blocked()
            && self.side(other).outbox.cost() < self.limits.outbox
            && self.side(leg).outbox.own_octets() < self.limits.own
            // If both legs owe answers, those of this leg may come behind its own requests.
            && (!self.owes_much(other) || self.owes_much(leg))
    }

    /// Whether so many requests to a leg are unanswered that it is to be sent no more.
    fn owes_much(&self, leg: Leg) -> bool {
        self.side(leg).outbox.transactions.due() >= self.limits.transactions
    }

    /// Whether a stranger has arrived whose first SEND has not been read. That SEND says who the
    /// stranger is, and nothing may be sent to it before.
    fn awaits_stranger(&self) -> bool {
        matches!(self.binding, Binding::Arrived) && self.far.peer_path.is_none()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        LEGS.into_iter().filter_map(|leg| self.leg_deadline(leg)).min()
    }

    /// Does what is due at `now`. Tell it first what has [`arrived`](Self::arrived) on both legs, and
    /// call it again until it returns `None`.
    pub fn expire(&mut self, now: Instant) -> Option<Timeout> {
        for leg in LEGS {
            self.side_mut(leg).outbox.expire_pause(now);
            while let Some(transaction) = self.side_mut(leg).outbox.transactions.expired(now) {
                // RFC 4976 §3: only a SEND with Failure-Report yes is reported after a time-out.
                if let Transaction::Send(sent) = transaction
                    && sent.failure_report == FailureReport::Yes
                {
                    self.report(leg.other(), &sent, StatusCode::TIMEOUT, b"", now);
                }
            }
        }
        let timeout = LEGS.into_iter().find_map(|leg| self.timeout(leg, now));
        if timeout == Some(Timeout::Lapsed) {
            self.life = Life::Lapsed { since: now };
        }
        self.settle(now);
        timeout
    }

    /// Ends the session because the connection of a leg is gone, or could not be made. The other
    /// leg gets a REPORT with this status for each SEND to the lost leg that was not answered. A
    /// SEND that the lost leg had not finished is ended with `#`. What is queued for the other leg
    /// is still to be written.
    pub fn lost(&mut self, leg: Leg, status: StatusCode, comment: &[u8], now: Instant) {
        // The senders of these are gone: no REPORT.
        self.side_mut(leg.other()).outbox.fail(now);
        let failed = self.fail(leg, now);
        self.report_all(leg.other(), &failed, status, comment, now);
        self.life = Life::Ended;
    }

    /// Ends the session while both connections are there. Each leg gets a REPORT for each of its
    /// SENDs that was not answered. Both queues are still to be written.
    pub fn end(&mut self, status: StatusCode, comment: &[u8], now: Instant) {
        for (leg, failed) in LEGS.map(|leg| (leg, self.fail(leg, now))) {
            self.report_all(leg.other(), &failed, status, comment, now);
        }
        self.life = Life::Ended;
    }

    /// Gives up all SENDs to `leg` that are unanswered or under way, and returns them.
    fn fail(&mut self, leg: Leg, now: Instant) -> Vec<Sent> {
        let mut failed = self.side_mut(leg).outbox.fail(now);
        let sender = self.side_mut(leg.other());
        if let Inbound::Collect(collected) = &mut sender.inbound
            && let Some(sent) = collected.send.take()
        {
            failed.push(Sent { octets: collected.body.len() as u64, ..sent });
        }
        failed
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

    /// This leg and the other one.
    fn sides_mut(&mut self, leg: Leg) -> (&mut Side, &mut Side) {
        match leg {
            Leg::Near => (&mut self.near, &mut self.far),
            Leg::Far => (&mut self.far, &mut self.near),
        }
    }

    /// The relay's URIs in the order in which a request from `leg` names them.
    fn own_from(&self, leg: Leg) -> impl DoubleEndedIterator<Item = &Uri> + ExactSizeIterator {
        let last = self.own.len() - 1;
        (0..self.own.len()).map(move |n| match leg {
            Leg::Near => &self.own[n],
            Leg::Far => &self.own[last - n],
        })
    }

    /// Whether a message from `leg` with this To-Path is for this session. Its first URI may have
    /// been rewritten on its way.
    fn is_for(&self, leg: Leg, to_path: &Path) -> bool {
        self.own_from(leg).next().is_some_and(|own| to_path.first().leads_to(own))
    }

    /// Whether a message that [`is_for`](Self::is_for) this session also passes the second one that
    /// is joined to it.
    fn passes(&self, leg: Leg, to_path: &Path) -> bool {
        let rest = to_path.get(1..self.own.len()).unwrap_or_default();
        self.own_from(leg).skip(1).eq(rest)
    }

    /// Whether a URI is one of this session, perhaps rewritten.
    fn is_own(&self, uri: &Uri) -> bool {
        self.own.iter().any(|own| own.same_session_id(uri))
    }

    /// Tells each leg's clock whether the leg is read: a deadline for its input must not pass while
    /// that input stays in the socket.
    fn settle(&mut self, now: Instant) {
        for leg in LEGS {
            let reading = self.wants_read(leg);
            self.side_mut(leg).outbox.transactions.set_reading(reading, now);
        }
    }

    fn say(&mut self, leg: Leg, response: Option<BytesMut>, now: Instant) {
        if let Some(response) = response {
            self.side_mut(leg).outbox.push(Frame::own(response), now);
        }
    }

    fn acknowledge(&mut self, leg: Leg, acknowledgement: Option<Acknowledgement>, now: Instant) {
        self.say(leg, acknowledgement.map(|acknowledgement| acknowledgement.response()), now);
    }

    fn report_all(
        &mut self,
        to: Leg,
        failed: &[Sent],
        status: StatusCode,
        comment: &[u8],
        now: Instant,
    ) {
        for sent in failed {
            self.report(to, sent, status, comment, now);
        }
    }

    /// Queues a REPORT to the sender of a chunk that failed, unless Failure-Report says no.
    fn report(&mut self, to: Leg, sent: &Sent, status: StatusCode, comment: &[u8], now: Instant) {
        if sent.failure_report == FailureReport::No {
            return;
        }
        debug!(?to, %status, "a SEND failed");
        if self.side(to).outbox.own_octets() >= self.limits.reports {
            return;
        }
        let id = self.side(to).outbox.id_for(&[]);
        // The URI nearest to the sender comes first, as if each session had passed the REPORT on.
        let report = report::report(id, sent, self.own_from(to), status, comment);
        self.say(to, Some(report), now);
    }

    fn leg_deadline(&self, leg: Leg) -> Option<Instant> {
        if self.life == Life::Ended {
            return None;
        }
        let outbox = &self.side(leg).outbox;
        let deadlines = [
            outbox.transactions.deadline(),
            outbox.pause_deadline(),
            outbox.look_deadline(),
            outbox.waiting_since().map(|since| since + self.limits.stall),
            self.expiry(leg),
            self.idle_timeout(leg).map(|time| self.active + time),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// When the session that this leg holds expires; if it has lapsed, when its owner's time for a
    /// new AUTH ends.
    fn expiry(&self, leg: Leg) -> Option<Instant> {
        let side = self.side(leg);
        let holding = side.holding.as_ref()?;
        match self.life {
            Life::Lapsed { since } => Some(since + self.limits.lapse),
            _ if self.is_bound() => side.bound_expiry(),
            _ => Some(holding.expiry.at),
        }
    }

    /// The idle timeout of the session that this leg holds.
    fn idle_timeout(&self, leg: Leg) -> Option<Duration> {
        self.side(leg).holding.as_ref()?.idle_timeout
    }

    fn timeout(&self, leg: Leg, now: Instant) -> Option<Timeout> {
        if self.life == Life::Ended {
            return None;
        }
        let stalled = self.side(leg).outbox.waiting_since().map(|since| since + self.limits.stall);
        if stalled.is_some_and(|deadline| deadline <= now) {
            return Some(Timeout::Stalled(leg));
        }
        if let Some(time) = self.idle_timeout(leg).filter(|time| self.active + *time <= now) {
            return Some(Timeout::Idle(time));
        }
        if self.expiry(leg).is_none_or(|deadline| deadline > now) {
            return None;
        }
        Some(match self.life {
            Life::Lapsed { .. } => Timeout::Abandoned,
            _ if self.is_bound() => Timeout::Expired(leg),
            _ => Timeout::Lapsed,
        })
    }
}

#[cfg(test)]
mod tests;
