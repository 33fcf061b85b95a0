//! Which module of a crate imports which, read from its tokens.
//!
//! Sees what a reader sees: `use` trees, paths that begin with `crate`, `super` or `self` anywhere (also within macros), and
//! names that another module re-exports, which count for the module that they come from. What is compiled for tests only is
//! left out. Never guesses: a file that is no Rust is a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr as _;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::{files, read};

/// Modules by path from the crate's root (the root itself is empty), and what they name.
type Module = Vec<String>;

/// Between the modules at one place of the tree: who imports whom.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// For each module that has modules below it: the imports among these, whole subtrees counted as one.
pub fn imports_by_level(source: &Path) -> BTreeMap<String, Imports> {
    let crate_ = Crate::read(source);
    let mut levels: BTreeMap<String, Imports> = BTreeMap::new();
    for (from, names) in &crate_.names {
        for name in names {
            let to = crate_.home(from, &name.path);
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
                levels.entry(from[..shared].join("::")).or_default().entry(a.clone()).or_default().insert(b.clone());
            }
        }
    }
    levels
}

/// A path that a module names, from the crate's root, and the name that a `use` gives it.
struct Name {
    path: Vec<String>,
    bound: Option<String>,
}

struct Crate {
    names: BTreeMap<Module, Vec<Name>>,
}

impl Crate {
    fn read(source: &Path) -> Self {
        let mut names: BTreeMap<Module, Vec<Name>> = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for file in files(source, ".rs") {
            let inside = file.strip_prefix(source).expect("the file lies below the source folder").with_extension("");
            let mut module: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module.iter().any(|part| part == "tests") || matches!(module[0].as_str(), "main" | "bin") {
                continue;
            }
            if module == ["lib"] {
                module.clear();
            }
            names.insert(module.clone(), Vec::new());
            texts.insert(module, read(&file));
        }
        let modules: BTreeSet<Module> = names.keys().cloned().collect();
        for (module, text) in texts {
            let tokens = TokenStream::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", module.join("::")));
            let mut found = Vec::new();
            scan(tokens, &module, 0, &modules, &mut found);
            names.insert(module, found);
        }
        Self { names }
    }

    /// The module that a path leads to, behind re-exports.
    fn home(&self, from: &[String], path: &[String]) -> Module {
        let mut path = path.to_vec();
        // A chain of re-exports longer than this would be a ring itself.
        for _ in 0..8 {
            let depth = (0..=path.len()).rev().find(|depth| self.names.contains_key(&path[..*depth])).expect("the root is a module");
            let (module, rest) = path.split_at(depth);
            let again = rest.first().filter(|_| module != from).and_then(|name| {
                let uses = &self.names[module];
                uses.iter().find(|item| item.bound.as_ref() == Some(name) && item.path != path).map(|item| item.path.clone())
            });
            match again {
                Some(next) => path = next.into_iter().chain(rest[1..].iter().cloned()).collect(),
                None => return module.to_vec(),
            }
        }
        path
    }
}

/// Collects what tokens name; `inner` counts the inline modules around them.
fn scan(tokens: TokenStream, module: &Module, inner: usize, modules: &BTreeSet<Module>, found: &mut Vec<Name>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    let mut for_tests = false;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                if let Some(TokenTree::Group(group)) = tokens.get(at + 1) {
                    for_tests |= group.stream().to_string().replace(' ', "") == "cfg(test)";
                    at += 1;
                }
            }
            // What follows `#[cfg(test)]` ends with its block or its semicolon.
            TokenTree::Group(group) if for_tests && group.delimiter() == Delimiter::Brace => for_tests = false,
            TokenTree::Punct(punct) if for_tests && punct.as_char() == ';' => for_tests = false,
            _ if for_tests => {}
            TokenTree::Ident(word) if *word == "mod" => {
                if let Some(TokenTree::Group(group)) = tokens.get(at + 2) {
                    scan(group.stream(), module, inner + 1, modules, found);
                    at += 2;
                }
            }
            TokenTree::Ident(word) if *word == "use" => {
                let end = (at..tokens.len()).find(|end| is(&tokens[*end], ';')).unwrap_or(tokens.len());
                tree(&tokens[at + 1..end], &mut Vec::new(), &mut |path, bound| {
                    if let Some(path) = absolute(&path, module, inner, modules) {
                        found.push(Name { path, bound: Some(bound) });
                    }
                });
                at = end;
            }
            TokenTree::Ident(word) if starts_here(&tokens, at) && (*word == "crate" || *word == "super" || *word == "self") => {
                let mut path = vec![word.to_string()];
                while is_path_mark(&tokens, at + 1) {
                    let Some(TokenTree::Ident(next)) = tokens.get(at + 3) else { break };
                    path.push(next.to_string());
                    at += 3;
                }
                if path.len() > 1
                    && let Some(path) = absolute(&path, module, inner, modules)
                {
                    found.push(Name { path, bound: None });
                }
            }
            TokenTree::Group(group) => scan(group.stream(), module, inner, modules, found),
            _ => {}
        }
        at += 1;
    }
}

