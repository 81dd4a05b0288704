//! Counters of the process: what there is now, and what there was since the start.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// The counters; [`Counts`] explains each.
#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) queued: AtomicUsize,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) started: AtomicU64,
    pub(super) faults: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    /// Octets that the relay has queued for peers and not written yet.
    pub queued: usize,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Connections closed at once since the start, because there were too many.
    pub refused: u64,
    /// Sessions granted since the start.
    pub started: u64,
    /// Faults of the relay since the start. Each ended one connection or one session.
    pub faults: u64,
}

impl Stats {
    pub(super) fn counts(&self) -> Counts {
        Counts {
            queued: self.queued.load(Ordering::Relaxed),
            accepted: self.accepted.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            started: self.started.load(Ordering::Relaxed),
            faults: self.faults.load(Ordering::Relaxed),
        }
    }
}

/// The part of [`Counts::queued`] that one session contributes. It touches the shared counter only
/// when the value changes; most turns of the bridge leave it at 0.
#[derive(Debug)]
pub(super) struct Queued {
    stats: Arc<Stats>,
    bytes: usize,
}

impl Queued {
    pub(super) fn new(stats: &Arc<Stats>) -> Self {
        Self { stats: Arc::clone(stats), bytes: 0 }
    }

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
