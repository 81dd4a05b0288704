//! The pid file. Its lock tells that a relay runs, and makes sure that only one does. The number in
//! it tells which process that is, but only while the lock is held: a file that was left behind may
//! name a process that has nothing to do with the relay.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process, thread,
    time::Duration,
};

use nix::{errno::Errno, fcntl::OFlag, sys::signal::kill, unistd::Pid};
use thiserror::Error;

/// File name in the runtime directory.
const FILE_NAME: &str = "msrprelay.pid";
/// Most octets that are read. More than any pid has.
const LONGEST: u64 = 32;
/// How long a lock is waited for that no living process is known to hold: a killed relay holds it
/// until its threads have ended, one that starts until it has written its pid, and the init.d script
/// holds it to ask for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two attempts in that time.
const PAUSE: Duration = Duration::from_millis(20);

/// Advice for a runtime directory that cannot be used.
pub(super) const RUNTIME_DIR_ADVICE: &str =
    "start the relay as root, or let --runtime-dir name a directory that it may write to";

/// Why this process cannot have the pid file.
#[derive(Debug, Error)]
pub(super) enum PidFileError {
    #[error(
        "already running with pid {pid}: stop it first, or give this one a --runtime-dir of its own; \
         {} is locked",
        path.display()
    )]
    Running { pid: Pid, path: PathBuf },
    #[error("already starting: another process holds {}", .0.display())]
    Starting(PathBuf),
    #[error("cannot write the pid file {}: {cause}; {}", path.display(), RUNTIME_DIR_ADVICE)]
    Unwritable { path: PathBuf, cause: io::Error },
}

/// The pid file, locked while any process of ours has it open. The lock passes to the daemon at the
/// fork. It also ends when the daemon dies without removing the file.
#[derive(Debug)]
pub(super) struct PidFile {
    file: File,
    path: PathBuf,
}

impl PidFile {
    /// Opens and locks the file. Empties it, because the pid in it is that of an earlier process, and
    /// does not write one yet: the daemon will have another.
    pub(super) fn claim(directory: &Path) -> Result<Self, PidFileError> {
        let path = directory.join(FILE_NAME);
        let mut patience = PATIENCE;
        loop {
            let unwritable = |cause| PidFileError::Unwritable { path: path.clone(), cause };
            let mut file = open(&path).map_err(unwritable)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, &path) => {
                    file.set_len(0).map_err(unwritable)?;
                    return Ok(Self { file, path });
                }
                // Its owner removed the file before it was locked here. Try the new one.
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
            }
            let named = pid_in(&mut file).map_err(unwritable)?;
            let alive = named.is_some_and(is_another_alive);
            if !alive && !patience.is_zero() {
                thread::sleep(PAUSE);
                patience = patience.saturating_sub(PAUSE);
                continue;
            }
            return Err(match named {
                Some(pid) => PidFileError::Running { pid, path },
                None => PidFileError::Starting(path),
            });
        }
    }

    /// Writes the pid of the calling process.
    pub(super) fn write(&mut self) -> Result<(), PidFileError> {
        let written = self
            .file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .and_then(|()| writeln!(self.file, "{}", process::id()));
        written.map_err(|cause| PidFileError::Unwritable { path: self.path.clone(), cause })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // The relay's user may have no right to remove a file from this directory. An empty file
        // names no process.
        if is_at(&self.file, &self.path) && fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

/// Opens the file without following a link or waiting at a pipe. The directory belongs to the
/// relay's user while this process may be root, so nothing in it can be trusted.
fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() > 1 {
        return Err(io::Error::other("it is not a regular file, or it has several hard links"));
    }
    Ok(file)
}

/// Reads the pid, or `None` if the file has no valid one.
fn pid_in(file: &mut File) -> io::Result<Option<Pid>> {
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let pid = String::from_utf8_lossy(&text).trim().parse().ok();
    Ok(pid.filter(|pid| *pid > 0).map(Pid::from_raw))
}

/// Whether `pid` is a living process other than this one. A process of another user counts, a
/// zombie does not. If the file has our own pid, it was left by an earlier process with the same
/// number, as happens in containers.
fn is_another_alive(pid: Pid) -> bool {
    pid != Pid::this() && kill(pid, None) != Err(Errno::ESRCH) && !is_zombie(pid)
}

fn is_zombie(pid: Pid) -> bool {
    // The state follows the name, which is in parentheses and may contain some.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
}

fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(ours), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (ours.dev(), ours.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_in(directory: &Path) -> PathBuf {
        directory.join(FILE_NAME)
    }

    #[test]
    fn it_is_written_held_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut held = PidFile::claim(directory.path()).unwrap();
        let refused = PidFile::claim(directory.path()).unwrap_err();
        assert!(matches!(refused, PidFileError::Starting(_)), "{refused}");

        held.write().unwrap();
        let written = fs::read_to_string(file_in(directory.path())).unwrap();
        assert_eq!(written, format!("{}\n", process::id()));
        let refused = PidFile::claim(directory.path()).unwrap_err();
        let expected = format!("already running with pid {}: ", process::id());
        assert!(refused.to_string().starts_with(&expected), "{refused}");

        drop(held);
        assert!(!file_in(directory.path()).exists());
    }

    #[test]
    fn only_the_lock_counts() {
        let mut ended = process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let mut zombie =
            process::Command::new("true").stdout(process::Stdio::piped()).spawn().unwrap();
        // Wait until it has ended but is not reaped.
        io::copy(&mut zombie.stdout.take().unwrap(), &mut io::sink()).unwrap();
        while !is_zombie(Pid::from_raw(zombie.id().cast_signed())) {
            std::thread::yield_now();
        }
        let [ended, unreaped] = [&ended, &zombie].map(|process| process.id().to_string());
        // The parent of the test process lives as long as the test.
        let parent = nix::unistd::getppid().to_string();
        let stale = ["", "no pid", "-1", "0", "99999999999", &ended, &unreaped, &parent];
        for text in stale.iter().map(ToString::to_string).chain([process::id().to_string()]) {
            let directory = tempfile::tempdir().unwrap();
            fs::write(file_in(directory.path()), &text).unwrap();
            let mut taken = PidFile::claim(directory.path()).expect(&text);
            taken.write().unwrap();
            let written = fs::read_to_string(file_in(directory.path())).unwrap();
            assert_eq!(written, format!("{}\n", process::id()), "{text}");
        }
        zombie.wait().unwrap();

        // Not even the number of a living process lets a second one in while the file is locked.
        for text in ["", &parent] {
            let directory = tempfile::tempdir().unwrap();
            let held = PidFile::claim(directory.path()).unwrap();
            fs::write(file_in(directory.path()), text).unwrap();
            let refused = PidFile::claim(directory.path()).unwrap_err();
            match refused {
                PidFileError::Running { pid, .. } => assert_eq!(pid.to_string(), text),
                refused => assert!(matches!(refused, PidFileError::Starting(_)) && text.is_empty()),
            }
            drop(held);
        }
    }

    /// Whoever asks for the lock holds it for a moment.
    #[test]
    fn a_lock_that_nobody_keeps_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let asking = File::create(file_in(directory.path())).unwrap();
        asking.lock_shared().unwrap();
        let asking = thread::spawn(move || {
            thread::sleep(PAUSE * 5);
            drop(asking);
        });
        PidFile::claim(directory.path()).unwrap();
        asking.join().unwrap();
    }

    #[test]
    fn the_file_of_another_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let held = PidFile::claim(directory.path()).unwrap();
        fs::remove_file(file_in(directory.path())).unwrap();
        fs::write(file_in(directory.path()), "another's").unwrap();
        drop(held);
        assert_eq!(fs::read_to_string(file_in(directory.path())).unwrap(), "another's");

        fs::remove_file(file_in(directory.path())).unwrap();
        let target = directory.path().join("precious");
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, file_in(directory.path())).unwrap();
        let refused = PidFile::claim(directory.path()).unwrap_err();
        assert!(matches!(refused, PidFileError::Unwritable { .. }), "{refused}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");

        // A hard link, and a pipe that would block the reader.
        let put = |what: &dyn Fn(&Path)| {
            fs::remove_file(file_in(directory.path())).unwrap();
            what(&file_in(directory.path()));
        };
        let link = |path: &Path| fs::hard_link(&target, path).unwrap();
        let pipe = |path: &Path| nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for what in [&link as &dyn Fn(&Path), &pipe] {
            put(what);
            let refused = PidFile::claim(directory.path()).unwrap_err();
            assert!(matches!(refused, PidFileError::Unwritable { .. }), "{refused}");
        }
        assert_eq!(fs::read_to_string(target).unwrap(), "kept");
    }
}
