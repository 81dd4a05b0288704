//! The end of a session: the relay writes what is queued for both legs, logs the end, and closes.
//!
//! Each leg is closed once the kernel has its last octet, whatever the other leg does.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug};

use super::{
    end::{self, End},
    lifecycle::STOP_TIME,
    party::Registration,
    registry::SessionInfo,
    wire::{Wire, Wires},
};
use crate::{
    msrp::ChunkQueue,
    session::{Leg, Session},
};

/// How long a peer may take to read its last octets once a session is over.
const DRAIN: Duration = Duration::from_secs(10);
/// The same while the process stops. It is shorter than [`STOP_TIME`], so that the end of the
/// session is still logged.
const DRAIN_AT_STOP: Duration = STOP_TIME.saturating_sub(Duration::from_secs(1));

/// A session that is over, with what is still to be written. It has left the registry.
pub(super) struct Ending {
    near: Last,
    far: Option<Last>,
    end: End,
}

/// One leg of a session that is over.
struct Last {
    leg: Leg,
    wire: Wire,
    words: ChunkQueue,
    /// The session that the client on this leg owned, and the span of its log lines.
    held: Option<(Arc<SessionInfo>, Span)>,
}

impl Ending {
    pub(super) fn new(session: Session, wires: Wires, end: End) -> Self {
        let [near_words, far_words] = session.into_outgoing();
        let (near, far) = wires.into_legs();
        let near = Last::new(Leg::Near, near, near_words);
        Self { near, far: far.map(|far| Last::new(Leg::Far, far, far_words)), end }
    }

    #[cfg(test)]
    pub(super) fn end(&self) -> End {
        self.end
    }

    /// Writes the last octets to both legs, logs the end and closes. `stopping` is cancelled when
    /// the process stops.
    pub(super) async fn run(self, stopping: &CancellationToken) {
        let Self { near, far, end } = self;
        let far = async {
            if let Some(far) = far {
                far.say(end, stopping).await;
            }
        };
        tokio::join!(near.say(end, stopping), far);
    }
}

impl Last {
    fn new(leg: Leg, mut wire: Wire, words: ChunkQueue) -> Self {
        let held = wire.party.registration.take().map(Registration::leave);
        Self { leg, wire, words, held }
    }

    async fn say(mut self, end: End, stopping: &CancellationToken) {
        let stopped = async {
            stopping.cancelled().await;
            sleep(DRAIN_AT_STOP).await;
        };
        let mut queued = self.wire.party.counted.queued();
        queued.set(self.words.len());
        let said = tokio::select! {
            said = self.wire.say(self.leg, self.words) => said,
            () = sleep(DRAIN) => false,
            () = stopped => false,
        };
        drop(queued);
        if let Some((session, span)) = &self.held {
            span.in_scope(|| end::log(session, end));
        }
        if !said {
            debug!("closed before the last octets to the {} leg were written", self.leg);
            return;
        }
        if let Err(error) = self.wire.party.stream.close(DRAIN).await {
            debug!("{error}");
        }
    }
}
