//! Options out of a [`Document`]: looked up, typed, and everything odd written down.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    path::Path,
};

use secrecy::SecretString;

use super::{
    MemoryUser,
    error::{ConfigError, Finding, Problem, Shown, Value},
    options::{self, ConfigOption},
    syntax::{DEFAULT, Document, Entry, MEMORY},
    values::Refused,
};

/// A file while it is being read.
pub(super) struct Reader {
    document: Document,
    findings: Vec<Finding>,
    warnings: BTreeSet<(usize, String)>,
}

/// What is left when all options are read and none is wrong.
pub(super) struct Findings {
    pub(super) warnings: Vec<String>,
    pub(super) not_in_force: Vec<String>,
    pub(super) lines: BTreeMap<(&'static str, &'static str), usize>,
}

impl Reader {
    pub(super) fn new(text: &str) -> Self {
        let mut document = Document::read(text);
        Self {
            findings: std::mem::take(&mut document.findings),
            warnings: std::mem::take(&mut document.warnings).into_iter().collect(),
            document,
        }
    }

    /// The options of one section.
    pub(super) fn section(&mut self, section: &'static str) -> SectionReader<'_> {
        SectionReader { reader: self, section }
    }

    /// The users of `[Memory]`. Neither side of an entry is ever repeated in a message: a user may
    /// have been written where the password belongs.
    pub(super) fn users(&mut self) -> Vec<MemoryUser> {
        let mut users = Vec::new();
        let Some(section) = self.document.section(MEMORY) else {
            return users;
        };
        for entry in &section.entries {
            let Some((user, domain)) = user_and_domain(&entry.name) else {
                self.findings.push(Finding { line: Some(entry.line), problem: Problem::BadUser });
                continue;
            };
            if entry.value.is_empty() {
                let text = "[Memory] the user has no password and is left out".to_owned();
                self.warnings.insert((entry.line, text));
                continue;
            }
            users.push(MemoryUser {
                user: user.to_owned(),
                domain: domain.to_owned(),
                password: SecretString::from(entry.value.as_str()),
            });
        }
        users
    }

    /// Warns of every section and option that the table does not have.
    pub(super) fn warn_of_unknown_names(&mut self) {
        for section in &self.document.sections {
            let name = section.name.as_str();
            if name == MEMORY {
                continue;
            }
            let known =
                name == DEFAULT || options::SECTIONS.iter().any(|(known, _)| *known == name);
            if !known {
                let text = format!(
                    "unknown section [{}] is ignored; {}",
                    Shown(name),
                    options::meant_section(name)
                );
                self.warnings.insert((section.line, tidy(&text)));
                continue;
            }
            for entry in &section.entries {
                if is_known(name, entry) {
                    continue;
                }
                let meant = options::meant_option(name, &entry.name);
                let text =
                    format!("[{name}] unknown option {} is ignored; {meant}", Shown(&entry.name));
                self.warnings.insert((entry.line, tidy(&text)));
            }
        }
    }

    /// The warnings, or the error if anything is wrong.
    pub(super) fn finish(mut self, source: &Path) -> Result<Findings, ConfigError> {
        let warning = |(line, text): &(usize, String)| match line {
            0 => format!("{}: {text}", source.display()),
            _ => format!("{}:{line}: {text}", source.display()),
        };
        let warnings = self.warnings.iter().map(warning).collect();
        if self.findings.is_empty() {
            let lines = options::OPTIONS.iter().filter_map(|option| {
                let (_, entry) = self.found(option)?;
                Some(((option.section, option.name), entry.line))
            });
            let lines = lines.collect();
            return Ok(Findings { warnings, not_in_force: self.not_in_force(), lines });
        }
        // What is missing altogether comes last.
        self.findings.sort_by_key(|finding| finding.line.unwrap_or(usize::MAX));
        Err(ConfigError { file: source.to_owned(), findings: self.findings, warnings })
    }

    fn not_in_force(&self) -> Vec<String> {
        let later = options::OPTIONS.iter().filter(|option| !option.in_force);
        let set = later.filter(|option| self.found(option).is_some());
        set.map(|option| format!("[{}] {}", option.section, option.name)).collect()
    }

    /// Where an option is set: its own section, else [DEFAULT]. An empty value counts as not set,
    /// and hides [DEFAULT].
    fn found(&self, option: &ConfigOption) -> Option<(&'static str, &Entry)> {
        let entry = |section: &'static str| {
            let entry = self.document.section(section)?.entry(option.name)?;
            Some((section, entry))
        };
        let found = entry(option.section).or_else(|| entry(DEFAULT));
        found.filter(|(_, entry)| !entry.value.is_empty())
    }
}

