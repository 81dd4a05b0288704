//! The sessions of this relay by session-id, and who may join them.
//!
//! A session waits until somebody joins it; then it is bound, for good (RFC 4976 §6.4). Every
//! change of state is one critical section, so of two who want the same session one gets it.
//!
//! The registry does not know what a connection is: whoever claims a session gets the sender of a
//! channel, and delivers a `C` through it to the task of that session.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tracing::Span;

use super::configuration::Authorities;
use crate::{
    msrp::{Head, Path, Uri},
    session::{Reject, detail},
    transport::Traffic,
};

/// All sessions of the process. Each connection that joins one is delivered as a `C`.
#[derive(Debug)]
pub(super) struct Registry<C> {
    sessions: Mutex<HashMap<String, Entry<C>>>,
    /// The last session has left.
    emptied: Notify,
    authorities: Arc<Authorities>,
}

/// What stays the same while a session lives.
#[derive(Debug)]
pub(super) struct SessionInfo {
    /// The URI that its client was given.
    pub(super) uri: Uri,
    /// The way back to the client: what a stranger's To-Path must say behind our URI.
    pub(super) client: Path,
    pub(super) user: String,
    pub(super) realm: String,
    /// The other end of the client's connection.
    pub(super) peer: SocketAddr,
    pub(super) since: Instant,
    /// Octets on the client's connection.
    pub(super) traffic: Arc<Traffic>,
    /// Cancelled to end the session, whichever task serves it.
    pub(super) token: CancellationToken,
}

#[derive(Debug)]
struct Entry<C> {
    info: Arc<SessionInfo>,
    standing: Standing<C>,
}

#[derive(Debug)]
enum Standing<C> {
    /// Nobody has joined yet.
    Waiting(oneshot::Sender<C>),
    /// Its own client spoke first: the relay connects to its next hop.
    Dialling,
    /// Somebody joined, or was joined.
    Bound,
    /// Its time is over.
    Lapsed,
}

/// How many sessions there are, by what they do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Sessions {
    /// Nobody has joined them.
    pub waiting: usize,
    /// Somebody has, or is being dialled.
    pub bound: usize,
}

/// What becomes of a session whose own client speaks first.
#[derive(Debug)]
pub(super) enum Join<C> {
    /// Its next hop is elsewhere: connect. Nobody can join it meanwhile.
    Dial,
    /// Its next hop is another session of this relay, which is claimed now: deliver the
    /// connection.
    Deliver(oneshot::Sender<C>),
    /// Somebody has claimed this very session: a connection is on its way to us.
    Await,
    /// It may not go there; the session waits on.
    Refuse(Reject),
}

impl<C> Registry<C> {
    /// Nobody dials to the hosts and ports in `authorities`: they are this relay itself.
    pub(super) fn new(authorities: Arc<Authorities>) -> Self {
        Self { sessions: Mutex::default(), emptied: Notify::new(), authorities }
    }

    /// Enters a new session, waiting to be joined.
    pub(super) fn register(
        self: &Arc<Self>,
        info: SessionInfo,
        span: Span,
    ) -> (Registration<C>, oneshot::Receiver<C>) {
        let (delivery, arrival) = oneshot::channel();
        let info = Arc::new(info);
        let entry = Entry { info: Arc::clone(&info), standing: Standing::Waiting(delivery) };
        self.lock().insert(info.id().to_owned(), entry);
        (Registration { place: Place { registry: Arc::clone(self), info }, span }, arrival)
    }

