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

mod deadlines;
mod limits;
mod outbox;
mod reading;
mod report;
mod requests;
mod responses;
mod side;

use std::time::Instant;

use bytes::BytesMut;
use thiserror::Error;
use tracing::debug;

pub use self::{
    deadlines::Expiry,
    limits::{Limits, MAX_MESSAGE_ID, MAX_OTHER_BODY, WHOLE_SEND},
    reading::log_stray,
    report::{Reject, answer, detail, refusal, refusal_of_malformed},
    requests::{check_send, is_login},
    side::{Holding, Leg},
};
use self::{
    deadlines::{Sent, Transaction},
    outbox::{Message, Outbox},
    report::Acknowledgement,
    side::{Inbound, LEGS, Side},
};
use crate::msrp::{
    ChunkQueue, DecodeError, Decoder, FailureReport, Head, Method, Path, StatusCode, TransactId,
    Uri,
};

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
    /// The client on this leg has failed too often to log in at relays further out (RFC 4976
    /// §6.3). The last answer is queued for it; after that the leg is to be given up: call
    /// [`Session::lost`], write what is queued, close.
    LockedOut(Leg),
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
    /// Whose AUTHs failed once too often.
    locked_out: Option<Leg>,
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

impl Session {
    /// The session of a client whose AUTH has been accepted. Its input goes on where `decoder`
    /// is, and `queued` is still to be written to it, the 200 for instance.
    pub fn new(
        holding: Holding,
        decoder: Decoder,
        queued: ChunkQueue,
        limits: Limits,
        now: Instant,
    ) -> Self {
        let mut session = Self::with_ids(holding, decoder, limits, TransactId::random);
        session.near.outbox.adopt(queued, now);
        session
    }

    fn with_ids(
        holding: Holding,
        decoder: Decoder,
        limits: Limits,
        new_id: fn() -> TransactId,
    ) -> Self {
        Self {
            own: vec![holding.uri.clone()],
            near: Side::new(Some(holding), decoder, Outbox::new(new_id, &limits)),
            far: Side::new(None, Decoder::default(), Outbox::new(new_id, &limits)),
            link: Link::None,
            phase: Phase::Open,
            refusal: None,
            locked_out: None,
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
        // The owner's request is judged anew, now that there is somebody.
        self.refusal = None;
        // It came just before the session would have lapsed.
        self.phase = Phase::Open;
    }

    /// Gives up an unbound session, so that its connection can become the far leg of another.
    pub fn hand_over(self) -> (Option<Holding>, Decoder, ChunkQueue) {
        (self.near.holding, self.near.decoder, self.near.outbox.into_queue())
    }

    /// Whether there is a far leg, or one on its way.
    pub fn is_bound(&self) -> bool {
        !matches!(self.link, Link::None)
    }

    /// Whether the URI has expired before anybody joined.
    pub fn is_lapsed(&self) -> bool {
        matches!(self.phase, Phase::Lapsed { .. })
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
        if let Some(expiry) = extend {
            side.extend(expiry, now);
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

    /// Whether the socket of a leg takes nothing more, while something that it was offered has not
    /// gone, be it in [`outgoing`](Self::outgoing) or in the buffers of TLS. To be called when that
    /// changes, and when the socket took a part of it.
    pub fn set_blocked(&mut self, leg: Leg, blocked: bool, now: Instant) {
        self.side_mut(leg).outbox.set_blocked(blocked, now);
        self.settle(now);
    }

    /// Whether a leg may be read: back-pressure, all of it.
    ///
    /// For a peer that is blocked nothing more is read: the kernel has enough for it, and what
    /// waits behind that only costs memory.
    pub fn wants_read(&self, leg: Leg) -> bool {
        let other = leg.other();
        self.phase != Phase::Ended
            && !(leg == Leg::Near && self.awaits_stranger())
            && !self.side(other).outbox.is_blocked()
            && self.side(other).outbox.cost() < self.limits.outbox
            && self.side(leg).outbox.own_octets() < self.limits.own
            // The answers of a leg that owes them itself may come behind what it asks for.
            && (!self.owes_much(other) || self.owes_much(leg))
    }

    /// Whether so many answers of a leg are missing that no more is to be asked of it.
    fn owes_much(&self, leg: Leg) -> bool {
        self.side(leg).outbox.transactions.due() >= self.limits.transactions
    }

    /// Whether a stranger has come whose first SEND, which says who that is, has not been read:
    /// nothing may be sent there before.
    fn awaits_stranger(&self) -> bool {
        matches!(self.link, Link::Arrived) && self.far.party.is_none()
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        LEGS.into_iter().filter_map(|leg| self.leg_deadline(leg)).min()
    }

    /// Does what is due; call it again until it returns `None`.
    pub fn expire(&mut self, now: Instant) -> Option<Timeout> {
        for leg in LEGS {
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
        let timeout = LEGS.into_iter().find_map(|leg| self.timeout(leg, now));
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
        // Nobody is left to hear of these.
        self.side_mut(leg.other()).outbox.fail(now);
        let failed = self.fail(leg, now);
        self.report_all(leg.other(), &failed, status, comment, now);
        self.phase = Phase::Ended;
    }

    /// The session ends although both connections are there: each side hears what became of what
    /// it sent, and both queues are still to be written.
    pub fn end(&mut self, status: StatusCode, comment: &[u8], now: Instant) {
        for (leg, failed) in LEGS.map(|leg| (leg, self.fail(leg, now))) {
            self.report_all(leg.other(), &failed, status, comment, now);
        }
        self.phase = Phase::Ended;
    }

    /// Gives up all that was on its way to `leg`.
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

    /// A leg, and the one at the other end.
    fn sides_mut(&mut self, leg: Leg) -> (&mut Side, &mut Side) {
        match leg {
            Leg::Near => (&mut self.near, &mut self.far),
            Leg::Far => (&mut self.far, &mut self.near),
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
        for leg in LEGS {
            let reading = self.wants_read(leg);
            self.side_mut(leg).outbox.transactions.set_reading(reading, now);
        }
    }

    fn say(&mut self, leg: Leg, response: Option<BytesMut>, now: Instant) {
        if let Some(response) = response {
            self.side_mut(leg).outbox.push(Message::own(response), now);
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

    /// Tells the sender of a chunk that it failed, if the sender wants to hear of it.
    fn report(&mut self, to: Leg, sent: &Sent, status: StatusCode, comment: &[u8], now: Instant) {
        if sent.failure_report == FailureReport::No {
            return;
        }
        debug!(?to, %status, "a SEND failed");
        if self.side(to).outbox.own_octets() >= self.limits.reports {
            return;
        }
        let id = self.side(to).outbox.id_for(&[]);
        // The URI nearest to the addressee comes first, as if each session had passed it on.
        let report = report::report(id, sent, self.own_from(to), status, comment);
        self.say(to, Some(report), now);
    }

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
        let side = self.side(leg);
        let holding = side.holding.as_ref()?;
        match self.phase {
            Phase::Lapsed { since } => Some(since + self.limits.lapse),
            _ if self.is_bound() => side.bound_expiry(),
            _ => Some(holding.expiry.at),
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

#[cfg(test)]
mod tests;
