//! The rules of the house that a compiler does not check: who may import whom, where tasks are
//! spawned, who knows of tokio; and that each row of the requirements has a test or a reason.
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
    let tests = root().join("tests");
    let rows = fs::read_to_string(tests.join("matrix-rows.txt")).expect("the rows");
    let reasons = fs::read_to_string(tests.join("README.md")).expect("the reasons");
    let names: Vec<String> = rust_files(&tests.join("wire"))
        .iter()
        .flat_map(|file| functions(&fs::read_to_string(file).expect("a source")))
        .collect();
    let rows: Vec<&str> =
        rows.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(rows.len() > 100, "the list of rows is cut short");
    let forgotten: Vec<&str> = rows
        .into_iter()
        .filter(|row| !names.iter().any(|name| names_row(name, row)) && !has_reason(&reasons, row))
        .collect();
    assert!(forgotten.is_empty(), "neither test nor reason: {forgotten:?}");
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
    (0..source.tests_begin())
        .filter(|&index| source.text(index).starts_with("spawn") || source.text(index) == "JoinSet")
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

/// A row's ID is in the name of its test: `r4975_7_1_05` for R4975-7.1-05, whole.
fn names_row(function: &str, row: &str) -> bool {
    let id = row.to_lowercase().replace(['-', '.'], "_");
    format!("_{function}_").contains(&format!("_{id}_"))
}

/// In the table of the README, in the first column.
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
}
