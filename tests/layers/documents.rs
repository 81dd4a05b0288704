//! The documents that comments cite.

use std::{fs, path::Path};

use crate::source::{root, rust_files};

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
                if !is_there {
                    missing.push(format!("{}: {document}", file.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "cited, but not in the repository: {missing:#?}");
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

mod tests {
    use super::*;

    #[test]
    fn documents_are_cited_between_backticks_in_comments() {
        let text = "//! See `a.md` and `docs/b.md`, not `c` d.md.\nlet x = \"`e.md`\";";
        assert_eq!(documents(text), ["a.md", "docs/b.md"]);
    }
}
