//! No circle of files: no file needs a file that needs it, directly or by way of others.
//!
//! A file needs another one if its code names an item that is declared there. A path is followed to
//! the file that declares its end: through modules, `use` and `pub use`. So `super::Leg` is
//! `side.rs` although `mod.rs` hands it on, and `relay::lobby` alone is nothing: only an item of it
//! counts.
//!
//! - `mod x;` and `pub use` are signposts, not needs. A `pub use` counts once the code of its file
//!   also uses the name.
//! - Tests are exempt, on both sides: `tests.rs`, files below `tests/`, and the unit tests at the
//!   bottom of a file.
//! - What a file reaches without naming its type, a method on a value that it was given, is not
//!   seen. Nor are names by way of `*`, modules with a `#[path]`, and the code of `macro_rules!`,
//!   which is that of the file that calls it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::source::{Source, is_test_file, sources};

#[test]
fn no_file_needs_a_file_that_needs_it() {
    let sources: Vec<Source> = ["src", "benches", "tools"].into_iter().flat_map(sources).collect();
    let needs = needs(&sources);
    assert!(needs.len() > 200, "the paths are not followed: {} needs", needs.len());
    let circles = circles(&needs);
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

/// From a file to another, and the line where the first names something of the second.
type Needs = BTreeMap<(String, String), usize>;

/// A circle through each file that is in one, the shortest; each circle once.
fn circles(needs: &Needs) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for (from, to) in needs.keys() {
        let Some(mut way) = way(needs, to, from) else {
            continue;
        };
        way.rotate_right(1);
        if !seen.insert(way.iter().cloned().collect::<BTreeSet<_>>()) {
            continue;
        }
        let steps = way.iter().zip(way.iter().cycle().skip(1)).map(|(file, next)| {
            format!("{file}:{} needs {next}", needs[&(file.clone(), next.clone())])
        });
        found.push(steps.collect::<Vec<_>>().join(", "));
    }
    found
}

/// The files on the shortest way from one to another.
fn way(needs: &Needs, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![from.to_owned()]]);
    let mut seen = BTreeSet::from([from.to_owned()]);
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        if last == to {
            return Some(way);
        }
        for (_, next) in needs.keys().filter(|(file, _)| file == last) {
            if seen.insert(next.clone()) {
                ways.push_back([way.as_slice(), std::slice::from_ref(next)].concat());
            }
        }
    }
    None
}

fn needs(sources: &[Source]) -> Needs {
    let modules: Modules = sources
        .iter()
        .map(|source| ((source.root(), source.module_path()), Module::new(source)))
        .collect();
    let mut needs = Needs::new();
    for ((root, path), module) in &modules {
        if is_test_file(&module.file) {
            continue;
        }
        for (line, name) in &module.names {
            let target = follow(&modules, root, path, name, 0);
            if let Some(Target::Item(file)) = target
                && file != module.file
                && !is_test_file(&file)
            {
                needs.entry((module.file.clone(), file)).or_insert(*line);
            }
        }
    }
    needs
}

/// By the root of the crate and the path of the module in it.
type Modules = BTreeMap<(String, Vec<String>), Module>;

/// A file as the module that it is.
struct Module {
    file: String,
    /// What its code names, as paths, with their lines.
    names: Vec<(usize, Vec<String>)>,
    /// What its `use` makes known under a name.
    known: BTreeMap<String, Vec<String>>,
    /// The modules whose items are all known, by `*`.
    all_of: Vec<Vec<String>>,
    /// The modules that it declares; those with a `#[path]` are not among the files beside it.
    elsewhere: BTreeSet<String>,
}

#[derive(Debug, PartialEq)]
enum Target {
    Module(Vec<String>),
    /// An item declared in this file.
    Item(String),
}

