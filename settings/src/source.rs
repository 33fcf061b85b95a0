//! A file's text, and the findings about it.

use std::cell::RefCell;

use crate::finding::Finding;

/// Findings that are kept; whoever has more mends these first.
pub const MAX_FINDINGS: usize = 100;

/// A place in a text: a byte offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub(crate) usize);

/// A settings file's text, and what was found wrong with it so far.
#[derive(Debug)]
pub struct Source<'t> {
    name: String,
    pub(crate) text: &'t str,
    errors: RefCell<Vec<(Place, Finding)>>,
    warnings: RefCell<Vec<(Place, Finding)>>,
}

impl<'t> Source<'t> {
    /// A text and the name under which findings speak of it.
    pub fn new(name: &str, text: &'t str) -> Self {
        Self { name: name.to_owned(), text, errors: RefCell::default(), warnings: RefCell::default() }
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Notes a mistake.
    pub fn error(&self, place: Place, what: impl Into<String>, why: impl Into<String>, mend: impl Into<String>) {
        self.note(&self.errors, place, what.into(), why.into(), mend.into());
    }

    /// Notes something that works, but hardly as meant.
    pub fn warning(&self, place: Place, what: impl Into<String>, why: impl Into<String>, mend: impl Into<String>) {
        self.note(&self.warnings, place, what.into(), why.into(), mend.into());
    }

    fn note(&self, list: &RefCell<Vec<(Place, Finding)>>, place: Place, what: String, why: String, mend: String) {
        let mut list = list.borrow_mut();
        if list.len() < MAX_FINDINGS {
            let (line, column) = self.line_column(place);
            list.push((place, Finding { source: self.name.clone(), line, column, what, why, mend }));
        }
    }

    /// Whether nothing is wrong so far (warnings do not count).
    pub fn is_good(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// Errors and warnings, each in the order of the text; empties both lists.
    pub fn findings(&self) -> (Vec<Finding>, Vec<Finding>) {
        let take = |list: &RefCell<Vec<(Place, Finding)>>| {
            let mut list = list.take();
            list.sort_by_key(|(place, _)| *place);
            list.into_iter().map(|(_, finding)| finding).collect()
        };
        (take(&self.errors), take(&self.warnings))
    }

    /// The line of a place, from 1. Looks at the whole text before it: for messages, not for every key.
    pub fn line(&self, place: Place) -> usize {
        self.line_column(place).0
    }

    fn line_column(&self, Place(offset): Place) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }
}
