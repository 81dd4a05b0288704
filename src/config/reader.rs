//! Takes the options from a [`Document`] as typed values, and collects errors and warnings.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
};

use super::{
    error::{ConfigError, Mistake, Problem, Shown, Value},
    file::{Origin, SYSTEM_DIRECTORY, absolute},
    syntax::{Assignment, Document},
    table::{ConfigOption, DEFAULT, Section, Sections},
    values::{self, Parse, Refused},
};

/// A file while it is being read.
pub struct Reader<'a> {
    sections: Sections<'a>,
    source: PathBuf,
    document: Document,
    mistakes: Vec<Mistake>,
    warnings: BTreeSet<(usize, String)>,
}

impl<'a> Reader<'a> {
    /// Reads the text of a file that may have those sections. Messages name the file `source`.
    /// Relative file names are looked up in its directory first.
    pub fn new(text: &str, source: &Path, sections: Sections<'a>) -> Self {
        let mut document = Document::read(text, sections);
        Self {
            sections,
            source: absolute(source),
            mistakes: std::mem::take(&mut document.mistakes),
            warnings: std::mem::take(&mut document.warnings).into_iter().collect(),
            document,
        }
    }

    /// One of the sections.
    ///
    /// # Panics
    ///
    /// If there is no such section. Tests read all sections.
    pub fn section(&mut self, name: &str) -> SectionReader<'_> {
        let section = *self.sections.named(name).expect("a section of the table");
        let Self { source, document, mistakes, warnings, .. } = self;
        SectionReader { section, source, document, mistakes, warnings }
    }

    /// The lines of the options and the warnings, and all errors of the file if it has any.
    pub fn finish(mut self) -> (Origin, Option<ConfigError>) {
        self.warn_of_unknown_names();
        let source = &self.source;
        let warning = |(line, text): &(usize, String)| match line {
            0 => format!("{}: {text}", source.display()),
            _ => format!("{}:{line}: {text}", source.display()),
        };
        let warnings: Vec<String> = self.warnings.iter().map(warning).collect();
        // Missing options have no line and come last.
        self.mistakes.sort_by_key(|mistake| mistake.line.unwrap_or(usize::MAX));
        let mut not_in_force = Vec::new();
        let mut lines = BTreeMap::new();
        for section in self.sections.0 {
            for option in section.options() {
                let Some((_, entry)) = found(&self.document, section.name, option) else {
                    continue;
                };
                lines.insert((section.name, option.name), entry.line);
                if !option.in_force {
                    not_in_force.push(format!("[{}] {}", section.name, option.name));
                }
            }
        }
        let faults = (!self.mistakes.is_empty()).then(|| ConfigError {
            file: self.source.clone(),
            mistakes: self.mistakes,
            warnings: warnings.clone(),
        });
        (Origin { source: self.source, warnings, not_in_force, lines }, faults)
    }

    /// Warns about each section and option that is not in the tables.
    fn warn_of_unknown_names(&mut self) {
        let sections = self.sections;
        for section in &self.document.sections {
            let name = section.name.as_str();
            if sections.entries(name).is_some() {
                continue;
            }
            let known = sections.named(name);
            if known.is_none() && name != DEFAULT {
                let entries = section.entries.iter().map(|entry| entry.name.as_str());
                let text = format!(
                    "unknown section [{}] is ignored; {}",
                    Shown(name),
                    sections.meant_section(name, entries)
                );
                self.warnings.insert((section.line, tidy(&text)));
                continue;
            }
            for entry in &section.entries {
                let is_option = known.map_or_else(
                    || sections.have_option(&entry.name),
                    |section| section.option(&entry.name).is_some(),
                );
                if is_option {
                    continue;
                }
                let meant = sections.meant_option(name, &entry.name);
                let text =
                    format!("[{name}] unknown option {} is ignored; {meant}", Shown(&entry.name));
                self.warnings.insert((entry.line, tidy(&text)));
            }
        }
    }
}

