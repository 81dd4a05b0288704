//! A connection, with all that moves along when it joins a session.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tracing::Span;

use super::{Generation, registry::Registration, stats::Counted, wire::Wire};
use crate::{
    msrp::{ChunkQueue, Decoder},
    session::Holding,
};

/// One connection: the socket, the input that nobody has acted on, the output that is not sent.
#[derive(Debug)]
pub(super) struct Party {
    pub(super) wire: Wire,
    pub(super) decoder: Decoder,
    pub(super) unsent: ChunkQueue,
    /// The rules under which it was admitted.
    pub(super) generation: Arc<Generation>,
    pub(super) counted: Counted,
    /// Failed AUTHs so far.
    pub(super) failures: u32,
    /// The session that it holds, once it has authenticated.
    pub(super) owned: Option<Owned>,
}

/// What a connection brings along that holds a session of its own.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) registration: Registration,
    pub(super) holding: Holding,
    pub(super) user: String,
    pub(super) realm: String,
    pub(super) since: Instant,
    /// `session{..}`, in which its log lines stand.
    pub(super) span: Span,
}

impl Party {
    /// A connection that has just been accepted.
    pub(super) fn new(
        wire: Wire,
        decoder: Decoder,
        generation: Arc<Generation>,
        counted: Counted,
    ) -> Self {
        let unsent = ChunkQueue::default();
        Self { wire, decoder, unsent, generation, counted, failures: 0, owned: None }
    }

    /// The other end.
    pub(super) fn peer(&self) -> SocketAddr {
        self.wire.stream.link().peer()
    }
}