/// One section while it is being read. The names asked for are those of the table, or it panics:
/// tests read them all.
pub(super) struct SectionReader<'a> {
    reader: &'a mut Reader,
    section: &'static str,
}

impl SectionReader<'_> {
    /// The value in the file, else the default of the table, also where the file's is refused.
    pub(super) fn value<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Refused>) -> T {
        let option = self.option(name);
        self.optional(name, &parse).unwrap_or_else(|| {
            parse(option.default)
                .unwrap_or_else(|_| panic!("the default of {name} is not accepted"))
        })
    }

    /// The value in the file; none where the file's is refused.
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, Refused>,
    ) -> Option<T> {
        let (_, entry) = self.reader.found(self.option(name))?;
        match parse(&entry.value) {
            Ok(value) => Some(value),
            Err(Refused(part)) => {
                let value =
                    if part == entry.value { Value::Whole(part) } else { Value::Item(part) };
                self.bad(name, value, self.option(name).accepted.into());
                None
            }
        }
    }

    /// The list in the file; empty where there is none.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        parse: impl Fn(&str) -> Result<Vec<T>, Refused>,
    ) -> Vec<T> {
        self.optional(name, parse).unwrap_or_default()
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.reader.found(self.option(name)).is_some()
    }

    pub(super) fn missing(&mut self, name: &str, accepted: &'static str) {
        let option = self.option(name);
        let problem = Problem::Missing { section: option.section, option: option.name, accepted };
        self.reader.findings.push(Finding { line: None, problem });
    }

    /// Refuses a value that is good in itself but not beside the others.
    pub(super) fn refuse(&mut self, name: &str, accepted: String) {
        if let Some((_, entry)) = self.reader.found(self.option(name)) {
            let value = Value::Whole(entry.value.clone());
            self.bad(name, value, accepted.into());
        }
    }

    pub(super) fn warn(&mut self, name: &str, text: &str) {
        let line = self.reader.found(self.option(name)).map_or(0, |(_, entry)| entry.line);
        let text = format!("[{}] {name} {text}", self.section);
        self.reader.warnings.insert((line, text));
    }

    fn bad(&mut self, name: &str, value: Value, accepted: Cow<'static, str>) {
        let option = self.option(name);
        let Some((section, entry)) = self.reader.found(option) else {
            return;
        };
        let finding = Finding {
            line: Some(entry.line),
            problem: Problem::BadValue {
                section,
                option: option.name,
                value: if option.secret { Value::Secret } else { value },
                accepted,
            },
        };
        self.reader.findings.push(finding);
    }

    fn option(&self, name: &str) -> &'static ConfigOption {
        let option = options::option(self.section, name);
        option.unwrap_or_else(|| panic!("no option [{}] {name} in the table", self.section))
    }
}

fn is_known(section: &str, entry: &Entry) -> bool {
    match section {
        DEFAULT => options::is_option(&entry.name),
        _ => options::option(section, &entry.name).is_some(),
    }
}

/// A text without the end that a missing suggestion leaves.
fn tidy(text: &str) -> String {
    text.trim_end_matches("; ").to_owned()
}

/// Parts at the last `@`. A domain holds no blank and no colon, unless it is an address: such a
/// name is an entry written with `:` in which the password holds the `=`.
fn user_and_domain(name: &str) -> Option<(&str, &str)> {
    let (user, domain) = name.rsplit_once('@')?;
    let bare =
        domain.strip_prefix('[').and_then(|domain| domain.strip_suffix(']')).unwrap_or(domain);
    let address = bare.parse::<Ipv6Addr>().is_ok();
    let clean =
        address || !domain.contains(|c: char| c.is_whitespace() || c.is_control() || c == ':');
    (!user.is_empty() && !domain.is_empty() && clean).then_some((user, domain))
}
