//! Logging to syslog(3).

use std::{ffi::CStr, io};

use nix::syslog::{Facility, LogFlags, Priority, Severity, openlog, syslog};
use tracing::{Level, Subscriber};
use tracing_subscriber::{fmt, registry::LookupSpan};

use super::{
    lines::Lines,
    queue::{Entry, Queue},
};

/// The name of the relay in syslog and the journal.
pub(super) const IDENTIFIER: &CStr = c"msrprelay";

/// Formats lines as on a terminal, but without the time, which syslog adds.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    identifier: &'static CStr,
    queue: &'static Queue,
) -> io::Result<impl tracing_subscriber::Layer<S>> {
    // Connected at once: the user that takes over later may not be allowed to.
    let flags = LogFlags::LOG_PID | LogFlags::LOG_NDELAY;
    openlog(Some(identifier), flags, Facility::LOG_DAEMON)?;
    Ok(fmt::layer().with_target(false).without_time().with_ansi(false).with_writer(Lines(queue)))
}

/// A warning in the form of the other lines.
pub(super) fn warning(text: &str) -> Entry {
    let line = format!(" WARN {text}\n");
    Entry { severity: Level::WARN, text: line.into_bytes().into(), event: None }
}

/// One entry of syslog for each line.
pub(super) fn write(entry: &Entry) {
    for line in lines(&entry.text) {
        // There is nobody to tell that the log does not work.
        let _ = syslog(Priority::new(severity(entry.severity), Facility::LOG_DAEMON), &line);
    }
}

/// Splits a text into lines without NUL, for C. A NUL becomes `#000`, as in 1.x.
fn lines(text: &[u8]) -> impl Iterator<Item = String> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| String::from_utf8_lossy(line).replace('\0', "#000"))
}

fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::LOG_ERR,
        Level::WARN => Severity::LOG_WARNING,
        Level::INFO => Severity::LOG_INFO,
        Level::DEBUG | Level::TRACE => Severity::LOG_DEBUG,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line_without_nul() {
        let entries: Vec<String> = lines(b" INFO a\nb\0c\n\n").collect();
        assert_eq!(entries, [" INFO a", "b#000c"]);
    }
}
