//! The form of a table of options. The rooms that act on the options fill the tables. Reading, the
//! suggestion for a misspelled name, the list of options that have no effect yet,
//! `config.ini.sample` and the manual page all follow from the tables.

/// The section that supplies values to the others.
pub(super) const DEFAULT: &str = "DEFAULT";

/// One option of the configuration file, written as a row of `options!`.
#[derive(Debug, Clone, Copy)]
#[must_use = "a row is for a table"]
pub struct ConfigOption {
    /// Name, with underscores.
    pub name: &'static str,
    /// The default, as it would be written in the file. Empty if it cannot be written.
    pub default: &'static str,
    accepted: &'static str,
    doc: &'static str,
    /// Whether this release acts on it. If not, it is only read and checked.
    pub in_force: bool,
    /// Whether its value may hold a password and must never be shown.
    pub secret: bool,
    /// Whether an empty value is one. Otherwise it means that the option is not set.
    pub may_be_empty: bool,
    /// The value that the sample sets for a new installation.
    pub sample: Option<&'static str>,
    /// The option that it follows in the sample, if that is not the one above it in its table.
    after: Option<&'static str>,
    /// What replaces `{names}` in the texts.
    names: Option<fn() -> String>,
}

impl ConfigOption {
    /// A row without flags; the methods below are the flags.
    pub const fn new(
        name: &'static str,
        default: &'static str,
        accepted: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            name,
            default,
            accepted,
            doc,
            in_force: true,
            secret: false,
            may_be_empty: false,
            sample: None,
            after: None,
            names: None,
        }
    }

    /// Read and checked, but of no effect in this release.
    pub const fn later(self) -> Self {
        Self { in_force: false, ..self }
    }

    /// The value may hold a password.
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// An empty value is a value.
    pub const fn may_be_empty(self) -> Self {
        Self { may_be_empty: true, ..self }
    }

    /// The sample sets this value.
    pub const fn sample(self, value: &'static str) -> Self {
        Self { sample: Some(value), ..self }
    }

    /// In the sample and the manual it follows the option of that name. The rows behind it in its
    /// table follow it there.
    pub const fn after(self, name: &'static str) -> Self {
        Self { after: Some(name), ..self }
    }

    /// `{names}` in the texts stands for these names.
    pub const fn names(self, names: fn() -> String) -> Self {
        Self { names: Some(names), ..self }
    }

    /// What is accepted, for the message about a value that is not.
    pub fn accepted(&self) -> String {
        self.whole(self.accepted)
    }

    /// What it does, for operators, and whether it has an effect in this release.
    pub fn explanation(&self) -> String {
        let doc = self.whole(self.doc);
        if self.in_force { doc } else { format!("{doc} (Not in force in this release.)") }
    }

    fn whole(&self, text: &'static str) -> String {
        match self.names {
            Some(names) => text.replace("{names}", &names()),
            None => text.to_owned(),
        }
    }
}

/// A group of options: a struct with a field for each row, the table of the rows, and the reading
/// of the fields. An option is one row here and its use, nothing else.
///
/// ```text
/// options! {
///     /// What the group is about.
///     pub struct Group {
///         field: Type = "default", parser, "accepted is ...", "What it does.";
///         field: Type, parser, "accepted is ...", "What it does." .later();
///     }
/// }
/// ```
///
/// The parser turns the text of a value into the type of the field. It is a `fn(&str) -> Result<_,
/// Refused>` or another [`Parse`](super::values::Parse). If an option without a default is not set,
/// the field has the default of its type, such as `None` or an empty list. Flags may follow: the
/// methods of [`ConfigOption`].
macro_rules! options {
    (
        $(#[$attribute:meta])*
        pub struct $group:ident {
            $(
                $(#[$about:meta])*
                $field:ident : $type:ty $(= $default:literal)?, $parser:expr, $accepted:expr,
                $doc:literal $(. $flag:ident ( $($argument:expr)? ))*;
            )*
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone)]
        #[allow(
            clippy::struct_excessive_bools,
            missing_docs,
            unreachable_pub,
            reason = "each field is an option, which its row explains; a room may keep its group"
        )]
        pub struct $group {
            $( $(#[$about])* pub $field: $type, )*
        }

        #[allow(unreachable_pub, reason = "as the group itself")]
        impl $group {
            /// The rows, in their order.
            pub const TABLE: &'static [$crate::config::ConfigOption] = &[
                $(
                    $crate::config::ConfigOption::new(
                        stringify!($field),
                        concat!($($default)?),
                        $accepted,
                        $doc,
                    ) $(. $flag($($argument)?))*,
                )*
            ];

            /// Reads the options of the group in that section.
            pub fn read(section: &mut $crate::config::SectionReader<'_>) -> Self {
                Self {
                    $(
                        $field: $crate::config::field!(section, $field, $parser $(, $default)?),
                    )*
                }
            }
        }
    };
}