/// Where a path leads that stands in a module; `None`: out of the crate.
fn follow(
    modules: &Modules,
    root: &str,
    from: &[String],
    name: &[String],
    depth: usize,
) -> Option<Target> {
    let mut at = from.to_vec();
    let mut rest = name;
    // The first name is looked up as the module knows it, unless a keyword says where.
    let mut here = true;
    // Two modules that hand a name on to each other would lead on for ever.
    if depth > 8 {
        return None;
    }
    loop {
        let Some((first, after)) = rest.split_first() else {
            return Some(Target::Module(at));
        };
        match first.as_str() {
            "crate" => at.clear(),
            "super" => {
                at.pop();
            }
            "self" => {}
            _ => {
                let mut child = at.clone();
                child.push(first.clone());
                if modules.contains_key(&(root.to_owned(), child.clone())) {
                    at = child;
                    here = false;
                    rest = after;
                    continue;
                }
                let module = modules.get(&(root.to_owned(), at.clone()))?;
                if module.elsewhere.contains(first) {
                    return None;
                }
                if let Some(path) = module.known.get(first) {
                    match follow(modules, root, &at, path, depth + 1)? {
                        Target::Module(path) => at = path,
                        item @ Target::Item(_) => return Some(item),
                    }
                } else if here {
                    // Of this file, of a `*`, of the prelude or of another crate.
                    return None;
                } else {
                    let handed_on = module.all_of.iter().find_map(|path| {
                        let path = [path.as_slice(), rest].concat();
                        follow(modules, root, &at, &path, depth + 1)
                    });
                    return handed_on.or_else(|| Some(Target::Item(module.file.clone())));
                }
            }
        }
        here = false;
        rest = after;
    }
}

impl Module {
    fn new(source: &Source) -> Self {
        let mut module = Self {
            file: source.path.clone(),
            names: Vec::new(),
            known: BTreeMap::new(),
            all_of: Vec::new(),
            elsewhere: BTreeSet::new(),
        };
        let mut handed_on = BTreeSet::new();
        let mut single = Vec::new();
        let end = source.tests_begin();
        // For each open brace, whether it is that of a module in the file.
        let mut braces: Vec<bool> = Vec::new();
        let mut index = 0;
        while index < end {
            let line = source.tokens[index].line;
            match source.text(index) {
                "use" => {
                    let public = matches!(source.text(index.wrapping_sub(1)), "pub" | ")");
                    let mut branches = Vec::new();
                    index = branches_of(source, index + 1, &[], &mut branches);
                    for (path, alias) in branches {
                        let inner = braces.iter().filter(|&&module| module).count();
                        let path = outwards(path, inner);
                        if alias == "*" {
                            module.names.push((line, path.clone()));
                            module.all_of.push(path);
                            continue;
                        }
                        if public {
                            handed_on.insert(alias.clone());
                        } else {
                            module.names.push((line, path.clone()));
                        }
                        module.known.insert(alias, path);
                    }
                    continue;
                }
                // The code of a macro is that of the file which calls it.
                "macro_rules" => index = end_of_macro(source, index),
                "mod" if source.text(index + 2) == ";" => {
                    module.elsewhere.insert(source.text(index + 1).to_owned());
                }
                "{" => braces.push(index >= 2 && source.text(index - 2) == "mod"),
                "}" => {
                    braces.pop();
                }
                name if is_name(name)
                    && !matches!(source.text(index.wrapping_sub(1)), "::" | ".") =>
                {
                    let mut path = vec![name.to_owned()];
                    while source.text(index + 1) == "::" && is_name(source.text(index + 2)) {
                        path.push(source.text(index + 2).to_owned());
                        index += 2;
                    }
                    let inner = braces.iter().filter(|&&module| module).count();
                    match path.as_slice() {
                        [name] => single.push((line, name.clone())),
                        _ => module.names.push((line, outwards(path, inner))),
                    }
                }
                _ => {}
            }
            index += 1;
        }
        single.retain(|(_, name)| handed_on.contains(name));
        module.names.extend(single.into_iter().map(|(line, name)| (line, vec![name])));
        module
    }
}

/// The last brace of the macro that is declared at `index`.
fn end_of_macro(source: &Source, mut index: usize) -> usize {
    let mut depth = 0_usize;
    loop {
        match source.text(index) {
            "{" => depth += 1,
            "}" if depth == 1 => return index,
            "}" => depth -= 1,
            "" => return index,
            _ => {}
        }
        index += 1;
    }
}

/// A path in a module in the file, as it reads at the top of the file.
fn outwards(mut path: Vec<String>, inner: usize) -> Vec<String> {
    for _ in 0..inner {
        if path.first().is_some_and(|first| first == "super") {
            path.remove(0);
        }
    }
    if inner > 0 && path.first().is_some_and(|first| first != "super" && first != "crate") {
        path.insert(0, "self".to_owned());
    }
    path
}

