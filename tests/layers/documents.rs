//! The documents and files that comments cite.

use std::{fs, path::Path};

use crate::source::{read, root, rust_files};

#[test]
fn each_document_that_a_source_cites_is_there() {
    let root = root();
    let mut missing = Vec::new();
    for directory in ["src", "tests", "benches", "tools"] {
        for file in rust_files(&root.join(directory)) {
            let text = fs::read_to_string(&file).expect("a source");
            for document in documents(&text) {
                let is_there =
                    ["", "docs", "src"].iter().any(|at| root.join(at).join(&document).exists());
                if !is_there {
                    missing.push(format!("{}: {document}", file.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "cited, but not in the repository: {missing:#?}");
}

#[test]
fn each_section_of_the_behaviour_that_is_cited_is_there() {
    let there = headings(&read("docs/behaviour.md"));
    assert!(there.len() > 5, "no sections: {there:?}");
    let root = root();
    let mut missing = Vec::new();
    let mut cited = 0;
    for directory in ["src", "tests", "benches", "tools"] {
        for file in rust_files(&root.join(directory)) {
            for section in behaviours(&fs::read_to_string(&file).expect("a source")) {
                cited += 1;
                if !there.contains(&section) {
                    missing.push(format!("{}: behaviour {section}", file.display()));
                }
            }
        }
    }
    assert!(cited > 5, "citations are not found");
    assert!(missing.is_empty(), "not in docs/behaviour.md: {missing:#?}");
}

/// The numbers of the sections of a document.
fn headings(document: &str) -> Vec<String> {
    let titles = document.lines().filter_map(|line| line.strip_prefix("## ")?.split_once(". "));
    titles.map(|(number, _)| number.to_owned()).collect()
}

/// The sections of `docs/behaviour.md` that comments cite: `behaviour 3`, `Behaviour 4 and 8`.
fn behaviours(source: &str) -> Vec<String> {
    let mut sections = Vec::new();
    for line in source.lines().filter(|line| line.trim_start().starts_with("//")) {
        for after in line.to_lowercase().split("behaviour ").skip(1) {
            let list = after.split([':', ';', '.', ')']).next().unwrap_or_default();
            let words = list.split([' ', ',']).filter(|word| !matches!(*word, "" | "and"));
            let numbers = words.take_while(|word| word.bytes().all(|c| c.is_ascii_digit()));
            sections.extend(numbers.map(str::to_owned));
        }
    }
    sections
}

/// Names of documents and paths of files between backticks: ``README.md``, ``docs/behaviour.md``,
/// ``session/limits.rs``.
fn documents(source: &str) -> Vec<String> {
    source
        .lines()
        .filter(|line| line.trim_start().starts_with("//"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|name| !name.contains(char::is_whitespace))
        .filter(|name| match Path::new(name).extension() {
            Some(extension) if extension == "md" => true,
            Some(extension) => extension == "rs" && name.contains('/'),
            None => false,
        })
        .map(str::to_owned)
        .collect()
}

mod tests {
    use super::*;

    #[test]
    fn documents_are_cited_between_backticks_in_comments() {
        let text =
            "//! See `a.md` and `docs/b.md`, not `c` d.md, `e.rs`; `f/g.rs`.\nlet x = \"`e.md`\";";
        assert_eq!(documents(text), ["a.md", "docs/b.md", "f/g.rs"]);
    }

    #[test]
    fn sections_of_the_behaviour_are_cited_by_number() {
        let text =
            "/// Overruled by behaviour 4 and 9: 481 (behaviour 3).\n// Its behaviour in 2\n1";
        assert_eq!(behaviours(text), ["4", "9", "3"]);
        assert_eq!(headings("# A\n## 1. B\n### 2. C\n## D\n## 10. E"), ["1", "10"]);
    }
}
