//! Formats a status for people: first a headline, then the configuration in force, then connections
//! and sessions.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use msrprelay::{
    control::{BackendHealth, BackendState, Certificate, FailedReload, Limits, Status},
    relay::Phase,
    tls::{EXPIRY_NOTICES, Utc},
};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Formats the whole status. `now` is in seconds since 1970.
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
    lines.failure("FAILED RELOAD", status.last_failed_reload.as_ref(), now);
    lines.failure("FAILED RENEWAL", status.last_failed_renewal.as_ref(), now);
    for backend in &status.backend_health {
        lines.outage(backend, now);
    }
    if status.faults > 0 {
        let text = "of the relay since the start, each ended a connection or session: see the log";
        lines.add("FAULTS", &format!("{} {text}", status.faults));
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
    for BackendHealth { place, state, .. } in &status.backend_health {
        match state {
            BackendState::Unasked => lines.add("", &format!("{place}: no answer yet")),
            BackendState::Answers { last_asked } => {
                let last = moment(*last_asked, now);
                lines.add("", &format!("{place}: answers, last asked {last}"));
            }
            // Stands above.
            BackendState::Fails { .. } => {}
        }
    }
    if status.certificates.is_empty() {
        lines.add("certificate", "none: plain TCP");
    }
    for certificate in &status.certificates {
        lines.certificate(certificate, now);
    }
    lines.connections(status);
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
    lines.limits(&status.limits);
    lines.add("queued", &format!("{} bytes", status.queued_bytes));
    match status.log_lines_dropped {
        0 => lines.add("log lines", "none dropped"),
        dropped => lines.add(
            "log lines",
            &format!("{dropped} dropped, because the log did not take them in time"),
        ),
    }
    lines.0
}

