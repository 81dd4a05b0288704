//! Goes into the background. The launching process waits until it knows whether the relay listens,
//! then exits.
//!
//! ```text
//! launched --fork--> leader of a new session --fork--> the daemon
//!    |                       exits at once                 |
//!    +---- waits at a pipe <--- READY, FAILED or nothing --+
//! ```
//!
//! The daemon is not the leader of its session, so it can never get a controlling terminal.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::RawFd,
    process,
};

use nix::{
    sys::stat::{Mode, umask},
    unistd::{ForkResult, chdir, close, dup2_stderr, dup2_stdin, dup2_stdout, setsid},
};

/// The daemon listens.
const READY: u8 = b'+';
/// The daemon has failed and has reported why.
const FAILED: u8 = b'-';

/// The daemon's end of the pipe to the launching process. Dropping it reports a failed start.
#[derive(Debug)]
pub(super) struct Launcher(Option<PipeWriter>);

/// Continues as the daemon and returns only there. The launching process exits in here. No other
/// thread may run yet.
pub(super) fn detach() -> io::Result<Launcher> {
    let (daemon, launcher) = io::pipe()?;
    if let ForkResult::Parent { .. } = fork()? {
        drop(launcher);
        process::exit(outcome(daemon));
    }
    drop(daemon);
    let launcher = Launcher(Some(launcher));
    setsid()?;
    if let ForkResult::Parent { .. } = fork()? {
        // Tells the launching process nothing: that is up to the daemon.
        process::exit(0);
    }
    chdir("/")?;
    Ok(launcher)
}

impl Launcher {
    /// Releases the terminal and reports that the start succeeded.
    pub(super) fn ready(mut self) -> io::Result<()> {
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        replace_standard_streams(&null)?;
        self.tell(READY);
        Ok(())
    }

    fn tell(&mut self, word: u8) {
        if let Some(mut pipe) = self.0.take() {
            // The launching process may be gone.
            let _ = pipe.write_all(&[word]);
        }
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.tell(FAILED);
    }
}

/// Closes the files that were open at the start, except the standard streams and `kept`. Also
/// resets the umask, which could make the pid file unreadable.
pub(super) fn leave_behind(kept: &[RawFd]) {
    umask(Mode::from_bits_truncate(0o022));
    close_strays(kept);
}

/// Closes the inherited files. If the parent waits for the end of a pipe, a daemon that kept it
/// open would block the parent for ever.
fn close_strays(kept: &[RawFd]) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2 && !kept.contains(fd))
        .collect();
    for fd in open {
        // The descriptor of the directory listing is in the list, but is already closed.
        let _ = close(fd);
    }
}

/// The exit status of the launching process.
fn outcome(mut daemon: PipeReader) -> i32 {
    let mut word = Vec::new();
    let read = daemon.read_to_end(&mut word);
    match (read, word.first()) {
        (Ok(_), Some(&READY)) => 0,
        (Ok(_), Some(&FAILED)) => 1,
        _ => {
            let text = "msrprelay: the relay ended while starting; the system's log may say why";
            let _ = writeln!(io::stderr(), "{text}");
            1
        }
    }
}

fn replace_standard_streams(by: &File) -> io::Result<()> {
    dup2_stdin(by)?;
    dup2_stdout(by)?;
    dup2_stderr(by)?;
    Ok(())
}

#[expect(unsafe_code, reason = "there is no safe fork")]
fn fork() -> io::Result<ForkResult> {
    // SAFETY: the child of a fork may do only what is safe in a signal handler if other threads
    // run. None does: the runtime and the thread of the log are started later.
    Ok(unsafe { nix::unistd::fork() }?)
}
