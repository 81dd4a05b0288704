//! The sessions of this relay by session-id, and who may join them.
//!
//! A session waits until a peer joins it. Then it is bound to that peer until it ends (RFC 4976
//! §6.4). Each change of state is one critical section: if two connections claim the same session,
//! one gets it.
//!
//! The registry does not know what a connection is. A task that claims a session gets the sender of
//! a channel, through which it delivers its connection, a `C`, to the task of that session.

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

use super::{configuration::Authorities, quota::Ticket};
use crate::{
    msrp::{Head, Path, Uri},
    session::{Reject, detail},
    transport::Traffic,
};

/// All sessions of the process.
#[derive(Debug)]
pub(super) struct Registry<C> {
    sessions: Mutex<HashMap<String, Entry<C>>>,
    /// Notified when the last session has left.
    emptied: Notify,
    authorities: Arc<Authorities>,
}

/// What does not change while a session lives.
#[derive(Debug)]
pub(super) struct SessionInfo {
    /// The URI that its owner was given.
    pub(super) uri: Uri,
    /// The path from the relay to the owner. A stranger's To-Path must have it behind `uri`.
    pub(super) client: Path,
    pub(super) user: String,
    pub(super) realm: String,
    /// The address at the other end of the owner's connection.
    pub(super) peer: SocketAddr,
    pub(super) since: Instant,
    /// Octets on the owner's connection.
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
    /// It can be claimed.
    Waiting(oneshot::Sender<C>),
    /// Its owner sent the first request, and the relay dials the next hop, or has done so.
    Dialling,
    /// A connection has claimed it, or its owner's connection has claimed another session.
    Bound,
    /// It expired before a peer joined.
    Lapsed,
}

/// How many sessions there are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Sessions {
    /// Sessions without a peer.
    pub waiting: usize,
    /// Sessions with a peer, or whose next hop is being dialled.
    pub bound: usize,
}

/// What is to be done when the owner of an unbound session sends the first request.
#[derive(Debug)]
pub(super) enum Join<C> {
    /// Dial the next hop, which is not this relay. No peer can join the session meanwhile.
    Dial,
    /// Deliver the connection to another session of this relay, which is the next hop and has just
    /// been claimed.
    Deliver(oneshot::Sender<C>),
    /// Wait: a peer has claimed the owner's session, and its connection is on the way.
    Await,
    /// Refuse the request. The session waits as before.
    Refuse(Reject),
}

impl<C> Registry<C> {
    /// An empty registry. The relay never dials the hosts and ports in `authorities`, which lead to
    /// itself.
    pub(super) fn new(authorities: Arc<Authorities>) -> Self {
        Self { sessions: Mutex::default(), emptied: Notify::new(), authorities }
    }

    /// Enters a new session, waiting to be joined. `ticket` counts it while it is entered.
    pub(super) fn register(
        self: &Arc<Self>,
        info: SessionInfo,
        span: Span,
        ticket: Option<Ticket>,
    ) -> (Registration<C>, oneshot::Receiver<C>) {
        let (delivery, arrival) = oneshot::channel();
        let info = Arc::new(info);
        let entry = Entry { info: Arc::clone(&info), standing: Standing::Waiting(delivery) };
        self.lock().insert(info.id().to_owned(), entry);
        let place = Place { registry: Arc::clone(self), info };
        (Registration { place, span, _ticket: ticket }, arrival)
    }

    /// Claims the session that a stranger's SEND names by its session-id: a middlebox may have
    /// rewritten the rest of the URI. A SEND with a wrong path is refused and leaves the session as
    /// it is.
    pub(super) fn claim(&self, head: &Head) -> Result<oneshot::Sender<C>, Reject> {
        let mut sessions = self.lock();
        let first = head.to_path.first();
        let entry = find(&mut sessions, first).filter(|entry| first.leads_to(&entry.info.uri));
        let entry = entry.ok_or(Reject::NoSession(detail::NONE))?;
        if head.to_path[1..] != entry.info.client[..] {
            return Err(Reject::NoSession(detail::DESTINATION));
        }
        entry.claim()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn sessions(&self) -> Sessions {
        let sessions = self.lock();
        let unjoined =
            |entry: &&Entry<C>| matches!(entry.standing, Standing::Waiting(_) | Standing::Lapsed);
        let waiting = sessions.values().filter(unjoined).count();
        Sessions { waiting, bound: sessions.len() - waiting }
    }

    /// Resolves when there are no sessions.
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
        // A poisoned lock can be used: no code under it can panic in the middle of a change.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionInfo {
    /// The session-id. Whoever knows it can join the session: never log it.
    pub(super) fn id(&self) -> &str {
        self.uri.session_id().unwrap_or_default()
    }
}

/// The session that has the session-id of `uri`, unless it has lapsed.
fn find<'a, C>(sessions: &'a mut HashMap<String, Entry<C>>, uri: &Uri) -> Option<&'a mut Entry<C>> {
    let entry = sessions.get_mut(uri.session_id()?)?;
    (!matches!(entry.standing, Standing::Lapsed)).then_some(entry)
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

/// The entry of a session in the registry, kept with the connection of its owner.
pub(super) struct Registration<C> {
    place: Place<C>,
    /// `session{..}`, in which its log lines stand.
    pub(super) span: Span,
    _ticket: Option<Ticket>,
}

/// Takes the session out of the registry when it is dropped, however its task ends.
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

    /// Decides on the owner's first request. `path` starts with the next hop.
    pub(super) fn join(&self, path: &Path) -> Join<C> {
        let Place { registry, info } = &self.place;
        let mut sessions = registry.lock();
        match sessions.get(info.id()).map(|own| &own.standing) {
            Some(Standing::Waiting(_)) => {}
            Some(Standing::Bound) => return Join::Await,
            _ => return Join::Refuse(Reject::NoSession(detail::NONE)),
        }
        // Only the first URI of To-Path may be a rewritten one of ours. A next hop with another host
        // and port is a machine elsewhere: the middlebox itself, which may want what goes through.
        let next = find(&mut sessions, path.first()).filter(|one| one.info.uri == *path.first());
        let joined = match next {
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
        // Dropping a sender wakes a task, so the lock is released first.
        drop(sessions);
        drop(before);
        joined
    }

    /// Makes the session wait for a peer again.
    pub(super) fn wait(&self) -> oneshot::Receiver<C> {
        let (delivery, arrival) = oneshot::channel();
        if let Some(own) = self.place.registry.lock().get_mut(self.place.info.id()) {
            own.standing = Standing::Waiting(delivery);
        }
        arrival
    }

    /// Marks the session as lapsed. Returns false if a peer has just claimed it: then it does not
    /// lapse.
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

    /// Takes the session out of the registry. The info and the span are for its last log lines.
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
