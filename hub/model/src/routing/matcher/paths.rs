//! Paths of one host: exact ones in a map, prefixes in a tree of elements, expressions in a list.

use super::super::route::PathMatch;
use super::Asked;
use super::candidate::{Candidate, Part};
use crate::Map;

/// What is told about each candidate whose path matches: the part that does not, or `None` for the one that is chosen.
pub(super) type Tell<'f> = dyn FnMut(&Candidate, Option<Part>) + 'f;

#[derive(Debug, Default)]
pub(super) struct Paths {
    exact: Map<Box<str>, Vec<Candidate>>,
    /// Longest first.
    regex: Vec<(regex::Regex, Candidate)>,
    prefix: Node,
}

/// The prefixes that end at an element, and the elements below.
#[derive(Debug, Default)]
struct Node {
    here: Vec<Candidate>,
    below: Map<Box<str>, Node>,
}

impl Paths {
    pub(super) fn add(&mut self, candidate: Candidate) {
        match candidate.path().cloned() {
            Some(PathMatch::Exact(path)) => self.exact.entry(path.into()).or_default().push(candidate),
            Some(PathMatch::Regex(regex)) => self.regex.push((regex, candidate)),
            Some(PathMatch::Prefix(path)) => {
                let mut node = &mut self.prefix;
                let mut rest = path.strip_suffix('/').unwrap_or(&path);
                while let Some((element, after)) = first_element(rest) {
                    node = node.below.entry(element.into()).or_default();
                    rest = after;
                }
                node.here.push(candidate);
            }
            None => self.prefix.here.push(candidate),
        }
    }

    /// Puts candidates of the same path into their order. Stable: the order of the file breaks ties.
    pub(super) fn sort(&mut self) {
        self.exact.values_mut().for_each(|list| list.sort_by_key(Candidate::rank));
        self.regex.sort_by_key(|(regex, candidate)| (std::cmp::Reverse(regex.as_str().len()), candidate.rank()));
        self.prefix.sort();
    }

    /// The first candidate that fits, in the order of precedence.
    pub(super) fn find<'p>(&'p self, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Option<&'p Candidate> {
        let exact = self.exact.get(asked.path).and_then(|list| first(list, asked, tell));
        let regex = || {
            let matching = self.regex.iter().filter(|(regex, _)| regex.is_match(asked.path)).map(|(_, candidate)| candidate);
            first(matching, asked, tell)
        };
        exact.or_else(regex).or_else(|| self.prefix.find(asked.path, asked, tell))
    }
}

impl Node {
    fn sort(&mut self) {
        self.here.sort_by_key(Candidate::rank);
        self.below.values_mut().for_each(Node::sort);
    }

    /// Goes down as far as the tree goes, and asks on the way back: the longest prefix first. Depth is bounded by the longest
    /// configured prefix, not by the request.
    fn find<'p>(&'p self, rest: &str, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Option<&'p Candidate> {
        let deeper =
            first_element(rest).and_then(|(element, after)| self.below.get(element).and_then(|node| node.find(after, asked, tell)));
        deeper.or_else(|| first(&self.here, asked, tell))
    }
}

fn first<'p>(list: impl IntoIterator<Item = &'p Candidate>, asked: &Asked<'_>, tell: &mut Tell<'_>) -> Option<&'p Candidate> {
    list.into_iter().find(|candidate| {
        let missing = candidate.missing(asked);
        tell(candidate, missing);
        missing.is_none()
    })
}

/// `/a/b` is `a` and `/b`.
fn first_element(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('/')?;
    let end = path.find('/').unwrap_or(path.len());
    Some(path.split_at(end))
}