/// One section while it is being read. It panics if an option is asked for that is not in its
/// table. Tests read all options.
pub struct SectionReader<'a> {
    section: Section,
    source: &'a Path,
    document: &'a Document,
    mistakes: &'a mut Vec<Mistake>,
    warnings: &'a mut BTreeSet<(usize, String)>,
}

/// What is set in one section, `[DEFAULT]` included. Two sections with equal texts mean the same.
/// It may hold passwords, so `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct SectionText(Vec<(String, String)>);

impl fmt::Debug for SectionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SectionText").finish_non_exhaustive()
    }
}

impl<'a> SectionReader<'a> {
    /// The value in the file. If it is not set or is refused: the default of the table.
    pub fn value<T>(&mut self, name: &str, parse: &impl Parse<T>) -> T {
        let default = self.option(name).default;
        self.optional(name, parse).unwrap_or_else(|| {
            parse
                .parse(default, self.directories())
                .unwrap_or_else(|_| panic!("the default of {name} is not accepted"))
        })
    }

    /// The value in the file. `None` if it is not set or is refused.
    pub fn optional<T>(&mut self, name: &str, parse: &impl Parse<T>) -> Option<T> {
        let option = self.option(name);
        let (section, entry) = self.found(option)?;
        let hint = misread(&entry.value);
        match parse.parse(&entry.value, self.directories()) {
            Ok(value) => {
                if let Some(hint) = hint {
                    let text = format!("[{section}] {name} is taken as it stands: {hint}");
                    self.warnings.insert((entry.line, text));
                }
                Some(value)
            }
            Err(Refused(part)) => {
                let value =
                    if part == entry.value { Value::Whole(part) } else { Value::Item(part) };
                let mut accepted = option.accepted();
                if let Some(hint) = hint {
                    accepted.extend(["; ", hint]);
                }
                self.bad(option, value, accepted.into());
                None
            }
        }
    }

