//! Logging to syslog(3).

use std::{
    ffi::CStr,
    io::{self, Write},
};

use nix::syslog::{Facility, LogFlags, Priority, Severity, openlog, syslog};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    fmt::{self, MakeWriter},
    registry::LookupSpan,
};

/// Formats lines as on a terminal, but without the time, which syslog adds.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    identifier: &'static CStr,
) -> io::Result<impl tracing_subscriber::Layer<S>> {
    openlog(Some(identifier), LogFlags::LOG_PID, Facility::LOG_DAEMON)?;
    Ok(fmt::layer().with_target(false).without_time().with_ansi(false).with_writer(Syslog))
}

struct Syslog;

/// Collects the text of one event. When it is dropped, each line becomes an entry in syslog.
struct Entry {
    severity: Severity,
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Entry;

    fn make_writer(&'a self) -> Entry {
        Entry::new(Severity::LOG_INFO)
    }

    fn make_writer_for(&'a self, about: &Metadata<'_>) -> Entry {
        Entry::new(severity(*about.level()))
    }
}

impl Entry {
    fn new(severity: Severity) -> Self {
        Self { severity, text: Vec::new() }
    }
}

impl Write for Entry {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        for line in lines(&self.text) {
            // An error of the log itself cannot be reported anywhere.
            let _ = syslog(Priority::new(self.severity, Facility::LOG_DAEMON), &line);
        }
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
