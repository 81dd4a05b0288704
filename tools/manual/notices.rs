//! The licences of the crates that are linked into the programs, which ask for their notices to go
//! with every copy. Each text stands once, below the crates that it belongs to.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs, io,
    path::Path,
    process::Command,
};

use serde::Deserialize;

/// Of what `cargo metadata` prints, the parts that matter here.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    manifest_path: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    root: String,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Deserialize)]
struct DependencyKind {
    /// None: linked in, unlike those for build scripts and tests.
    kind: Option<String>,
}

pub(crate) fn text() -> io::Result<String> {
    let metadata = metadata()?;
    let mut crates = String::new();
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in linked(&metadata) {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see below");
        let home = package.repository.as_deref().unwrap_or("");
        crates.push_str(format!("{name:<36} {licence:<44} {home}").trim_end());
        crates.push('\n');
        let directory = Path::new(&package.manifest_path).parent().unwrap_or(Path::new("."));
        for licence_text in licence_texts(directory)? {
            texts.entry(licence_text).or_default().insert(name.clone());
        }
    }
    let mut text = format!(
        "The programs of msrprelay contain these crates, under the licences named. What each of them\n\
         says of its licence and its authors follows below.\n\n{crates}"
    );
    for (licence_text, names) in &texts {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let (line, names) = ("=".repeat(78), names.join(", "));
        text.extend(["\n", &line, "\n", &names, "\n\n", licence_text, "\n"]);
    }
    Ok(text)
}

fn metadata() -> io::Result<Metadata> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", &format!("{}-unknown-linux-gnu", env::consts::ARCH)])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// All packages but ours whose code is in the programs, by name.
fn linked(metadata: &Metadata) -> Vec<&Package> {
    let mut found = BTreeSet::new();
    let mut open = vec![metadata.resolve.root.as_str()];
    while let Some(id) = open.pop() {
        let node = metadata.resolve.nodes.iter().find(|node| node.id == id);
        for dependency in node.iter().flat_map(|node| &node.deps) {
            let linked = dependency.dep_kinds.iter().any(|kind| kind.kind.is_none());
            if linked && found.insert(dependency.pkg.as_str()) {
                open.push(&dependency.pkg);
            }
        }
    }
    let macros = |package: &Package| {
        package.targets.iter().any(|target| target.kind.iter().any(|kind| kind == "proc-macro"))
    };
    let mut packages: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| found.contains(package.id.as_str()) && !macros(package))
        .collect();
    packages.sort_by_key(|package| (&package.name, &package.version));
    packages
}

/// The files of a crate that tell its licence, without the blanks in which copies differ.
fn licence_texts(directory: &Path) -> io::Result<Vec<String>> {
    const NAMES: [&str; 5] = ["licen", "copying", "copyright", "notice", "unlicense"];
    let mut texts = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        if NAMES.iter().any(|begin| name.starts_with(begin)) && entry.path().is_file() {
            let text = fs::read(entry.path())?;
            let text = String::from_utf8_lossy(&text).replace('\r', "");
            let lines: Vec<&str> = text.trim().lines().map(str::trim_end).collect();
            texts.push(lines.join("\n"));
        }
    }
    texts.sort();
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_in_is_named_and_what_only_builds_is_not() {
        let metadata = metadata().unwrap();
        let names: Vec<&str> =
            linked(&metadata).iter().map(|package| package.name.as_str()).collect();
        for name in ["rustls", "aws-lc-sys", "tokio", "libsqlite3-sys", "clap_builder"] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        for name in ["msrprelay", "proptest", "cc", "clap_derive", "criterion"] {
            assert!(!names.contains(&name), "{name} in {names:?}");
        }
        let text = text().unwrap();
        assert!(text.contains("Tokio Contributors"));
        assert!(text.contains("Copyright (c) 2016 Joseph Birr-Pixton"));
    }
}
