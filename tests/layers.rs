//! Rules that the compiler does not check: which room imports which, where tasks are spawned, which
//! code knows tokio; that each row of `docs/requirements.md` has a test or a reason, and that rows
//! and documents that are cited exist.
//!
//! Each rule reads the sources as text, names the offending line, and is itself tested on samples.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The rooms by level; a room imports only from levels below its own, but for the last, whose
/// members may know each other. A room that stands in no row is on top.
const LEVELS: [&[&str]; 4] = [
    &["msrp", "tls", "config", "clock"],
    &["session", "auth", "transport", "logging"],
    &["relay"],
    &["control", "client", "cli"],
];

/// Pure code: bytes in, bytes out, the time passed in.
const WITHOUT_TOKIO: [&str; 3] = ["src/msrp", "src/session", "src/auth/challenger.rs"];

/// The rooms that live: only they start tasks.
const SPAWNING: [&str; 3] = ["relay", "control", "client"];

/// Starts one thread, which is no task: it writes the log, and may wait as long as it likes.
const WITH_A_THREAD: &str = "src/logging/mod.rs";

#[test]
fn rooms_import_from_the_levels_below_and_never_sideways() {
    let sources = sources();
    let rooms: BTreeSet<String> = sources.iter().filter_map(Source::room).collect();
    let offences: Vec<String> =
        sources.iter().flat_map(|source| import_offences(source, &rooms)).collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn the_pure_rooms_do_not_know_tokio() {
    let offences: Vec<String> = sources().iter().flat_map(tokio_offences).collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn tasks_are_spawned_in_relay_control_and_client_only() {
    let offences: Vec<String> = sources().iter().flat_map(spawn_offences).collect();
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn each_row_of_the_requirements_has_a_test_or_a_reason() {
    let requirements = read("docs/requirements.md");
    let demanded = requirements.split("## Rows without this demand").next().expect("a beginning");
    let demanded = row_ids(demanded);
    assert!(demanded.len() > 100, "the list of rows is cut short");
    let reasons = read("tests/README.md");
    let names = test_names("tests/wire");
    let forgotten: Vec<&String> = demanded
        .iter()
        .filter(|row| !names.iter().any(|name| names_row(name, row)) && !has_reason(&reasons, row))
        .collect();
    assert!(forgotten.is_empty(), "neither test nor reason: {forgotten:?}");
}

#[test]
fn each_row_that_a_test_cites_is_in_the_documents() {
    let requirements = row_ids(&read("docs/requirements.md"));
    let threats = row_ids(&read("docs/threats.md"));
    let names: Vec<String> = ["src", "tests"].into_iter().flat_map(test_names).collect();
    let unknown: Vec<&String> = names
        .iter()
        .filter(|name| {
            cites_unknown(name, 'r', 4, &requirements) || cites_unknown(name, 's', 2, &threats)
        })
        .collect();
    assert!(
        unknown.is_empty(),
        "no such row in docs/requirements.md or docs/threats.md: {unknown:?}"
    );
}

/// Documents that sources still cite by the name they had before they were in the repository.
const OLD_NAMES: [&str; 2] = ["original.md", "users-and-threats.md"];

#[test]
fn each_document_that_a_source_cites_is_there() {
    let root = root();
    let mut missing = Vec::new();
    for directory in ["src", "tests", "benches", "tools"] {
        for file in rust_files(&root.join(directory)) {
            let text = fs::read_to_string(&file).expect("a source");
            for document in documents(&text) {
                let is_there =
                    root.join(&document).exists() || root.join("docs").join(&document).exists();
                if !is_there && !OLD_NAMES.contains(&document.as_str()) {
                    missing.push(format!("{}: {document}", file.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "cited, but not in the repository: {missing:#?}");
}

/// One file of the library or of a program.
struct Source {
    /// From the root of the repository, with `/` between the parts.
    path: String,
    tokens: Vec<Token>,
}

#[derive(Debug, PartialEq)]
struct Token {
    line: usize,
    text: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), tokens: tokens(text) }
    }

    /// `["msrp", "uri"]` for `src/msrp/uri.rs`; empty for the root of the library and for programs.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        if path.starts_with("bin/") || path == "lib" || path == "main" {
            return Vec::new();
        }
        path.trim_end_matches("/mod").split('/').map(str::to_owned).collect()
    }

    fn room(&self) -> Option<String> {
        self.module().first().cloned()
    }

    fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| token.text.as_str())
    }

    /// Where the unit tests at the bottom begin.
    fn tests_begin(&self) -> usize {
        (0..self.tokens.len())
            .find(|&index| {
                ["#", "[", "cfg", "(", "test", ")", "]", "mod"]
                    .iter()
                    .enumerate()
                    .all(|(offset, expected)| self.text(index + offset) == *expected)
            })
            .unwrap_or(self.tokens.len())
    }

    fn offence(&self, index: usize, what: &str) -> String {
        let line = self.tokens.get(index).map_or(0, |token| token.line);
        format!("{}:{line}: {what}", self.path)
    }

    /// What this file names at the root of the crate, by `crate::` or `super::`, and where.
    fn names_at_root(&self) -> Vec<(usize, String)> {
        let mut names = Vec::new();
        // For each open brace, whether it is that of an inline module.
        let mut braces: Vec<bool> = Vec::new();
        let mut index = 0;
        while index < self.tokens.len() {
            match self.text(index) {
                "{" => braces.push(index >= 2 && self.text(index - 2) == "mod"),
                "}" => {
                    braces.pop();
                }
                "crate" if self.text(index + 1) == "::" => {
                    names.extend(self.first_names(index + 2));
                }
                "super" if self.text(index + 1) == "::" && !self.continues_a_path(index) => {
                    let inline = braces.iter().filter(|&&module| module).count();
                    let mut depth = self.module().len() + inline;
                    while self.text(index) == "super" && self.text(index + 1) == "::" {
                        depth = depth.saturating_sub(1);
                        index += 2;
                    }
                    if depth == 0 {
                        names.extend(self.first_names(index));
                    }
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
        names
    }

    fn continues_a_path(&self, index: usize) -> bool {
        index > 0 && self.text(index - 1) == "::"
    }

    /// The name at `index`, or those that begin the branches of the group there.
    fn first_names(&self, index: usize) -> Vec<(usize, String)> {
        if self.text(index) != "{" {
            return vec![(index, self.text(index).to_owned())];
        }
        let mut names = Vec::new();
        let (mut depth, mut at) = (0_usize, index);
        loop {
            match self.text(at) {
                "{" => depth += 1,
                "}" => depth -= 1,
                "" => return names,
                _ => {}
            }
            if depth == 0 {
                return names;
            }
            let begins = matches!(self.text(at), "{" | ",");
            if depth == 1 && begins && !matches!(self.text(at + 1), "}" | "self") {
                names.push((at + 1, self.text(at + 1).to_owned()));
            }
            at += 1;
        }
    }
}

fn import_offences(source: &Source, rooms: &BTreeSet<String>) -> Vec<String> {
    let Some(room) = source.room() else {
        return Vec::new();
    };
    source
        .names_at_root()
        .into_iter()
        .filter_map(|(index, name)| {
            let is_constant =
                name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_');
            let what = if rooms.contains(&name) {
                if may_import(&room, &name) {
                    return None;
                }
                format!("{room} (level {}) imports {name}", level(&room))
            } else if is_constant {
                return None;
            } else {
                format!("`{name}` is not a room: import it from where it lives")
            };
            Some(source.offence(index, &what))
        })
        .collect()
}

fn tokio_offences(source: &Source) -> Vec<String> {
    if !WITHOUT_TOKIO.iter().any(|pure| source.path.starts_with(pure)) {
        return Vec::new();
    }
    (0..source.tokens.len())
        .filter(|&index| source.text(index).starts_with("tokio"))
        .map(|index| source.offence(index, "tokio in a pure room"))
        .collect()
}

fn spawn_offences(source: &Source) -> Vec<String> {
    if source.room().is_some_and(|room| SPAWNING.contains(&room.as_str())) {
        return Vec::new();
    }
    let ours = source.path == WITH_A_THREAD;
    (0..source.tests_begin())
        .filter(|&index| source.text(index).starts_with("spawn") || source.text(index) == "JoinSet")
        .skip(usize::from(ours))
        .map(|index| source.offence(index, "a task is spawned outside relay, control and client"))
        .collect()
}

/// From 1; what stands in no row is on top.
fn level(room: &str) -> usize {
    LEVELS
        .iter()
        .position(|level| level.contains(&room))
        .map_or(LEVELS.len() + 1, |index| index + 1)
}

fn may_import(from: &str, to: &str) -> bool {
    let top = LEVELS.len() + 1;
    from == to || level(to) < level(from) || level(from) == top
}

/// The IDs in the first column of the tables: a capital letter and a digit begin each.
fn row_ids(document: &str) -> Vec<String> {
    let cells = document.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells
        .filter(|cell| {
            let mut letters = cell.chars();
            letters.next().is_some_and(|letter| letter.is_ascii_uppercase())
                && letters.next().is_some_and(|digit| digit.is_ascii_digit())
        })
        .map(str::to_owned)
        .collect()
}

/// A test has the IDs of its rows in its name: `r4975_7_1_05` for R4975-7.1-05, not a part of it.
fn names_row(function: &str, row: &str) -> bool {
    format!("_{function}_").contains(&format!("_{}_", in_names(row)))
}

fn in_names(row: &str) -> String {
    row.to_lowercase().replace(['-', '.'], "_")
}

/// Whether a part of the name looks like an ID, of this letter and at most so many digits, and is
/// that of no row and of no section with rows.
fn cites_unknown(function: &str, letter: char, digits: usize, rows: &[String]) -> bool {
    let mut rest = function;
    loop {
        let part = rest.split('_').next().unwrap_or_default();
        let number = part.strip_prefix(letter).unwrap_or_default();
        let is_id = !number.is_empty()
            && number.len() <= digits
            && (letter != 'r' || number.len() == digits)
            && number.bytes().all(|digit| digit.is_ascii_digit());
        // `s08` is S8.
        let id = format!("{letter}{}{}", number.trim_start_matches('0'), &rest[part.len()..]);
        if is_id && !rows.iter().any(|row| begins_with(&id, &in_names(row))) {
            return true;
        }
        let Some(next) = rest.get(part.len() + 1..) else {
            return false;
        };
        rest = next;
    }
}

/// Whether a name begins with the ID of a row, or with that of its section and no number.
fn begins_with(name: &str, row: &str) -> bool {
    let after =
        |start: &str| format!("{name}_").strip_prefix(&format!("{start}_")).map(str::to_owned);
    let section = row.rsplit_once('_').and_then(|(section, _)| after(section));
    after(row).is_some()
        || section.is_some_and(|rest| {
            let number = rest.split('_').next().unwrap_or_default();
            !(number.len() == 2 && number.bytes().all(|digit| digit.is_ascii_digit()))
        })
}

/// Names of documents between backticks: ``design.md``, ``docs/behaviour.md``.
fn documents(source: &str) -> Vec<String> {
    source
        .lines()
        .filter(|line| line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|name| !name.contains(char::is_whitespace))
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"))
        .map(str::to_owned)
        .collect()
}

/// The row is in the first column of a table of the README, and a reason in the second.
fn has_reason(readme: &str, row: &str) -> bool {
    readme.lines().any(|line| {
        let mut cells = line.trim().trim_start_matches('|').split('|');
        let rows = cells.next().unwrap_or_default();
        let reason = cells.next().unwrap_or_default().trim();
        !reason.is_empty() && rows.split([',', ' ']).any(|name| name == row)
    })
}

fn functions(text: &str) -> Vec<String> {
    tokens(text)
        .windows(2)
        .filter(|pair| pair[0].text == "fn")
        .map(|pair| pair[1].text.clone())
        .collect()
}

/// The functions in the files below a directory of the repository.
fn test_names(directory: &str) -> Vec<String> {
    rust_files(&root().join(directory))
        .iter()
        .flat_map(|file| functions(&fs::read_to_string(file).expect("a source")))
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let root = root();
    rust_files(&root.join("src"))
        .iter()
        .map(|file| {
            let path = file.strip_prefix(&root).expect("a file of ours");
            let path = path.to_string_lossy().replace('\\', "/");
            Source::new(&path, &fs::read_to_string(file).expect("a source"))
        })
        .collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Names, `::` and single signs, with their lines; comments and literals are left out.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest)
            .or_else(|| {
                let name =
                    rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                let length = if name > 0 {
                    name
                } else if rest.starts_with("::") {
                    2
                } else {
                    first.len_utf8()
                };
                if !first.is_whitespace() {
                    tokens.push(Token { line, text: rest[..length].to_owned() });
                }
                Some(length)
            })
            .unwrap_or(1);
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment or literal that `rest` begins with.
fn skipped(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    let after = &rest[prefix..];
    if prefix <= 2 && rest[..prefix].contains('r') && after.starts_with(['"', '#']) {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let body = prefix + hashes + 1;
            return Some(
                rest[body..].find(&close).map_or(rest.len(), |end| body + end + close.len()),
            );
        }
    }
    if prefix <= 1 && after.starts_with('"') {
        return Some(prefix + quoted(after, '"'));
    }
    let mut letters = after.chars().skip(1);
    let is_character =
        after.starts_with('\'') && (letters.next() == Some('\\') || letters.next() == Some('\''));
    (prefix <= 1 && is_character).then(|| prefix + quoted(after, '\''))
}

fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (index, letter) in text.char_indices().skip(1) {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return index + 1,
            _ => {}
        }
    }
    text.len()
}

mod tests {
    use super::*;

    fn offences(path: &str, text: &str) -> Vec<String> {
        let rooms = ["msrp", "config", "session", "auth", "relay", "control", "daemon"];
        let rooms = rooms.iter().map(ToString::to_string).collect();
        import_offences(&Source::new(path, text), &rooms)
    }

    #[test]
    fn imports_downwards_and_within_a_room_pass() {
        for (path, text) in [
            ("src/session/mod.rs", "use crate::msrp::{uri::Uri, Head};"),
            ("src/session/outbox.rs", "use super::Leg; use crate::{config::Limits, msrp::*};"),
            ("src/relay/bridge.rs", "use crate::{auth, session::{self, Leg}, config};"),
            ("src/daemon.rs", "use crate::relay::run; use crate::control;"),
            (
                "src/msrp/uri.rs",
                "pub(crate) fn x() {} // crate::relay\nconst S: &str = \"crate::relay\";",
            ),
            (
                "src/msrp/uri.rs",
                "fn f<'a>(x: &'a str) -> char { '\"' }\nmod tests { use super::*; }",
            ),
            ("src/lib.rs", "pub use crate::relay::run;"),
            ("src/msrp/mod.rs", "const V: &str = crate::VERSION;"),
        ] {
            assert_eq!(offences(path, text), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn imports_upwards_and_sideways_are_found_with_their_line() {
        for (path, text, expected) in [
            (
                "src/msrp/uri.rs",
                "\nuse crate::session::Leg;",
                "src/msrp/uri.rs:2: msrp (level 1) imports session",
            ),
            (
                "src/msrp/mod.rs",
                "use super::config;",
                "src/msrp/mod.rs:1: msrp (level 1) imports config",
            ),
            (
                "src/session/mod.rs",
                "use crate::{\n    msrp,\n    auth::Backend,\n};",
                "src/session/mod.rs:3: session (level 2) imports auth",
            ),
            (
                "src/auth/memory.rs",
                "fn f() { super::super::session::go() }",
                "src/auth/memory.rs:1: auth (level 2) imports session",
            ),
            (
                "src/auth.rs",
                "mod tests { use super::super::relay; }",
                "src/auth.rs:1: auth (level 2) imports relay",
            ),
            (
                "src/relay/mod.rs",
                "use crate::control::x;",
                "src/relay/mod.rs:1: relay (level 3) imports control",
            ),
            (
                "src/control.rs",
                "use crate::daemon::x;",
                "src/control.rs:1: control (level 4) imports daemon",
            ),
            (
                "src/msrp/mod.rs",
                "use crate::Leg;",
                "src/msrp/mod.rs:1: `Leg` is not a room: import it from where it lives",
            ),
        ] {
            assert_eq!(offences(path, text), [expected], "{text}");
        }
    }

    #[test]
    fn tokio_and_spawning_are_found_where_they_do_not_belong() {
        let pure = Source::new("src/session/mod.rs", "use std;\nuse tokio::time;");
        assert_eq!(tokio_offences(&pure), ["src/session/mod.rs:2: tokio in a pure room"]);
        assert!(tokio_offences(&Source::new("src/auth/mod.rs", "use tokio::time;")).is_empty());
        let text = "fn f() { tokio::spawn(x) }\n#[cfg(test)]\nmod tests { fn g() { spawn(y) } }";
        assert_eq!(spawn_offences(&Source::new("src/auth/mod.rs", text)).len(), 1);
        assert!(spawn_offences(&Source::new("src/relay/mod.rs", text)).is_empty());
        let two = text.replacen('x', "spawn", 1);
        assert_eq!(spawn_offences(&Source::new(WITH_A_THREAD, &two)).len(), 1);
    }

    #[test]
    fn a_row_is_named_whole() {
        assert!(names_row("r4975_7_1_05_the_crlf", "R4975-7.1-05"));
        assert!(names_row("r1_1_r4976_a_01", "R4976-A-01"));
        assert!(!names_row("r4975_7_1_1_05_other", "R4975-7.1-05"));
        assert!(!names_row("r4975_7_1_055", "R4975-7.1-05"));
        assert!(has_reason("| R4975-7.1-05, R4976-1-03 | because |", "R4976-1-03"));
        assert!(!has_reason("| R4976-1-03 | |", "R4976-1-03"));
        assert!(!has_reason("R4976-1-03", "R4976-1-03"));
    }

    #[test]
    fn rows_are_read_from_tables_and_citations_of_other_rows_are_found() {
        let rows = row_ids("| row | rule |\n|---|---|\n| R4976-A-01 | x |\n| S8 | y |\nR4975-9-01");
        assert_eq!(rows, ["R4976-A-01", "S8"]);
        for known in ["r4976_a_01", "x_r4976_a_01_y", "relay_4976", "r4976x_1"] {
            assert!(!cites_unknown(known, 'r', 4, &rows), "{known}");
        }
        assert!(!cites_unknown("r4976_a_section", 'r', 4, &rows));
        for unknown in ["r4976_b_01", "r4976_a_02_x", "r4976", "x_r4976_a_01_r4975_9_01"] {
            assert!(cites_unknown(unknown, 'r', 4, &rows), "{unknown}");
        }
        for known in ["s8_x", "s08", "x_s8", "s_8", "sends_8", "s123_x"] {
            assert!(!cites_unknown(known, 's', 2, &rows), "{known}");
        }
        assert!(cites_unknown("x_s9_y", 's', 2, &rows) && cites_unknown("s80", 's', 2, &rows));
    }

    #[test]
    fn documents_are_cited_between_backticks_in_comments() {
        let text = "//! See `a.md` and `docs/b.md`, not `c` d.md.\nlet x = \"`e.md`\";";
        assert_eq!(documents(text), ["a.md", "docs/b.md"]);
    }
}
