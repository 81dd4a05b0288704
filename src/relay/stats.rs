//! Counters of what is alive, and of what there was.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// What the whole process counts.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) connections: AtomicUsize,
    /// Bytes taken from one peer that wait for another to read.
    pub(super) queued: AtomicUsize,
    /// Connections accepted, and sessions made, since the start.
    pub(super) accepted: AtomicU64,
    pub(super) started: AtomicU64,
    /// Faults of the relay that ended a connection or a session.
    pub(super) faults: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Open connections.
    pub connections: usize,
    /// Octets on their way through the relay that wait for a peer to take them.
    pub queued: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Sessions made since the start.
    pub started: u64,
    /// Faults of the relay since the start, each of which ended one connection or session.
    pub faults: u64,
}

impl Stats {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.load(Ordering::Relaxed),
            queued: self.queued.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            started: self.started.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
        }
    }
}

/// One open connection; a clone is another one.
#[derive(Debug)]
pub(super) struct Counted(Arc<Stats>);

impl Counted {
    pub(super) fn new(stats: &Arc<Stats>) -> Self {
        stats.connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(stats))
    }

    /// The gauge of a session of this connection.
    pub(super) fn queued(&self) -> Queued {
        Queued { stats: Arc::clone(&self.0), bytes: 0 }
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one session has queued. Most turns leave nothing behind, and then the counter that all
/// sessions share is not touched.
#[derive(Debug)]
pub(super) struct Queued {
    stats: Arc<Stats>,
    bytes: usize,
}

impl Queued {
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.stats.queued.fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else if bytes < self.bytes {
            self.stats.queued.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.set(0);
    }
}
