//! A value, as a cursor. Each reading method notes a finding and gives `None` where the value is not of its kind.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use crate::quantity;
use crate::source::{Place, Source};
use crate::table::nearest;

/// A value of a file.
#[derive(Debug, Clone)]
pub struct Item<'d> {
    source: &'d Source<'d>,
    path: String,
    place: Place,
    pub(crate) value: &'d DeValue<'d>,
}

impl<'d> Item<'d> {
    pub(crate) fn new(source: &'d Source<'d>, path: String, place: Place, value: &'d DeValue<'d>) -> Self {
        Self { source, path, place, value }
    }

    /// Where the value stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The file.
    pub fn source(&self) -> &'d Source<'d> {
        self.source
    }

    /// How findings name the value.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Notes that the value is wrong.
    pub fn wrong(&self, why: impl Into<String>, mend: impl Into<String>) {
        self.source.error(self.place, self.path.clone(), why, mend);
    }

    /// Notes that the value works, but hardly as meant.
    pub fn warn(&self, why: impl Into<String>, mend: impl Into<String>) {
        self.source.warning(self.place, self.path.clone(), why, mend);
    }

    /// A text that is not empty.
    pub fn text(&self) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) if text.is_empty() => self.refuse("is empty", "write a text, or remove the key"),
            DeValue::String(text) => Some(text),
            _ => self.refuse_kind("a text in quotes"),
        }
    }

    /// A text, perhaps empty.
    pub fn any_text(&self) -> Option<&'d str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.refuse_kind("a text in quotes"),
        }
    }

    /// A text that reads as a `T`.
    pub fn parsed<T>(&self, mend: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        let text = self.text()?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => self.refuse(format!("`{}` is refused: {error}", shown(text)), mend),
        }
    }

    /// One of some words, by what each stands for; a finding suggests the nearest.
    pub fn choice<T: Clone>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let near = nearest(text, words.iter().map(|(word, _)| *word)).map(|word| format!("write \"{word}\""));
        let all = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        self.refuse(format!("`{}` is unknown", shown(text)), near.unwrap_or_else(|| format!("use one of: {}", all())))
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.refuse_kind("true or false"),
        }
    }

    /// A whole number within bounds.
    pub fn number(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(integer) = self.value else {
            return self.refuse_kind("a whole number, without quotes");
        };
        match u64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if bounds.contains(&number) => Some(number),
            _ => self.refuse(format!("{integer} is out of range"), format!("use {} to {}", bounds.start(), bounds.end())),
        }
    }

    /// A part of a whole: above 0, up to 1.
    pub fn fraction(&self) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().ok(),
            DeValue::Integer(integer) => u64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number as f64),
            _ => return self.refuse_kind("a fraction such as 0.5, without quotes"),
        };
        match number {
            Some(number) if number > 0.0 && number <= 1.0 => Some(number),
            _ => self.refuse("is out of range", "use a fraction above 0, up to 1, as in 0.5"),
        }
    }

    /// A number of bytes within bounds: `"64KiB"`, or a whole number.
    pub fn size(&self, bounds: RangeInclusive<u64>) -> Option<u64> {
        let bytes = match self.value {
            DeValue::Integer(_) => return self.number(bounds),
            DeValue::String(text) => quantity::size(text),
            _ => return self.refuse_kind("a size such as \"64KiB\""),
        };
        match bytes {
            Ok(bytes) if bounds.contains(&bytes) => Some(bytes),
            Ok(bytes) => {
                self.refuse(format!("{bytes} bytes are out of range"), format!("use {} to {} bytes", bounds.start(), bounds.end()))
            }
            Err(why) => self.refuse(why, "write a whole number with B, KiB, MiB or GiB, as in \"64KiB\""),
        }
    }

    /// A duration above zero.
    pub fn duration(&self) -> Option<Duration> {
        let duration = self.any_duration()?;
        if duration.is_zero() { self.refuse("is zero", "write a duration above zero, as in \"5s\"") } else { Some(duration) }
    }

    /// A duration, where zero means off. `None` is a mistake, `Some(None)` off.
    pub fn duration_or_off(&self) -> Option<Option<Duration>> {
        self.any_duration().map(|duration| (!duration.is_zero()).then_some(duration))
    }

    fn any_duration(&self) -> Option<Duration> {
        let DeValue::String(text) = self.value else {
            return self.refuse_kind("a duration such as \"5s\"");
        };
        match quantity::duration(text) {
            Ok(duration) => Some(duration),
            Err(why) => self.refuse(why, "write a number with its unit, as in \"500ms\", \"5s\" or \"1m 30s\""),
        }
    }

    /// The elements of a list.
    pub fn items(&self) -> Vec<Item<'d>> {
        let DeValue::Array(array) = self.value else {
            let mend =
                if matches!(self.value, DeValue::Table(_)) { "a list of tables: [[name]], or name = [{ ... }]" } else { "a list in [ ]" };
            return self.refuse_kind(mend).unwrap_or_default();
        };
        let item = |(index, value): (usize, &'d serde_spanned::Spanned<DeValue<'d>>)| {
            Item::new(self.source, format!("{}[{index}]", self.path), Place(value.span().start), value.get_ref())
        };
        array.iter().enumerate().map(item).collect()
    }

    /// Whether the value is a list without elements; never a finding.
    pub fn is_empty_list(&self) -> bool {
        matches!(self.value, DeValue::Array(array) if array.iter().next().is_none())
    }

    /// Whether the value is a table; never a finding.
    pub fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    /// Whether the value is a list; never a finding.
    pub fn is_list(&self) -> bool {
        matches!(self.value, DeValue::Array(_))
    }

    /// Whether the value is a text; never a finding.
    pub fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    fn refuse<T>(&self, why: impl Into<String>, mend: impl Into<String>) -> Option<T> {
        self.wrong(why, mend);
        None
    }

    /// Notes that the value is of another kind than expected.
    pub(crate) fn refuse_kind<T>(&self, expected: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.refuse(format!("is {found}"), format!("write {expected}"))
    }
}

/// A text from a file as a message can bear it.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}
