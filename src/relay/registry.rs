//! The sessions of this relay by session-id, and who may join them.
//!
//! A session waits until somebody joins it; then it is bound, for good (RFC 4976 §6.4). Every
//! change of state is one critical section, so of two who want the same session one gets it.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
};

use tokio::sync::{Notify, oneshot};

use super::{DEFAULT_PORT, Generation, party::Party, status::Sessions};
use crate::{
    msrp::{Head, Path, Uri},
    session::{Reject, detail},
};

/// Delivers a connection to the task of the session that it joins.
pub(super) type Delivery = oneshot::Sender<Box<Party>>;
/// Where that task receives it.
pub(super) type Arrival = oneshot::Receiver<Box<Party>>;

/// All sessions of the process.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    /// The last session has left.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<String, Entry>,
    /// Those under which sessions live or may come.
    minters: Vec<Minter>,
    stopping: bool,
}

/// A generation that mints, or minted, URIs of sessions.
#[derive(Debug)]
struct Minter {
    generation: Weak<Generation>,
    /// Its host and port: never to be dialled.
    authority: Uri,
}

#[derive(Debug)]
struct Entry {
    /// Number of the generation that minted the URI.
    generation: u64,
    uri: Uri,
    /// The way back to the client: what a stranger's To-Path must say behind our URI.
    client: Path,
    standing: Standing,
    /// Dropped to stop the session's task.
    stop: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Standing {
    /// Nobody has joined yet.
    Waiting(Delivery),
    /// Its own client spoke first: the relay connects to its next hop.
    Dialling,
    /// Somebody joined, or was joined.
    Bound,
    /// Its time is over.
    Lapsed,
}

/// What becomes of a session whose own client speaks first.
#[derive(Debug)]
pub(super) enum Join {
    /// Its next hop is elsewhere: connect. Nobody can join it meanwhile.
    Dial,
    /// Its next hop is another session of this relay, which is claimed now: deliver the
    /// connection.
    Deliver(Delivery),
    /// Somebody has claimed this very session: a connection is on its way to us.
    Await,
    /// It may not go there; the session waits on.
    Refuse(Reject),
}

impl Registry {
    /// Enters a new session, waiting to be joined; `generation` has minted its URI.
    pub(super) fn register(
        self: &Arc<Self>,
        generation: &Generation,
        uri: Uri,
        client: Path,
    ) -> (Registration, Arrival) {
        let (delivery, arrival) = oneshot::channel();
        let id = uri.session_id().unwrap_or_default().to_owned();
        let standing = Standing::Waiting(delivery);
        let entry = Entry { generation: generation.number, uri, client, standing, stop: None };
        self.lock().sessions.insert(id.clone(), entry);
        (Registration { registry: Arc::clone(self), id }, arrival)
    }

    /// Sessions are minted under this generation from now on.
    pub(super) fn add_minter(&self, generation: &Arc<Generation>) {
        let mut state = self.lock();
        state.minters.retain(|minter| minter.generation.strong_count() > 0);
        state.minters.push(Minter {
            generation: Arc::downgrade(generation),
            authority: generation.policy.authority.clone(),
        });
    }

    /// Whether somebody may still look for a session at an address that these generations gave out:
    /// one that nobody has joined, or one that is about to be made.
    pub(super) fn is_awaited(&self, numbers: &Range<u64>) -> bool {
        let state = self.lock();
        let mut minters = state.minters.iter().filter_map(|minter| minter.generation.upgrade());
        minters.any(|generation| {
            numbers.contains(&generation.number) && generation.visitors.load(Ordering::Relaxed) > 0
        }) || state
            .sessions
            .values()
            .any(|entry| numbers.contains(&entry.generation) && entry.is_unjoined())
    }

    /// Claims the session that a stranger's SEND names. A request that does not fit leaves the
    /// session as it is.
    pub(super) fn claim(&self, head: &Head) -> Result<Delivery, Reject> {
        let mut state = self.lock();
        let entry = state.find(head.to_path.first()).ok_or(Reject::NoSession(detail::NONE))?;
        if head.to_path[1..] != entry.client[..] {
            return Err(Reject::NoSession(detail::DESTINATION));
        }
        entry.claim()
    }