/// The value of one row of `options!`.
macro_rules! field {
    ($section:ident, $field:ident, $parser:expr, $default:literal) => {
        $section.value(stringify!($field), &$parser)
    };
    ($section:ident, $field:ident, $parser:expr) => {
        $section.optional(stringify!($field), &$parser).map(Into::into).unwrap_or_default()
    };
}

pub(crate) use {field, options};

/// A section of the file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Name, without brackets.
    pub name: &'static str,
    /// Its subject, for operators.
    pub doc: &'static str,
    /// What it contains.
    pub contents: Contents,
}

/// What a section contains.
#[derive(Debug, Clone, Copy)]
pub enum Contents {
    /// Options, in groups.
    Options(&'static [&'static [ConfigOption]]),
    /// Entries whose names the operator chooses. They are read literally: only `=` ends a name, and
    /// `[DEFAULT]` does not supply any.
    Entries {
        /// What a message calls an entry. It does not show the name, which may be a secret.
        one: &'static str,
        /// The form of an entry.
        form: &'static str,
        /// An entry for the sample.
        example: &'static str,
        /// Whether a name in a section where it does not belong is probably that of an entry.
        like: fn(&str) -> bool,
    },
}

impl Section {
    /// Its options, in the order of the sample. There are none if it has entries.
    pub fn options(&self) -> Vec<&'static ConfigOption> {
        let Contents::Options(groups) = self.contents else { return Vec::new() };
        // An option that is moved behind another takes along those that follow it in its group.
        let runs: Vec<&[ConfigOption]> = groups
            .iter()
            .flat_map(|group| group.chunk_by(|_, next| next.after.is_none()))
            .collect();
        let moved = |run: &&[ConfigOption]| run.first().is_some_and(|first| first.after.is_some());
        let mut options: Vec<&ConfigOption> =
            runs.iter().filter(|run| !moved(run)).copied().flatten().collect();
        for run in runs.iter().filter(|run| moved(run)).copied() {
            let behind = options.iter().position(|option| run[0].after == Some(option.name));
            let at = behind.map_or(options.len(), |index| index + 1);
            options.splice(at..at, run);
        }
        options
    }

    /// The option of that name.
    pub(super) fn option(&self, name: &str) -> Option<&'static ConfigOption> {
        let Contents::Options(groups) = self.contents else { return None };
        groups.iter().copied().flatten().find(|option| option.name == name)
    }
}

/// The sections that a file may have.
#[derive(Debug, Clone, Copy)]
pub struct Sections<'a>(pub &'a [Section]);

impl<'a> Sections<'a> {
    /// The section of that name.
    pub(super) fn named(self, name: &str) -> Option<&'a Section> {
        self.0.iter().find(|section| section.name == name)
    }

    /// The form of an entry of that section, and what messages call it, if it has entries.
    pub(super) fn entries(self, name: &str) -> Option<(&'static str, &'static str)> {
        match self.named(name)?.contents {
            Contents::Entries { one, form, .. } => Some((form, one)),
            Contents::Options(_) => None,
        }
    }

    /// Whether any section has an option of that name.
    pub(super) fn have_option(self, name: &str) -> bool {
        self.0.iter().any(|section| section.option(name).is_some())
    }

    /// The section whose entries have such names, and their form.
    fn of_entries_like(self, name: &str) -> Option<(&'static str, &'static str)> {
        self.0.iter().find_map(|section| match section.contents {
            Contents::Entries { form, like, .. } if like(name) => Some((section.name, form)),
            _ => None,
        })
    }

    /// A suggestion for an unknown name: the option of the section that may have been meant.
    pub(super) fn meant_option(self, section: &str, name: &str) -> String {
        if let Some((section, form)) = self.of_entries_like(name) {
            return format!("a line {form} belongs to [{section}]");
        }
        if let Some(elsewhere) = self.0.iter().find(|section| section.option(name).is_some()) {
            return format!("it belongs to [{}]", elsewhere.name);
        }
        let searched = self.0.iter().filter(|known| known.name == section || section == DEFAULT);
        let names = searched.flat_map(Section::options).map(|option| option.name);
        nearest(name, names).map_or_else(String::new, |name| format!("did you mean {name}?"))
    }

    /// A suggestion for an unknown name with these entries: the section that may have been meant.
    pub(super) fn meant_section<'e>(
        self,
        name: &str,
        mut entries: impl Iterator<Item = &'e str>,
    ) -> String {
        if let Some((section, form)) = entries.find_map(|entry| self.of_entries_like(entry)) {
            return format!("did you mean [{section}]? Lines {form} belong there");
        }
        let names = self.0.iter().map(|section| section.name).chain([DEFAULT]);
        nearest(name, names).map_or_else(String::new, |name| format!("did you mean [{name}]?"))
    }

    /// The text of `config.ini.sample`.
    pub fn sample(self) -> String {
        let mut sample = String::from(
            "# Configuration of msrprelay. Each option stands here with its default behind a semicolon;\n\
             # remove the semicolon and change the value to set it. \
             After a change: systemctl reload msrprelay\n",
        );
        for section in self.0 {
            sample.extend(["\n\n[", section.name, "]\n"]);
            comment(section.doc, &mut sample);
            if let Contents::Entries { example, .. } = section.contents {
                sample.extend(["\n;", example, "\n"]);
            }
            for option in section.options() {
                sample.push('\n');
                comment(&option.explanation(), &mut sample);
                sample.push_str(format!(";{} = {}", option.name, option.default).trim_end());
                sample.push('\n');
                if let Some(value) = option.sample {
                    sample.extend([option.name, " = ", value, "\n"]);
                }
            }
        }
        sample
    }
}

