//! A connection, from its accept to its close.

use std::{net::SocketAddr, sync::Arc};

use super::{
    configuration::{Doors, Policy},
    registry::{self, SessionInfo},
    stats::Counted,
};
use crate::{
    msrp::{ChunkQueue, Decoder},
    session::Holding,
    transport::Stream,
};

/// One connection.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) stream: Stream,
    /// The rules under which it was admitted.
    pub(super) policy: Arc<Policy>,
    /// Keeps the addresses open at which somebody may look for its session; `None` once it is joined.
    pub(super) doors: Option<Doors>,
    pub(super) counted: Counted,
    /// Failed AUTHs so far.
    pub(super) failures: u32,
    /// The session that its client holds.
    pub(super) registration: Option<Registration>,
}

/// A connection that no [`Session`](crate::session::Session) serves, with what one would own: this
/// is what moves from task to task.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) party: Party,
    pub(super) decoder: Decoder,
    /// Output that is not sent.
    pub(super) unsent: ChunkQueue,
    /// What the session that it holds was granted.
    pub(super) holding: Option<Holding>,
}

/// The sessions of the process, and how connections come to them.
pub(super) type Registry = registry::Registry<Box<Newcomer>>;
pub(super) type Registration = registry::Registration<Box<Newcomer>>;
pub(super) type Join = registry::Join<Box<Newcomer>>;
/// Delivers a connection to the task of the session that it joins.
pub(super) type Delivery = tokio::sync::oneshot::Sender<Box<Newcomer>>;
/// Where that task receives it.
pub(super) type Arrival = tokio::sync::oneshot::Receiver<Box<Newcomer>>;

/// The client that sends an AUTH, and the rules for it.
#[derive(Debug, Clone)]
pub(super) struct Claimant {
    pub(super) peer: SocketAddr,
    pub(super) policy: Arc<Policy>,
    /// The session that the connection holds.
    pub(super) session: Option<Arc<SessionInfo>>,
    /// The session has no far leg yet.
    pub(super) unjoined: bool,
    /// Failed attempts before this one.
    pub(super) failures: u32,
}

impl Party {
    /// The other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.stream.link().peer()
    }

    /// Who sends an AUTH on this connection; `unjoined`: see [`Claimant`].
    pub(super) fn claimant(&self, unjoined: bool) -> Claimant {
        Claimant {
            peer: self.peer(),
            policy: Arc::clone(&self.policy),
            session: self.registration.as_ref().map(|one| Arc::clone(one.info())),
            unjoined,
            failures: self.failures,
        }
    }
}
