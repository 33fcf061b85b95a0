//! A table, as a cursor.

use toml::de::{DeTable, DeValue};

use crate::item::Item;
use crate::source::{Place, Source};
use crate::table::{Table, nearest};

/// A table of a file whose unknown keys have already been refused.
#[derive(Debug, Clone)]
pub struct Section<'d> {
    source: &'d Source<'d>,
    known: &'static Table,
    path: String,
    place: Place,
    table: &'d DeTable<'d>,
}

impl<'d> Section<'d> {
    pub(crate) fn open(source: &'d Source<'d>, known: &'static Table, path: String, place: Place, table: &'d DeTable<'d>) -> Self {
        let section = Self { source, known, path, place, table };
        for (key, _) in table.iter().filter(|(key, _)| !known.knows(key.get_ref())) {
            let mend = match nearest(key.get_ref(), known.keys.iter().map(|known| known.name)) {
                Some(near) => format!("write {near}"),
                None => format!("remove it, or use one of: {}", known.keys.iter().map(|known| known.name).collect::<Vec<_>>().join(", ")),
            };
            let shown: String = key.get_ref().chars().take(64).flat_map(char::escape_debug).collect();
            source.error(Place(key.span().start), section.path_of(&shown), "is not a key here", mend);
        }
        section
    }

    /// The key's value, if it is there.
    ///
    /// # Panics
    /// In tests, where the key is missing in the section's [`Table`].
    pub fn get(&self, key: &str) -> Option<Item<'d>> {
        debug_assert!(self.known.knows(key), "key {key} is missing in the table of {}", self.known.path);
        let value = self.table.get(key)?;
        Some(Item::new(self.source, self.path_of(key), Place(value.span().start), value.get_ref()))
    }

    /// The key's value; a finding if it is not there.
    pub fn required(&self, key: &str) -> Option<Item<'d>> {
        let item = self.get(key);
        if item.is_none() {
            let known = self.known.keys.iter().find(|known| known.name == key);
            let kind = known.map_or("", |known| known.kind);
            self.source.error(self.place, self.path_of(key), "is missing", format!("add {key} = ... ({kind})"));
        }
        item
    }

    /// The key's value as one table, if it is there.
    pub fn section(&self, key: &str, known: &'static Table) -> Option<Section<'d>> {
        self.get(key)?.section(known)
    }

    /// The key's value as a list of tables; empty if it is not there.
    pub fn sections(&self, key: &str, known: &'static Table) -> Vec<Section<'d>> {
        let items = self.get(key).map(|item| item.items()).unwrap_or_default();
        items.iter().filter_map(|item| item.section(known)).collect()
    }

    /// Where the table begins.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The file.
    pub fn source(&self) -> &'d Source<'d> {
        self.source
    }

    /// How findings name the table.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Notes a mistake of the table as a whole.
    pub fn wrong(&self, why: impl Into<String>, mend: impl Into<String>) {
        self.source.error(self.place, self.path.clone(), why, mend);
    }

    /// Notes that the table as a whole works, but hardly as meant.
    pub fn warn(&self, why: impl Into<String>, mend: impl Into<String>) {
        self.source.warning(self.place, self.path.clone(), why, mend);
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

// Here and not beside its siblings, so that items need not know sections.
impl<'d> Item<'d> {
    /// A table; keys that `known` does not know are findings.
    pub fn section(&self, known: &'static Table) -> Option<Section<'d>> {
        match self.value {
            DeValue::Table(table) => Some(Section::open(self.source(), known, self.path().to_owned(), self.place(), table)),
            _ => self.refuse_kind("a table"),
        }
    }
}
