//! Reports to the service manager (`sd_notify(3)`), and its watchdog.

use std::{
    env,
    ffi::OsStr,
    fmt::Write as _,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use sd_notify::NotifyState;
use tracing::warn;

/// Longest status in octets: the service manager takes no message above 4096.
const STATUS_MAX: usize = 3000;

/// The service manager. If none asked for reports, nothing is sent.
#[derive(Debug)]
pub(super) struct Manager {
    /// Where reports go, or `None` if nobody asked for them.
    address: Option<SocketAddr>,
    /// The last report did not arrive, and the log says so.
    unreachable: bool,
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
        let name = env::var_os("NOTIFY_SOCKET").filter(|name| wanted && !name.is_empty());
        let address = name.and_then(|name| {
            let address = address_of(&name);
            if address.is_none() {
                warn!(
                    "NOTIFY_SOCKET = {}: accepted is /path, or @name for a socket without a file; \
                     the service manager hears nothing of this relay",
                    name.display()
                );
            }
            address
        });
        Self {
            address,
            unreachable: false,
            status: String::new(),
            reloading: false,
            stopping: false,
        }
    }

    pub(super) fn listens(&self) -> bool {
        self.address.is_some()
    }

    /// How often to tell the watchdog that the relay lives. Half of its timeout, so that one report
    /// may be late.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        let time = sd_notify::watchdog_enabled().filter(|time| !time.is_zero());
        time.filter(|_| self.listens()).map(|time| time / 2)
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
    pub(super) fn needs(&mut self, time: Duration) {
        let time = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::ExtendTimeoutUsec(time)]);
    }

    pub(super) fn alive(&mut self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// Sends the status line for `systemctl status`, if it is new.
    pub(super) fn status(&mut self, text: String) {
        if self.status != text {
            self.tell(&[NotifyState::Status(&text)]);
            self.status = text;
        }
    }

    /// Reports why the start failed, a line for each reason. The service manager shows it until the
    /// next start, also while it waits to try again, when older ones show no lines of the log.
    pub(super) fn failed(&mut self, reasons: &str) {
        let reasons: Vec<&str> = reasons.lines().collect();
        let mut text = reasons.join("; ");
        text.truncate(text.floor_char_boundary(STATUS_MAX));
        self.status(text);
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) {
        let Some(address) = &self.address else { return };
        let mut message = String::new();
        for state in states {
            // Writing to a string cannot fail.
            let _ = writeln!(message, "{state}");
        }
        let sent = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(message.as_bytes(), address));
        match sent {
            Ok(_) => self.unreachable = false,
            Err(error) => {
                // Once, and not at each beat of the watchdog.
                if !std::mem::replace(&mut self.unreachable, true) {
                    warn!("cannot report to the service manager: {error}");
                }
            }
        }
    }
}

/// The socket that `NOTIFY_SOCKET` names: a file, or a name in the abstract namespace, for which `@`
/// stands in place of its first octet. The crate `sd_notify` knows files only.
fn address_of(name: &OsStr) -> Option<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name).ok(),
        [b'@', name @ ..] if !name.is_empty() => SocketAddr::from_abstract_name(name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_a_file_or_an_abstract_name() {
        let address = |name: &str| address_of(OsStr::new(name));
        let file = address("/run/systemd/notify").unwrap();
        assert_eq!(file.as_pathname().unwrap().to_str(), Some("/run/systemd/notify"));
        let name = address("@/org/x").unwrap();
        assert_eq!(name.as_abstract_name(), Some(&b"/org/x"[..]));
        let too_long = format!("/{}", "x".repeat(200));
        for name in ["", "@", "notify", "vsock:2:1", &too_long] {
            assert!(address(name).is_none(), "{name}");
        }
    }
}