fn is_name(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// The branches of the tree of a `use` at `index`, each with the name that it makes known; returns
/// where the tree ends.
fn branches_of(
    source: &Source,
    mut index: usize,
    before: &[String],
    branches: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let mut path = before.to_vec();
    loop {
        match source.text(index) {
            "{" => {
                index += 1;
                while !matches!(source.text(index), "}" | "") {
                    index = branches_of(source, index, &path, branches);
                    if source.text(index) == "," {
                        index += 1;
                    }
                }
                return index + 1;
            }
            "*" => {
                branches.push((path, "*".to_owned()));
                return index + 1;
            }
            "::" => index += 1,
            "as" => {
                branches.push((path, source.text(index + 1).to_owned()));
                return index + 2;
            }
            name if is_name(name) => {
                // `self` at the end of a branch is the module before it.
                if name != "self" || path.is_empty() {
                    path.push(name.to_owned());
                }
                index += 1;
            }
            _ => {
                let alias = path.last().cloned().unwrap_or_default();
                branches.push((path, alias));
                return index;
            }
        }
    }
}

mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let sources: Vec<Source> =
            files.iter().map(|(path, text)| Source::new(path, text)).collect();
        circles(&needs(&sources))
    }

    #[test]
    fn circles_are_found_with_their_lines() {
        for (files, expected) in [
            (
                vec![("src/a.rs", "\nuse crate::b::B;"), ("src/b.rs", "fn f() { crate::a::go() }")],
                "src/a.rs:2 needs src/b.rs, src/b.rs:1 needs src/a.rs",
            ),
            // By way of a third, and of a face that hands the name on under another one.
            (
                vec![
                    ("src/m/mod.rs", "mod a; mod b; mod c; pub use self::{a::A, c::C as Other};"),
                    ("src/m/a.rs", "use super::b::{self, B};"),
                    ("src/m/b.rs", "use super::Other;"),
                    ("src/m/c.rs", "use crate::m::A;"),
                ],
                "src/m/a.rs:1 needs src/m/b.rs, src/m/b.rs:1 needs src/m/c.rs, \
                 src/m/c.rs:1 needs src/m/a.rs",
            ),
            // A face with code of its own, which uses what it hands on.
            (
                vec![
                    ("src/m/mod.rs", "mod a;\npub use a::A;\npub struct M(A);"),
                    ("src/m/a.rs", "pub struct A;\nimpl A { fn m(_: super::M) {} }"),
                ],
                "src/m/a.rs:2 needs src/m/mod.rs, src/m/mod.rs:3 needs src/m/a.rs",
            ),
            // A module in use by its name, and one of a program beside the library.
            (
                vec![
                    ("benches/load/main.rs", "mod a;\nfn main() { a::go() }\npub struct M;"),
                    ("benches/load/a.rs", "use crate::M;"),
                ],
                "benches/load/a.rs:1 needs benches/load/main.rs, \
                 benches/load/main.rs:2 needs benches/load/a.rs",
            ),
        ] {
            assert_eq!(found(&files), [expected], "{files:?}");
        }
    }

    #[test]
    fn signposts_and_tests_are_no_needs() {
        for files in [
            vec![
                ("src/m/mod.rs", "mod a; pub use self::a::A; pub(crate) use a::*; pub struct M;"),
                ("src/m/a.rs", "use super::M; pub struct A;"),
            ],
            vec![
                ("src/m/mod.rs", "mod a; mod b; pub use self::{a::A, b::B};"),
                ("src/m/a.rs", "use super::B;"),
                ("src/m/b.rs", "// super::A\n#[cfg(test)]\nmod tests { use super::super::A; }"),
            ],
            vec![
                ("src/m/mod.rs", "use self::a::A;\n#[cfg(test)]\nmod tests;"),
                ("src/m/a.rs", "#[cfg(test)]\nmod tests { use super::super::M; }"),
                ("src/m/tests.rs", "use super::M;"),
            ],
            // The names of another crate, of a program, and of the standard library.
            vec![
                ("src/lib.rs", "pub mod a;"),
                ("src/main.rs", "use msrprelay::a::A;"),
                ("src/a.rs", "use std::a::A; use tokio::main;"),
            ],
        ] {
            assert_eq!(found(&files), Vec::<String>::new(), "{files:?}");
        }
    }
}
