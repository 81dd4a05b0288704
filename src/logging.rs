//! Where log lines go, and which.
//!
//! *error*: an operator must fix it. *warn*: refused peers, doubtful configuration. *info*: start,
//! stop, each session's start and end. *debug*: what happens to requests. Never, at any level:
//! bodies, credentials, nonces, whole session-ids; and no control byte of a peer.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    fmt::time::SystemTime, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::LogLevel;

/// Logs to the terminal from now on: human-readable, in colour only where somebody looks. What is
/// returned changes the level.
///
/// # Panics
///
/// When called twice.
pub fn to_terminal(level: LevelFilter) -> impl Fn(LevelFilter) + Send + Sync + 'static {
    let (filter, level) = reload::Layer::new(level);
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_timer(SystemTime)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    tracing_subscriber::registry().with(filter).with(lines).init();
    // It fails only where the subscriber is gone, and then nothing is logged anyway.
    move |new| drop(level.reload(new))
}

/// The levels of 1.x in those of tracing.
pub fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Critical | LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::NotSet => LevelFilter::TRACE,
    }
}
