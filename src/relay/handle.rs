//! Watching and steering a running relay from outside: status, reload, drain, stop.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::watch, time::timeout};

use super::{
    configuration::{self, Generation, ReloadError, ReloadFailure, Reloaded},
    lifecycle::Phase,
    process::Process,
    registry::Sessions,
    stats::Counts,
};
use crate::{auth::Health, clock};

/// Watches and steers a running relay. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    process: Arc<Process>,
}

impl Handle {
    pub(super) fn new(process: Arc<Process>) -> Self {
        Self { process }
    }

    /// Reads the configuration and puts it in force. A reload that fails changes nothing. The
    /// outcome is logged too. Reloads run one after another, and one goes on even if its caller
    /// stops waiting.
    pub async fn reload(&self) -> Result<Reloaded, ReloadError> {
        let configuration = Arc::clone(&self.process.configuration);
        let reloading = async move { configuration.reload().await };
        // A file or a DNS look-up can block for ever; a relay that stops must not wait for it.
        match self.process.lifecycle.spawn_until_stopping(reloading).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(ReloadError::Stopping),
            Err(_) => Err(ReloadError::Interrupted),
        }
    }

    /// Refuses new sessions from now on. The relay ends when the last session has ended.
    pub fn drain(&self) {
        self.process.lifecycle.advance(Phase::Draining);
    }

    /// Stops the relay. Sessions get `drain_timeout` to end by themselves. The relay ends the others
    /// and gives them [`STOP_TIME`](super::STOP_TIME) to write their last octets.
    pub fn stop(&self) {
        self.process.lifecycle.advance(Phase::Stopping);
    }

    /// Stops the relay without waiting for any session.
    pub fn stop_now(&self) {
        self.process.lifecycle.at_once.cancel();
        self.stop();
    }

    /// The generation in force, and when it was put in force.
    pub fn in_force(&self) -> (Arc<Generation>, SystemTime) {
        let in_force = self.process.configuration.in_force();
        (Arc::clone(&in_force.generation), in_force.since)
    }

    /// How the backends in force are, as far as they were asked.
    pub fn health(&self) -> Vec<Health> {
        self.process.configuration.backend().health()
    }

    /// Asks the backends in force, and waits for `patience` at most. Returns a warning for each that
    /// has not answered. A question that is still open goes on; [`Self::health`] then knows the
    /// outcome.
    pub async fn ask_backends(&self, patience: Duration) -> Vec<String> {
        let (generation, _) = self.in_force();
        let (backend, asked) = (Arc::clone(&generation.backend), clock::now());
        let asking = async move { backend.probe().await };
        let asking = self.process.lifecycle.spawn_until_stopping(asking);
        // What a probe found is in the health.
        let _: Result<_, _> = timeout(patience, asking).await;
        configuration::complaints(&*generation.backend, &generation.config, asked)
    }

    /// The addresses that the relay listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.process.configuration.addresses()
    }

    /// Addresses of earlier generations on which the relay still listens: peers may look there for
    /// sessions granted before a reload.
    pub fn left_addresses(&self) -> Vec<SocketAddr> {
        self.process.configuration.left_addresses()
    }

    /// The last reload that failed.
    pub fn failed_reload(&self) -> Option<ReloadFailure> {
        self.process.configuration.failures().reload.clone()
    }

    /// The last failed renewal: certificate files changed, and the new ones could not be used.
    pub fn failed_renewal(&self) -> Option<ReloadFailure> {
        self.process.configuration.failures().renewal.clone()
    }

    /// When the relay started.
    pub fn started(&self) -> Instant {
        self.process.started
    }

    /// How many sessions there are.
    pub fn sessions(&self) -> Sessions {
        self.process.registry.sessions()
    }

    /// Open connections, and how many of them have neither got nor joined a session.
    pub fn connections(&self) -> (usize, usize) {
        self.process.census.connections()
    }

    /// The counters of the process.
    pub fn counts(&self) -> Counts {
        self.process.stats.counts()
    }

    /// Resolves if the relay is alive: the runtime runs a new task, and the registry can be locked.
    /// Does not resolve if the relay hangs.
    pub async fn pulse(&self) {
        let process = Arc::clone(&self.process);
        let beat = tokio::spawn(async move { process.registry.len() });
        // A task that panicked or was dropped proves nothing.
        if beat.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The phase of the relay, to be watched for changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.process.lifecycle.phases()
    }

    /// Resolves once the relay ends its sessions. From then on it cannot be steered any more.
    pub async fn ending(&self) {
        self.process.lifecycle.stopping.cancelled().await;
    }
}
