//! Runs the relay: makes the runtime, passes on signals, and reports to the service manager.

use std::{
    future::{Future, pending},
    io,
    os::unix::net::UnixListener,
    pin::{Pin, pin},
    time::Duration,
};

use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook_tokio::Signals;
use tokio::{
    runtime,
    time::{Interval, MissedTickBehavior, interval},
};
use tracing::info;

use super::{Failure, background::Launcher, notify::Manager, resources};
use crate::{
    control::{self, FailedReload, Status},
    relay::{Handle, Phase, Relay},
};

/// How often the status line for `systemctl status` is updated.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// How often the relay looks whether a backend has failed or is back. The status line then changes
/// at once.
const HEALTH_PERIOD: Duration = Duration::from_secs(1);

/// What a running relay needs from the process around it.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) manager: Manager,
    /// Log at the end how much memory is in use and what is still open.
    pub(super) debug_memory: bool,
    pub(super) control: Option<UnixListener>,
}

impl Serving {
    /// Makes the runtime and the relay in it, and runs the relay until it is told to stop. The
    /// launching process is told as soon as the relay accepts connections.
    pub(super) fn run(
        self,
        launcher: &mut Option<Launcher>,
        relay: impl FnOnce() -> io::Result<Relay>,
    ) -> Result<(), Failure> {
        let failed = |what| move |cause| Failure::System { what, cause };
        let runtime = runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(failed("cannot start threads"))?;
        let debug_memory = self.debug_memory;
        let served = runtime.block_on(async {
            // Handle signals before the relay says that it listens: an operator may send one at
            // once.
            let signals = Signals::new([SIGHUP, SIGUSR1, SIGUSR2, SIGTERM, SIGINT])?;
            let relay = relay()?;
            let handle = relay.handle();
            if let Some(launcher) = launcher.take() {
                launcher.ready()?;
            }
            self.serve(relay, signals).await;
            Ok::<_, io::Error>(handle)
        });
        if debug_memory && let Ok(handle) = &served {
            tell_memory(&Status::of(handle));
        }
        // Do not wait for look-ups and dials that are still under way.
        runtime.shutdown_background();
        served.map(drop).map_err(failed("cannot begin to serve"))
    }

    async fn serve(self, relay: Relay, mut signals: Signals) {
        let Self { mut manager, control, .. } = self;
        let handle = relay.handle();
        let mut phase = handle.phase();
        let mut steering = Steering::new(handle.clone());
        let mut news = every(STATUS_PERIOD);
        let mut look = every(HEALTH_PERIOD);
        let mut away = Vec::new();
        let mut beat = pin!(beat(handle.clone(), manager.watchdog().map(every)));
        // The control socket ends a little after the relay, because its client may have asked for
        // the end and waits for the response.
        let mut running = pin!(async {
            tokio::join!(relay.run(), async {
                if let Some(socket) = control {
                    control::serve(socket, handle.clone()).await;
                }
            })
        });
        manager.ready();
        loop {
            tokio::select! {
                _ = &mut running => break,
                Some(signal) = signals.next() => steering.signal(signal),
                () = steering.reload() => {}
                Ok(()) = phase.changed() => {
                    tell_phase(&mut manager, *phase.borrow_and_update());
                    news.reset_immediately();
                }
                watchdog = &mut beat => {
                    manager.alive();
                    beat.set(self::beat(handle.clone(), watchdog));
                }
                _ = look.tick(), if manager.listens() => {
                    let before = std::mem::replace(&mut away, self::away(&handle));
                    if away != before {
                        news.reset_immediately();
                    }
                }
                _ = news.tick(), if manager.listens() => {
                    let status = Status::of(&handle);
                    if status.phase == Phase::Stopping {
                        manager.needs(STATUS_PERIOD * 3);
                    }
                    manager.status(in_words(&status));
                }
            }
        }
        // A relay without sessions may end before the loop has seen that it is stopping.
        manager.stopping();
    }
}

