//! What all tasks of the relay share.

use std::{
    any::Any,
    fmt,
    net::SocketAddr,
    sync::{Arc, Weak, atomic::Ordering},
    time::Instant,
};

use tokio::net::TcpStream;
use tracing::error;

use super::{
    backoff::{Backoff, Patience, Turn},
    configuration::{Configuration, Generation, Source},
    lifecycle::Lifecycle,
    next_hop::NextHops,
    notices::Notices,
    party::Registry,
    quota::Census,
    stats::Stats,
};
use crate::{auth::Challenger, clock};

/// The parts that outlive each connection and each configuration.
pub(super) struct Process {
    pub(super) registry: Arc<Registry>,
    pub(super) challenger: Challenger,
    pub(super) configuration: Arc<Configuration>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) next_hops: NextHops,
    pub(super) census: Arc<Census>,
    pub(super) stats: Arc<Stats>,
    pub(super) notices: Arc<Notices>,
    pub(super) backoff: Backoff,
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
                next_hops: NextHops::default(),
                census: Arc::default(),
                stats: Arc::default(),
                notices: Arc::default(),
                backoff: Backoff::default(),
                started: clock::now(),
            }
        })
    }
}

impl Process {
    /// Waits until a refusal may be sent to the peer.
    pub(super) async fn turn(&self, peer: SocketAddr, patience: Patience) -> Turn {
        if self.backoff.take(peer.ip()) {
            return Turn::Now;
        }
        self.notices.slowed(peer);
        self.backoff.wait(peer.ip(), patience).await
    }

    /// Counts and logs a panic. `what` says what it does: "ends this session".
    pub(super) fn fault(&self, what: &str, panic: &(dyn Any + Send)) {
        self.stats.faults.fetch_add(1, Ordering::Relaxed);
        error!("a fault of the relay {what}: {}", panic_message(panic));
    }
}

/// The message of a panic.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("sessions", &self.registry.len()).finish_non_exhaustive()
    }
}