/// The current time in seconds since 1970.
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

    fn connections(&mut self, status: &Status) {
        let (open, accepted) = (status.connections, status.connections_accepted);
        self.add("connections", &format!("{open}, {accepted} since the start"));
        self.add("", &format!("{} of them without a session", status.unauthenticated));
        if status.connections_refused > 0 {
            let refused = status.connections_refused;
            let text = "refused since the start, because there were too many: see the log";
            self.add("", &format!("{refused} {text}"));
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let limits: Vec<String> = [
            (limits.max_connections, "connections"),
            (limits.max_connections_per_ip, "from one address"),
            (limits.max_unauthenticated, "without a session"),
            (limits.max_sessions_per_user, "sessions of one user"),
        ]
        .into_iter()
        .filter_map(|(most, what)| Some(format!("{} {what}", most?)))
        .collect();
        self.add("limits", &if limits.is_empty() { "none".to_owned() } else { limits.join(", ") });
    }

    fn failure(&mut self, name: &str, failed: Option<&FailedReload>, now: u64) {
        // One that a later one has mended is history, for --json and the log.
        let Some(failed) = failed.filter(|failed| !failed.mended) else { return };
        let kept = "what was in force before still is";
        self.add(name, &format!("{}, {kept}", moment(failed.at, now)));
        for reason in failed.reason.lines() {
            self.add("", reason);
        }
    }

    fn outage(&mut self, backend: &BackendHealth, now: u64) {
        let BackendHealth { name, place, state } = backend;
        let BackendState::Fails { fault, since } = state else { return };
        let name = format!("{} AWAY", name.to_uppercase());
        self.add(&name, &format!("since {}, its users get 500", moment(*since, now)));
        self.add("", place);
        self.add("", fault);
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

/// A point in time, and how far it is from `now`.
fn moment(at: u64, now: u64) -> String {
    let time = Utc(UNIX_EPOCH + Duration::from_secs(at));
    if at > now {
        format!("{time} (in {})", duration(at - now))
    } else {
        format!("{time} ({} ago)", duration(now - at))
    }
}

/// A duration in its two largest units.
fn duration(seconds: u64) -> String {
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => format!("{} min {} s", seconds / MINUTE, seconds % MINUTE),
        HOUR..DAY => format!("{} h {} min", seconds / HOUR, seconds % HOUR / MINUTE),
        _ => format!("{} d {} h", seconds / DAY, seconds % DAY / HOUR),
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, path::PathBuf};

    use msrprelay::relay::Sessions;

    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn certificate(subject: &str, expires: u64) -> Certificate {
        Certificate {
            subject: subject.to_owned(),
            serial: "0a:ff".to_owned(),
            expires,
            file: PathBuf::from("/etc/msrprelay/tls/relay.crt"),
        }
    }

    fn backend(state: BackendState) -> BackendHealth {
        let place = "MySQL database sip at db".to_owned();
        BackendHealth { name: "database".to_owned(), place, state }
    }

    fn example() -> Status {
        Status {
            version: "2.0.0".to_owned(),
            pid: 4711,
            uptime: 3 * DAY + 4 * HOUR + 5,
            phase: Phase::Draining,
            generation: 3,
            generation_since: NOW - 90 * MINUTE,
            configuration: PathBuf::from("/etc/msrprelay/config.ini"),
            host_name: "relay.example.com".to_owned(),
            port: 2855,
            addresses: vec![
                "192.0.2.1:2855".parse().unwrap(),
                "[2001:db8::1]:2855".parse().unwrap(),
            ],
            left_addresses: vec!["0.0.0.0:2856".parse().unwrap()],
            backends: vec!["memory".to_owned(), "database".to_owned()],
            backend_health: vec![backend(BackendState::Fails {
                fault: "Connection refused (os error 111)".to_owned(),
                since: NOW - 5 * HOUR,
            })],
            certificates: vec![
                certificate("CN=relay.example.com", NOW + 90 * DAY),
                certificate("", NOW + 5 * DAY + HOUR),
                certificate("CN=old", NOW - 61),
            ],
            connections: 12,
            unauthenticated: 3,
            connections_accepted: 345,
            connections_refused: 6,
            limits: Limits {
                max_connections: NonZeroU32::new(819),
                max_unauthenticated: NonZeroU32::new(4096),
                ..Limits::default()
            },
            sessions: Sessions { waiting: 2, bound: 5 },
            sessions_started: 67,
            faults: 0,
            queued_bytes: 131_072,
            log_lines_dropped: 7,
            last_failed_reload: Some(FailedReload {
                at: NOW - 61,
                kept: 3,
                reason: "config.ini:3: one\nconfig.ini:9: two".to_owned(),
                mended: false,
            }),
            last_failed_renewal: None,
        }
    }

    /// The complete output for a relay with several problems.
    #[test]
    fn all_of_a_status() {
        let expected = "\
msrprelay 2.0.0 is draining: it takes no new sessions, pid 4711, up 3 d 4 h

  FAILED RELOAD  2026-09-21 14:12:19 UTC (1 min 1 s ago), what was in force before still is
                 config.ini:3: one
                 config.ini:9: two
  DATABASE AWAY  since 2026-09-21 09:13:20 UTC (5 h 0 min ago), its users get 500
                 MySQL database sip at db
                 Connection refused (os error 111)
  configuration  /etc/msrprelay/config.ini
  generation     3, since 2026-09-21 12:43:20 UTC (1 h 30 min ago)
  host name      relay.example.com, port 2855
  listening on   192.0.2.1:2855, [2001:db8::1]:2855
                 0.0.0.0:2856 (left behind; open for sessions reserved there)
  backends       memory, database
  certificate    /etc/msrprelay/tls/relay.crt
                 CN=relay.example.com, serial 0a:ff
                 valid until 2026-12-20 14:13:20 UTC (in 90 d 0 h)
  certificate    /etc/msrprelay/tls/relay.crt
                 no subject, serial 0a:ff
                 EXPIRES SOON, 2026-09-26 15:13:20 UTC (in 5 d 1 h)
  certificate    /etc/msrprelay/tls/relay.crt
                 CN=old, serial 0a:ff
                 EXPIRED 2026-09-21 14:12:19 UTC (1 min 1 s ago)
  connections    12, 345 since the start
                 3 of them without a session
                 6 refused since the start, because there were too many: see the log
  sessions       7 (5 bound, 2 waiting to be joined), 67 since the start
  limits         819 connections, 4096 without a session
  queued         131072 bytes
  log lines      7 dropped, because the log did not take them in time
";
        assert_eq!(status(&example(), NOW), expected);
    }

    #[test]
    fn a_backend_that_answers_is_shown_below_the_names() {
        let mut example = example();
        for (state, line) in [
            (BackendState::Unasked, "MySQL database sip at db: no answer yet"),
            (
                BackendState::Answers { last_asked: NOW - 61 },
                "MySQL database sip at db: answers, last asked 2026-09-21 14:12:19 UTC (1 min 1 s ago)",
            ),
        ] {
            example.backend_health = vec![backend(state)];
            let text = status(&example, NOW);
            let lines = format!("  backends       memory, database\n{:17}{line}\n", "");
            assert!(text.contains(&lines) && !text.contains("AWAY"), "{text}");
        }
    }

    #[test]
    fn a_failure_is_shown_until_it_is_mended() {
        let mut example = example();
        example.last_failed_renewal = example.last_failed_reload.clone();
        example.last_failed_reload.as_mut().unwrap().mended = true;
        let text = status(&example, NOW);
        assert!(!text.contains("FAILED RELOAD"), "{text}");
        assert!(text.contains("  FAILED RENEWAL "), "{text}");
        assert!(text.contains("(1 min 1 s ago), what was in force before still is\n"), "{text}");
        example.last_failed_renewal = None;
        example.last_failed_reload = None;
        example.left_addresses.clear();
        example.certificates.clear();
        let text = status(&example, NOW);
        assert!(!text.contains("FAILED") && !text.contains("left behind"), "{text}");
        assert!(text.contains("  certificate    none: plain TCP\n"), "{text}");
        example.log_lines_dropped = 0;
        (example.limits, example.connections_refused) = (Limits::default(), 0);
        let text = status(&example, NOW);
        let lines = "  connections    12, 345 since the start\n\
                     \x20                3 of them without a session\n  sessions  ";
        assert!(text.contains(lines), "{text}");
        assert!(text.ends_with("  log lines      none dropped\n"), "{text}");
    }
}
