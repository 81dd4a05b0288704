//! The end of a session: the relay writes what is queued for both legs, logs the end, and closes.
//!
//! Each leg is closed once the kernel has its last octet, whatever the other leg does.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt as _, future::join_all};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Span, debug};

use super::{
    end::{self, End},
    party::Registration,
    registry::SessionInfo,
    stats::Queued,
    wire::{Wire, Wires},
};
use crate::{
    clock,
    msrp::ChunkQueue,
    session::{Leg, Session},
};

/// How long a peer may take to read its last octets once a session is over, `close_notify` included.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the line in the log waits until they are written, because it says how many octets were.
const COUNTED: Duration = Duration::from_secs(1);

/// A session that is over, with what is still to be written. It has left the registry.
pub(super) struct Ending {
    near: Last,
    far: Option<Last>,
}

/// One leg of a session that is over.
struct Last {
    leg: Leg,
    wire: Wire,
    words: ChunkQueue,
    /// That of the session that the client on this leg held.
    line: Option<Line>,
}

/// The line in the log for one session. It is written when this is dropped, so it is written
/// however the task ends.
struct Line {
    session: Arc<SessionInfo>,
    /// Where the log lines of the session stand.
    span: Span,
    duration: Duration,
    end: End,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.span.in_scope(|| end::log(&self.session, self.duration, self.end));
    }
}

impl Ending {
    pub(super) fn new(session: Session, wires: Wires, end: End) -> Self {
        let [near_words, far_words] = session.into_outgoing();
        let (near, far) = wires.into_legs();
        Self {
            near: Last::new(Leg::Near, near, near_words, end),
            far: far.map(|far| Last::new(Leg::Far, far, far_words, end)),
        }
    }

    /// Why the session of the near leg's client ended.
    #[cfg(test)]
    pub(super) fn end(&self) -> Option<End> {
        self.near.line.as_ref().map(|line| line.end)
    }

    /// Says the last words, writes the lines of the log and closes. Once `at_once` is cancelled it
    /// only writes the lines.
    pub(super) async fn run(self, at_once: &CancellationToken) {
        let legs = [Some(self.near), self.far].into_iter().flatten();
        let said = join_all(legs.map(|leg| leg.say().boxed()));
        at_once.run_until_cancelled(said).await;
    }
}

impl Last {
    fn new(leg: Leg, mut wire: Wire, words: ChunkQueue, end: End) -> Self {
        // Nobody looks for the session any more.
        wire.party.doors = None;
        let line =
            wire.party.registration.take().map(Registration::leave).map(|(session, span)| {
                let duration = clock::now().saturating_duration_since(session.since);
                Line { session, span, duration, end }
            });
        Self { leg, wire, words, line }
    }

    async fn say(self) {
        let Self { leg, mut wire, words, line } = self;
        let until = clock::now() + DRAIN;
        let mut queued = Queued::new(&wire.party.stats);
        queued.set(words.len());
        let counted = async {
            sleep(COUNTED).await;
            drop(line);
            sleep(DRAIN.saturating_sub(COUNTED)).await;
        };
        let said = tokio::select! {
            // In this order no timer starts for words that can be written at once.
            biased;
            said = wire.say(leg, words) => said,
            () = counted => false,
        };
        drop(queued);
        if !said {
            debug!("the last octets to the {leg} were not taken");
        }
        let left = until.saturating_duration_since(clock::now());
        if let Err(error) = wire.party.stream.close(left).await {
            debug!("{error}");
        }
    }
}
