//! What all tasks of the relay share.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Instant,
};

use tokio::net::TcpStream;

use super::{
    configuration::{Configuration, Generation, Source},
    lifecycle::Lifecycle,
    party::Registry,
    stats::Stats,
};
use crate::{auth::Challenger, clock};

/// The parts that outlive each connection and each configuration.
pub(super) struct Process {
    pub(super) registry: Arc<Registry>,
    pub(super) challenger: Challenger,
    pub(super) configuration: Arc<Configuration>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) stats: Arc<Stats>,
    pub(super) started: Instant,
}

impl Process {
    /// A process that does not listen yet. `admit` takes each connection that is accepted later,
    /// with the address of its client.
    pub(super) fn new(
        source: Source,
        generation: Generation,
        admit: impl Fn(&Arc<Self>, TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new_cyclic(|process: &Weak<Self>| {
            let process = Weak::clone(process);
            let admit = move |tcp, peer| {
                // Once the process is gone, no task can serve the connection.
                if let Some(process) = process.upgrade() {
                    admit(&process, tcp, peer);
                }
            };
            let lifecycle = Arc::new(Lifecycle::new());
            let configuration =
                Configuration::new(source, generation, Arc::clone(&lifecycle), Arc::new(admit));
            Self {
                registry: Arc::new(Registry::new(Arc::clone(configuration.authorities()))),
                challenger: Challenger::new(clock::now()),
                configuration: Arc::new(configuration),
                lifecycle,
                stats: Arc::default(),
                started: clock::now(),
            }
        })
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("sessions", &self.registry.len()).finish_non_exhaustive()
    }
}
