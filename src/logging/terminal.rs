//! The standard error: lines for people, in colour only on a terminal.

use std::{
    io::{self, IsTerminal as _},
    os::fd::{AsFd as _, BorrowedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd,
};
use tracing::{Level, Subscriber};
use tracing_subscriber::{
    fmt::{
        self,
        format::Writer,
        time::{FormatTime as _, SystemTime},
    },
    registry::LookupSpan,
};

use super::{
    lines::Lines,
    queue::{Entry, Queue},
};

pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    queue: &'static Queue,
) -> impl tracing_subscriber::Layer<S> {
    fmt::layer()
        .with_target(false)
        .with_timer(SystemTime)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(Lines(queue))
}

/// A warning in the form of the other lines.
pub(super) fn warning(text: &str) -> Entry {
    let mut line = String::new();
    // A String takes everything.
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    line.extend(["  WARN ", text, "\n"]);
    Entry { severity: Level::WARN, text: line.into_bytes().into(), event: None }
}

/// Not through [`io::Stderr`]: who else writes there would wait for its lock while we wait for a
/// reader.
pub(super) fn write(entry: &Entry) {
    // There is nobody to tell that the log does not work.
    let _ = write_all(io::stderr().as_fd(), &entry.text);
}

/// Waits also where another process has set the file not to block.
fn write_all(file: BorrowedFd<'_>, mut octets: &[u8]) -> nix::Result<()> {
    while !octets.is_empty() {
        match unistd::write(file, octets) {
            Ok(written) => octets = octets.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                match poll(&mut [PollFd::new(file, PollFlags::POLLOUT)], PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, thread};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    #[test]
    fn a_line_arrives_whole_where_writes_do_not_block() {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let line = b"0123456789".repeat(5000);
        let expected = line.clone();
        let writing = thread::spawn(move || write_all(writer.as_fd(), &line));
        let mut arrived = Vec::new();
        reader.read_to_end(&mut arrived).unwrap();
        writing.join().unwrap().unwrap();
        assert!(arrived == expected, "{} octets", arrived.len());
    }

    #[test]
    fn a_warning_looks_like_the_other_lines() {
        let text = String::from_utf8(warning("a fault").text.into()).unwrap();
        assert!(text.ends_with("Z  WARN a fault\n") && text.as_bytes()[10] == b'T', "{text}");
    }
}
