//! What is logged, owned: the message, its fields, when and where. Pure.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::ops::Range;
use std::time::SystemTime;

use tracing::Level;

/// One thing to log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) at: SystemTime,
    pub(crate) level: Level,
    pub(crate) target: Cow<'static, str>,
    pub(crate) file: Option<&'static str>,
    pub(crate) line: Option<u32>,
    pub(crate) message: String,
    pub(crate) fields: Fields,
}

/// Fields in the order in which they came. Their texts lie in one string: one allocation, however many there are, of what one
/// thread makes and another gives back.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields {
    list: Vec<(&'static str, Kept)>,
    texts: String,
}

#[derive(Debug, Clone)]
enum Kept {
    Text(Range<usize>),
    Other(Value<'static>),
}

/// A field's value; texts are as they came, escaped only by what writes them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bool(bool),
}

impl Fields {
    /// With room for so many, and for texts of a line of an access log.
    pub(crate) fn with_room(fields: usize) -> Self {
        Self { list: Vec::with_capacity(fields), texts: String::with_capacity(fields * 8) }
    }

    pub(crate) fn push(&mut self, name: &'static str, value: Value<'_>) {
        let kept = match value {
            Value::Text(text) => return self.write(name, |texts| texts.push_str(text)),
            Value::Int(n) => Value::Int(n),
            Value::Uint(n) => Value::Uint(n),
            Value::Float(n) => Value::Float(n),
            Value::Bool(b) => Value::Bool(b),
        };
        self.list.push((name, Kept::Other(kept)));
    }

    /// A text that is written where it stays.
    pub(crate) fn write(&mut self, name: &'static str, write: impl FnOnce(&mut String)) {
        let start = self.texts.len();
        write(&mut self.texts);
        self.list.push((name, Kept::Text(start..self.texts.len())));
    }

    /// The same of what shows itself for debugging.
    pub(crate) fn write_debug(&mut self, name: &'static str, value: &dyn fmt::Debug) {
        self.write(name, |texts| {
            // Writing into memory does not fail.
            let _ = write!(texts, "{value:?}");
        });
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.list.iter().any(|(known, _)| *known == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        self.list.iter().map(|(name, kept)| {
            let value = match kept {
                Kept::Text(range) => Value::Text(&self.texts[range.clone()]),
                Kept::Other(value) => *value,
            };
            (*name, value)
        })
    }

    /// Takes over those of the others that are not here.
    pub(crate) fn add_missing(&mut self, others: &Self) {
        for (name, value) in others.iter() {
            if !self.contains(name) {
                self.push(name, value);
            }
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(n) => n.fmt(f),
            Self::Uint(n) => n.fmt(f),
            Self::Float(n) => n.fmt(f),
            Self::Bool(b) => b.fmt(f),
        }
    }
}
