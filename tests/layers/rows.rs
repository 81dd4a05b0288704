//! The rows of the requirements and of the threats: each has its test, and no test cites another.

use std::fs;

use crate::source::{read, root, rust_files, tokens};

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

mod tests {
    use super::*;

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
}
