//! From the runtime on: the relay serves, signals steer it, and its manager hears how it goes.

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

/// How often `systemctl status` may show something new.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// What goes on around a relay that serves.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) manager: Manager,
    /// Tell at the end what is still alive.
    pub(super) debug_memory: bool,
    pub(super) control: Option<UnixListener>,
}

impl Serving {
    /// Makes the runtime, and in it the relay, which serves until it is told to stop. The launching
    /// process hears of it as soon as connections are accepted.
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
            // An operator who reads that the relay listens may send signals at once.
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
        // Look-ups and dials that are under way are not waited for.
        runtime.shutdown_background();
        served.map(drop).map_err(failed("cannot begin to serve"))
    }

    async fn serve(self, relay: Relay, mut signals: Signals) {
        let Self { mut manager, control, .. } = self;
        let handle = relay.handle();
        let mut phase = handle.phase();
        let mut steering = Steering::new(handle.clone());
        let mut news = every(STATUS_PERIOD);
        let mut beat = pin!(beat(handle.clone(), manager.watchdog().map(every)));
        // The control socket goes a little after the relay: it may be what asked for the end.
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
                _ = news.tick(), if manager.listens() => {
                    let status = Status::of(&handle);
                    if status.phase == Phase::Stopping {
                        manager.needs(STATUS_PERIOD * 3);
                    }
                    manager.status(in_words(&status));
                }
            }
        }
        // A relay without sessions ends before its phase is seen.
        manager.stopping();
    }
}

/// What signals ask of the relay.
struct Steering {
    handle: Handle,
    /// A reload that is going on; polled to its end, or it would not be logged as a failure.
    reloading: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// Asked for since it began: the file may have changed again.
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
            // It would kill; 1.x as a daemon passed over it.
            SIGUSR2 => {}
            // SIGTERM and SIGINT
            _ if std::mem::replace(&mut self.stopping, true) => self.handle.stop_now(),
            _ => self.handle.stop(),
        }
    }

    /// Resolves after each reload; its outcome is logged by the relay.
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

/// Resolves when the watchdog is due a sign of life, and only if the relay has one to give.
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

fn tell_phase(manager: &mut Manager, phase: Phase) {
    match phase {
        Phase::Running => {
            // A short reload may be over before it is seen; the manager waits for both its ends.
            manager.reloading();
            manager.ready();
        }
        Phase::Reloading => manager.reloading(),
        Phase::Draining => manager.ready(),
        Phase::Stopping => manager.stopping(),
    }
}

/// One line for `systemctl status`.
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
    format!(
        "{doing}: {} sessions, {} of them joined, {} connections{failed}",
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
