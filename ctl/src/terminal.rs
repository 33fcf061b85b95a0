//! Where answers and advice go: answers to standard output in the format asked for, everything else to standard error.

use std::io::{IsTerminal, Write};

use serde::Serialize;

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// The admin API's own JSON.
    Json,
    /// The same as YAML.
    Yaml,
}

/// The two ends of a terminal (or of pipes, or of a test).
pub struct Terminal {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    /// Whether standard output is a terminal: a watched table then replaces the one before.
    pub(crate) out_is_tty: bool,
    /// Whether standard error is a terminal: progress then moves.
    pub(crate) err_is_tty: bool,
    pub(crate) format: Format,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Terminal {
    /// That of the process.
    pub fn standard() -> Self {
        let (out, err) = (std::io::stdout(), std::io::stderr());
        let (out_is_tty, err_is_tty) = (out.is_terminal(), err.is_terminal());
        Self { out: Box::new(out), err: Box::new(err), out_is_tty, err_is_tty, format: Format::Table }
    }

    /// Two writers that are no terminal.
    pub fn plain(out: impl Write + 'static, err: impl Write + 'static) -> Self {
        Self { out: Box::new(out), err: Box::new(err), out_is_tty: false, err_is_tty: false, format: Format::Table }
    }

    /// Writes an answer.
    pub(crate) fn show<T: Serialize + ?Sized>(&mut self, answer: &T, table: impl FnOnce(&T) -> String) -> std::io::Result<()> {
        let text = match self.format {
            Format::Table => table(answer),
            Format::Json => serde_json::to_string_pretty(answer).map_err(std::io::Error::other)?,
            Format::Yaml => serde_yaml_ng::to_string(answer).map_err(std::io::Error::other)?,
        };
        self.raw(text.trim_end_matches('\n'))?;
        self.raw("\n")
    }

    /// Writes one of a row of answers: a line of JSON, or a document of YAML.
    pub(crate) fn show_next<T: Serialize + ?Sized>(&mut self, answer: &T, table: impl FnOnce(&T) -> String) -> std::io::Result<()> {
        match self.format {
            Format::Json => {
                let line = serde_json::to_string(answer).map_err(std::io::Error::other)?;
                self.raw(&format!("{line}\n"))
            }
            Format::Yaml => {
                self.raw("---\n")?;
                self.show(answer, table)
            }
            Format::Table => self.show(answer, table),
        }
    }

    /// Writes to standard output as it is.
    pub(crate) fn raw(&mut self, text: &str) -> std::io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// Writes a line to standard error. Advice that nobody can read is no reason to fail.
    pub(crate) fn say(&mut self, line: &str) {
        let _ = writeln!(self.err, "{line}");
    }
}
