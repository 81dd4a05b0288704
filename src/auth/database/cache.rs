//! Remembers the credentials of users for `cache_time`. Pure: the time is an argument.
//!
//! Unknown users are not remembered. So a new user can log in at once, and a stranger cannot fill
//! the cache with made-up names. All spellings that the database takes for one name share an entry.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::query::folded;
use crate::auth::Credential;

/// The most users remembered, in about 40 MiB. The user looked up longest ago is dropped first.
const USERS_MAX: usize = 1 << 16;

/// User and realm as [`folded`] spells them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key(Arc<[String; 2]>);

#[derive(Debug)]
struct Found {
    /// When the database was asked.
    asked: Instant,
    /// User and realm as the client spelled them: another spelling may be another user.
    names: [String; 2],
    credential: Credential,
}

#[derive(Debug)]
pub(super) struct Cache {
    time: Duration,
    max: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    known: HashMap<Key, Found>,
    /// In the order in which they expire: all last equally long.
    order: VecDeque<(Instant, Key)>,
}

impl Cache {
    /// A cache that remembers for `time`. With zero it remembers nothing.
    pub(super) fn new(time: Duration) -> Self {
        Self { time, max: USERS_MAX, entries: Mutex::default() }
    }

    pub(super) fn get(&self, user: &str, realm: &str, now: Instant) -> Option<Credential> {
        if self.time.is_zero() {
            return None;
        }
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries.known.get(&Key::new(user, realm))?;
        let fits =
            found.names == [user, realm] && now.saturating_duration_since(found.asked) < self.time;
        fits.then(|| found.credential.clone())
    }

    /// Remembers an answer. Its time counts from `asked`, when the database was asked: a password
    /// may have changed since.
    pub(super) fn insert(&self, user: &str, realm: &str, credential: &Credential, asked: Instant) {
        if self.time.is_zero() {
            return;
        }
        let key = Key::new(user, realm);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.prune(|first| asked.saturating_duration_since(first) >= self.time);
        // A later look-up was faster: its answer is newer.
        if entries.known.get(&key).is_some_and(|found| found.asked > asked) {
            return;
        }
        let names = [user, realm].map(str::to_owned);
        let found = Found { asked, names, credential: credential.clone() };
        let before = entries.known.insert(key.clone(), found);
        if before.is_none_or(|before| before.asked != asked) {
            entries.order.push_back((asked, key));
        }
        if entries.order.len() > 2 * self.max {
            entries.forget_overtaken();
        }
        while entries.known.len() > self.max {
            entries.pop();
        }
    }
}

impl Entries {
    fn prune(&mut self, over: impl Fn(Instant) -> bool) {
        while self.order.front().is_some_and(|(asked, _)| over(*asked)) {
            self.pop();
        }
    }

    /// Removes the places of entries that were replaced, so that repeated look-ups of one user do
    /// not fill the queue.
    fn forget_overtaken(&mut self) {
        let known = &self.known;
        self.order.retain(|(asked, key)| known.get(key).is_some_and(|found| found.asked == *asked));
    }

    fn pop(&mut self) {
        let Some((asked, key)) = self.order.pop_front() else { return };
        // If the entry was replaced, it has another place further back.
        if self.known.get(&key).is_some_and(|found| found.asked == asked) {
            self.known.remove(&key);
        }
    }
}

impl Key {
    fn new(user: &str, realm: &str) -> Self {
        Self(Arc::new([user, realm].map(folded)))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::{ExposeSecret, SecretString};

    use super::*;

    #[test]
    fn a_user_is_remembered_for_the_time_and_no_longer() {
        let (cache, start) = (Cache::new(SECOND * 10), start());
        cache.insert("alice", "R", &password("1"), start);
        for (user, realm, after, expected) in [
            ("alice", "R", 0, Some("1")),
            ("alice", "R", 9, Some("1")),
            ("alice", "R", 10, None),
            ("alice", "r", 0, None),
            ("Alice", "R", 0, None),
            ("bob", "R", 0, None),
        ] {
            let found = cache.get(user, realm, start + SECOND * after);
            assert_eq!(shown(found).as_deref(), expected, "{user}@{realm} after {after}");
        }
    }

    #[test]
    fn the_newest_answer_counts_and_its_time() {
        let (cache, start) = (Cache::new(SECOND * 10), start());
        cache.insert("alice", "R", &password("1"), start);
        cache.insert("alice", "R", &password("2"), start + SECOND * 5);
        cache.insert("alice", "R", &password("1"), start + SECOND * 4);
        cache.insert("bob", "R", &password("3"), start + SECOND * 11);
        assert_eq!(shown(cache.get("alice", "R", start + SECOND * 14)).as_deref(), Some("2"));
        assert!(cache.get("alice", "R", start + SECOND * 15).is_none());
    }

    /// Of a name that can be spelled in a thousand ways, and a stranger's wish to be remembered so.
    #[test]
    fn spellings_of_a_name_take_one_place() {
        let (cache, start) = (Cache::new(SECOND * 10), start());
        for (user, realm) in [("bob", "R"), ("ALICE", "R"), ("alice  ", "R"), ("Alice", "r")] {
            cache.insert(user, realm, &password(user), start);
        }
        assert_eq!(cache.entries.lock().unwrap().known.len(), 2);
        assert_eq!(shown(cache.get("Alice", "r", start)).as_deref(), Some("Alice"));
        assert!(cache.get("ALICE", "R", start).is_none());
    }

    #[test]
    fn without_time_nothing_is_kept() {
        let (cache, start) = (Cache::new(Duration::ZERO), start());
        cache.insert("alice", "R", &password("1"), start);
        assert!(cache.get("alice", "R", start).is_none());
        assert!(cache.entries.lock().unwrap().known.is_empty());
    }

    #[test]
    fn it_never_grows_beyond_its_limit() {
        let (mut cache, start) = (Cache::new(SECOND * 3600), start());
        cache.max = 3;
        for user in ["a", "b", "c", "d"] {
            cache.insert(user, "R", &password(user), start);
        }
        assert!(cache.get("a", "R", start).is_none() && cache.get("b", "R", start).is_some());
        for time in 1..100 {
            cache.insert("d", "R", &password("d"), start + SECOND * time);
        }
        assert!(cache.get("b", "R", start).is_some());
        let entries = cache.entries.lock().unwrap();
        assert!(entries.known.len() == 3 && entries.order.len() <= 6);
    }

    /// The next insertion frees the entries that have expired.
    #[test]
    fn what_is_over_is_freed() {
        let (cache, start) = (Cache::new(SECOND), start());
        for user in 0..100 {
            cache.insert(&user.to_string(), "R", &password("x"), start);
        }
        cache.insert("late", "R", &password("x"), start + SECOND);
        let entries = cache.entries.lock().unwrap();
        assert_eq!((entries.known.len(), entries.order.len()), (1, 1));
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn password(text: &str) -> Credential {
        Credential::Password(SecretString::from(text))
    }

    fn shown(found: Option<Credential>) -> Option<String> {
        found.map(|credential| match credential {
            Credential::Password(password) => password.expose_secret().to_owned(),
            Credential::Ha1 { .. } => panic!("passwords only"),
        })
    }

    #[expect(clippy::disallowed_methods, reason = "any fixed moment will do")]
    fn start() -> Instant {
        Instant::now()
    }
}
