//! The running relay, and the stages of each connection.

use std::{
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{net::TcpStream, time::timeout};
use tracing::{Instrument, info, info_span, warn};

use super::{
    bridge::{After, Bridge},
    configuration::{self, Bound, Generation, Source},
    handle::Handle,
    lifecycle::{Phase, STOP_TIME},
    lobby::{self, Left},
    party::Newcomer,
    process::Process,
};
use crate::clock;

/// How long a relay that stops at once waits for the last lines of its log.
const LAST_LINES: Duration = Duration::from_millis(200);

/// A relay that listens.
#[derive(Debug)]
pub struct Relay {
    process: Arc<Process>,
}

impl Relay {
    /// A relay that accepts connections on listeners that are bound already. Must be called inside
    /// of a runtime.
    pub fn new(source: Source, generation: Generation, listeners: Vec<Bound>) -> io::Result<Self> {
        let process = Process::new(source, generation, admit);
        process.configuration.listen(listeners)?;
        let watching = configuration::watch(Arc::clone(&process.configuration));
        process.lifecycle.spawn_until_stopping(watching);
        let awaiting = configuration::await_return(Arc::clone(&process.configuration));
        process.lifecycle.spawn_until_stopping(awaiting);
        let naming = configuration::follow_names(Arc::clone(process.configuration.resolver()));
        process.lifecycle.spawn_until_stopping(naming);
        process.lifecycle.spawn_until_stopping(Arc::clone(&process.notices).watch());
        Ok(Self { process })
    }

    /// A handle to watch and steer the relay.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.process))
    }

    /// Serves until the relay has been stopped or has drained. Then it ends the sessions that are
    /// left and waits for their tasks, [`STOP_TIME`] at most.
    pub async fn run(self) {
        let Self { process } = self;
        end_asked_for(&process).await;
        let lifecycle = &process.lifecycle;
        lifecycle.advance(Phase::Stopping);
        info!("stopping: {} sessions", process.registry.len());
        lifecycle.stopping.cancel();
        tokio::select! {
            () = lifecycle.tasks_ended() => info!("stopped"),
            () = tokio::time::sleep(STOP_TIME) => warn!("stopped; some peers did not read their last bytes"),
            () = lifecycle.at_once.cancelled() => {
                // The tasks write the lines of their sessions now, and do nothing else.
                let _: Result<(), _> = timeout(LAST_LINES, lifecycle.tasks_ended()).await;
                warn!("stopped at once");
            }
        }
        process.notices.finish();
    }
}

/// Resolves when the relay is to end the sessions that are left.
async fn end_asked_for(process: &Process) {
    let Process { registry, lifecycle, configuration, .. } = process;
    let mut phases = lifecycle.phases();
    let mut patience = None;
    loop {
        let now = *phases.borrow_and_update();
        if now == Phase::Draining {
            info!("draining: {} sessions", registry.len());
        }
        if now == Phase::Stopping && patience.is_none() {
            let drain_timeout = configuration.in_force().generation.config.process.drain_timeout;
            patience = Some(clock::now() + drain_timeout);
        }
        let out_of_patience = async {
            match patience {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = lifecycle.at_once.cancelled() => return,
            () = registry.emptied(), if now >= Phase::Draining => return,
            () = out_of_patience => return,
            // No error is possible: `process` keeps the sender.
            _ = phases.changed() => {}
        }
    }
}

/// Starts a task for a connection that has just been accepted. Beyond the limits the connection is
/// closed at once: TLS has not begun, so nothing can be told to the client.
fn admit(process: &Arc<Process>, tcp: TcpStream, peer: SocketAddr) {
    let quotas = process.configuration.quotas();
    let ticket = match process.census.accept(peer.ip(), &quotas) {
        Ok(ticket) => ticket,
        Err(excess) => {
            process.stats.refused.fetch_add(1, Ordering::Relaxed);
            process.notices.connection_refused(peer, excess);
            return;
        }
    };
    let shared = Arc::clone(process);
    let task = async move {
        // Boxed, so that a session does not hold the memory that the lobby took.
        let left = Box::pin(lobby::enter(&shared, tcp, peer, ticket)).await;
        serve(&shared, left).await;
    };
    let task = guarded(Arc::clone(process), task);
    process.lifecycle.spawn(task.instrument(info_span!("connection", %peer)));
}

/// Starts a task for a connection that came too late to join a session.
fn readmit(process: &Arc<Process>, newcomer: Box<Newcomer>) {
    let shared = Arc::clone(process);
    let task = async move { serve(&shared, Left::Returned(newcomer)).await };
    // Boxed, because `serve` calls `readmit`: its type would contain itself.
    process.lifecycle.spawn(guarded(Arc::clone(process), task).boxed());
}

/// Runs the stages of a connection until it is closed or handed to another task. A connection that
/// came too late to join a session goes back to an earlier stage.
async fn serve(process: &Arc<Process>, mut left: Left) {
    loop {
        left = match left {
            Left::Returned(newcomer) => Box::pin(lobby::return_to(process, newcomer)).await,
            Left::Admitted(newcomer, arrival) => {
                let Some(bridge) = Bridge::new(*newcomer, arrival).map(Box::new) else { return };
                let span = bridge.span();
                match bridge.run(process).instrument(span.clone()).await {
                    After::Joined => return,
                    After::Returned(newcomer) => Left::Returned(newcomer),
                    After::Over(ending, late) => {
                        if let Some(late) = late {
                            readmit(process, late);
                        }
                        Box::pin(ending.run(&process.lifecycle.at_once)).instrument(span).await;
                        return;
                    }
                }
            }
            Left::Gone => return,
        };
    }
}

/// Runs the task of a connection. A panic closes this connection only; it is logged and counted.
async fn guarded(process: Arc<Process>, task: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        process.fault("closes this connection", &*panic);
    }
}
