//! A status as people read it: the headline first, then what is in force, then what goes on.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use msrprelay::{
    relay::{Certificate, Phase, Status},
    transport::tls::{EXPIRY_NOTICES, Utc},
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// All of it, as of `now` in seconds since 1970.
pub(crate) fn status(status: &Status, now: u64) -> String {
    let mut lines = Lines::default();
    lines.headline(&format!(
        "msrprelay {} is {}, pid {}, up {}",
        status.version,
        match status.phase {
            Phase::Running => "running",
            Phase::Reloading => "running and reloading",
            Phase::Draining => "draining: it takes no new sessions",
            Phase::Stopping => "stopping",
        },
        status.pid,
        duration(status.uptime),
    ));
    if let Some(failed) = &status.last_failed_reload {
        let later = if failed.kept < status.generation {
            "a later one succeeded"
        } else {
            "what was in force before still is"
        };
        lines.add("FAILED RELOAD", &format!("{}, {later}", moment(failed.at, now)));
        for reason in failed.reason.lines() {
            lines.add("", reason);
        }
    }
    lines.add("configuration", &status.configuration.display().to_string());
    lines.add(
        "generation",
        &format!("{}, since {}", status.generation, moment(status.generation_since, now)),
    );
    lines.add("host name", &format!("{}, port {}", status.host_name, status.port));
    lines.add("listening on", &list(&status.addresses));
    if !status.left_addresses.is_empty() {
        let left = list(&status.left_addresses);
        lines.add("", &format!("{left} (left behind; open for sessions reserved there)"));
    }
    lines.add("backends", &list(&status.backends));
    if status.certificates.is_empty() {
        lines.add("certificate", "none: plain TCP");
    }
    for certificate in &status.certificates {
        lines.certificate(certificate, now);
    }
    lines.add(
        "connections",
        &format!("{}, {} since the start", status.connections, status.connections_accepted),
    );
    let sessions = status.sessions;
    lines.add(
        "sessions",
        &format!(
            "{} ({} bound, {} waiting to be joined), {} since the start",
            sessions.waiting + sessions.bound,
            sessions.bound,
            sessions.waiting,
            status.sessions_started
        ),
    );
    lines.add("queued", &format!("{} bytes", status.queued_bytes));
    lines.0
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "ages are shown as of now")]
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn headline(&mut self, text: &str) {
        let _ = writeln!(self.0, "{text}\n");
    }

    fn add(&mut self, name: &str, text: &str) {
        let _ = writeln!(self.0, "  {name:<14} {text}");
    }

    fn certificate(&mut self, certificate: &Certificate, now: u64) {
        let Certificate { subject, serial, expires, file } = certificate;
        self.add("certificate", &file.display().to_string());
        let subject = if subject.is_empty() { "no subject" } else { subject };
        self.add("", &format!("{subject}, serial {serial}"));
        let alarm = if *expires < now {
            "EXPIRED "
        } else if *expires < now + EXPIRY_NOTICES[0].as_secs() {
            "EXPIRES SOON, "
        } else {
            "valid until "
        };
        self.add("", &format!("{alarm}{}", moment(*expires, now)));
    }
}

fn list(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A moment, and how far away it is.
fn moment(at: u64, now: u64) -> String {
    let time = Utc(UNIX_EPOCH + Duration::from_secs(at));
    if at > now {
        format!("{time} (in {})", duration(at - now))
    } else {
        format!("{time} ({} ago)", duration(now - at))
    }
}

/// The two largest units.
fn duration(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min {} s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{} d {} h", seconds / DAY, seconds % DAY / HOUR),
    }
}
