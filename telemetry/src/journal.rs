//! Entries as journal entries, with every field a journal field of its own: `journalctl FIGSPAN_UPLINK=monolith` finds them.

use std::io;

use log::Record;
use systemd_journal_logger::JournalLog;

use crate::entry::Entry;
use crate::render::escaped;

pub(crate) struct Journal(JournalLog);

impl Journal {
    /// Fails when journald does not listen.
    pub(crate) fn connect() -> io::Result<Self> {
        JournalLog::new().map(Self)
    }

    /// Names go upper-case by the journal's rules; values are escaped as everywhere, since `journalctl` shows them raw with `-a`.
    pub(crate) fn send(&self, entry: &Entry) -> io::Result<()> {
        let fields = fields(entry);
        let target = escaped(&entry.target);
        let message = escaped(&entry.message);
        self.0.journal_send(
            &Record::builder()
                .level(level(entry.level))
                .target(&target)
                .file(entry.file)
                .line(entry.line)
                .key_values(&fields.as_slice())
                .args(format_args!("{message}"))
                .build(),
        )
    }
}

fn fields(entry: &Entry) -> Vec<(String, String)> {
    entry.fields.iter().map(|(name, value)| (field_name(name), escaped(&value.to_string()).into_owned())).collect()
}

/// Our own name space in the journal, whose other fields belong to systemd and to other programs.
fn field_name(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper.starts_with("FIGSPAN_") { upper } else { format!("FIGSPAN_{upper}") }
}

const fn level(level: tracing::Level) -> log::Level {
    match level {
        tracing::Level::ERROR => log::Level::Error,
        tracing::Level::WARN => log::Level::Warn,
        tracing::Level::INFO => log::Level::Info,
        tracing::Level::DEBUG => log::Level::Debug,
        tracing::Level::TRACE => log::Level::Trace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_live_in_a_name_space_of_their_own() {
        assert_eq!(field_name("uplink"), "FIGSPAN_UPLINK");
        assert_eq!(field_name("figspan_uplink"), "FIGSPAN_UPLINK");
        assert_eq!(field_name("priority"), "FIGSPAN_PRIORITY");
    }
}
