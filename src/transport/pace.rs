//! How many different next hops a user may dial.
//!
//! Each dial tells its user whether something listens there. The limit makes it useless to search a
//! network in that way, and nobody who talks with people or gateways meets it: the next hops that
//! were dialled last do not count.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use moka::{policy::EvictionPolicy, sync::Cache};

use super::target::Target;

/// Different next hops that a user may dial in a second, in the long run.
pub const NEXT_HOPS_PER_SECOND: u32 = 20;

/// Different next hops that a user may dial at once after a pause of some seconds.
pub const NEXT_HOPS_AT_ONCE: u32 = 60;

/// The last next hops of a user, which do not count when they are dialled again.
const REMEMBERED: usize = 64;

/// Time without a dial after which a user is forgotten. By then all is granted again.
const FORGET_AFTER: Duration = Duration::from_mins(1);

/// Most users that are remembered, at about 1 KiB each. The one who has not dialled for longest is
/// forgotten first.
const MAX_USERS: u64 = 65_536;

/// The dials of all users.
#[derive(Debug)]
pub struct Pace {
    users: Cache<String, Arc<Mutex<Dials>>>,
    hasher: RandomState,
}

/// The dials of one user.
#[derive(Debug)]
struct Dials {
    /// When the last dial that counts would have begun, had each waited for its turn.
    turn: Instant,
    /// Hashes of the last next hops, the latest one at the end.
    last: VecDeque<u64>,
}

impl Default for Pace {
    fn default() -> Self {
        let users = Cache::builder()
            .max_capacity(MAX_USERS)
            .time_to_idle(FORGET_AFTER)
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { users, hasher: RandomState::new() }
    }
}

impl Pace {
    /// Whether a user may dial that next hop now. If so, the dial is counted.
    pub(super) fn admit(&self, user: &str, next_hop: &Target, now: Instant) -> bool {
        let begin = || Arc::new(Mutex::new(Dials { turn: now, last: VecDeque::new() }));
        let dials = self.users.entry_by_ref(user).or_insert_with(begin).into_value();
        let hash = self.hasher.hash_one((next_hop.host.to_ascii_lowercase(), next_hop.port));
        dials.lock().unwrap_or_else(PoisonError::into_inner).admit(hash, now)
    }
}

impl Dials {
    fn admit(&mut self, next_hop: u64, now: Instant) -> bool {
        const INTERVAL: Duration = Duration::from_millis(1000 / NEXT_HOPS_PER_SECOND as u64);

        if let Some(place) = self.last.iter().position(|other| *other == next_hop) {
            self.last.remove(place);
        } else {
            let turn = self.turn.max(now);
            if turn.duration_since(now) > INTERVAL * (NEXT_HOPS_AT_ONCE - 1) {
                return false;
            }
            self.turn = turn + INTERVAL;
            if self.last.len() == REMEMBERED {
                self.last.pop_front();
            }
        }
        self.last.push_back(next_hop);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn hop(number: u32) -> Target {
        Target { host: format!("h{number}.example"), port: 2855, tls: true }
    }

    #[test]
    fn s06_sixty_at_once_and_twenty_a_second() {
        let (pace, start) = (Pace::default(), clock::now());
        let mut hops = 0..;
        let mut granted = |user: &str, at: Duration, times: u32| {
            let hops = hops.by_ref().take(times as usize);
            hops.filter(|number| pace.admit(user, &hop(*number), start + at)).count()
        };
        assert_eq!(granted("alice", Duration::ZERO, 100), 60);
        assert_eq!(granted("bob", Duration::ZERO, 100), 60, "each user has a limit of his own");
        assert_eq!(granted("alice", Duration::from_millis(49), 9), 0);
        assert_eq!(granted("alice", Duration::from_millis(50), 9), 1);
        assert_eq!(granted("alice", Duration::from_millis(1050), 99), 20);
        let every_ms = (2000..12_000).map(|at| granted("alice", Duration::from_millis(at), 1));
        assert_eq!(every_ms.sum::<usize>(), 218, "239 in 11.999 s, less 21");
        assert_eq!(granted("alice", Duration::from_hours(1), 100), 60);
    }

    #[test]
    fn s06_the_same_next_hop_again_is_free() {
        let (pace, now) = (Pace::default(), clock::now());
        for _ in 0..1000 {
            assert!(pace.admit("alice", &hop(1), now));
        }
        let spelt = Target { host: "H1.EXAMPLE".to_owned(), tls: false, ..hop(1) };
        let granted = (2..200).filter(|number| pace.admit("alice", &hop(*number), now)).count();
        assert_eq!(granted, 59);
        assert!(pace.admit("alice", &spelt, now));
        assert!(!pace.admit("alice", &Target { port: 2856, ..hop(1) }, now));
        // What was refused is not taken for known.
        assert!(!pace.admit("alice", &hop(199), now));
    }

    #[test]
    fn the_memory_of_a_user_is_bounded() {
        let (pace, mut now) = (Pace::default(), clock::now());
        for number in 0..1000 {
            now += Duration::from_secs(1);
            assert!(pace.admit("alice", &hop(number), now));
        }
        let dials = pace.users.get("alice").unwrap();
        assert_eq!(dials.lock().unwrap().last.len(), REMEMBERED);
        for number in 0..1000 {
            pace.admit(&format!("user{number}"), &hop(number), now);
        }
        pace.users.run_pending_tasks();
        assert_eq!(pace.users.entry_count(), 1001);
        assert_eq!(pace.users.policy().max_capacity(), Some(MAX_USERS));
    }
}
