//! Where log lines go, and which.
//!
//! *error*: an operator must fix it. *warn*: refused peers, doubtful configuration. *info*: start,
//! stop, each session's start and end. *debug*: what happens to requests. Never, at any level:
//! bodies, credentials, nonces, whole session-ids; and no control byte of a peer.

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

/// Who the lines are from, for syslog and the journal.
const IDENTIFIER: &CStr = c"msrprelay";
/// Where programs leave what is meant for the system's log.
const SYSLOG_SOCKET: &str = "/dev/log";
/// What journald listens on lies here, [`SYSLOG_SOCKET`] included where it is the system's log.
const JOURNALD_DIRECTORY: &str = "/run/systemd/journal";

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The standard error: human-readable, in colour only on a terminal.
    Terminal,
    /// journald by its own protocol: what spans know becomes `MSRP_` fields.
    Journal,
    /// syslog, facility *daemon*, through `/dev/log`.
    Syslog,
}

impl Target {
    /// The system's log; none where nobody listens for it.
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

    /// Whether what is written to the standard error arrives there, too.
    pub fn has_stderr(self) -> bool {
        match self {
            Self::Terminal => true,
            Self::Journal => stderr_is_the_journal(),
            Self::Syslog => false,
        }
    }
}

/// Changes the least severity while the log is written.
#[derive(Debug, Clone)]
pub struct Level {
    filter: reload::Handle<LevelFilter, Registry>,
    /// Nothing above this is left out.
    at_least: LevelFilter,
}

impl Level {
    /// What `log_level` says, or more where the command line asked for it.
    pub fn set(&self, level: LogLevel) {
        // It fails only when nobody logs any more.
        let _ = self.filter.reload(filter(level).max(self.at_least));
    }
}

/// Logs from now on. `at_least` is logged whatever the level.
///
/// Fails where the journal cannot be reached, or a second time in a process.
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

/// A panic is told on the standard error, which in the background nobody sees.
fn log_panics(target: Target) {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let place =
            panic.location().map_or_else(|| "a place unknown".to_owned(), Location::to_string);
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
    // The facility counts where journald hands lines on to a syslog daemon.
    let facility = (nix::syslog::Facility::LOG_DAEMON as i32 >> 3).to_string();
    Ok(tracing_journald::layer()?
        .with_syslog_identifier(IDENTIFIER.to_string_lossy().into_owned())
        .with_field_prefix(Some("MSRP".to_owned()))
        .with_custom_fields([("SYSLOG_FACILITY", facility)])
        .with_priority_mappings(priorities))
}

/// systemd tells its services in `JOURNAL_STREAM` which file leads to the journal; a process that is
/// started by a service may have the variable and another file (systemd.exec(5)).
fn stderr_is_the_journal() -> bool {
    let Some(stream) = env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = nix::sys::stat::fstat(io::stderr()) else { return false };
    stream.to_str() == Some(&format!("{}:{}", stderr.st_dev, stderr.st_ino))
}

/// The levels of 1.x in those of tracing.
fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Critical | LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::NotSet => LevelFilter::TRACE,
    }
}
