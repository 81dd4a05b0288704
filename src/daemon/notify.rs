//! Reports to the service manager (`sd_notify(3)`), and its watchdog.

use std::{env, time::Duration};

use sd_notify::NotifyState;
use tracing::warn;

/// The service manager. If none asked for reports, nothing is sent.
#[derive(Debug)]
pub(super) struct Manager {
    enabled: bool,
    /// The status line that was sent last.
    status: String,
    /// The start of a reload has been sent, its end has not.
    reloading: bool,
    /// The end of the relay has been announced.
    stopping: bool,
}

impl Manager {
    /// Sends reports only if the command line (`wanted`) and the service manager (`NOTIFY_SOCKET`)
    /// both ask for them.
    pub(super) fn new(wanted: bool) -> Self {
        let enabled = wanted && env::var_os("NOTIFY_SOCKET").is_some();
        Self { enabled, status: String::new(), reloading: false, stopping: false }
    }

    pub(super) fn listens(&self) -> bool {
        self.enabled
    }

    /// How often to tell the watchdog that the relay lives. Half of its timeout, so that one report
    /// may be late.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        let time = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        time.filter(|_| self.enabled).map(|time| time / 2)
    }

    /// Reports that the relay listens: after the start, and after each reload.
    pub(super) fn ready(&mut self) {
        self.reloading = false;
        self.tell(&[NotifyState::Ready]);
    }

    pub(super) fn reloading(&mut self) {
        if std::mem::replace(&mut self.reloading, true) {
            return;
        }
        // `Type=notify-reload` needs the time, to tell this reload from an earlier one.
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

    /// Asks the service manager to wait this much longer.
    pub(super) fn needs(&self, time: Duration) {
        let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::ExtendTimeoutUsec(time)]);
    }

    pub(super) fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// Sends the status line for `systemctl status`, if it is new.
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
            warn!("cannot report to the service manager: {error}");
        }
    }
}
