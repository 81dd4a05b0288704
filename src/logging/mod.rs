//! Where log lines go, and which lines are logged.
//!
//! | level | for |
//! |---|---|
//! | *error* | what an operator must fix |
//! | *warn* | refused peers, doubtful configuration |
//! | *info* | start, stop, start and end of each session |
//! | *debug* | what happens to requests |
//!
//! No level logs bodies, credentials, nonces, whole session-ids, or control characters that a peer
//! sent.
//!
//! ```text
//!   event -> layer of the target: entry -> queue (bounded) -> one thread -> stderr, syslog or journal
//! ```
//!
//! Whoever logs never waits for the log.

mod journal;
mod kept;
mod lines;
mod options;
mod queue;
mod replay;
mod syslog;
mod terminal;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env, fs, io,
    os::unix::net::{UnixDatagram, UnixStream},
    panic::{self, Location},
    sync::OnceLock,
    thread,
    time::Duration,
};

use tracing::{error, level_filters::LevelFilter};
use tracing_subscriber::{Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

pub use self::options::{LogLevel, LogOptions};
use self::queue::{Bounds, Entry, Queue};

/// What may wait for a log that is not read: lines of 128 octets fill both.
const BOUNDS: Bounds = Bounds { lines: 8192, octets: 1024 * 1024 };
/// What the last lines may take at the end of the process.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The socket of the system's log, see syslog(3).
const SYSLOG_SOCKET: &str = "/dev/log";
/// Directory of the sockets of journald. Where journald is the system's log, [`SYSLOG_SOCKET`] is a
/// link into it.
const JOURNALD_DIRECTORY: &str = "/run/systemd/journal";

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Standard error, for people. In colour only on a terminal.
    Terminal,
    /// journald, in its own protocol. The fields of spans become fields that begin with `MSRP_`.
    Journal,
    /// syslog with the facility *daemon*, through `/dev/log`.
    Syslog,
}

impl Target {
    /// The log of the system: journald or syslog. `None` if neither accepts connections.
    pub fn of_the_system() -> Option<Self> {
        let leads_to = fs::canonicalize(SYSLOG_SOCKET);
        let elsewhere = leads_to.is_ok_and(|path| !path.starts_with(JOURNALD_DIRECTORY));
        if !elsewhere && journal::reach().is_ok() {
            return Some(Self::Journal);
        }
        let datagrams = UnixDatagram::unbound().and_then(|socket| socket.connect(SYSLOG_SOCKET));
        let listens = datagrams.is_ok() || UnixStream::connect(SYSLOG_SOCKET).is_ok();
        listens.then_some(Self::Syslog)
    }

    /// Whether standard error leads to the same place.
    pub fn has_stderr(self) -> bool {
        match self {
            Self::Terminal => true,
            Self::Journal => stderr_is_the_journal(),
            Self::Syslog => false,
        }
    }
}

/// The queue of this process's log, once there is one.
static QUEUE: OnceLock<&Queue> = OnceLock::new();

/// Lines that were dropped since the start, because the log did not take them in time.
pub fn lines_dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped())
}

/// The log of the process. When dropped it writes what waits, for a second at most.
#[derive(Debug)]
pub struct Log {
    /// Where the lines go.
    pub target: Target,
    level: Level,
    queue: &'static Queue,
    has_thread: bool,
}

impl Log {
    /// To change the least severity.
    pub fn level(&self) -> Level {
        self.level.clone()
    }

    /// Starts the thread that writes. Until then lines only wait: a thread does not survive the fork
    /// into the background.
    pub fn start_writing(&mut self) -> io::Result<()> {
        if !self.has_thread {
            let (queue, mut sink) = (self.queue, self.target.sink());
            let write = move || loop {
                sink.write(&queue.next());
            };
            thread::Builder::new().name("log".to_owned()).spawn(write)?;
            self.has_thread = true;
        }
        Ok(())
    }

