//! Steering a running relay from outside: reload, drain, stop.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{ReloadError, Reloaded, Shared, Status};

/// What the relay is about. Ordered: it never goes back from draining or stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It takes sessions.
    Running,
    /// It takes sessions, and reads its configuration.
    Reloading,
    /// It takes no new sessions, and stops when the last one has ended.
    Draining,
    /// It ends, its sessions with it.
    Stopping,
}

/// Steers a running relay; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Reads the configuration and puts it in force, or changes nothing; one at a time. The outcome
    /// is logged as well. It goes on when the caller does not wait for it.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let shared = Arc::clone(&self.shared);
        let reloading = async move {
            // Files and names may keep it waiting for ever; the end does not wait for them.
            let reloading = shared.configuration.reload(&shared);
            let ended = shared.stopping.run_until_cancelled(reloading).await;
            ended.unwrap_or(Err(ReloadError::Stopping))
        };
        self.shared.tasks.spawn(reloading).await.unwrap_or(Err(ReloadError::Interrupted))
    }

    /// No new sessions; the relay ends when the last one has.
    pub fn drain(&self) {
        self.shared.advance(Phase::Draining);
    }

    /// Ends: sessions may take `drain_timeout` to end by themselves, then
    /// [`STOP_TIME`](super::STOP_TIME) for their last words.
    pub fn stop(&self) {
        self.shared.advance(Phase::Stopping);
    }

    /// Ends, and waits for nobody.
    pub fn stop_now(&self) {
        self.shared.at_once.cancel();
        self.stop();
    }

    /// What is in force and what goes on.
    pub fn status(&self) -> Status {
        Status::of(&self.shared)
    }

    /// Resolves if the relay is alive: its tasks get their turn and its table of sessions can be
    /// had. Never, where it hangs.
    pub async fn pulse(&self) {
        let shared = Arc::clone(&self.shared);
        let beat = tokio::spawn(async move { shared.registry.len() });
        // A beat that is lost is none.
        if beat.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Where the relay is now, and each change of that.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.shared.phase.subscribe()
    }

    /// Resolves when the sessions are being ended: then nothing can be steered any more.
    pub async fn ending(&self) {
        self.shared.stopping.cancelled().await;
    }
}
