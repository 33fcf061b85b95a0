//! A file's tables.

use serde_spanned::Spanned;
use toml::de::DeTable;

use crate::section::Section;
use crate::source::{Place, Source};
use crate::table::Table;

/// Longest text that is read, in bytes: some ten thousand routes.
pub const MAX_TEXT: usize = 16 << 20;

/// A text that is well-formed TOML.
#[derive(Debug)]
pub struct Document<'d> {
    source: &'d Source<'d>,
    table: Spanned<DeTable<'d>>,
}

impl Source<'_> {
    /// Reads the text as TOML. `None` after a mistake in the syntax, which then is a finding.
    pub fn parse(&self) -> Option<Document<'_>> {
        if self.text.len() > MAX_TEXT {
            self.error(Place(0), "file", format!("is larger than {} MiB", MAX_TEXT >> 20), "split it, or generate fewer routes");
            return None;
        }
        match DeTable::parse(self.text) {
            Ok(table) => Some(Document { source: self, table }),
            Err(error) => {
                let place = Place(error.span().map_or(self.text.len(), |span| span.start));
                self.error(place, "syntax", error.message().lines().collect::<Vec<_>>().join(" "), "correct the TOML here");
                None
            }
        }
    }
}

impl Document<'_> {
    /// The top of the file; keys that `table` does not know are findings.
    pub fn section(&self, table: &'static Table) -> Section<'_> {
        Section::open(self.source, table, String::new(), Place(0), self.table.get_ref())
    }
}

#[cfg(test)]
mod tests;