    /// Stops the tasks of all sessions, and of those that are still to come.
    pub(super) fn stop_all(&self) {
        let mut state = self.lock();
        state.stopping = true;
        for entry in state.sessions.values_mut() {
            entry.stop = None;
        }
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.lock().sessions.len()
    }

    /// How many there are, by what they do.
    pub(super) fn sessions(&self) -> Sessions {
        let state = self.lock();
        let waiting = state.sessions.values().filter(|entry| entry.is_unjoined()).count();
        Sessions { waiting, bound: state.sessions.len() - waiting }
    }

    /// Resolves when there is no session.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code but ours runs under the lock, and none of it can leave it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, uri: &Uri) -> Option<&mut Entry> {
        let entry = self.sessions.get_mut(uri.session_id()?)?;
        (entry.uri == *uri && !matches!(entry.standing, Standing::Lapsed)).then_some(entry)
    }

    fn is_ours(&self, uri: &Uri) -> bool {
        let port = |uri: &Uri| uri.port().unwrap_or(DEFAULT_PORT);
        let living = self.minters.iter().filter(|minter| minter.generation.strong_count() > 0);
        living
            .map(|minter| &minter.authority)
            .any(|ours| port(ours) == port(uri) && ours.same_host(uri))
    }
}

impl Entry {
    fn is_unjoined(&self) -> bool {
        matches!(self.standing, Standing::Waiting(_) | Standing::Lapsed)
    }

    fn claim(&mut self) -> Result<Delivery, Reject> {
        match std::mem::replace(&mut self.standing, Standing::Bound) {
            Standing::Waiting(delivery) => Ok(delivery),
            standing => {
                self.standing = standing;
                Err(Reject::Bound)
            }
        }
    }
}

/// A session's place in the registry; it leaves with this guard, however its task ends.
#[derive(Debug)]
pub(super) struct Registration {
    registry: Arc<Registry>,
    id: String,
}

impl Registration {
    /// The own client of this session wants to go along `path`, which starts with its next hop.
    pub(super) fn join(&self, path: &Path) -> Join {
        let mut state = self.registry.lock();
        match state.sessions.get(&self.id).map(|own| &own.standing) {
            Some(Standing::Waiting(_)) => {}
            Some(Standing::Bound) => return Join::Await,
            _ => return Join::Refuse(Reject::NoSession(detail::NONE)),
        }
        let next_hop = path.first();
        if let Some(other) = state.find(next_hop) {
            if path[1..] != other.client[..] {
                return Join::Refuse(Reject::NoSession(detail::DESTINATION));
            }
            return match other.claim() {
                Ok(delivery) => {
                    state.set(&self.id, Standing::Bound);
                    Join::Deliver(delivery)
                }
                Err(reject) => Join::Refuse(reject),
            };
        }
        if path.iter().any(|uri| state.is_ours(uri)) {
            return Join::Refuse(Reject::NoSession(detail::NONE));
        }
        state.set(&self.id, Standing::Dialling);
        Join::Dial
    }

    /// Lets the session be joined (again).
    pub(super) fn wait(&self) -> Arrival {
        let (delivery, arrival) = oneshot::channel();
        self.registry.lock().set(&self.id, Standing::Waiting(delivery));
        arrival
    }

    /// The session's time is over; false if somebody has claimed it just now.
    pub(super) fn lapse(&self) -> bool {
        let mut state = self.registry.lock();
        if let Some(Entry { standing: standing @ Standing::Waiting(_), .. }) =
            state.sessions.get_mut(&self.id)
        {
            *standing = Standing::Lapsed;
            return true;
        }
        false
    }

    /// Resolves, with an error, when the task that serves this session is to stop.
    pub(super) fn stop_signal(&self) -> oneshot::Receiver<()> {
        let (stop, signal) = oneshot::channel();
        let mut state = self.registry.lock();
        if !state.stopping
            && let Some(entry) = state.sessions.get_mut(&self.id)
        {
            entry.stop = Some(stop);
        }
        signal
    }
}

impl State {
    fn set(&mut self, id: &str, standing: Standing) {
        if let Some(entry) = self.sessions.get_mut(id) {
            entry.standing = standing;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        state.sessions.remove(&self.id);
        if state.sessions.is_empty() {
            self.registry.emptied.notify_waiters();
        }
    }
}
