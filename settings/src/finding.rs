//! A mistake in a settings file, for people.

use std::fmt;

/// One mistake (or warning): where, what, why, and how to mend it. Displays as `file:line:column: what: why; mend`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, as the reader was told.
    pub source: String,
    /// Line, from 1; 0 where the finding is about the file as a whole.
    pub line: usize,
    /// Column in characters, from 1; 0 as above.
    pub column: usize,
    /// The key or section.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// How to mend it.
    pub mend: String,
}

impl Finding {
    /// A finding about a file as a whole: it cannot be read, say.
    pub fn about_file(source: &str, what: impl Into<String>, why: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { source: source.to_owned(), line: 0, column: 0, what: what.into(), why: why.into(), mend: mend.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}; {}", self.what, self.why, self.mend)
    }
}

impl std::error::Error for Finding {}
