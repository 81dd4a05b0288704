//! The text of `config.ini` as sections of named values, each with its line.
//!
//! The syntax is that of msrprelay 1.x, which used Python's `ConfigParser`. `rust-ini` collects
//! sections and joins values. But it has no line numbers, skips lines that it does not understand,
//! ends a name at a colon and ends a value at a comment. So each line is checked here first, and is
//! passed on in a form that both parsers read alike: a section by its index, an assignment by its
//! line number, a continuation with one blank in front.
//!
//! There are four differences from `ConfigParser`. Behind a section only a comment may follow on
//! its line. A line that begins with `[` is a section or an error. A value that begins on its
//! second line has no line break in front. Percent signs are literal, except for `%%`.

use std::collections::BTreeMap;

use ini::{Ini, ParseOption};

use super::{
    error::{Mistake, Problem},
    table::{DEFAULT, Sections},
};

/// The sections and entries of a file. Nothing is known yet of the meaning of an option.
#[derive(Default)]
pub(super) struct Document {
    pub(super) sections: Vec<DocumentSection>,
    /// The errors: lines that cannot be read, and names that are set twice.
    pub(super) mistakes: Vec<Mistake>,
    /// The warnings, with their lines: text that can be read, but is hardly what the operator
    /// meant.
    pub(super) warnings: Vec<(usize, String)>,
}

/// One section. [DEFAULT] may be opened more than once; it is one section all the same.
pub(super) struct DocumentSection {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) entries: Vec<Assignment>,
}

/// One assignment. No `Debug`: the value may be a password.
pub(super) struct Assignment {
    pub(super) name: String,
    pub(super) line: usize,
    pub(super) value: String,
}

impl Document {
    /// Reads a whole file. It always succeeds: errors are collected.
    pub(super) fn read(text: &str, sections: Sections<'_>) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // Python reads any line ending as a line feed.
        let text = text.replace("\r\n", "\n").replace('\r', "\n");

        let mut outline = Outline::new(sections);
        for (index, line) in text.split('\n').enumerate() {
            outline.line(index + 1, line);
        }
        outline.finish()
    }

    pub(super) fn section(&self, name: &str) -> Option<&DocumentSection> {
        self.sections.iter().find(|section| section.name == name)
    }
}

impl DocumentSection {
    pub(super) fn entry(&self, name: &str) -> Option<&Assignment> {
        self.entries.iter().find(|entry| entry.name == name)
    }
}

/// The lines read so far.
struct Outline<'a> {
    sections: Sections<'a>,
    document: Document,
    /// The file in the form that rust-ini reads without ambiguity.
    prepared: String,
    /// The name assigned on each line.
    names: BTreeMap<usize, String>,
    place: Place,
    /// The indentation of the latest option or section. A continuation is indented more.
    indent: usize,
    /// Whether there is an option that an indented line can continue.
    continuable: bool,
}

/// Where the next assignment belongs.
#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    /// No section has been opened yet.
    #[default]
    Nowhere,
    /// After a section line that cannot be read, or after an assignment before the first section.
    /// One error is enough.
    Lost,
    /// In the section with this index.
    Section(usize),
}

impl<'a> Outline<'a> {
    fn new(sections: Sections<'a>) -> Self {
        Self {
            sections,
            document: Document::default(),
            prepared: String::new(),
            names: BTreeMap::new(),
            place: Place::default(),
            indent: 0,
            continuable: false,
        }
    }

    fn line(&mut self, number: usize, line: &str) {
        let text = line.trim();
        if text.starts_with([';', '#']) {
            return;
        }
        if text.is_empty() {
            self.prepared.push('\n');
            return;
        }
        let indent = line.chars().take_while(|c| c.is_whitespace()).count();
        if self.continuable && indent > self.indent {
            self.continuation(number, text);
            return;
        }
        self.indent = indent;
        self.continuable = false;
        if text.starts_with('[') {
            self.section(number, text);
            return;
        }
        self.assignment(number, text);
    }

    fn section(&mut self, number: usize, text: &str) {
        let Some(name) = section_name(text) else {
            self.find(number, Problem::UnreadableSection);
            self.place = Place::Lost;
            return;
        };
        let sections = &mut self.document.sections;
        let known = sections.iter().position(|section| section.name == name);
        let index = known.unwrap_or(sections.len());
        if known.is_none() {
            sections.push(DocumentSection {
                name: name.to_owned(),
                line: number,
                entries: Vec::new(),
            });
        } else if name != DEFAULT {
            let first = sections[index].line;
            self.find(number, Problem::DuplicateSection { section: name.to_owned(), first });
        }
        self.place = Place::Section(index);
        self.write(&format!("[{index}]"));
    }

