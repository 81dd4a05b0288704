//! Options of the section `[Relay]` that concern the log.

use crate::config::{
    Refused, options,
    values::{choice, number},
};

options! {
    pub struct LogOptions {
        log_level: LogLevel = "INFO", log_level,
            "accepted is CRITICAL, ERROR, WARNING, INFO, DEBUG, NOTSET or a number from 0 \
             (everything) to 50",
            "Least severity that is logged: CRITICAL, ERROR, WARNING, INFO, DEBUG or NOTSET."
            .after("backend");
    }
}

/// Least severity that is logged, with the names of 1.x. A greater value logs more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// The name of 1.x for failures that end the relay. Logs the same as `Error`.
    Critical,
    /// Faults that an operator must fix.
    Error,
    /// Refused peers, doubtful configuration.
    Warning,
    /// Start, reload, start and end of sessions.
    Info,
    /// What happens to each request.
    Debug,
    /// Everything.
    NotSet,
}

/// Parses a name, or a number on the scale of 1.x, which is the least severity that is logged.
fn log_level(text: &str) -> Result<LogLevel, Refused> {
    let kinds = [
        ("CRITICAL", LogLevel::Critical),
        ("ERROR", LogLevel::Error),
        ("WARNING", LogLevel::Warning),
        ("INFO", LogLevel::Info),
        ("DEBUG", LogLevel::Debug),
        ("NOTSET", LogLevel::NotSet),
    ];
    if let Some(level) = choice(text, &kinds) {
        return Ok(level);
    }
    Ok(match number(0..=u64::MAX)(text)? {
        0 => LogLevel::NotSet,
        1..=10 => LogLevel::Debug,
        11..=20 => LogLevel::Info,
        21..=30 => LogLevel::Warning,
        31..=40 => LogLevel::Error,
        _ => LogLevel::Critical,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(part: &str) -> Result<T, Refused> {
        Err(Refused::new(part))
    }

    #[test]
    fn log_levels() {
        use LogLevel::{Critical, Debug, Error, Info, NotSet, Warning};
        let table = [
            ("critical", Critical),
            ("Error", Error),
            ("WARNING", Warning),
            ("info", Info),
            ("DEBUG", Debug),
            ("NotSet", NotSet),
            ("0", NotSet),
            ("5", Debug),
            ("10", Debug),
            ("20", Info),
            ("25", Warning),
            ("30", Warning),
            ("40", Error),
            ("50", Critical),
            ("60", Critical),
        ];
        for (text, level) in table {
            assert_eq!(log_level(text), Ok(level), "{text}");
        }
        for text in ["LOUD", "-1", "10.0"] {
            assert_eq!(log_level(text), refused(text));
        }
        assert!(Debug > Info && NotSet > Debug && Critical < Error);
    }
}
