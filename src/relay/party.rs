//! A connection, from its accept to its close.

use std::{net::SocketAddr, sync::Arc};

use super::{
    configuration::{Doors, Policy},
    quota::Ticket,
    registry::{self, SessionInfo},
    stats::Stats,
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
    /// The rules in force when it was accepted.
    pub(super) policy: Arc<Policy>,
    /// Keeps the listeners open through which a peer may join its session. `None` once the session
    /// is bound.
    pub(super) doors: Option<Doors>,
    /// Counts it as long as it is open.
    pub(super) ticket: Ticket,
    pub(super) stats: Arc<Stats>,
    /// Failed AUTHs so far.
    pub(super) failures: u32,
    /// The session that its client owns.
    pub(super) registration: Option<Registration>,
}

/// A connection between two tasks, while no [`Session`](crate::session::Session) serves it. It
/// carries the state that a session keeps for a leg.
#[derive(Debug)]
pub(super) struct Newcomer {
    pub(super) party: Party,
    pub(super) decoder: Decoder,
    /// Responses that have not been written yet.
    pub(super) unsent: ChunkQueue,
    /// What its client holds of a session, if it has one.
    pub(super) holding: Option<Holding>,
}

/// The registry, which delivers connections as [`Newcomer`]s.
pub(super) type Registry = registry::Registry<Box<Newcomer>>;
pub(super) type Registration = registry::Registration<Box<Newcomer>>;
pub(super) type Join = registry::Join<Box<Newcomer>>;
/// Delivers a connection to the task of the session that it joins.
pub(super) type Delivery = tokio::sync::oneshot::Sender<Box<Newcomer>>;
/// The end of the channel where that task receives the connection.
pub(super) type Arrival = tokio::sync::oneshot::Receiver<Box<Newcomer>>;

/// The client that sent an AUTH, and the rules for it.
#[derive(Debug, Clone)]
pub(super) struct Claimant {
    pub(super) peer: SocketAddr,
    pub(super) policy: Arc<Policy>,
    /// The session that the client owns already.
    pub(super) session: Option<Arc<SessionInfo>>,
    /// That session has no far leg, and none is being dialled.
    pub(super) unjoined: bool,
    /// Failed AUTHs before this one.
    pub(super) failures: u32,
}

impl Party {
    /// The address of the other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.stream.link().peer()
    }

    /// The client that sent an AUTH on this connection. `unjoined` is explained at [`Claimant`].
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
