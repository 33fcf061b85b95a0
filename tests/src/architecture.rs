//! Reads the workspace as text, for the checks in `tests/architecture.rs` and `tests/docs.rs`.
//!
//! Owns no rule: it finds sources, imports and links. A file that cannot be read is a panic, never skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The workspace's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_owned()
}

/// Files below a folder with that ending, without build output, sorted.
pub fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder's entry can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() {
                if !matches!(name, "target" | ".git" | "corpus" | "artifacts") {
                    open.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A file's text.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file's lines without its inline tests: what stands before a `mod tests` with a body.
pub fn without_tests(text: &str) -> &str {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    &text[..end]
}

/// The dependencies a manifest names in `[dependencies]`.
pub fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = read(manifest);
    let mut inside = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
            if let Some(name) = line.strip_prefix("[dependencies.") {
                found.insert(name.trim_end_matches(']').to_owned());
            }
        } else if inside && let Some(name) = line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty() && !name.starts_with('#')) {
            found.insert(name.to_owned());
        }
    }
    found
}

/// Which top-level modules of a crate import which others: `use crate::x`, `crate::x::`, from each file's own module.
pub fn module_imports(source: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let tops: BTreeSet<String> = files(source, ".rs").iter().map(|file| top(source, file)).collect();
    for file in files(source, ".rs") {
        let from = top(source, &file);
        if from == "lib" || from == "main" || file.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        let text = read(&file);
        for (at, _) in without_tests(&text).match_indices("crate::") {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            if text[line..at].trim_start().starts_with("//") {
                continue;
            }
            let rest = &text[at + "crate::".len()..];
            let names: Vec<&str> = match rest.strip_prefix('{') {
                Some(list) => list
                    .split('}')
                    .next()
                    .unwrap_or_default()
                    .split(',')
                    .map(|name| name.trim().split("::").next().unwrap_or_default())
                    .collect(),
                None => vec![rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()],
            };
            for to in names {
                if tops.contains(to) && to != from {
                    imports.entry(from.clone()).or_default().insert(to.to_owned());
                }
            }
        }
    }
    imports
}

fn top(source: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(source).expect("the file lies below the source folder");
    let first = inside.components().next().expect("a file has a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// A ring of imports, if there is one: the modules on it, in order.
pub fn ring(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        at: &str,
        imports: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|seen| seen == at) {
            return Some(path[start..].to_vec());
        }
        if !done.insert(at.to_owned()) {
            return None;
        }
        path.push(at.to_owned());
        let found = imports.get(at).into_iter().flatten().find_map(|to| walk(to, imports, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|start| walk(start, imports, &mut Vec::new(), &mut done))
}
