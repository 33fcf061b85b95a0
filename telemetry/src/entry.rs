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

pub(crate) type Fields = Vec<(&'static str, Value)>;

/// A field's value; texts are as they came, escaped only by what writes them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Uint(u64),
    Float(f64),
    Bool(bool),
}

impl fmt::Display for Value {
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
