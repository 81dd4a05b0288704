//! Reads the text of the file, and keeps where each option is set.

use std::{
    collections::BTreeMap,
    fs,
    io::Read as _,
    path::{self, Path, PathBuf},
};

use super::error::{ConfigError, Mistake, Problem};

/// Where the system keeps the configuration, and the second place for relative file names.
pub const SYSTEM_DIRECTORY: &str = "/etc/msrprelay";

/// Largest file that is read, in bytes: some 200,000 users.
pub const MAX_FILE_SIZE: u64 = 16 << 20;

/// The file that options were read from, and the lines where they are set.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The file, as an absolute path.
    pub source: PathBuf,
    /// The warnings, in the order of the lines. Each begins with file and line.
    pub warnings: Vec<String>,
    /// Options set in the file on which this release does not act, as `[Section] name`.
    pub not_in_force: Vec<String>,
    /// Line of each option that is set.
    pub(super) lines: BTreeMap<(&'static str, &'static str), usize>,
}

impl Origin {
    /// Whether the file sets an option.
    pub fn is_set(&self, section: &str, option: &str) -> bool {
        self.lines.keys().any(|set| *set == (section, option))
    }

    /// The beginning of a message about an option: file, line if it is set, section and name.
    pub fn place(&self, section: &str, option: &str) -> String {
        let set = self.lines.iter().find(|((s, o), _)| (*s, *o) == (section, option));
        let line = set.map_or_else(String::new, |(_, line)| format!(":{line}"));
        format!("{}{line}: [{section}] {option}", self.source.display())
    }

    /// The warnings, with one about the options that only later releases will act on.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let names = &self.not_in_force;
        let line = (!names.is_empty())
            .then(|| format!("not in force in this release: {}", names.join(", ")));
        self.warnings.iter().cloned().chain(line)
    }
}

/// Reads the text of a file.
pub fn read_file(file: &Path) -> Result<String, ConfigError> {
    let failed = |mistakes| ConfigError { file: absolute(file), mistakes, warnings: Vec::new() };
    let bytes = read(file).map_err(|problem| failed(vec![Mistake { line: None, problem }]))?;
    decode(&bytes).map_err(failed)
}

fn read(file: &Path) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    fs::File::open(file)
        .and_then(|file| file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes))
        .map_err(Problem::Unreadable)?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(Problem::TooLarge(MAX_FILE_SIZE));
    }
    Ok(bytes)
}

/// The file must be UTF-8 outside of comments. Files for msrprelay 1.x may have Latin-1 comments.
fn decode(bytes: &[u8]) -> Result<String, Vec<Mistake>> {
    let mut text = String::with_capacity(bytes.len());
    let mut mistakes = Vec::new();
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let line_text = String::from_utf8_lossy(line);
        let comment = line_text.trim_start().starts_with([';', '#']);
        // A borrowed text is valid UTF-8: nothing was replaced.
        if matches!(line_text, std::borrow::Cow::Owned(_)) && !comment {
            mistakes.push(Mistake { line: Some(index + 1), problem: Problem::NotUtf8 });
        }
        text.push_str(&line_text);
    }
    if mistakes.is_empty() { Ok(text) } else { Err(mistakes) }
}

/// Absolute without following links: the relay changes its working directory later.
pub(super) fn absolute(file: &Path) -> PathBuf {
    path::absolute(file).unwrap_or_else(|_| file.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_are_read_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("config.ini");
        let load = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            read_file(&file)
        };
        let text = load(b"\xef\xbb\xbf[Relay]\r\n# f\xfcr Blink\r\nx = 1\r\n").unwrap();
        assert_eq!(text, "\u{feff}[Relay]\r\n# f\u{fffd}r Blink\r\nx = 1\r\n");

        let error = load(b"[Relay]\ndebug_notls = 1\nhostname = \xfc\n").unwrap_err();
        assert_eq!(error.to_string(), format!("{}:3: the line is not UTF-8", file.display()));
        let large = usize::try_from(MAX_FILE_SIZE).unwrap() + 1;
        let error = load(&vec![b'\n'; large]).unwrap_err().to_string();
        assert!(error.contains("larger than 16 MiB"), "{error}");
        let error = read_file(&root.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("/none: cannot be read: No such file"), "{error}");
        let error = read_file(root.path()).unwrap_err().to_string();
        assert!(error.contains("cannot be read: "), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let decoded = decode(&bytes);
            prop_assert_eq!(std::str::from_utf8(&bytes).is_ok(), decoded.as_deref().is_ok_and(|text| text.as_bytes() == bytes));
        }
    }
}
