//! Who may look up a name now: the number of look-ups is limited in all and per user.
//!
//! ```text
//!   look-up ──► a turn among those of its user ──► a place among all
//! ```
//!
//! A user never has more look-ups in the common line than he may have under way. So a user whose
//! names are slow waits for himself, and another user waits for those few at most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(super) struct Turns {
    places: Semaphore,
    per_user: usize,
    /// Each user who has look-ups, with their number.
    users: Mutex<HashMap<String, (usize, Arc<Semaphore>)>>,
}

/// A look-up that waits or is under way. Dropping it takes it out of the line.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    turns: &'a Turns,
    user: &'a str,
    own: Arc<Semaphore>,
}

/// Leave to look up a name.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _own: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl Turns {
    pub(super) fn new(in_all: usize, per_user: usize) -> Self {
        Self { places: Semaphore::new(in_all), per_user, users: Mutex::default() }
    }

    pub(super) fn enter<'a>(&'a self, user: &'a str) -> Waiting<'a> {
        let mut users = self.users();
        let turns = || (0, Arc::new(Semaphore::new(self.per_user)));
        let (count, own) = users.entry(user.to_owned()).or_insert_with(turns);
        *count += 1;
        Waiting { turns: self, user, own: Arc::clone(own) }
    }

    fn leave(&self, user: &str) {
        let mut users = self.users();
        if let Some((count, _)) = users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                users.remove(user);
            }
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, (usize, Arc<Semaphore>)>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting<'_> {
    /// Waits until the look-up may begin.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, AcquireError> {
        let own = self.own.acquire().await?;
        Ok(Turn { _own: own, _place: self.turns.places.acquire().await? })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.turns.leave(self.user);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_user_waits_for_himself_and_nobody_else_does() {
        let turns = Turns::new(4, 2);
        let alice: Vec<_> = (0..9).map(|_| turns.enter("alice")).collect();
        let own: Vec<_> = alice.iter().filter_map(|one| one.turn().now_or_never()).collect();
        assert_eq!(own.len(), 2);
        let bob = turns.enter("bob");
        let his = bob.turn().now_or_never();
        assert!(his.is_some());
        drop(own);
        assert!(alice[8].turn().now_or_never().is_some());
    }

    #[test]
    fn all_together_are_limited_and_served_in_turn() {
        let turns = Turns::new(2, 2);
        let users = ["alice", "bob", "carol", "dave"].map(|user| turns.enter(user));
        let [alice, bob, carol, dave] = &users;
        let held = [alice, bob].map(|one| one.turn().now_or_never().unwrap().unwrap());
        let mut carols = Box::pin(carol.turn());
        assert!(carols.as_mut().now_or_never().is_none());
        let mut daves = Box::pin(dave.turn());
        assert!(daves.as_mut().now_or_never().is_none());
        let [first, _second] = held;
        drop(first);
        assert!(daves.as_mut().now_or_never().is_none(), "dave came after carol");
        assert!(carols.as_mut().now_or_never().is_some());
    }

    #[test]
    fn nothing_is_left_of_look_ups_that_ended() {
        let turns = Turns::new(2, 1);
        let first = turns.enter("alice");
        let second = turns.enter("alice");
        let turn = first.turn().now_or_never();
        // Cancelled while it waits.
        assert!(second.turn().now_or_never().is_none());
        drop(second);
        assert_eq!(turns.users().len(), 1);
        drop(turn);
        drop(first);
        assert!(turns.users().is_empty());
        assert_eq!(turns.places.available_permits(), 2);
    }
}