/// Tells each leaf of a `use` tree, with the name it binds.
fn tree(tokens: &[TokenTree], before: &mut Vec<String>, leaf: &mut dyn FnMut(Vec<String>, String)) {
    for part in tokens.split(|token| is(token, ',')).filter(|part| !part.is_empty()) {
        let depth = before.len();
        let mut bound = None;
        let mut words = part.iter().peekable();
        let mut ended = false;
        while let Some(token) = words.next() {
            match token {
                TokenTree::Ident(word) if *word == "as" => bound = words.next().map(ToString::to_string),
                TokenTree::Ident(word) => before.push(word.to_string()),
                TokenTree::Group(group) => {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    tree(&inside, before, leaf);
                    ended = true;
                }
                _ => {}
            }
        }
        if !ended && !before.is_empty() {
            let mut path = before.clone();
            // `use a::{self}` binds a.
            if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let bound = bound.unwrap_or_else(|| path.last().cloned().unwrap_or_default());
            leaf(path, bound);
        }
        before.truncate(depth);
    }
}

/// The path from the crate's root; `None` for what lies in other crates.
fn absolute(path: &[String], module: &Module, inner: usize, modules: &BTreeSet<Module>) -> Option<Vec<String>> {
    let mut rest = path;
    let mut base = module.clone();
    match rest.first()?.as_str() {
        "crate" => {
            base.clear();
            rest = &rest[1..];
        }
        "self" => rest = &rest[1..],
        "super" => {
            let mut up = 0_usize;
            while rest.first().is_some_and(|word| word == "super") {
                up += 1;
                rest = &rest[1..];
            }
            let beyond = up.saturating_sub(inner);
            base.truncate(base.len().checked_sub(beyond)?);
        }
        first => {
            let mut child = base.clone();
            child.push(first.to_owned());
            if !modules.contains(&child) {
                return None;
            }
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

fn is(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

fn is_path_mark(tokens: &[TokenTree], at: usize) -> bool {
    matches!((tokens.get(at), tokens.get(at + 1)), (Some(first), Some(second)) if is(first, ':') && is(second, ':'))
}

/// Whether the word at this place begins a path, rather than continues one (`pub(super)`, `a::self`).
fn starts_here(tokens: &[TokenTree], at: usize) -> bool {
    at < 2 || !is_path_mark(tokens, at - 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::ring;

    fn rings(sources: &[(&str, &str)]) -> Vec<(String, Vec<String>)> {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in sources {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
            std::fs::write(file, text).expect("a file");
        }
        imports_by_level(folder.path()).into_iter().filter_map(|(level, imports)| Some((level, ring(&imports)?))).collect()
    }

    #[test]
    fn a_ring_below_the_top_is_seen() {
        let found = rings(&[
            ("lib.rs", "pub mod dial;"),
            ("dial.rs", "pub mod h1; pub mod pool;"),
            ("dial/h1.rs", "pub mod body;"),
            ("dial/h1/body.rs", "use crate::dial::pool::Pool;"),
            ("dial/pool.rs", "use super::h1::Shared;"),
        ]);
        assert_eq!(found, [("dial".to_owned(), vec!["h1".to_owned(), "pool".to_owned()])]);
    }

    #[test]
    fn a_ring_behind_a_re_export_is_seen() {
        let sources = [
            ("lib.rs", "pub mod a; pub mod b; pub use b::Thing as Other;"),
            ("a.rs", "fn f() -> Vec<crate::Other> { Vec::new() }"),
            ("b.rs", "use crate::{a::{self, f as g}};"),
        ];
        assert_eq!(rings(&sources).len(), 1);
    }

    #[test]
    fn a_ring_within_a_macro_is_seen() {
        let sources = [("lib.rs", ""), ("a.rs", "fn f() { println!(\"{}\", crate::b::g()) }"), ("b.rs", "fn g() -> u8 { super::a::N }")];
        assert_eq!(rings(&sources).len(), 1);
    }

    #[test]
    fn what_only_tests_import_is_no_ring() {
        let sources = [
            ("lib.rs", ""),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::a::A; } #[cfg(test)] use crate::a::A;"),
            ("b/tests.rs", "use crate::a::A;"),
        ];
        assert_eq!(rings(&sources), []);
    }

    #[test]
    fn a_child_that_uses_its_parent_is_no_ring() {
        let sources = [("lib.rs", ""), ("a.rs", "mod b; use b::B; pub(super) struct A;"), ("a/b.rs", "use super::A; pub struct B(A);")];
        assert_eq!(rings(&sources), []);
    }
}
