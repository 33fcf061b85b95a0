//! What is logged, owned: the message, its fields, when and where. Pure.

use std::borrow::Cow;
use std::fmt;
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

/// A value, or where its text begins and ends. 16 bytes, of which thousands may wait to be written.
#[derive(Debug, Clone, Copy)]
enum Kept {
    Text(u32, u32),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bool(bool),
}

/// Bytes of one text at the most: more than anybody reads, and bounded. What is cut ends with [`CUT`].
const MOST: usize = 1024 * 1024;
const CUT: char = '…';

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
            Value::Int(n) => Kept::Int(n),
            Value::Uint(n) => Kept::Uint(n),
            Value::Float(n) => Kept::Float(n),
            Value::Bool(b) => Kept::Bool(b),
        };
        self.list.push((name, kept));
    }

    /// A text that is written where it stays.
    pub(crate) fn write(&mut self, name: &'static str, write: impl FnOnce(&mut String)) {
        let start = self.texts.len();
        write(&mut self.texts);
        if self.texts.len() - start > MOST {
            self.texts.truncate(self.texts.floor_char_boundary(start + MOST));
            self.texts.push(CUT);
        }
        self.list.push((name, Kept::Text(at(start), at(self.texts.len()))));
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.list.iter().any(|(known, _)| *known == name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        self.list.iter().map(|(name, kept)| {
            let value = match *kept {
                Kept::Text(start, end) => Value::Text(&self.texts[start as usize..end as usize]),
                Kept::Int(n) => Value::Int(n),
                Kept::Uint(n) => Value::Uint(n),
                Kept::Float(n) => Value::Float(n),
                Kept::Bool(b) => Value::Bool(b),
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

fn at(place: usize) -> u32 {
    // No event has the thousands of fields that it would take to get there.
    u32::try_from(place).unwrap_or(u32::MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_an_access_log_has_room_from_the_beginning() {
        let texts = ["10.0.0.9:54321", "web", "GET", "shop.example", "/cart/items/4711", "shop", "monolith", "vm-1", "", ""];
        let mut fields = Fields::with_room(15);
        let room = (fields.list.capacity(), fields.texts.capacity());
        texts.iter().for_each(|text| fields.push("text", Value::Text(text)));
        (0..5).for_each(|number| fields.push("number", Value::Uint(number)));
        assert_eq!((fields.list.capacity(), fields.texts.capacity()), room);
        assert_eq!(size_of::<(&str, Kept)>(), 32);
        let read: Vec<_> = fields.iter().map(|(_, value)| value).collect();
        assert_eq!(read[..10], texts.map(Value::Text));
        assert_eq!(read[10..], [0, 1, 2, 3, 4].map(Value::Uint));
    }

    #[test]
    fn a_text_without_an_end_is_cut_at_a_character_and_looks_cut() {
        let mut fields = Fields::default();
        fields.push("whole", Value::Text(&"a".repeat(MOST)));
        fields.push("long", Value::Text(&"ä".repeat(MOST)));
        fields.push("next", Value::Text("b"));
        let read: Vec<_> = fields.iter().map(|(_, value)| value.to_string()).collect();
        assert_eq!((read[0].len(), read[1].len(), &*read[2]), (MOST, MOST + CUT.len_utf8(), "b"));
        assert!(!read[0].contains(CUT) && read[1].ends_with("ä…"));
    }
}