    /// Waits until all lines are written, for a second at most. Tells whether they are.
    pub fn flush(&mut self) -> bool {
        if self.start_writing().is_err() {
            // The process is at its end, and nothing waits for it.
            let mut sink = self.target.sink();
            while let Some(entry) = self.queue.try_next() {
                sink.write(&entry);
            }
        }
        self.queue.flush(FLUSH_TIME)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Where the thread writes.
enum Sink {
    Terminal,
    Journal(Box<journal::Sender>),
    Syslog,
}

impl Target {
    fn sink(self) -> Sink {
        match self {
            Self::Terminal => Sink::Terminal,
            Self::Journal => Sink::Journal(Box::new(journal::Sender::new())),
            Self::Syslog => Sink::Syslog,
        }
    }

    /// The line that says how many are missing. No level leaves it out: any may be missing.
    fn notice(self) -> fn(u64) -> Entry {
        match self {
            Self::Terminal => |dropped| terminal::warning(&told(dropped)),
            Self::Journal => |dropped| journal::warning(&told(dropped)),
            Self::Syslog => |dropped| syslog::warning(&told(dropped)),
        }
    }
}

fn told(dropped: u64) -> String {
    format!("{dropped} log lines were dropped: the log did not take them in time")
}

impl Sink {
    fn write(&mut self, entry: &Entry) {
        match self {
            Self::Terminal => terminal::write(entry),
            Self::Journal(sender) => sender.write(entry),
            Self::Syslog => syslog::write(entry),
        }
    }
}

/// Changes the level while the relay runs.
#[derive(Debug, Clone)]
pub struct Level {
    filter: reload::Handle<LevelFilter, Registry>,
    /// The level is never set to less than this. It comes from the command line.
    at_least: LevelFilter,
}

impl Level {
    /// Sets the level to that of the option `log_level`, or to a more verbose one if the command
    /// line asked for it.
    pub fn set(&self, level: LogLevel) {
        // Fails only if the subscriber is gone; then nothing is logged any more.
        let _ = self.filter.reload(filter(level).max(self.at_least));
    }
}

/// Takes lines from now on; [`Log::start_writing`] and the end of the log write them. `at_least` is
/// logged whatever the level.
///
/// Fails where the journal cannot be reached, or a second time in a process.
pub fn start(target: Target, level: LogLevel, at_least: LevelFilter) -> io::Result<Log> {
    if target == Target::Journal {
        journal::reach()?;
    }
    let (filter, handle) = reload::Layer::new(filter(level).max(at_least));
    let queue: &Queue = Box::leak(Box::new(Queue::new(BOUNDS, target.notice())));
    let registry = tracing_subscriber::registry().with(filter);
    match target {
        Target::Terminal => registry.with(terminal::layer(queue)).try_init(),
        Target::Journal => registry.with(journal::Layer::new(queue)).try_init(),
        Target::Syslog => registry.with(syslog::layer(syslog::IDENTIFIER, queue)?).try_init(),
    }
    .map_err(io::Error::other)?;
    let _ = QUEUE.set(queue);
    log_panics(target);
    let level = Level { filter: handle, at_least };
    Ok(Log { target, level, queue, has_thread: false })
}

/// A panic is told on the standard error, which in the background nobody sees, and which may be what
/// nobody reads.
fn log_panics(target: Target) {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let place =
            panic.location().map_or_else(|| "a place unknown".to_owned(), Location::to_string);
        let reason = panic.payload_as_str().unwrap_or("no reason given").escape_debug();
        // RUST_BACKTRACE asks for one.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            error!("a fault in the relay itself, at {place}: {reason}\n{backtrace}");
        } else {
            error!("a fault in the relay itself, at {place}: {reason}");
        }
        if !target.has_stderr() {
            tell(panic);
        }
    }));
}

/// systemd tells its services in `JOURNAL_STREAM` which file leads to the journal; a process that is
/// started by a service may have the variable and another file (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = nix::sys::stat::fstat(io::stderr()) else { return false };
    stream.to_str() == Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// Translates the levels of 1.x to those of tracing.
fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Critical | LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::NotSet => LevelFilter::TRACE,
    }
}
