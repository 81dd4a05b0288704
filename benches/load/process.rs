//! The measured process: how it is started, what it costs.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use nix::{
    time::{ClockId, clock_getcpuclockid},
    unistd::Pid,
};

use crate::failure::Failure;

const START_LIMIT: Duration = Duration::from_secs(10);
/// Lines of its log kept to explain a failure.
const LOG_LINES: usize = 20;
const ANNOUNCEMENT: &str = "listening on ";

/// A child that listens; killed when dropped.
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    child: Child,
    clock: ClockId,
    log: Arc<Log>,
}

#[derive(Default)]
struct Log(Mutex<VecDeque<String>>);

impl Process {
    /// Starts a program and waits until its stderr says where it listens.
    pub(crate) fn start(command: &mut Command) -> Result<Self, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::Setup(format!("{program}: {error}")))?;
        let stderr = child.stderr.take().expect("stderr is piped");
        let log = Arc::<Log>::default();
        let (announce, announced) = mpsc::channel();
        thread::spawn({
            let log = Arc::clone(&log);
            move || watch(stderr, &log, &announce)
        });
        let Ok(address) = announced.recv_timeout(START_LIMIT) else {
            let _ = child.kill();
            let _ = child.wait();
            let log = log.text();
            return Err(Failure::Setup(format!("{program} does not listen; it said:\n{log}")));
        };
        let clock = clock_getcpuclockid(pid_of(&child))?;
        Ok(Self { address, child, clock, log })
    }

    /// User and system time of all its threads, ended ones included, by the scheduler's own count.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        Ok(self.clock.now()?.into())
    }

    pub(crate) fn memory(&self) -> Result<Memory, Failure> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        Ok(Memory { resident: kibibytes(&status, "VmRSS:")?, peak: kibibytes(&status, "VmHWM:")? })
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().flat_map(|line| ["  | ", line, "\n"]).collect()
    }
}

/// Octets of memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// The most there has been since it started.
    pub(crate) peak: u64,
}

/// Reads on to the end, so that the child never waits for its log to be read.
fn watch(stderr: ChildStderr, log: &Log, announce: &mpsc::Sender<SocketAddr>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(address) = announced_address(&line) {
            // Announced again: nobody waits any more.
            let _ = announce.send(address);
        }
        log.push(line);
    }
}

fn announced_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(ANNOUNCEMENT)?;
    rest.split([' ', ',']).next()?.parse().ok()
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a process id is positive and small"))
}

fn kibibytes(status: &str, name: &str) -> Result<u64, Failure> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse().ok())
        .map(|kibibytes: u64| kibibytes * 1024)
        .ok_or_else(|| Failure::Setup(format!("no {name} in the status of the process")))
}
