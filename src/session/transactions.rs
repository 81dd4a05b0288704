//! Requests sent on one leg that are waiting for their responses.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::msrp::{ByteRange, FailureReport, Path, TransactId};

/// How long the next hop has to answer, counted from the last octet sent (RFC 4976 §6.4.1).
pub(super) const RESPONSE_TIME: Duration = Duration::from_secs(30);

/// What must be known of a request when its response comes, or does not.
#[derive(Debug)]
pub(super) enum Transaction {
    /// A SEND, answered hop by hop.
    Send(Sent),
    /// Any other request, answered end to end: the response goes back under this id.
    Other {
        /// The transact-id under which the request came.
        incoming: TransactId,
        /// Whether it was an AUTH for a relay further out.
        auth: bool,
    },
}

/// A chunk that went out, as its sender would hear of it in a REPORT.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) failure_report: FailureReport,
    /// From-Path as the SEND came: where a REPORT goes (RFC 4975 §7.1.3).
    pub(super) from_path: Path,
    pub(super) message_id: Bytes,
    pub(super) range: ByteRange,
    /// Octets of body seen.
    pub(super) octets: u64,
}

/// The open transactions of one leg.
///
/// All of them last equally long, so two FIFOs are the whole timer wheel. Ids that were answered
/// are skipped when they surface.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    open: HashMap<TransactId, Transaction>,
    /// By the position of the last octet in the outgoing stream.
    unsent: VecDeque<(u64, TransactId)>,
    waiting: VecDeque<Waiting>,
    clock: ReadingClock,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    /// What the clock had stood still when the waiting began.
    stood: Duration,
    id: TransactId,
}

/// Time stands still for a peer that we do not read: its answer may be waiting in the socket.
#[derive(Debug, Default)]
struct ReadingClock {
    stopped: Option<Instant>,
    stood: Duration,
}

impl Transactions {
    /// Requests that are not answered yet.
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Remembers a request whose last octet is at `position` of the outgoing stream.
    pub(super) fn register(&mut self, id: TransactId, position: u64, transaction: Transaction) {
        self.open.insert(id, transaction);
        self.unsent.push_back((position, id));
    }

    /// Everything up to `position` is with the socket: time runs.
    pub(super) fn sent(&mut self, position: u64, now: Instant) {
        while let Some((end, id)) = self.unsent.front().copied().filter(|(end, _)| *end <= position)
        {
            debug_assert!(end <= position);
            self.unsent.pop_front();
            if self.open.contains_key(&id) {
                self.waiting.push_back(Waiting { since: now, stood: self.clock.stood(now), id });
            }
        }
    }

    /// A response came.
    pub(super) fn complete(&mut self, id: &TransactId) -> Option<Transaction> {
        let transaction = self.open.remove(id);
        if self.open.is_empty() {
            // Idle sessions hold no memory.
            self.unsent = VecDeque::new();
            self.waiting = VecDeque::new();
        }
        transaction
    }

    /// Whether the peer is being read, from now on.
    pub(super) fn set_reading(&mut self, reading: bool, now: Instant) {
        self.clock.set(reading, now);
    }

    /// When the next one has waited long enough; `None` while the peer is not read.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.clock.stopped.is_some() {
            return None;
        }
        self.waiting
            .front()
            .map(|first| first.since + RESPONSE_TIME + self.clock.stood.saturating_sub(first.stood))
    }

    /// Takes one that nobody answered in time.
    pub(super) fn expired(&mut self, now: Instant) -> Option<Transaction> {
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            let first = self.waiting.pop_front()?;
            if let Some(transaction) = self.complete(&first.id) {
                return Some(transaction);
            }
        }
        None
    }

    /// Takes all that are open, oldest first: the leg is lost.
    pub(super) fn drain(&mut self) -> Vec<Transaction> {
        let waiting = std::mem::take(&mut self.waiting).into_iter().map(|waiting| waiting.id);
        let unsent = std::mem::take(&mut self.unsent).into_iter().map(|(_, id)| id);
        waiting.chain(unsent).filter_map(|id| self.open.remove(&id)).collect()
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

    fn stood(&self, now: Instant) -> Duration {
        let current = self.stopped.map(|since| now.saturating_duration_since(since));
        self.stood + current.unwrap_or_default()
    }
}
