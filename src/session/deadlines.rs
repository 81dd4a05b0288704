//! What ends when time passes: the transactions of a leg, and a session at its Expires.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::limits::{LOOK, RESPONSE_TIME, ROUND_TRIPS};
use crate::msrp::{ByteRange, FailureReport, Path, TransactId};

/// Records of answered requests that may stay in the FIFO before it is tidied up.
const SLACK: usize = 32;

/// A request that was sent on a leg: what is needed when its response comes, or fails to come.
#[derive(Debug)]
pub(super) enum Transaction {
    /// A SEND, answered hop by hop.
    Send(Sent),
    /// Any other request, answered end to end: the response goes back under this id.
    Other {
        /// The transact-id under which the request came.
        incoming: TransactId,
        /// `Some` if it was an AUTH for a relay further out.
        auth: Option<Auth>,
    },
}

/// What an AUTH carried that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Auth {
    /// No credentials: it asks for a challenge.
    Bare,
    /// An Authorization header.
    Attempt,
}

/// A chunk that was passed on: what a REPORT to its sender needs.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) failure_report: FailureReport,
    /// From-Path as the SEND came: where a REPORT goes (RFC 4975 §7.1.3).
    pub(super) from_path: Path,
    pub(super) message_id: Bytes,
    pub(super) range: ByteRange,
    /// Octets of its body.
    pub(super) octets: u64,
}

/// When a session expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub at: Instant,
    /// Whether a bound session ends too, because the client sent an Expires (RFC 4976 §6.3).
    pub strict: bool,
}

/// What the kernel tells of the octets that a socket took.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// All but so many have arrived at the kernel of the peer,
    pub outstanding: u64,
    /// of which the peer cannot use the last ones yet,
    pub unusable: u64,
    /// the last of them at this time or before.
    pub at: Instant,
    /// How long an octet and its acknowledgement take at present.
    pub round_trip: Duration,
}

impl Arrival {
    /// Everything has arrived.
    pub fn all(now: Instant) -> Self {
        Self { outstanding: 0, unusable: 0, at: now, round_trip: Duration::ZERO }
    }
}

/// The open transactions of one leg.
#[derive(Debug)]
pub(super) struct Transactions {
    /// Requests that the next hop has to answer.
    due: Pending,
    /// SENDs with Failure-Report partial: the next hop answers only those that fail (RFC 4975
    /// §7.1.4), so any number of them may be open.
    silent: Pending,
    clock: ReadingClock,
    arrived: Arrived,
}

/// What of the outgoing stream has arrived at the peer's kernel, as far as is known. It is asked of
/// the socket only when something depends on it.
#[derive(Debug, Default)]
struct Arrived {
    /// Everything before this position has arrived, and the peer can use it.
    position: u64,
    /// Everything before this position has arrived.
    acknowledged: u64,
    /// When the last of that did.
    at: Option<Instant>,
    looked: Option<Instant>,
    /// How long the last octets took there and back.
    round_trip: Duration,
    /// Whether the peer has answered a request since the connection was opened.
    answered: bool,
}

/// Requests that are unanswered.
///
/// All have the same time, so those that left first time out first, and two FIFOs are enough. Ids
/// that were answered are skipped when they surface.
#[derive(Debug)]
struct Pending {
    /// Beyond this many, the oldest are forgotten.
    most: usize,
    open: HashMap<TransactId, Transaction>,
    /// Requests that are not wholly written, with the position of their last octet in the outgoing
    /// stream.
    unsent: VecDeque<(u64, TransactId)>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// Position of its last octet in the outgoing stream.
    end: u64,
    /// When that octet was with the socket or, once that is known, with the peer's kernel.
    since: Instant,
    /// How long in all the peer had not been read when the socket took that octet.
    stood: Duration,
    id: TransactId,
}

/// How long the peer has not been read. Such time does not count for a deadline by which something
/// has to come from the peer: it may have come, and be in the socket.
#[derive(Debug, Default)]
pub(super) struct ReadingClock {
    stopped: Option<Instant>,
    stood: Duration,
}

impl Transactions {
    /// Remembers at most `due` requests that have to be answered, and `silent` others.
    pub(super) fn new(due: usize, silent: usize) -> Self {
        Self {
            due: Pending::new(due),
            silent: Pending::new(silent),
            clock: ReadingClock::default(),
            arrived: Arrived::default(),
        }
    }

    /// Answers that the next hop owes.
    pub(super) fn due(&self) -> usize {
        self.due.open.len()
    }

