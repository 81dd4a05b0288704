//! The queue of look-ups for the pool. It shares the places of the pool fairly among clients.
//!
//! ```text
//!   look-up ──► Line::enter ──► a turn among the client's own ──► a place in the pool
//! ```
//!
//! A client is an address, or a /64 of IPv6. In the common line it has no more look-ups than the
//! pool has places. The next client waits for these few, and not for all that the first one wants.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

#[derive(Debug)]
pub(super) struct Line {
    /// The most look-ups at once, running or waiting.
    max: usize,
    /// The most that run at once.
    size: usize,
    places: Semaphore,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    all: usize,
    /// For each client with look-ups: their number, and the client's own turns.
    clients: HashMap<IpAddr, (usize, Arc<Semaphore>)>,
}

/// A look-up in the line. It leaves the line when it is dropped.
#[derive(Debug)]
pub(super) struct LookUp<'a> {
    line: &'a Line,
    client: IpAddr,
    turns: Arc<Semaphore>,
}

/// A place in the pool.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    _turn: SemaphorePermit<'a>,
    _place: SemaphorePermit<'a>,
}

impl Line {
    pub(super) fn new(max: usize, size: usize) -> Self {
        Self { max, size, places: Semaphore::new(size), waiting: Mutex::default() }
    }

    /// Lets a look-up in. `None` if its client has as many look-ups as are left for all.
    pub(super) fn enter(&self, client: IpAddr) -> Option<LookUp<'_>> {
        let client = whole(client);
        let mut waiting = self.waiting();
        let Waiting { all, clients } = &mut *waiting;
        let own = clients.get(&client).map_or(0, |(own, _)| *own);
        if own >= self.max - *all {
            return None;
        }
        *all += 1;
        let turns = || (0, Arc::new(Semaphore::new(self.size)));
        let (own, turns) = clients.entry(client).or_insert_with(turns);
        *own += 1;
        Some(LookUp { line: self, client, turns: Arc::clone(turns) })
    }

    /// Look-ups in the line.
    pub(super) fn len(&self) -> usize {
        self.waiting().all
    }

    fn leave(&self, client: IpAddr) {
        let mut waiting = self.waiting();
        waiting.all -= 1;
        if let Some((own, _)) = waiting.clients.get_mut(&client) {
            *own -= 1;
            if *own == 0 {
                waiting.clients.remove(&client);
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookUp<'_> {
    /// Waits for a place in the pool.
    pub(super) async fn permit(&self) -> Result<Permit<'_>, AcquireError> {
        let turn = self.turns.acquire().await?;
        Ok(Permit { _turn: turn, _place: self.line.places.acquire().await? })
    }
}

impl Drop for LookUp<'_> {
    fn drop(&mut self) {
        self.line.leave(self.client);
    }
}

/// The address that stands for a client: a host usually has a whole /64 of IPv6.
fn whole(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_client_leaves_room_for_others() {
        let line = Line::new(8, 2);
        let look_ups = |client: &str| -> Vec<_> {
            std::iter::from_fn(|| line.enter(client.parse().unwrap())).collect()
        };
        let first = look_ups("192.0.2.1");
        assert_eq!(first.len(), 4);
        let second = look_ups("2001:db8::1");
        assert_eq!(second.len(), 2);
        // Nobody else than these two.
        assert!(line.enter("::ffff:192.0.2.1".parse().unwrap()).is_none());
        assert!(line.enter("2001:db8::2".parse().unwrap()).is_none());
        let third = look_ups("2001:db8:0:1::1");
        assert_eq!((third.len(), line.len()), (1, 7));
        drop((first, second, third));
        assert_eq!(line.len(), 0);
        assert!(line.waiting().clients.is_empty());
    }

    #[test]
    fn whoever_comes_next_waits_for_few() {
        let line = Line::new(100, 2);
        let [first, second] = ["192.0.2.1", "192.0.2.2"].map(|client| client.parse().unwrap());
        let greedy: Vec<_> = (0..10).map(|_| line.enter(first).unwrap()).collect();
        let mut held: Vec<_> = greedy.iter().map(|look_up| Box::pin(look_up.permit())).collect();
        let mut places: Vec<_> =
            held.iter_mut().filter_map(FutureExt::now_or_never).map(Result::unwrap).collect();
        assert_eq!(places.len(), 2);
        let other = line.enter(second).unwrap();
        let mut next = Box::pin(other.permit());
        assert!(next.as_mut().now_or_never().is_none());
        places.pop();
        assert!(next.as_mut().now_or_never().is_some());
    }

    /// Who gives up in the middle of waiting takes nothing along.
    #[test]
    fn who_leaves_frees_the_place() {
        let line = Line::new(100, 1);
        let client = "192.0.2.1".parse().unwrap();
        let [first, second, third] = [(); 3].map(|()| line.enter(client).unwrap());
        let permit = first.permit().now_or_never().unwrap().unwrap();
        let mut waits = Box::pin(second.permit());
        assert!(waits.as_mut().now_or_never().is_none());
        drop((waits, permit));
        assert!(third.permit().now_or_never().is_some());
    }
}
