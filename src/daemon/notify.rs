//! What a service manager is told (`sd_notify(3)`), and its watchdog.

use std::{env, time::Duration};

use sd_notify::NotifyState;
use tracing::warn;

/// The service manager, if one asked to be told.
#[derive(Debug)]
pub(super) struct Manager {
    enabled: bool,
    /// What it shows.
    status: String,
    /// It knows of a reload that is not over.
    reloading: bool,
    /// It knows that the end is near.
    stopping: bool,
}

impl Manager {
    /// `wanted` is the command line's wish; the manager's is that `NOTIFY_SOCKET` is set.
    pub(super) fn new(wanted: bool) -> Self {
        let enabled = wanted && env::var_os("NOTIFY_SOCKET").is_some();
        Self { enabled, status: String::new(), reloading: false, stopping: false }
    }

    pub(super) fn listens(&self) -> bool {
        self.enabled
    }

    /// How often the watchdog wants a sign of life: twice in its time, so that one may be late.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        let time = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        time.filter(|_| self.enabled).map(|time| time / 2)
    }

    /// The relay listens, also after a reload.
    pub(super) fn ready(&mut self) {
        self.reloading = false;
        self.tell(&[NotifyState::Ready]);
    }

    pub(super) fn reloading(&mut self) {
        if std::mem::replace(&mut self.reloading, true) {
            return;
        }
        // Type=notify-reload asks for the time, to tell this reload from the one before.
        match NotifyState::monotonic_usec_now() {
            Ok(time) => self.tell(&[NotifyState::Reloading, time]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
    }

    pub(super) fn stopping(&mut self) {
        if !std::mem::replace(&mut self.stopping, true) {
            self.tell(&[NotifyState::Stopping]);
        }
    }

    /// What it is doing takes this much longer.
    pub(super) fn needs(&self, time: Duration) {
        let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::ExtendTimeoutUsec(time)]);
    }

    pub(super) fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&mut self, text: String) {
        if self.status != text {
            self.tell(&[NotifyState::Status(&text)]);
            self.status = text;
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        if !self.enabled {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            warn!("the service manager cannot be told: {error}");
        }
    }
}