    fn assignment(&mut self, number: usize, text: &str) {
        let index = match self.place {
            Place::Section(index) => index,
            Place::Lost => return,
            Place::Nowhere => {
                self.find(number, Problem::NoSection);
                self.place = Place::Lost;
                return;
            }
        };
        let section = self.document.sections[index].name.clone();
        let entries = self.sections.entries(&section);
        let literal = entries.is_some();
        let split = if literal { text.split_once('=') } else { text.split_once(['=', ':']) };
        let Some((name, value)) = split.filter(|(name, _)| !name.trim().is_empty()) else {
            let accepted = entries.map_or("name = value", |(form, _)| form);
            self.find(number, Problem::NotUnderstood { section, accepted });
            return;
        };
        let name = if literal { name.trim().to_owned() } else { option_name(name.trim()) };
        self.names.insert(number, name);
        self.continuable = true;
        self.write(&format!("{number}={}", value.trim()));
    }

    fn continuation(&mut self, number: usize, text: &str) {
        if let Some((name, _)) = text.split_once(['=', ':'])
            && self.sections.have_option(&option_name(name.trim()))
        {
            let name = option_name(name.trim());
            let text = format!(
                "the line is indented and so continues the value above it; \
                 for the option {name} remove the blanks"
            );
            self.document.warnings.push((number, text));
        }
        self.write(&format!(" {text}"));
    }

    /// Adds a line for rust-ini. The blank at its end keeps a trailing backslash from being read as
    /// a continuation, which rust-ini does even without escapes. rust-ini trims the blank.
    fn write(&mut self, line: &str) {
        self.prepared.push_str(line);
        self.prepared.push_str(" \n");
    }

    fn find(&mut self, line: usize, problem: Problem) {
        self.document.mistakes.push(Mistake { line: Some(line), problem });
    }

    fn finish(mut self) -> Document {
        let options = ParseOption {
            enabled_quote: false,
            enabled_escape: false,
            enabled_indented_mutiline_value: true,
            ..ParseOption::default()
        };
        match Ini::load_from_str_opt(&self.prepared, options) {
            Ok(ini) => self.collect(&ini),
            Err(error) => self
                .document
                .mistakes
                .push(Mistake { line: None, problem: Problem::Syntax(error.msg.into_owned()) }),
        }
        self.document
    }

    /// Gives the values their names again, and finds names that are set twice in a section.
    fn collect(&mut self, ini: &Ini) {
        let mut percent = Percent::default();
        for (index, properties) in ini {
            let Some(index) = index.and_then(|index| index.parse::<usize>().ok()) else {
                continue;
            };
            for (line, value) in properties {
                let Some((line, name)) =
                    line.parse().ok().and_then(|line| self.names.remove_entry(&line))
                else {
                    continue;
                };
                let entry = Assignment { name, line, value: percent.read(line, value) };
                self.enter(index, entry);
            }
        }
        self.document.warnings.extend(percent.warnings());
    }

    fn enter(&mut self, index: usize, entry: Assignment) {
        let section = &mut self.document.sections[index];
        let Some(first) = section.entry(&entry.name) else {
            section.entries.push(entry);
            return;
        };
        // The operator may have written a password before the `=`, so the name is not repeated.
        let entries = self.sections.entries(&section.name);
        let problem = Problem::DuplicateOption {
            section: section.name.clone(),
            option: entries.map_or(entry.name, |(_, one)| one.to_owned()),
            first: first.line,
        };
        self.find(entry.line, problem);
    }
}

/// The name in `[name]`, which a comment may follow.
fn section_name(text: &str) -> Option<&str> {
    let (name, rest) = text.strip_prefix('[')?.split_once(']')?;
    let rest = rest.trim_start();
    let readable = !name.is_empty() && (rest.is_empty() || rest.starts_with([';', '#']));
    readable.then_some(name)
}

/// The name of an option. msrprelay 1.x read `-` in it as `_`.
fn option_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Percent signs, as msrprelay 1.x read them: it replaced `%%` by `%`, and `%(name)s` by the value
/// of another option.
#[derive(Default)]
struct Percent {
    doubled: Option<usize>,
    interpolated: Option<usize>,
}

impl Percent {
    fn read(&mut self, line: usize, value: &str) -> String {
        if value.contains("%%") {
            self.doubled = self.doubled.or(Some(line));
        }
        let left = value.replace("%%", "");
        if left.split_once("%(").is_some_and(|(_, rest)| rest.contains(")s")) {
            self.interpolated = self.interpolated.or(Some(line));
        }
        value.replace("%%", "%")
    }

