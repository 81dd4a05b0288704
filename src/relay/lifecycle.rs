//! Where the process is between its start and its end, and the tasks that its end waits for.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long sessions have, once the relay stops, to say their last words.
pub const STOP_TIME: Duration = Duration::from_secs(5);

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

/// The phase of the process, the signals of its end, and its tasks.
#[derive(Debug)]
pub(super) struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// Sessions are being ended. The token of each session is a child of this one.
    pub(super) stopping: CancellationToken,
    /// The process ends without waiting for anybody.
    pub(super) at_once: CancellationToken,
    /// The process ends when these have ended, or after [`STOP_TIME`].
    tasks: TaskTracker,
}

/// The phase is [`Phase::Reloading`] while this lives, unless the relay drains or stops.
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

    /// The phase now, and each change of it.
    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Whether new sessions are refused.
    pub(super) fn is_leaving(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Enters a later phase; does nothing where `to` is none.
    pub(super) fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let later = to > *phase;
            if later {
                *phase = to;
            }
            later
        });
    }

    /// Marks a reload, unless the relay stops.
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
