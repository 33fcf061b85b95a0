//! One match of one rule: everything about it but host and path.

use std::cmp::Reverse;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};

use super::super::route::{HeaderMatch, HttpRoute, HttpRule, PathMatch, RouteMatch, ValueMatch};
use super::{Asked, Matched};

#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) route: Arc<HttpRoute>,
    pub(super) rule: Arc<HttpRule>,
    pub(super) rule_index: usize,
    /// `None`: the rule has no matches and takes everything.
    pub(super) match_index: Option<usize>,
}

/// A part of a match that a request does not fulfil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Method,
    Headers,
    Query,
}

impl Candidate {
    pub(super) fn matched(&self) -> Matched<'_> {
        Matched { route: &self.route, rule: &self.rule, rule_index: self.rule_index, match_index: self.match_index }
    }

    pub(super) fn path(&self) -> Option<&PathMatch> {
        self.parts()?.path.as_ref()
    }

    fn parts(&self) -> Option<&RouteMatch> {
        self.rule.matches.get(self.match_index?)
    }

    /// Order among candidates of the same path; the smallest goes first.
    pub(super) fn rank(&self) -> (bool, Reverse<usize>, Reverse<usize>) {
        let parts = self.parts();
        let count = |of: fn(&RouteMatch) -> usize| Reverse(parts.map_or(0, of));
        (parts.is_none_or(|parts| parts.method.is_none()), count(|parts| parts.headers.len()), count(|parts| parts.query.len()))
    }

    /// What the request lacks, host and path aside.
    pub(super) fn missing(&self, asked: &Asked<'_>) -> Option<Part> {
        let parts = self.parts()?;
        if parts.method.as_ref().is_some_and(|method| method != asked.method) {
            Some(Part::Method)
        } else if !parts.headers.iter().all(|wanted| header_fits(wanted, asked.headers)) {
            Some(Part::Headers)
        } else if !parts.query.iter().all(|(name, value)| query_fits(name, value, asked.query.unwrap_or_default())) {
            Some(Part::Query)
        } else {
            None
        }
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "route {} rule {}", self.route.name, self.rule_index)?;
        match self.parts() {
            Some(parts) => write!(f, " ({parts})"),
            None => write!(f, " (everything)"),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method => "the method",
            Self::Headers => "a header",
            Self::Query => "a query parameter",
        })
    }
}

fn header_fits(wanted: &HeaderMatch, headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(&wanted.name).iter();
    let Some(first) = lines.next() else { return false };
    let several = lines.next().is_some();
    match &wanted.value {
        ValueMatch::Exact(value) if !several => first.as_bytes() == value.as_bytes(),
        ValueMatch::Exact(value) => {
            let lines = headers.get_all(&wanted.name).iter().map(HeaderValue::as_bytes).enumerate();
            let joined = lines.flat_map(|(index, line)| (index > 0).then_some(b',').into_iter().chain(line.iter().copied()));
            joined.eq(value.bytes())
        }
        ValueMatch::Regex(regex) if !several => std::str::from_utf8(first.as_bytes()).is_ok_and(|line| regex.is_match(line)),
        // The one match that allocates: an expression needs the text in one piece.
        ValueMatch::Regex(regex) => {
            let lines: Vec<&[u8]> = headers.get_all(&wanted.name).iter().map(HeaderValue::as_bytes).collect();
            std::str::from_utf8(&lines.join(&b',')).is_ok_and(|joined| regex.is_match(joined))
        }
    }
}

/// The first parameter of that name counts (`application/x-www-form-urlencoded`, as forms and URLs write it).
fn query_fits(name: &str, wanted: &ValueMatch, query: &str) -> bool {
    let Some(value) = raw_query_value(query, name) else {
        return false;
    };
    match wanted {
        ValueMatch::Exact(wanted) => decoded(value).eq(wanted.bytes()),
        ValueMatch::Regex(regex) if !value.contains(['%', '+']) => regex.is_match(value),
        ValueMatch::Regex(regex) => String::from_utf8(decoded(value).collect()).is_ok_and(|value| regex.is_match(&value)),
    }
}

fn raw_query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|(key, _)| decoded(key).eq(name.bytes())).map(|(_, value)| value)
}

/// The first value of a query parameter, decoded.
pub fn query_value(query: &str, name: &str) -> Option<Vec<u8>> {
    raw_query_value(query, name).map(|value| decoded(value).collect())
}

/// Bytes of a part of a query: `+` is a space, `%41` is `A`, a broken escape stands for itself.
fn decoded(text: &str) -> impl Iterator<Item = u8> + '_ {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok());
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        at += 1;
        Some(match (byte, digit(at), digit(at + 1)) {
            (b'+', ..) => b' ',
            (b'%', Some(high), Some(low)) => {
                at += 2;
                high << 4 | low
            }
            _ => byte,
        })
    })
}
