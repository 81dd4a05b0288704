//! The phases of the process, and the tasks that its end waits for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a relay that stops waits for its tasks: sessions write their last octets meanwhile.
pub const STOP_TIME: Duration = Duration::from_secs(5);

/// What the relay is doing. The order counts: a relay that drains or stops never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The relay grants sessions.
    Running,
    /// The relay grants sessions, and is reading its configuration.
    Reloading,
    /// The relay grants no new sessions, and stops when the last one has ended.
    Draining,
    /// The relay grants no new sessions. It ends those that are left after `drain_timeout`.
    Stopping,
}

/// The phase of the process, the signals of its end, and its tasks.
#[derive(Debug)]
pub(super) struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// Cancelled to end all sessions. The token of each session is a child of it.
    pub(super) stopping: CancellationToken,
    /// Cancelled to end the process without waiting for any session or task.
    pub(super) at_once: CancellationToken,
    /// The process ends when these tasks have ended, or after [`STOP_TIME`].
    tasks: TaskTracker,
}

/// Keeps the phase at [`Phase::Reloading`] while it lives, unless the relay drains or stops.
#[derive(Debug)]
pub(super) struct Reloading<'a>(&'a Lifecycle);

impl Lifecycle {
    pub(super) fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Running),
            stopping: CancellationToken::new(),
            at_once: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The phase, to be watched for changes.
    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Whether new sessions are refused.
    pub(super) fn is_leaving(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Enters the phase `to`, unless the relay is in it or past it.
    pub(super) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            if later {
                *phase = to;
            }
            later
        });
    }

    /// Enters [`Phase::Reloading`], unless the relay drains. `None` if the relay stops: then there
    /// is to be no reload.
    pub(super) fn begin_reload(&self) -> Option<Reloading<'_>> {
        if self.phase() == Phase::Stopping {
            return None;
        }
        self.advance(Phase::Reloading);
        Some(Reloading(self))
    }

    /// Starts a task that the end of the process waits for.
    pub(super) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Starts a task that ends when the sessions are to end, wherever it is. Its output is `None`
    /// then.
    pub(super) fn spawn_until_stopping<F>(&self, task: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.spawn(self.stopping.clone().run_until_cancelled_owned(task))
    }

    /// Resolves when all tasks have ended.
    pub(super) async fn tasks_ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    #[cfg(test)]
    pub(super) fn tasks(&self) -> usize {
        self.tasks.len()
    }
}

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        self.0.phase.send_if_modified(|phase| {
            let reloading = *phase == Phase::Reloading;
            if reloading {
                *phase = Phase::Running;
            }
            reloading
        });
    }
}