    /// Claims the session that a stranger's SEND names. A request that does not fit leaves the
    /// session as it is.
    pub(super) fn claim(&self, head: &Head) -> Result<oneshot::Sender<C>, Reject> {
        let mut sessions = self.lock();
        let entry = find(&mut sessions, head.to_path.first());
        let entry = entry.ok_or(Reject::NoSession(detail::NONE))?;
        if head.to_path[1..] != entry.info.client[..] {
            return Err(Reject::NoSession(detail::DESTINATION));
        }
        entry.claim()
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// How many there are, by what they do.
    pub(super) fn sessions(&self) -> Sessions {
        let sessions = self.lock();
        let unjoined =
            |entry: &&Entry<C>| matches!(entry.standing, Standing::Waiting(_) | Standing::Lapsed);
        let waiting = sessions.values().filter(unjoined).count();
        Sessions { waiting, bound: sessions.len() - waiting }
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

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry<C>>> {
        // No code but ours runs under the lock, and none of it can leave it half done.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionInfo {
    /// The session-id; a secret.
    pub(super) fn id(&self) -> &str {
        self.uri.session_id().unwrap_or_default()
    }
}

fn find<'a, C>(sessions: &'a mut HashMap<String, Entry<C>>, uri: &Uri) -> Option<&'a mut Entry<C>> {
    let entry = sessions.get_mut(uri.session_id()?)?;
    (entry.info.uri == *uri && !matches!(entry.standing, Standing::Lapsed)).then_some(entry)
}

impl<C> Entry<C> {
    fn claim(&mut self) -> Result<oneshot::Sender<C>, Reject> {
        match std::mem::replace(&mut self.standing, Standing::Bound) {
            Standing::Waiting(delivery) => Ok(delivery),
            standing => {
                self.standing = standing;
                Err(Reject::Bound)
            }
        }
    }
}

/// A session as the connection of its client holds it.
pub(super) struct Registration<C> {
    place: Place<C>,
    /// `session{..}`, in which its log lines stand.
    pub(super) span: Span,
}

/// A session's place in the registry; it leaves with this guard, however its task ends.
struct Place<C> {
    registry: Arc<Registry<C>>,
    info: Arc<SessionInfo>,
}

impl<C> fmt::Debug for Registration<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("peer", &self.place.info.peer).finish_non_exhaustive()
    }
}

impl<C> Registration<C> {
    pub(super) fn info(&self) -> &Arc<SessionInfo> {
        &self.place.info
    }

    /// The own client of this session wants to go along `path`, which starts with its next hop.
    pub(super) fn join(&self, path: &Path) -> Join<C> {
        let Place { registry, info } = &self.place;
        let mut sessions = registry.lock();
        match sessions.get(info.id()).map(|own| &own.standing) {
            Some(Standing::Waiting(_)) => {}
            Some(Standing::Bound) => return Join::Await,
            _ => return Join::Refuse(Reject::NoSession(detail::NONE)),
        }
        let joined = match find(&mut sessions, path.first()) {
            Some(other) if path[1..] != other.info.client[..] => {
                return Join::Refuse(Reject::NoSession(detail::DESTINATION));
            }
            Some(other) => other.claim().map_or_else(Join::Refuse, Join::Deliver),
            None if path.iter().any(|uri| registry.authorities.include(uri)) => {
                return Join::Refuse(Reject::NoSession(detail::NONE));
            }
            None => Join::Dial,
        };
        let standing = match joined {
            Join::Deliver(_) => Standing::Bound,
            Join::Dial => Standing::Dialling,
            Join::Await | Join::Refuse(_) => return joined,
        };
        let own = sessions.get_mut(info.id());
        let before = own.map(|own| std::mem::replace(&mut own.standing, standing));
        // A sender that is dropped wakes a task: not under the lock.
        drop(sessions);
        drop(before);
        joined
    }

    /// Lets the session be joined (again).
    pub(super) fn wait(&self) -> oneshot::Receiver<C> {
        let (delivery, arrival) = oneshot::channel();
        if let Some(own) = self.place.registry.lock().get_mut(self.place.info.id()) {
            own.standing = Standing::Waiting(delivery);
        }
        arrival
    }

    /// The session's time is over; false if somebody has claimed it just now.
    pub(super) fn lapse(&self) -> bool {
        let mut sessions = self.place.registry.lock();
        let Some(Entry { standing: standing @ Standing::Waiting(_), .. }) =
            sessions.get_mut(self.place.info.id())
        else {
            return false;
        };
        let before = std::mem::replace(standing, Standing::Lapsed);
        drop(sessions);
        drop(before);
        true
    }

    /// Resolves when the session is to end.
    pub(super) fn ended(&self) -> WaitForCancellationFutureOwned {
        self.place.info.token.clone().cancelled_owned()
    }

    /// Takes the session out of the registry; what it was is left for the log.
    pub(super) fn leave(self) -> (Arc<SessionInfo>, Span) {
        (Arc::clone(&self.place.info), self.span)
    }
}

impl<C> Drop for Place<C> {
    fn drop(&mut self) {
        let (left, is_empty) = {
            let mut sessions = self.registry.lock();
            (sessions.remove(self.info.id()), sessions.is_empty())
        };
        drop(left);
        if is_empty {
            self.registry.emptied.notify_waiters();
        }
    }
}