    /// Remembers a request whose last octet is at `position` of the outgoing stream.
    pub(super) fn register(&mut self, id: TransactId, position: u64, transaction: Transaction) {
        let pending = if transaction.is_silent() { &mut self.silent } else { &mut self.due };
        pending.register(id, position, transaction);
    }

    /// The socket has taken everything up to `position`. The time for those requests begins now,
    /// unless [`arrived`](Self::arrived) tells later that they took longer to leave.
    pub(super) fn sent(&mut self, position: u64, now: Instant) {
        let stood = self.clock.stood(now);
        self.due.sent(position, now, stood);
        self.silent.sent(position, now, stood);
    }

    /// `arrival` is told when the socket has taken everything up to `taken`. Returns whether more
    /// has arrived than was known.
    pub(super) fn arrived(&mut self, taken: u64, arrival: &Arrival, now: Instant) -> bool {
        let Arrival { outstanding, unusable, at, round_trip } = *arrival;
        self.arrived.looked = Some(now);
        self.arrived.round_trip = round_trip;
        let acknowledged = taken.saturating_sub(outstanding);
        let has_more = acknowledged > self.arrived.acknowledged;
        if has_more {
            self.arrived.acknowledged = acknowledged;
            self.arrived.at = Some(at);
        }
        let position = acknowledged.saturating_sub(unusable);
        let before = self.arrived.position;
        if position > before {
            self.due.arrived(before, position, at);
            self.silent.arrived(before, position, at);
            self.arrived.position = position;
        }
        has_more
    }

    /// Whether it must be known now what has arrived: a request has waited for its answer for a
    /// while, and may not have left.
    pub(super) fn wants_look(&self, now: Instant) -> bool {
        self.arrived.looked.is_none_or(|looked| looked + LOOK <= now)
            && self.on_the_way().is_some_and(|since| since + LOOK <= now)
    }

    /// When [`arrived`](Self::arrived) was last told.
    pub(super) fn looked(&self) -> Option<Instant> {
        self.arrived.looked
    }

    /// Since when the oldest request that may not have left has been with the socket.
    fn on_the_way(&self) -> Option<Instant> {
        let pending = [&self.due, &self.silent];
        pending.into_iter().filter_map(|pending| pending.on_the_way(&self.arrived)).min()
    }

    /// Since when the peer's kernel has acknowledged nothing of the requests on their way to it;
    /// `None` if there are none.
    pub(super) fn unacknowledged_since(&self) -> Option<Instant> {
        let since = self.on_the_way()?;
        Some(self.arrived.at.map_or(since, |at| at.max(since)))
    }

    /// A response came.
    pub(super) fn complete(&mut self, id: &TransactId) -> Option<Transaction> {
        let completed = self.due.complete(id).or_else(|| self.silent.complete(id));
        self.arrived.answered |= completed.is_some();
        completed
    }

    /// Tells whether the peer is read from now on.
    pub(super) fn set_reading(&mut self, reading: bool, now: Instant) {
        self.clock.set(reading, now);
    }

    pub(super) fn clock(&self) -> &ReadingClock {
        &self.clock
    }

    /// When the next request has waited for its answer long enough; `None` while the peer is not
    /// read.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let pending = [&self.due, &self.silent];
        let deadlines = pending.map(|pending| pending.deadline(&self.clock, &self.arrived));
        deadlines.into_iter().flatten().min()
    }

    /// Takes one that was not answered in time.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Transaction> {
        let (clock, arrived) = (&self.clock, &self.arrived);
        let due = self.due.expired(now, clock, arrived);
        due.or_else(|| self.silent.expired(now, clock, arrived))
    }

    /// Takes all unanswered requests, each kind oldest first, because the leg is lost.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Transaction> {
        self.due.drain().chain(self.silent.drain())
    }

    /// Requests that are open, of both kinds.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.due.open.len() + self.silent.open.len()
    }

    /// Records that are kept, needed or not.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.due.remembered() + self.silent.remembered()
    }
}

impl Transaction {
    /// Whether the next hop answers it only if it fails.
    fn is_silent(&self) -> bool {
        matches!(self, Self::Send(sent) if sent.failure_report == FailureReport::Partial)
    }
}

impl Arrived {
    /// How long answers may be held up on their way although the peer answers at once. Its kernel
    /// sends no further answer before it has our acknowledgements of those before, which wait
    /// behind all that is under way to it.
    fn delay(&self) -> Duration {
        if self.answered { self.round_trip * ROUND_TRIPS } else { Duration::ZERO }
    }
}