    /// The entries, for a section that has no options: name and value of each.
    pub fn entries(&self) -> Vec<SectionEntry<'a>> {
        let section = self.document.section(self.section.name);
        let entries = section.into_iter().flat_map(|section| &section.entries);
        entries
            .map(|entry| SectionEntry { name: &entry.name, value: &entry.value, line: entry.line })
            .collect()
    }

    /// Refuses an entry. The message repeats neither side, because either may be a password.
    pub fn refuse_entry(&mut self, entry: &SectionEntry<'_>, accepted: &'static str) {
        let problem = Problem::BadEntry { section: self.section.name, accepted };
        self.mistakes.push(Mistake { line: Some(entry.line), problem });
    }

    /// Warns about an entry, without repeating it.
    pub fn warn_of_entry(&mut self, entry: &SectionEntry<'_>, text: &str) {
        self.warnings.insert((entry.line, format!("[{}] {text}", self.section.name)));
    }

    /// All that is set, whether it is accepted or not.
    pub fn text(&self) -> SectionText {
        let entries = self.entries().into_iter().map(|entry| (entry.name, entry.value));
        let options = self.section.options();
        if options.is_empty() {
            let owned = entries.map(|(name, value)| (name.to_owned(), value.to_owned()));
            return SectionText(owned.collect());
        }
        let set = options.iter().filter_map(|option| {
            let (_, entry) = self.found(option)?;
            Some((entry.name.clone(), entry.value.clone()))
        });
        SectionText(set.collect())
    }

    /// Whether the file sets an option.
    pub fn is_set(&self, name: &str) -> bool {
        self.found(self.option(name)).is_some()
    }

    /// Reports that a mandatory option is not set.
    pub fn missing(&mut self, name: &str, accepted: &'static str) {
        let (section, option) = (self.section.name, self.option(name).name);
        let problem = Problem::Missing { section, option, accepted };
        self.mistakes.push(Mistake { line: None, problem });
    }

    /// Refuses a value that is valid alone, but not together with others.
    pub fn refuse(&mut self, name: &str, accepted: String) {
        let option = self.option(name);
        if let Some((_, entry)) = self.found(option) {
            let value = Value::Whole(entry.value.clone());
            self.bad(option, value, accepted.into());
        }
    }

    /// The value as it stands in the file.
    pub fn written(&self, name: &str) -> Option<&'a str> {
        self.found(self.option(name)).map(|(_, entry)| entry.value.as_str())
    }

    /// Whether the value in the file was refused, so that the default stands for it.
    pub fn is_refused(&self, name: &str) -> bool {
        self.mistakes.iter().any(|mistake| match mistake.problem {
            Problem::BadValue { section, option, .. } => {
                option == name && (section == self.section.name || section == DEFAULT)
            }
            _ => false,
        })
    }

    /// Adds to what is said of a value that was refused.
    pub fn explain(&mut self, name: &str, text: &str) {
        for mistake in self.mistakes.iter_mut() {
            if let Problem::BadValue { option, accepted, .. } = &mut mistake.problem
                && *option == name
            {
                accepted.to_mut().extend(["; ", text]);
            }
        }
    }

    /// Warns about an option, with the line where it is set.
    pub fn warn(&mut self, name: &str, text: &str) {
        let line = self.found(self.option(name)).map_or(0, |(_, entry)| entry.line);
        let text = format!("[{}] {name} {text}", self.section.name);
        self.warnings.insert((line, text));
    }

    fn bad(&mut self, option: &ConfigOption, value: Value, accepted: Cow<'static, str>) {
        let Some((section, entry)) = self.found(option) else { return };
        let mistake = Mistake {
            line: Some(entry.line),
            problem: Problem::BadValue {
                section,
                option: option.name,
                value: if option.secret { Value::Secret } else { value },
                accepted,
            },
        };
        self.mistakes.push(mistake);
    }

    fn option(&self, name: &str) -> &'static ConfigOption {
        let option = self.section.option(name);
        option.unwrap_or_else(|| panic!("no option [{}] {name} in the table", self.section.name))
    }

    fn found(&self, option: &ConfigOption) -> Option<(&'static str, &'a Assignment)> {
        found(self.document, self.section.name, option)
    }

    /// Where relative file names are looked up.
    fn directories(&self) -> [&'a Path; 2] {
        [self.source.parent().unwrap_or(Path::new("/")), Path::new(SYSTEM_DIRECTORY)]
    }
}

/// One entry of a section without options. No `Debug`: it may hold a password on either side.
pub struct SectionEntry<'a> {
    /// The text before the `=`.
    pub name: &'a str,
    /// The text behind it, which may be empty.
    pub value: &'a str,
    line: usize,
}

/// The entry that sets an option, in its own section or else in [DEFAULT]. An empty value counts as
/// not set, unless the option may be empty, and hides the one in [DEFAULT].
fn found<'a>(
    document: &'a Document,
    section: &'static str,
    option: &ConfigOption,
) -> Option<(&'static str, &'a Assignment)> {
    let entry = |section: &'static str| {
        let entry = document.section(section)?.entry(option.name)?;
        Some((section, entry))
    };
    let found = entry(section).or_else(|| entry(DEFAULT));
    found.filter(|(_, entry)| option.may_be_empty || !entry.value.is_empty())
}

/// What a value that looks like one of another syntax would have meant there.
fn misread(value: &str) -> Option<&'static str> {
    let mut before = ' ';
    let comment = value.chars().any(|c| {
        let begins = matches!(c, ';' | '#') && before.is_whitespace();
        before = c;
        begins
    });
    if comment {
        return Some("a comment stands on a line of its own, behind a value it is part of it");
    }
    let quoted = |item: &str| {
        let mut quotes = ['"', '\''].into_iter();
        quotes.any(|quote| item.len() > 1 && item.starts_with(quote) && item.ends_with(quote))
    };
    values::items(value).chain([value]).any(quoted).then_some("a value is written without quotes")
}

/// A message without the trailing separator that is left if there is no suggestion.
fn tidy(text: &str) -> String {
    text.trim_end_matches("; ").to_owned()
}
