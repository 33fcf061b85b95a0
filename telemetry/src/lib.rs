//! How figspan's programs log.
//!
//! A `tracing` event becomes one entry, which a bounded queue carries to one writer thread: journald with the fields
//! kept, or text or JSON on standard error. Promises: logging never waits for whoever reads it (a full queue drops lines and
//! says how many); what came from the network cannot forge a line, for control characters are escaped; the access log
//! ([`ACCESS`]) costs nothing while it is off. Process-wide by nature: initialised once, by `main`.
#![warn(missing_docs)]

mod entry;
mod journal;
mod layer;
mod level;
mod limit;
mod render;
mod writer;

use std::io::IsTerminal;
use std::str::FromStr;
use std::time::Duration;

use tracing::Subscriber;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

pub use level::{Levels, MAX_RAISED, Raised};
pub use render::escape;

/// Target of the access log: one event for each request, at level INFO.
pub const ACCESS: &str = "figspan::access";

/// Where lines go, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// journald where standard error is connected to it (`$JOURNAL_STREAM`), else text.
    #[default]
    Auto,
    /// journald, fields kept: `uplink` becomes `FIGSPAN_UPLINK`.
    Journald,
    /// One line of text on standard error.
    Text,
    /// One JSON object per line on standard error.
    Json,
}

impl FromStr for Format {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "auto" => Ok(Self::Auto),
            "journald" => Ok(Self::Journald),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(LogError::Format(escape(text))),
        }
    }
}

/// What an operator says about logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Where and how.
    pub format: Format,
    /// What: a level (`info`) or directives of `tracing` (`info,figspan_tunnel=debug`).
    pub level: String,
    /// Whether the access log is written.
    pub access: bool,
    /// Whether this program never writes an access log, so that less may wait and less memory is taken.
    pub short: bool,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: Format::Auto, level: "info".into(), access: true, short: false }
    }
}

/// Why logs could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a format.
    #[error("log format `{0}` is not known; use auto, journald, text or json")]
    Format(String),
    /// Not a level.
    #[error(
        "log level `{0}` cannot be read ({1}); use error, warn, info, debug or trace, or directives such as `info,figspan_tunnel=debug`"
    )]
    Level(String, String),
    /// Not a target.
    #[error("log target `{0}` is no module path; use one such as figspan_tunnel or figspan_agent::tunnels")]
    Target(String),
    /// Not a time.
    #[error("a level is raised for 1 s to 24 h; for longer, write it into the settings")]
    Time,
    /// No journald.
    #[error("journald cannot be reached ({0}); use format `auto`, `text` or `json`")]
    Journald(std::io::Error),
    /// A thread.
    #[error("a thread of the log cannot be started: {0}")]
    Thread(std::io::Error),
    /// Something else logs already.
    #[error("logging is set up already: {0}")]
    Twice(String),
}

/// Changes levels at run time and empties the queue. Clones share one log.
#[derive(Clone)]
pub struct LogHandle {
    level: level::Level,
    writer: writer::Writer,
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogHandle")
    }
}

impl LogHandle {
    /// Sets the configured level or directives; what was raised stays until its end. On an error nothing changes.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        self.level.configure(Some(level), None)
    }

    /// Switches the access log on or off.
    pub fn set_access(&self, access: bool) -> Result<(), LogError> {
        self.level.configure(None, Some(access))
    }

    /// Sets both; on an error nothing changes.
    pub fn set(&self, level: &str, access: bool) -> Result<(), LogError> {
        self.level.configure(Some(level), Some(access))
    }

    /// Logs by another level for a time, at most [`MAX_RAISED`]: everywhere, or where `target` is given, of that module beside what is
    /// configured. It ends by itself, at [`Self::lower`], and with the process. On an error nothing changes.
    pub fn raise(&self, level: &str, target: Option<&str>, time: Duration) -> Result<Levels, LogError> {
        self.level.raise(level, target, time)
    }

    /// Goes back to the configured level now.
    pub fn lower(&self) -> Levels {
        self.level.lower()
    }

    /// The levels in force.
    pub fn levels(&self) -> Levels {
        self.level.levels()
    }

    /// Waits until everything logged so far is written, at most 1 s. Call it before the process ends.
    pub fn flush(&self) {
        self.writer.flush(Duration::from_secs(1));
    }

    /// Lines lost so far because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }
}

/// Sets up logging for the process. Blocks only to reach journald; fails when logging is set up already.
pub fn init(settings: &LogSettings) -> Result<LogHandle, LogError> {
    let sink = match settings.format {
        Format::Journald => writer::Sink::Journal(journal::Journal::connect().map_err(LogError::Journald)?),
        Format::Auto if systemd_journal_logger::connected_to_journal() => match journal::Journal::connect() {
            Ok(journal) => writer::Sink::Journal(journal),
            Err(_) => writer::Sink::text(std::io::stderr()),
        },
        Format::Json => writer::Sink::json(std::io::stderr()),
        Format::Text | Format::Auto => writer::Sink::text(std::io::stderr()),
    };
    let (handle, subscriber) = subscriber(settings, sink)?;
    subscriber.try_init().map_err(|e| LogError::Twice(e.to_string()))?;
    Ok(handle)
}

/// Whether a person reads standard error.
pub fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

fn subscriber(settings: &LogSettings, sink: writer::Sink) -> Result<(LogHandle, impl Subscriber + Send + Sync + use<>), LogError> {
    let places = if settings.short { writer::SHORT_QUEUE } else { writer::QUEUE };
    let writer = writer::Writer::start(sink, places).map_err(LogError::Thread)?;
    let (filter, reload) = reload::Layer::new(level::filter(&settings.level, settings.access, None)?);
    // The filter stands before everything else, not on the one layer: then a disabled event is not even built. Each is put on the
    // registry by itself: of two that were joined before, the registry would not learn the most that they want, and each `trace!`
    // of a library would be looked up as it passes.
    let subscriber = tracing_subscriber::registry().with(filter).with(layer::Entries::new(writer.clone()));
    Ok((LogHandle { level: level::Level::new(reload, &settings.level, settings.access), writer }, subscriber))
}

#[cfg(test)]
mod tests;
