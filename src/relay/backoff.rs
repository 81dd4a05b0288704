//! Refusals to one address are slowed, so that nobody floods others with them or guesses passwords
//! and session-ids by the thousand.
//!
//! A refusal to a stranger, or to a client that logs in, costs its [`Origin`] a token. Each origin
//! has a bucket of [`BURST`] tokens and gains [`RATE`] a second. Without a token the answer waits in
//! a line, first come first served, and its connection is not served meanwhile. A challenge that is
//! answered rightly is given back, and lets the first in the line go. So people who log in do not
//! slow each other, however many have the same address. Accounts have no limit, because then anybody
//! could shut out a user.
//!
//! Our own code: the crate `governor` has such buckets, but cannot give a token back, keeps no
//! order among those who wait, and does not bound its table.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex as FairMutex, Notify},
    time::sleep_until,
};

use crate::{clock, fair::Origin};

/// Refusals at once. Several hundred people behind one address may ask for a challenge at the same
/// moment, or mistype something within a few seconds.
const BURST: u32 = 300;
/// Refusals a second in the long run.
pub(super) const RATE: u32 = 100;
/// In this time an origin gains one token.
const STEP: Duration = Duration::from_millis(1000 / RATE as u64);
/// Buckets that are not full, of less than 150 octets each. A bucket is full again 3 s after its
/// last refusal at the latest, so only a flood from many addresses comes near to this.
const MAX_BUCKETS: usize = 16 * 1024;

/// How long a refusal may wait. If it had to wait longer its connection is closed instead.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// A connection without a session.
    Stranger,
    /// The connection of a client that has a session. Strangers leave room for it in the line, so
    /// they cannot end the sessions of others at their address.
    Client,
}

impl Patience {
    /// How many may stand in the line if one more comes. Each of them waits for [`STEP`] at most.
    const fn places(self) -> usize {
        let longest = match self {
            Self::Stranger => Duration::from_secs(10),
            Self::Client => Duration::from_secs(30),
        };
        (longest.as_millis() / STEP.as_millis()) as usize
    }
}

/// The buckets of all origins, and the lines before those that are empty.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    buckets: Buckets,
    /// As many as there are connections that wait, at most.
    lines: HashMap<Origin, Line>,
}

/// Those who wait for a token of one origin.
#[derive(Debug, Default)]
struct Line {
    waiting: usize,
    order: Arc<Order>,
}

#[derive(Debug, Default)]
struct Order {
    /// Held by the first in the line; it is fair.
    first: FairMutex<()>,
    /// Notified when a token is given back.
    given_back: Notify,
}

/// A place in a line. The line is shorter by one when it is dropped.
struct Place<'a> {
    backoff: &'a Backoff,
    origin: Origin,
    order: Arc<Order>,
}

/// Whether a refusal may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Turn {
    /// Now: it has its token.
    Now,
    /// It would have to wait for too long: the connection is to be closed without an answer.
    Never,
}

impl Backoff {
    /// Takes a token. Returns false if there is none, or if others wait for one.
    pub(super) fn take(&self, peer: IpAddr) -> bool {
        let origin = peer.into();
        let mut table = self.lock();
        !table.lines.contains_key(&origin) && table.buckets.take(origin, clock::now()).is_ok()
    }

    /// Waits for a token and takes it. Leaves the line if it is dropped.
    pub(super) async fn wait(&self, peer: IpAddr, patience: Patience) -> Turn {
        let origin = peer.into();
        let Some(order) = self.lock().line_up(origin, patience) else { return Turn::Never };
        let place = Place { backoff: self, origin, order };
        let _first = place.order.first.lock().await;
        loop {
            let taken = self.lock().buckets.take(origin, clock::now());
            let Err(next) = taken else { return Turn::Now };
            tokio::select! {
                () = sleep_until(next.into()) => {}
                () = place.order.given_back.notified() => {}
            }
        }
    }

    /// Gives the token of a challenge back, because it was answered rightly.
    pub(super) fn give_back(&self, peer: IpAddr) {
        let origin = peer.into();
        let mut table = self.lock();
        table.buckets.give_back(origin, clock::now());
        if let Some(line) = table.lines.get(&origin) {
            line.order.given_back.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A poisoned lock can be used: at worst a bucket is wrong.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.backoff.lock().leave(self.origin);
    }
}

impl Table {
    /// A place at the end of the line. `None` if the line is too long.
    fn line_up(&mut self, origin: Origin, patience: Patience) -> Option<Arc<Order>> {
        let waiting = self.lines.get(&origin).map_or(0, |line| line.waiting);
        (waiting < patience.places()).then(|| {
            let line = self.lines.entry(origin).or_default();
            line.waiting += 1;
            Arc::clone(&line.order)
        })
    }

    fn leave(&mut self, origin: Origin) {
        if let Some(line) = self.lines.get_mut(&origin) {
            line.waiting -= 1;
            if line.waiting == 0 {
                self.lines.remove(&origin);
            }
        }
    }
}

/// The buckets that are not full. Pure.
///
/// A bucket is the time when it is full again (GCRA): it lacks one token for each [`STEP`] until
/// then.
#[derive(Debug, Default)]
struct Buckets {
    full_at: HashMap<Origin, Instant>,
    /// The same, the first to be full in front.
    order: BTreeSet<(Instant, Origin)>,
}

impl Buckets {
    /// Takes a token. The error is when there is one.
    fn take(&mut self, origin: Origin, now: Instant) -> Result<(), Instant> {
        self.forget_full(now);
        let full_at = self.full_at.get(&origin).copied().unwrap_or(now);
        let next = full_at + STEP;
        let latest = now + STEP * BURST;
        if next > latest {
            return Err(now + (next - latest));
        }
        self.set(origin, next);
        Ok(())
    }

    fn give_back(&mut self, origin: Origin, now: Instant) {
        self.forget_full(now);
        if let Some(full_at) = self.full_at.get(&origin).and_then(|at| at.checked_sub(STEP)) {
            self.set(origin, full_at);
            self.forget_full(now);
        }
    }

    /// Buckets that are full need not be known.
    fn forget_full(&mut self, now: Instant) {
        while self.order.first().is_some_and(|(full_at, _)| *full_at <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, origin)) = self.order.pop_first() {
            self.full_at.remove(&origin);
        }
    }

    fn set(&mut self, origin: Origin, full_at: Instant) {
        match self.full_at.insert(origin, full_at) {
            Some(before) => drop(self.order.remove(&(before, origin))),
            // The fullest bucket becomes full a little too early. Whoever has used up his own is
            // forgotten last.
            None if self.order.len() >= MAX_BUCKETS => self.forget_first(),
            None => {}
        }
        self.order.insert((full_at, origin));
    }
}

#[cfg(test)]
mod tests;