/// The known name that is most alike. At least half of the letters must be the same.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    const LEAST_LIKENESS: f64 = 0.5;
    // The time of a comparison grows with the product of both lengths, and no option name is
    // longer.
    const LONGEST: usize = 64;

    let name = name.trim().to_lowercase();
    if name.len() > LONGEST {
        return None;
    }
    let likeness = known
        .map(|known| (strsim::normalized_damerau_levenshtein(&name, &known.to_lowercase()), known));
    let best = likeness.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 >= LEAST_LIKENESS).then_some(best.1)
}

/// Writes text as comment lines.
fn comment(text: &str, sample: &mut String) {
    const WIDTH: usize = 98;
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            sample.push_str(&line);
            sample.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    sample.push_str(&line);
    sample.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUPS: &[&[ConfigOption]] = &[
        &[
            ConfigOption::new("address", "", "", ""),
            ConfigOption::new("moved", "", "", "").after("hostname"),
            ConfigOption::new("with_it", "", "", ""),
        ],
        &[ConfigOption::new("hostname", "", "", ""), ConfigOption::new("log_level", "", "", "")],
    ];
    const SECTIONS: Sections<'_> = Sections(&[
        Section { name: "Relay", doc: "", contents: Contents::Options(GROUPS) },
        Section {
            name: "Database",
            doc: "",
            contents: Contents::Options(&[&[
                ConfigOption::new("uri", "", "accepted is {names}", "").names(|| "a".to_owned()),
                ConfigOption::new("username_col", "", "", "One.").later(),
            ]]),
        },
    ]);

    #[test]
    fn options_stand_where_their_rows_say() {
        let names: Vec<&str> = SECTIONS.0[0].options().iter().map(|option| option.name).collect();
        assert_eq!(names, ["address", "hostname", "moved", "with_it", "log_level"]);
        assert_eq!(SECTIONS.0[1].option("uri").unwrap().accepted(), "accepted is a");
        let later = SECTIONS.0[1].option("username_col").unwrap().explanation();
        assert_eq!(later, "One. (Not in force in this release.)");
    }

    #[test]
    fn the_name_that_was_meant() {
        let table = [
            ("Relay", "adress", "did you mean address?"),
            ("Relay", "Hostname", "did you mean hostname?"),
            ("Relay", "uri", "it belongs to [Database]"),
            ("Database", "address", "it belongs to [Relay]"),
            ("Database", "user_col", "did you mean username_col?"),
            ("DEFAULT", "log_levl", "did you mean log_level?"),
            ("Relay", "zzz", ""),
        ];
        for (section, name, expected) in table {
            assert_eq!(SECTIONS.meant_option(section, name), expected, "{name}");
        }
        assert_eq!(SECTIONS.meant_option("Relay", &"a".repeat(1 << 20)), "");
        let table = [
            ("relay", "did you mean [Relay]?"),
            (" Relay ", "did you mean [Relay]?"),
            ("Databse", "did you mean [Database]?"),
            ("SIPThor", ""),
        ];
        for (name, expected) in table {
            assert_eq!(SECTIONS.meant_section(name, std::iter::empty()), expected, "{name}");
        }
    }
}