    fn warnings(self) -> impl Iterator<Item = (usize, String)> {
        let doubled = "%% is read as %, as 1.x wrote it; a single % is enough now";
        let interpolated = "%(name)s is taken literally; 1.x replaced it by another option";
        let doubled = self.doubled.map(|line| (line, doubled.to_owned()));
        let interpolated = self.interpolated.map(|line| (line, interpolated.to_owned()));
        doubled.into_iter().chain(interpolated)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{ConfigOption, Contents, Section};

    const SECTIONS: Sections<'_> = Sections(&[
        Section {
            name: "Relay",
            doc: "",
            contents: Contents::Options(&[&[ConfigOption::new("key", "", "", "")]]),
        },
        Section {
            name: "Memory",
            doc: "",
            contents: Contents::Entries {
                one: "the user",
                form: "a@b = c",
                example: "",
                like: |_| false,
            },
        },
    ]);

    /// Sections and entries as one readable line: `[Relay] a="1"@2 ...`.
    fn shown(text: &str) -> String {
        let document = Document::read(text, SECTIONS);
        let mut shown: Vec<String> = Vec::new();
        for section in &document.sections {
            shown.push(format!("[{}]", section.name));
            for entry in &section.entries {
                shown.push(format!("{}={:?}@{}", entry.name, entry.value, entry.line));
            }
        }
        for mistake in &document.mistakes {
            shown.push(format!("!{}", mistake.line.expect("syntax has a line")));
        }
        shown.join(" ")
    }

    #[test]
    fn reads_what_config_parser_reads() {
        let table = [
            ("[R]\na = 1\n", r#"[R] a="1"@2"#),
            ("[R]\na: 1\nb=2", r#"[R] a="1"@2 b="2"@3"#),
            ("[R]\na:b=c\nd=e:f", r#"[R] a="b=c"@2 d="e:f"@3"#),
            ("[R]\r\na = 1\r\nb = 2\r\n", r#"[R] a="1"@2 b="2"@3"#),
            ("[R]\ra = 1\r", r#"[R] a="1"@2"#),
            ("\u{feff}[R]\na = 1", r#"[R] a="1"@2"#),
            ("; c\n# c\n\n[R]\n  ; c\n\t# c\na=1", r#"[R] a="1"@7"#),
            // No comment inside a line, no quoting, no escape.
            ("[R]\na = 1 ; c\nb = 2 # c", r#"[R] a="1 ; c"@2 b="2 # c"@3"#),
            ("[R]\na = \"x\"\nb = 'y'", r#"[R] a="\"x\""@2 b="'y'"@3"#),
            ("[R]\na = x\\\nb = \\n\\", r#"[R] a="x\\"@2 b="\\n\\"@3"#),
            ("[R]\na = x\\\r\nb = y\r\n", r#"[R] a="x\\"@2 b="y"@3"#),
            ("[R]\na = ;x\nb = [y]\nc = =", r#"[R] a=";x"@2 b="[y]"@3 c="="@4"#),
            // Continuation: deeper than the option, past blank lines and comments, whatever it
            // looks like.
            ("[R]\na = 1\n  2\n\t3", r#"[R] a="1\n2\n3"@2"#),
            ("[R]\na =\n  1\n\n  2\nb=3", r#"[R] a="1\n\n2"@2 b="3"@6"#),
            ("[R]\na = 1\n; c\n  2\n  # c\n 3", r#"[R] a="1\n2\n3"@2"#),
            ("[R]\na = 1\n [S]\n b = 2", r#"[R] a="1\n[S]\nb = 2"@2"#),
            ("[R]\na = 1\\\n 2\\", r#"[R] a="1\\\n2\\"@2"#),
            // Indented as a whole it is no continuation.
            ("[R]\n  a = 1\n  b = 2\n [S]\nc=3", r#"[R] a="1"@2 b="2"@3 [S] c="3"@5"#),
            ("  [R]\n  a = 1", r#"[R] a="1"@2"#),
            ("[R]\n\ta b = 1\n", r#"[R] a b="1"@2"#),
            ("[R]\nlog-level = 1", r#"[R] log_level="1"@2"#),
            ("[R] ; c\na=1\n[S]#c\n[T]", r#"[R] a="1"@2 [S] [T]"#),
            ("[ R ]\n", "[ R ]"),
            ("[R]\na =\nb:", r#"[R] a=""@2 b=""@3"#),
            ("[R]\nä = ö", r#"[R] ä="ö"@2"#),
            (
                "[DEFAULT]\na=1\n[R]\nb=2\n[DEFAULT]\nc=3",
                r#"[DEFAULT] a="1"@2 c="3"@6 [R] b="2"@4"#,
            ),
            // Percent signs.
            ("[R]\na = 1%%2%%%%3\nb = 1%2%", r#"[R] a="1%2%%3"@2 b="1%2%"@3"#),
            ("[R]\na = %%%", r#"[R] a="%%"@2"#),
            // Users.
            ("[Memory]\nsip:a-b@c = x:y=z", r#"[Memory] sip:a-b@c="x:y=z"@2"#),
            ("[Memory]\na\\@b = c\\", r#"[Memory] a\@b="c\\"@2"#),
            ("", ""),
            ("\n\n", ""),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn finds_the_lines_that_are_wrong() {
        let table = [
            ("a = 1\nb = 2\n[R]\nc=3", r#"[R] c="3"@4 !1"#),
            ("[R]\nnonsense\na=1", r#"[R] a="1"@3 !2"#),
            ("[R]\n= 1\n: 2", "[R] !2 !3"),
            ("[R]\na=1\n[S\nb=2\n[T]\nc=3", r#"[R] a="1"@2 [T] c="3"@6 !3"#),
            ("[]\na=1", "!1"),
            ("[R] junk\na=1", "!1"),
            ("[R]\na=1\na=2", r#"[R] a="1"@2 !3"#),
            ("[R]\na-b=1\na_b=2", r#"[R] a_b="1"@2 !3"#),
            ("[R]\na=1\n[S]\n[R]\nb=2\na=3", r#"[R] a="1"@2 b="2"@5 [S] !4 !6"#),
            ("[DEFAULT]\na=1\n[DEFAULT]\na=2", r#"[DEFAULT] a="1"@2 !4"#),
            ("[Memory]\na@b: c\nd@e=f", r#"[Memory] d@e="f"@3 !2"#),
            ("[Memory]\na-b@c=1\na_b@c=2", r#"[Memory] a-b@c="1"@2 a_b@c="2"@3"#),
            ("[Memory]\na@c=1\na@c=2", r#"[Memory] a@c="1"@2 !3"#),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn warns_once_of_what_1_x_wrote_or_hardly_meant() {
        let text = "[Relay]\na = 1%%\nb = 2%%\nc = %(a)s\nd = %%(a)s\ncertificate = x\n  key = y";
        let lines: Vec<usize> =
            Document::read(text, SECTIONS).warnings.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [7, 2, 4]);
    }

    /// Pieces that files are made of, so that random ones mean something.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("\n"),
            Just("\r\n"),
            Just("\r"),
            Just("[R]"),
            Just("[Memory]"),
            Just("["),
            Just("]"),
            Just("="),
            Just(":"),
            Just(" "),
            Just("\t"),
            Just(";"),
            Just("#"),
            Just("\\"),
            Just("\""),
            Just("%"),
            Just("a"),
            Just("b@c"),
            Just("\u{feff}"),
            Just("\u{b}"),
            Just("ä"),
            Just("\u{2028}"),
            Just("\0"),
            Just("-"),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// No assignment is lost or made up between our lines and rust-ini's values.
        #[test]
        fn no_assignment_is_lost(text in prop_oneof![pieces(), any::<String>()]) {
            let mut outline = Outline::new(SECTIONS);
            let text = text.replace('\r', "\n");
            for (index, line) in text.split('\n').enumerate() {
                outline.line(index + 1, line);
            }
            let assigned = outline.names.len();
            let document = outline.finish();
            let entered: usize = document.sections.iter().map(|section| section.entries.len()).sum();
            let count = |wanted: fn(&Problem) -> bool| {
                document.mistakes.iter().filter(|mistake| wanted(&mistake.problem)).count()
            };
            let twice = count(|problem| matches!(problem, Problem::DuplicateOption { .. }));
            prop_assert_eq!(entered + twice, assigned);
            prop_assert_eq!(count(|problem| matches!(problem, Problem::Syntax(_))), 0);
        }

        /// A value comes out as it was written, but for blanks at its ends.
        #[test]
        fn a_value_is_literal(value in "[^\r\n%]*") {
            let document = Document::read(&format!("[R]\na = {value}\nb = 1"), SECTIONS);
            let entry = document.section("R").and_then(|section| section.entry("a"));
            prop_assert_eq!(entry.map(|entry| entry.value.as_str()), Some(value.trim()));
        }
    }
}