impl Pending {
    fn new(most: usize) -> Self {
        Self { most, open: HashMap::new(), unsent: VecDeque::new(), waiting: VecDeque::new() }
    }

    fn register(&mut self, id: TransactId, position: u64, transaction: Transaction) {
        if self.open.len() >= self.most {
            self.forget_oldest();
        }
        self.open.insert(id, transaction);
        self.unsent.push_back((position, id));
    }

    /// `stood`: how long in all the peer has not been read by now.
    fn sent(&mut self, position: u64, now: Instant, stood: Duration) {
        while let Some((end, id)) = self.unsent.pop_front_if(|(end, _)| *end <= position) {
            if self.open.contains_key(&id) {
                self.waiting.push_back(Waiting { end, since: now, stood, id });
            }
        }
        // Otherwise one request that is never answered would keep the records of all later ones.
        if self.waiting.len() > 2 * self.open.len() + SLACK {
            self.waiting.retain(|waiting| self.open.contains_key(&waiting.id));
        }
    }

    /// Those behind `before`, up to `position`, arrived at `at` or earlier.
    fn arrived(&mut self, before: u64, position: u64, at: Instant) {
        let first = self.waiting.partition_point(|waiting| waiting.end <= before);
        for waiting in self.waiting.range_mut(first..) {
            if waiting.end > position {
                return;
            }
            waiting.since = waiting.since.max(at);
        }
    }

    fn on_the_way(&self, arrived: &Arrived) -> Option<Instant> {
        let first = self.waiting.partition_point(|waiting| waiting.end <= arrived.position);
        self.waiting.get(first).map(|waiting| waiting.since)
    }

    fn complete(&mut self, id: &TransactId) -> Option<Transaction> {
        let transaction = self.open.remove(id)?;
        if self.open.is_empty() {
            // Idle sessions hold no memory.
            self.open = HashMap::new();
            self.unsent = VecDeque::new();
            self.waiting = VecDeque::new();
        }
        Some(transaction)
    }

    /// When the oldest request times out. If it may still be under way to the peer's kernel: when to
    /// look whether it is.
    fn deadline(&self, clock: &ReadingClock, arrived: &Arrived) -> Option<Instant> {
        let first = self.waiting.front()?;
        let mut deadline = first.since + RESPONSE_TIME + arrived.delay();
        if first.end > arrived.position
            && let Some(looked) = arrived.looked
        {
            deadline = deadline.max(looked + LOOK);
        }
        clock.deadline(deadline, first.stood)
    }

    fn expired(
        &mut self,
        now: Instant,
        clock: &ReadingClock,
        arrived: &Arrived,
    ) -> Option<Transaction> {
        while self.deadline(clock, arrived).is_some_and(|deadline| deadline <= now) {
            let first = self.waiting.front()?;
            if first.end > arrived.position && self.open.contains_key(&first.id) {
                return None;
            }
            let first = self.waiting.pop_front()?;
            if let Some(transaction) = self.complete(&first.id) {
                return Some(transaction);
            }
        }
        None
    }

    fn drain(&mut self) -> impl Iterator<Item = Transaction> + use<> {
        let mut open = std::mem::take(&mut self.open);
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.id);
        let unsent = std::mem::take(&mut self.unsent).into_iter().map(|(_, id)| id);
        waiting.chain(unsent).filter_map(move |id| open.remove(&id))
    }

    fn forget_oldest(&mut self) {
        let waiting = std::iter::from_fn(|| self.waiting.pop_front().map(|waiting| waiting.id));
        let unsent = std::iter::from_fn(|| self.unsent.pop_front().map(|(_, id)| id));
        for id in waiting.chain(unsent) {
            if self.open.remove(&id).is_some() {
                return;
            }
        }
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.open.len() + self.unsent.len() + self.waiting.len()
    }
}

impl ReadingClock {
    fn set(&mut self, running: bool, now: Instant) {
        match (self.stopped, running) {
            (Some(since), true) => {
                self.stood += now.saturating_duration_since(since);
                self.stopped = None;
            }
            (None, false) => self.stopped = Some(now),
            _ => {}
        }
    }

    /// How long the peer has not been read, by now.
    pub(super) fn stood(&self, now: Instant) -> Duration {
        let current = self.stopped.map(|since| now.saturating_duration_since(since));
        self.stood + current.unwrap_or_default()
    }

    /// A deadline that was set when the peer had not been read for `stood`; `None` while it is not
    /// read.
    pub(super) fn deadline(&self, at: Instant, stood: Duration) -> Option<Instant> {
        self.stopped.is_none().then(|| at + self.stood.saturating_sub(stood))
    }
}
