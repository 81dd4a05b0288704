//! Steering a running relay from outside: reload, drain, stop.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use tokio::sync::watch;

use super::{
    configuration::{Failure, Generation, ReloadError, Reloaded},
    lifecycle::Phase,
    process::Process,
    registry::Sessions,
    stats::Counts,
};

/// Steers a running relay; cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    process: Arc<Process>,
}

impl Handle {
    pub(super) fn new(process: Arc<Process>) -> Self {
        Self { process }
    }

    /// Reads the configuration and puts it in force, or changes nothing; one at a time. The outcome
    /// is logged as well. It goes on when the caller does not wait for it.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let lifecycle = &self.process.lifecycle;
        let configuration = Arc::clone(&self.process.configuration);
        let reloading = async move { configuration.reload().await };
        // Files and names may keep it waiting for ever; the end does not wait for them.
        let reloading = lifecycle.stopping.clone().run_until_cancelled_owned(reloading);
        let ended = lifecycle.spawn(reloading).await.unwrap_or(Some(Err(ReloadError::Interrupted)));
        ended.unwrap_or(Err(ReloadError::Stopping))
    }

    /// No new sessions; the relay ends when the last one has.
    pub fn drain(&self) {
        self.process.lifecycle.advance(Phase::Draining);
    }

    /// Ends: sessions may take `drain_timeout` to end by themselves, then
    /// [`STOP_TIME`](super::STOP_TIME) for their last words.
    pub fn stop(&self) {
        self.process.lifecycle.advance(Phase::Stopping);
    }

    /// Ends, and waits for nobody.
    pub fn stop_now(&self) {
        self.process.lifecycle.at_once.cancel();
        self.stop();
    }

    /// The generation in force, and since when it is.
    pub fn in_force(&self) -> (Arc<Generation>, SystemTime) {
        let in_force = self.process.configuration.in_force();
        (Arc::clone(&in_force.generation), in_force.since)
    }

    /// Where the relay listens.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.process.configuration.addresses()
    }

    /// Where it still listens for sessions that were given out before a reload.
    pub fn left_addresses(&self) -> Vec<SocketAddr> {
        self.process.configuration.left_addresses()
    }

    /// The last reload that failed.
    pub fn failed_reload(&self) -> Option<Failure> {
        self.process.configuration.failures().reload.clone()
    }

    /// The last time that certificates which had changed on disk could not be used.
    pub fn failed_renewal(&self) -> Option<Failure> {
        self.process.configuration.failures().renewal.clone()
    }

    /// Since when the relay runs.
    pub fn started(&self) -> Instant {
        self.process.started
    }

    /// The sessions that are alive.
    pub fn sessions(&self) -> Sessions {
        self.process.registry.sessions()
    }

    /// What the process counts.
    pub fn counts(&self) -> Counts {
        self.process.stats.counts()
    }

    /// Resolves if the relay is alive: its tasks get their turn and its table of sessions can be
    /// had. Never, where it hangs.
    pub async fn pulse(&self) {
        let process = Arc::clone(&self.process);
        let beat = tokio::spawn(async move { process.registry.len() });
        // A beat that is lost is none.
        if beat.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Where the relay is now, and each change of that.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.process.lifecycle.phases()
    }

    /// Resolves when the sessions are being ended: then nothing can be steered any more.
    pub async fn ending(&self) {
        self.process.lifecycle.stopping.cancelled().await;
    }
}
