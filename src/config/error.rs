//! What can be wrong with a configuration file. The messages tell the operator how to correct it.

use std::{borrow::Cow, fmt, io, path::PathBuf};

use thiserror::Error;

/// The most characters of a name or value that a message repeats.
const SHOWN: usize = 120;

/// Everything that is wrong with one file. Displayed as one line for each mistake.
#[derive(Debug)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// What must be corrected, in the order of the lines. Never empty.
    pub mistakes: Vec<Mistake>,
    /// The warnings, as in [`Origin::warnings`](super::Origin::warnings).
    pub warnings: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.mistakes.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = mistake.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": {}", mistake.problem)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.mistakes.as_slice() {
            [only] => only.problem.source(),
            _ => None,
        }
    }
}

/// One error in the file.
#[derive(Debug)]
pub struct Mistake {
    /// Line in the file, counted from 1. `None` if something is missing from the file.
    pub line: Option<usize>,
    /// What it is.
    pub problem: Problem,
}

/// What is wrong. No variant ever holds a password or a database URI.
#[derive(Debug, Error)]
pub enum Problem {
    /// The file cannot be read at all.
    #[error("cannot be read: {0}; --config-file and --config-dir name another one")]
    Unreadable(#[source] io::Error),
    /// The file is too large.
    #[error("larger than {} MiB, this is no configuration file", .0 >> 20)]
    TooLarge(u64),
    /// A line outside of comments is not UTF-8.
    #[error("the line is not UTF-8")]
    NotUtf8,
    /// A line begins with `[`, but is not a section.
    #[error("a section is written [Name] on a line of its own")]
    UnreadableSection,
    /// An assignment before the first section.
    #[error("a section must come first, such as [Relay]")]
    NoSection,
    /// Neither blank, comment, section, continuation nor assignment. The text is not repeated: it
    /// may be a password.
    #[error("[{}] the line is not understood; accepted is {accepted}", Shown(section))]
    NotUnderstood {
        /// The section that the line is in.
        section: String,
        /// The form of an assignment there.
        accepted: &'static str,
    },
    /// A section that is opened twice.
    #[error("[{}] stands twice, first on line {first}: write both in one", Shown(section))]
    DuplicateSection {
        /// The section.
        section: String,
        /// Where it was opened first.
        first: usize,
    },
    /// An option that is set twice.
    #[error(
        "[{}] {} stands twice, first on line {first}: remove one",
        Shown(section),
        Shown(option)
    )]
    DuplicateOption {
        /// The section.
        section: String,
        /// The option, or what an entry is called whose name is not told.
        option: String,
        /// Where it was set first.
        first: usize,
    },
    /// The parser of the file failed.
    #[error("cannot be understood: {0}")]
    Syntax(String),
    /// A value that the option does not accept.
    #[error("[{section}] {option} = {value}: {accepted}")]
    BadValue {
        /// The section.
        section: &'static str,
        /// The option.
        option: &'static str,
        /// The value, or the part of it that is refused.
        value: Value,
        /// What would be accepted.
        accepted: Cow<'static, str>,
    },
    /// An option without which the relay cannot start.
    #[error("[{section}] {option} is not set: {accepted}")]
    Missing {
        /// The section.
        section: &'static str,
        /// The option.
        option: &'static str,
        /// What would be accepted.
        accepted: &'static str,
    },
    /// An entry whose name is not accepted. Neither side is repeated: either may be a password.
    #[error("[{section}] the name on the left is not accepted: {accepted}")]
    BadEntry {
        /// The section.
        section: &'static str,
        /// What would be accepted.
        accepted: &'static str,
    },
}

/// A refused value, in the form in which it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// As it stands in the file.
    Whole(String),
    /// The item of a list that is refused.
    Item(String),
    /// A value that may hold a password.
    Secret,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(text) => write!(f, "\"{}\"", Shown(text)),
            Self::Item(text) => write!(f, "... \"{}\" ...", Shown(text)),
            Self::Secret => f.write_str("(not shown)"),
        }
    }
}

/// Text of the file in a message: on one line, without control characters, and of limited length.
pub(super) struct Shown<'a>(pub(super) &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, c) in self.0.chars().enumerate() {
            if index == SHOWN {
                return f.write_str("...");
            }
            match c {
                // Backslashes and quotes mean nothing in the file and stay readable.
                '\\' | '"' | '\'' => write!(f, "{c}")?,
                _ => write!(f, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_file_stays_on_its_line() {
        let table = [
            ("plain", "plain"),
            ("a\nb\tc\u{1b}[1m", r"a\nb\tc\u{1b}[1m"),
            (r#"C:\x "y" 'z'"#, r#"C:\x "y" 'z'"#),
        ];
        for (text, expected) in table {
            assert_eq!(Shown(text).to_string(), expected);
        }
        assert_eq!(Shown(&"x".repeat(1000)).to_string().len(), SHOWN + 3);
    }

    #[test]
    fn one_line_for_each_finding() {
        let error = ConfigError {
            file: PathBuf::from("/etc/msrprelay/config.ini"),
            mistakes: vec![
                Mistake { line: Some(3), problem: Problem::NoSection },
                Mistake {
                    line: None,
                    problem: Problem::Missing {
                        section: "Relay",
                        option: "key",
                        accepted: "a file",
                    },
                },
            ],
            warnings: Vec::new(),
        };
        let expected = "/etc/msrprelay/config.ini:3: a section must come first, such as [Relay]\n\
                        /etc/msrprelay/config.ini: [Relay] key is not set: a file";
        assert_eq!(error.to_string(), expected);
    }
}
