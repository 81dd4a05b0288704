//! How long a file may be.

use std::fs;

use crate::source::{root, rust_files};

/// A longer file has more than one subject.
const LINES_MAX: usize = 600;

#[test]
fn no_file_of_code_has_more_than_600_lines() {
    let root = root();
    let files = ["src", "benches", "tools", "tests", "fuzz/fuzz_targets"]
        .into_iter()
        .flat_map(|directory| rust_files(&root.join(directory)))
        .map(|file| {
            let lines = lines(&fs::read_to_string(&file).expect("a source"));
            let path = file.strip_prefix(&root).expect("a file of ours");
            (path.to_string_lossy().into_owned(), lines)
        });
    let (long, short): (Vec<_>, Vec<_>) = files.partition(|(_, lines)| *lines > LINES_MAX);
    assert!(short.len() > 100, "the files are not found");
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {long:?}");
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

mod tests {
    use super::*;

    #[test]
    fn each_line_counts() {
        assert_eq!(lines(&"x\n\n".repeat(300)), LINES_MAX);
        assert_eq!(lines(&format!("{}last", "x\n".repeat(600))), LINES_MAX + 1);
    }
}
