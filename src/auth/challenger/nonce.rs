//! Nonces, and which of them have been used. Pure: the time is an argument.

use std::{collections::BTreeSet, time::Duration};

use super::AuthError;

/// The most spent nonces that are remembered. At the default lifetime of 15 s this is enough for
/// 17,000 logins a second, in about 10 MiB.
///
/// At the cap the oldest nonce is forgotten. From then on each nonce issued before it counts as
/// spent, and gets `stale=true`. So the cap can cost a slow client a second round trip, but it
/// never lets a replay in and never locks a client out.
pub(super) const SPENT_MAX: usize = 1 << 18;

/// How long a spent nonce is remembered after its lifetime. A replay may arrive in time and then
/// wait for its look-up.
pub(super) const LOOKUP_GRACE: Duration = Duration::from_secs(30);

/// What makes a nonce unique; ordered by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nonce {
    /// Microseconds since the challenger's epoch.
    pub(super) issued: u64,
    pub(super) random: [u8; RANDOM_LEN],
}

impl Nonce {
    pub(super) fn to_bytes(self) -> [u8; SEED_LEN] {
        let mut bytes = [0; SEED_LEN];
        let (issued, random) = bytes.split_at_mut(TIME_LEN);
        issued.copy_from_slice(&self.issued.to_be_bytes());
        random.copy_from_slice(&self.random);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (issued, random) = bytes.split_first_chunk()?;
        Some(Self { issued: u64::from_be_bytes(*issued), random: random.try_into().ok()? })
    }

    pub(super) fn age(&self, now: u64) -> Duration {
        Duration::from_micros(now.saturating_sub(self.issued))
    }
}

/// The spent nonces that were issued after `forgotten`.
pub(super) struct Spent {
    pub(super) nonces: BTreeSet<Nonce>,
    /// Issue time of the newest nonce that was dropped from the set. All nonces issued up to then
    /// count as spent, even if a reload makes the lifetime longer.
    forgotten: Option<u64>,
    max: usize,
}

impl Spent {
    pub(super) fn new(max: usize) -> Self {
        Self { nonces: BTreeSet::new(), forgotten: None, max }
    }

    pub(super) fn spend(
        &mut self,
        nonce: Nonce,
        lifetime: Duration,
        now: u64,
    ) -> Result<(), AuthError> {
        self.prune(lifetime.saturating_add(LOOKUP_GRACE), now);
        if self.nonces.contains(&nonce) {
            return Err(AuthError::SpentNonce);
        }
        if self.forgotten.is_some_and(|time| nonce.issued <= time) {
            return Err(AuthError::ForgottenNonce);
        }
        self.nonces.insert(nonce);
        if self.nonces.len() > self.max {
            self.forget_oldest();
        }
        Ok(())
    }

    fn prune(&mut self, age: Duration, now: u64) {
        while self.nonces.first().is_some_and(|nonce| nonce.age(now) > age) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(nonce) = self.nonces.pop_first() {
            self.forgotten = Some(nonce.issued);
        }
    }
}

const TIME_LEN: usize = size_of::<u64>();
/// 128 bits.
pub(super) const RANDOM_LEN: usize = 16;
pub(super) const SEED_LEN: usize = TIME_LEN + RANDOM_LEN;
