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

mod options;
mod syslog;

use std::{
    env,
    ffi::CStr,
    fs,
    io::{self, IsTerminal},
    os::unix::net::{UnixDatagram, UnixStream},
    panic::{self, Location},
};

use tracing::{Subscriber, error, level_filters::LevelFilter};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::{
    Registry, fmt, fmt::time::SystemTime, layer::SubscriberExt, registry::LookupSpan, reload,
    util::SubscriberInitExt,
};

pub use self::options::{LogLevel, LogOptions};

/// The name of the relay in syslog and the journal.
const IDENTIFIER: &CStr = c"msrprelay";
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
        if !elsewhere && tracing_journald::layer().is_ok() {
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

/// Starts logging at `level`, or at `at_least` if that is more verbose.
///
/// Fails if journald or syslog cannot be reached, or if logging has already been started in this
/// process.
pub fn start(target: Target, level: LogLevel, at_least: LevelFilter) -> io::Result<Level> {
    let (filter, handle) = reload::Layer::new(filter(level).max(at_least));
    let registry = tracing_subscriber::registry().with(filter);
    match target {
        Target::Terminal => registry.with(terminal()).try_init(),
        Target::Journal => registry.with(journal()?).try_init(),
        Target::Syslog => registry.with(syslog::layer(IDENTIFIER)?).try_init(),
    }
    .map_err(io::Error::other)?;
    if target != Target::Terminal {
        log_panics(target);
    }
    Ok(Level { filter: handle, at_least })
}

/// Logs panics. By default they go to standard error, which is lost in the background.
fn log_panics(target: Target) {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let place =
            panic.location().map_or_else(|| "an unknown place".to_owned(), Location::to_string);
        let reason = panic.payload_as_str().unwrap_or("no reason given");
        error!("a fault in the relay itself, at {place}: {}", reason.escape_debug());
        if !target.has_stderr() {
            tell(panic);
        }
    }));
}

fn terminal<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl tracing_subscriber::Layer<S> {
    fmt::layer()
        .with_target(false)
        .with_timer(SystemTime)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
}

fn journal() -> io::Result<tracing_journald::Layer> {
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    // journald passes the facility on to a syslog daemon, if there is one.
    let facility = (nix::syslog::Facility::LOG_DAEMON as i32 >> 3).to_string();
    Ok(tracing_journald::layer()?
        .with_syslog_identifier(IDENTIFIER.to_string_lossy().into_owned())
        .with_field_prefix(Some("MSRP".to_owned()))
        .with_custom_fields([("SYSLOG_FACILITY", facility)])
        .with_priority_mappings(priorities))
}

/// Whether standard error is connected to the journal (systemd.exec(5)). systemd sets
/// `JOURNAL_STREAM` to the device and inode of that connection. A child of a service inherits the
/// variable, but may have another standard error, so both are compared.
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
