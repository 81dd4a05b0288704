//! The pid file: which process is the relay, and that there is only one.

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

/// Its name in the runtime directory.
const FILE_NAME: &str = "msrprelay.pid";
/// More than any pid.
const LONGEST: u64 = 32;
/// How long a process that was killed may hold the lock while its threads end.
const DYING: Duration = Duration::from_secs(2);
/// Between looking and looking again.
const PAUSE: Duration = Duration::from_millis(20);

/// Why there can be no pid file, or none of ours.
#[derive(Debug, Error)]
pub(super) enum PidFileError {
    #[error(
        "already running with pid {pid}: stop it first, or remove {} if that process is no relay",
        path.display()
    )]
    Running { pid: Pid, path: PathBuf },
    #[error("already starting: another process holds {}", .0.display())]
    Starting(PathBuf),
    #[error("cannot write the pid file {}: {cause}; {}", path.display(), super::RUNTIME_DIR_ADVICE)]
    Unwritable { path: PathBuf, cause: io::Error },
}

/// The file, locked for as long as a process of ours has it open: also over a fork, and also when
/// the process dies before it can remove the file.
#[derive(Debug)]
pub(super) struct PidFile {
    file: File,
    path: PathBuf,
}

impl PidFile {
    /// Takes the file for this process, unless a living one is named in it. Nothing is written yet:
    /// the process that goes on is another one.
    pub(super) fn claim(directory: &Path) -> Result<Self, PidFileError> {
        let path = directory.join(FILE_NAME);
        let mut patience = DYING;
        loop {
            let unwritable = |cause| PidFileError::Unwritable { path: path.clone(), cause };
            let mut file = open(&path).map_err(unwritable)?;
            let locked = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(cause)) => return Err(unwritable(cause)),
            };
            let named = pid_in(&mut file).map_err(unwritable)?;
            if locked && !is_at(&file, &path) {
                // Its owner removed it in between.
                continue;
            }
            let dying = !locked && named.is_some_and(|pid| !is_another_alive(pid));
            if dying && !patience.is_zero() {
                thread::sleep(PAUSE);
                patience = patience.saturating_sub(PAUSE);
                continue;
            }
            return match named {
                Some(pid) if !locked || is_another_alive(pid) => {
                    Err(PidFileError::Running { pid, path })
                }
                None if !locked => Err(PidFileError::Starting(path)),
                _ => Ok(Self { file, path }),
            };
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
        // Without the right to remove it from its directory: an empty one names nobody.
        if is_at(&self.file, &self.path) && fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

/// No link is followed and no pipe read: the directory belongs to the relay's user, the process may
/// be root.
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
        return Err(io::Error::other("there is something of that name that is no file of its own"));
    }
    Ok(file)
}

/// None where it says nothing that could be a pid.
fn pid_in(file: &mut File) -> io::Result<Option<Pid>> {
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    let pid = String::from_utf8_lossy(&text).trim().parse().ok();
    Ok(pid.filter(|pid| *pid > 0).map(Pid::from_raw))
}

/// A process of another user lives, too; one that only waits to be reaped does not. Our own pid is
/// a stale one that was given out again, as it happens in containers.
fn is_another_alive(pid: Pid) -> bool {
    pid != Pid::this() && kill(pid, None) != Err(Errno::ESRCH) && !is_zombie(pid)
}

fn is_zombie(pid: Pid) -> bool {
    // The state follows the name, which is in parentheses and may hold some itself.
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
    fn only_a_living_process_counts() {
        let mut ended = process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let mut zombie =
            process::Command::new("true").stdout(process::Stdio::piped()).spawn().unwrap();
        // Its end shows before it is reaped.
        io::copy(&mut zombie.stdout.take().unwrap(), &mut io::sink()).unwrap();
        while !is_zombie(Pid::from_raw(zombie.id().cast_signed())) {
            std::thread::yield_now();
        }
        let [ended, unreaped] = [&ended, &zombie].map(|process| process.id().to_string());
        let stale = ["", "no pid", "-1", "0", "99999999999", &ended, &unreaped];
        for text in stale.iter().map(ToString::to_string).chain([process::id().to_string()]) {
            let directory = tempfile::tempdir().unwrap();
            fs::write(file_in(directory.path()), &text).unwrap();
            let mut taken = PidFile::claim(directory.path()).expect(&text);
            taken.write().unwrap();
            let written = fs::read_to_string(file_in(directory.path())).unwrap();
            assert_eq!(written, format!("{}\n", process::id()), "{text}");
        }
        zombie.wait().unwrap();

        let directory = tempfile::tempdir().unwrap();
        // The parent of the tests lives as long as they do; 1.x wrote no lock.
        let parent = nix::unistd::getppid();
        fs::write(file_in(directory.path()), format!("{parent}\n")).unwrap();
        let refused = PidFile::claim(directory.path()).unwrap_err();
        assert!(matches!(refused, PidFileError::Running { pid, .. } if pid == parent), "{refused}");
        assert!(file_in(directory.path()).exists());
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

        // Nor another name of it, nor a pipe, which would keep us waiting.
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
