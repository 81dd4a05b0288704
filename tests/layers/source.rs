//! The sources as text: files, and the tokens in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file of the library or of a program.
pub(crate) struct Source {
    /// From the root of the repository, with `/` between the parts.
    pub(crate) path: String,
    pub(crate) tokens: Vec<Token>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), tokens: tokens(text) }
    }

    /// `["msrp", "uri"]` for `src/msrp/uri.rs`; empty for the root of the library and for programs.
    pub(crate) fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        if path.starts_with("bin/") || path == "lib" || path == "main" {
            return Vec::new();
        }
        path.trim_end_matches("/mod").split('/').map(str::to_owned).collect()
    }

    pub(crate) fn is_test(&self) -> bool {
        is_test_file(&self.path)
    }

    pub(crate) fn room(&self) -> Option<String> {
        self.module().first().cloned()
    }

    /// The directory of the crate that this file is a part of, or the file that is a crate alone.
    pub(crate) fn root(&self) -> String {
        let parts: Vec<&str> = self.path.split('/').collect();
        let length = match parts.as_slice() {
            ["src", "main.rs"] => 2,
            ["src", "bin", ..] => 3,
            ["src", ..] => 1,
            _ => 2,
        };
        parts[..length].join("/")
    }

    /// The path of this file's module in its crate: empty for the root.
    pub(crate) fn module_path(&self) -> Vec<String> {
        let path = self.path.trim_start_matches(&self.root()).trim_end_matches(".rs");
        let path = path.trim_end_matches("/mod");
        if matches!(path, "/main" | "/lib") {
            return Vec::new();
        }
        path.split('/').skip(1).map(str::to_owned).collect()
    }

    pub(crate) fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| token.text.as_str())
    }

    /// Where the unit tests at the bottom begin.
    pub(crate) fn tests_begin(&self) -> usize {
        (0..self.tokens.len())
            .find(|&index| {
                ["#", "[", "cfg", "(", "test", ")", "]", "mod"]
                    .iter()
                    .enumerate()
                    .all(|(offset, expected)| self.text(index + offset) == *expected)
            })
            .unwrap_or(self.tokens.len())
    }

    pub(crate) fn offence(&self, index: usize, what: &str) -> String {
        let line = self.tokens.get(index).map_or(0, |token| token.line);
        format!("{}:{line}: {what}", self.path)
    }

    /// What this file names at the root of the crate, by `crate::` or `super::`, and where.
    pub(crate) fn names_at_root(&self) -> Vec<(usize, String)> {
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

/// Whether a file of a room holds its unit tests.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The files below a directory of the repository.
pub(crate) fn sources(directory: &str) -> Vec<Source> {
    let root = root();
    rust_files(&root.join(directory))
        .iter()
        .map(|file| {
            let path = file.strip_prefix(&root).expect("a file of ours");
            let path = path.to_string_lossy().replace('\\', "/");
            Source::new(&path, &fs::read_to_string(file).expect("a source"))
        })
        .collect()
}

pub(crate) fn rust_files(directory: &Path) -> Vec<PathBuf> {
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
pub(crate) fn tokens(text: &str) -> Vec<Token> {
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
