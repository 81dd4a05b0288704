//! A line for places that are few. They are shared fairly among those who want them.
//!
//! ```text
//!   Line::enter ──► a turn among the entries of the same key ──► a place among all
//! ```
//!
//! A key stands for somebody: an address, a user. It never has more entries before the common places
//! than it has turns. So whoever wants much waits for himself, and the next one waits for these few.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

#[derive(Debug)]
pub struct Line<K> {
    places: Semaphore,
    /// The turns of each key.
    turns: usize,
    /// The most entries, with a place or without.
    most: usize,
    waiting: Mutex<Waiting<K>>,
}

#[derive(Debug)]
struct Waiting<K> {
    all: usize,
    /// For each key with entries: their number, and its turns.
    keys: HashMap<K, (usize, Arc<Semaphore>)>,
}

/// Something that waits for a place, or has one. It leaves the line when it is dropped.
#[derive(Debug)]
pub struct Entry<'a, K: Hash + Eq> {
    line: &'a Line<K>,
    key: K,
    turns: Arc<Semaphore>,
}

/// A place, held until this is dropped.
#[derive(Debug)]
pub struct Place<'a> {
    _turn: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl<K: Hash + Eq> Line<K> {
    /// A line of at most `most` entries for so many places, of which each key has `turns` at most.
    pub fn new(places: usize, turns: usize, most: usize) -> Self {
        let waiting = Mutex::new(Waiting { all: 0, keys: HashMap::new() });
        Self { places: Semaphore::new(places), turns, most, waiting }
    }

    /// Enters the line. `None` if this key has as many entries as are left for all.
    pub fn enter(&self, key: K) -> Option<Entry<'_, K>>
    where
        K: Clone,
    {
        let mut waiting = self.waiting();
        let Waiting { all, keys } = &mut *waiting;
        let own = keys.get(&key).map_or(0, |(own, _)| *own);
        if own >= self.most - *all {
            return None;
        }
        *all += 1;
        let turns = || (0, Arc::new(Semaphore::new(self.turns)));
        let (own, turns) = keys.entry(key.clone()).or_insert_with(turns);
        *own += 1;
        Some(Entry { line: self, key, turns: Arc::clone(turns) })
    }

    /// Entries in the line.
    pub fn entries(&self) -> usize {
        self.waiting().all
    }

    fn leave(&self, key: &K) {
        let mut waiting = self.waiting();
        waiting.all -= 1;
        if let Some((own, _)) = waiting.keys.get_mut(key) {
            *own -= 1;
            if *own == 0 {
                waiting.keys.remove(key);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<K>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Entry<'_, K> {
    /// Waits for a place.
    pub async fn place(&self) -> Result<Place<'_>, AcquireError> {
        let turn = self.turns.acquire().await?;
        Ok(Place { _turn: turn, _place: self.line.places.acquire().await? })
    }
}

impl<K: Hash + Eq> Drop for Entry<'_, K> {
    fn drop(&mut self) {
        self.line.leave(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{super::Origin, *};

    fn origin(address: &str) -> Origin {
        address.parse::<std::net::IpAddr>().unwrap().into()
    }

    #[test]
    fn one_client_leaves_room_for_others() {
        let line = Line::new(2, 2, 8);
        let look_ups = |client: &str| -> Vec<_> {
            std::iter::from_fn(|| line.enter(origin(client))).collect()
        };
        let first = look_ups("192.0.2.1");
        assert_eq!(first.len(), 4);
        let second = look_ups("2001:db8::1");
        assert_eq!(second.len(), 2);
        // Nobody else than these two.
        assert!(line.enter(origin("::ffff:192.0.2.1")).is_none());
        assert!(line.enter(origin("2001:db8::2")).is_none());
        let third = look_ups("2001:db8:0:1::1");
        assert_eq!((third.len(), line.entries()), (1, 7));
        drop((first, second, third));
        assert_eq!(line.entries(), 0);
        assert!(line.waiting().keys.is_empty());
    }

    #[test]
    fn whoever_comes_next_waits_for_few() {
        let line = Line::new(2, 2, 100);
        let [first, second] = ["192.0.2.1", "192.0.2.2"].map(origin);
        let greedy: Vec<_> = (0..10).map(|_| line.enter(first).unwrap()).collect();
        let mut held: Vec<_> = greedy.iter().map(|look_up| Box::pin(look_up.place())).collect();
        let mut places: Vec<_> =
            held.iter_mut().filter_map(FutureExt::now_or_never).map(Result::unwrap).collect();
        assert_eq!(places.len(), 2);
        let other = line.enter(second).unwrap();
        let mut next = Box::pin(other.place());
        assert!(next.as_mut().now_or_never().is_none());
        places.pop();
        assert!(next.as_mut().now_or_never().is_some());
    }

    /// Who gives up in the middle of waiting takes nothing along.
    #[test]
    fn who_leaves_frees_the_place() {
        let line = Line::new(1, 1, 100);
        let client = origin("192.0.2.1");
        let [first, second, third] = [(); 3].map(|()| line.enter(client).unwrap());
        let permit = first.place().now_or_never().unwrap().unwrap();
        let mut waits = Box::pin(second.place());
        assert!(waits.as_mut().now_or_never().is_none());
        drop((waits, permit));
        assert!(third.place().now_or_never().is_some());
    }

    #[test]
    fn a_user_waits_for_himself_and_nobody_else_does() {
        let line = Line::new(4, 2, usize::MAX);
        let alice: Vec<_> = (0..9).map(|_| line.enter("alice").unwrap()).collect();
        let own: Vec<_> = alice.iter().filter_map(|one| one.place().now_or_never()).collect();
        assert_eq!(own.len(), 2);
        let bob = line.enter("bob").unwrap();
        let his = bob.place().now_or_never();
        assert!(his.is_some());
        drop(own);
        assert!(alice[8].place().now_or_never().is_some());
    }

    #[test]
    fn all_together_are_limited_and_served_in_turn() {
        let line = Line::new(2, 2, usize::MAX);
        let users = ["alice", "bob", "carol", "dave"].map(|user| line.enter(user).unwrap());
        let [alice, bob, carol, dave] = &users;
        let held = [alice, bob].map(|one| one.place().now_or_never().unwrap().unwrap());
        let mut carols = Box::pin(carol.place());
        assert!(carols.as_mut().now_or_never().is_none());
        let mut daves = Box::pin(dave.place());
        assert!(daves.as_mut().now_or_never().is_none());
        let [first, _second] = held;
        drop(first);
        assert!(daves.as_mut().now_or_never().is_none(), "dave came after carol");
        assert!(carols.as_mut().now_or_never().is_some());
    }

    #[test]
    fn nothing_is_left_of_look_ups_that_ended() {
        let line = Line::new(2, 1, usize::MAX);
        let first = line.enter("alice").unwrap();
        let second = line.enter("alice").unwrap();
        let turn = first.place().now_or_never();
        // Cancelled while it waits.
        assert!(second.place().now_or_never().is_none());
        drop(second);
        assert_eq!(line.waiting().keys.len(), 1);
        drop(turn);
        drop(first);
        assert!(line.waiting().keys.is_empty());
        assert_eq!(line.places.available_permits(), 2);
    }
}