/// Carries out what signals ask for.
struct Steering {
    handle: Handle,
    /// The reload under way. It must be polled to its end: dropping it would leave its outcome out
    /// of the log.
    reloading: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Another reload was asked for meanwhile. The file may have changed again, so it is done
    /// afterwards.
    reload_again: bool,
    stopping: bool,
}

impl Steering {
    fn new(handle: Handle) -> Self {
        Self { handle, reloading: None, reload_again: false, stopping: false }
    }

    fn signal(&mut self, signal: i32) {
        match signal {
            SIGHUP => self.reload_again = true,
            SIGUSR1 => {
                info!("SIGUSR1: no new sessions from now on");
                self.handle.drain();
            }
            // Ignored, as the daemon of 1.x did. The default action would end the process.
            SIGUSR2 => {}
            // SIGTERM or SIGINT; the second one stops at once.
            _ if std::mem::replace(&mut self.stopping, true) => self.handle.stop_now(),
            _ => self.handle.stop(),
        }
    }

    /// Resolves when a reload has ended. The relay logs the outcome.
    async fn reload(&mut self) {
        if self.reloading.is_none() && std::mem::take(&mut self.reload_again) {
            let handle = self.handle.clone();
            self.reloading = Some(Box::pin(async move {
                let _ = handle.reload().await;
            }));
        }
        match &mut self.reloading {
            Some(reloading) => reloading.await,
            None => pending().await,
        }
        self.reloading = None;
    }
}

/// Resolves when it is time to tell the watchdog that the relay lives, and only if the relay
/// responds. Returns the interval for the next round.
async fn beat(handle: Handle, mut watchdog: Option<Interval>) -> Option<Interval> {
    match &mut watchdog {
        Some(watchdog) => watchdog.tick().await,
        None => pending().await,
    };
    handle.pulse().await;
    watchdog
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The backends that fail.
fn away(handle: &Handle) -> Vec<&'static str> {
    handle.health().iter().filter(|backend| backend.fails()).map(|backend| backend.name).collect()
}

fn tell_phase(manager: &mut Manager, phase: Phase) {
    match phase {
        Phase::Running => {
            // A short reload may be over before it was seen, but the service manager waits for its
            // start and its end. So both are sent.
            manager.reloading();
            manager.ready();
        }
        Phase::Reloading => manager.reloading(),
        Phase::Draining => manager.ready(),
        Phase::Stopping => manager.stopping(),
    }
}

/// Makes the status line for `systemctl status`.
fn in_words(status: &Status) -> String {
    let doing = match status.phase {
        Phase::Running | Phase::Reloading => "relaying",
        Phase::Draining => "draining, no new sessions",
        Phase::Stopping => "stopping",
    };
    let stands = |failed: &Option<FailedReload>| failed.as_ref().is_some_and(|one| !one.mended);
    let failed = if stands(&status.last_failed_reload) {
        "; the last reload failed"
    } else if stands(&status.last_failed_renewal) {
        "; the certificates on disk cannot be used"
    } else {
        ""
    };
    let away = status.backend_health.iter().filter(|backend| backend.fails());
    let away: String = away.flat_map(|backend| ["; ", &backend.name, " away"]).collect();
    format!(
        "{doing}: {} sessions, {} of them joined, {} connections{failed}{away}",
        status.sessions.waiting + status.sessions.bound,
        status.sessions.bound,
        status.connections,
    )
}

fn tell_memory(status: &Status) {
    let resident = resources::resident_memory().map_or_else(
        || "unknown".to_owned(),
        |(now, peak)| format!("{now} KiB resident, {peak} KiB at the peak"),
    );
    info!(
        "memory: {resident}; still alive: {} connections, {} sessions, {} queued bytes",
        status.connections,
        status.sessions.waiting + status.sessions.bound,
        status.queued_bytes,
    );
}
