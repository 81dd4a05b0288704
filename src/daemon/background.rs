//! Into the background: the launching process learns whether the relay listens, and ends.
//!
//! ```text
//! launched --fork--> leader of a new session --fork--> the daemon
//!    |                       ends at once                  |
//!    +---- waits at a pipe <--- READY, FAILED or nothing --+
//! ```
//!
//! The daemon is no leader of its session, so it never gets a terminal.

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

/// It listens.
const READY: u8 = b'+';
/// It ended, and has said why.
const FAILED: u8 = b'-';

/// The daemon's end of the pipe to the process that was launched; dropping it says that the start
/// failed.
#[derive(Debug)]
pub(super) struct Launcher(Option<PipeWriter>);

/// Goes on as a daemon; the process that was launched ends in here. No thread may run yet.
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
        // Without a word to the launching process: the other one has the say.
        process::exit(0);
    }
    chdir("/")?;
    Ok(launcher)
}

impl Launcher {
    /// Lets go of the terminal, and says that all went well.
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

/// Closes the files that the launching process has left open, but for the standard streams and those
/// in `kept`, and resets the umask, which could hide the pid file.
pub(super) fn leave_behind(kept: &[RawFd]) {
    umask(Mode::from_bits_truncate(0o022));
    close_strays(kept);
}

/// A pipe kept open for ever would make him wait for ever.
fn close_strays(kept: &[RawFd]) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<RawFd> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2 && !kept.contains(fd))
        .collect();
    for fd in open {
        // The one that listed the directory is closed already.
        let _ = close(fd);
    }
}

/// What the launching process ends with.
fn outcome(mut daemon: PipeReader) -> i32 {
    let mut word = Vec::new();
    let read = daemon.read_to_end(&mut word);
    match (read, word.first()) {
        (Ok(_), Some(&READY)) => 0,
        (Ok(_), Some(&FAILED)) => 1,
        _ => {
            let text = "msrprelay: it ended while starting; the system's log may tell why";
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
