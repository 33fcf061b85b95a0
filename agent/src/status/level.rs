//! The log level over the status socket: what is asked, and what holds then.

use std::time::{Duration, SystemTime};

use figspan_telemetry::{Levels, LogError, LogHandle};
use serde::{Deserialize, Serialize};

use crate::advertise::unix_ms;

/// A level that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// A level or directives; absent: back to the configured level now.
    pub level: Option<String>,
    /// The one module that it is for.
    #[serde(default)]
    pub target: Option<String>,
    /// For how long, in seconds; 1 to 86400.
    pub seconds: u64,
}

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevel {
    /// What agent.toml says.
    pub configured: String,
    /// What holds instead or beside it for a while.
    pub raised: Option<Raised>,
}

/// What holds for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// The level or directives.
    pub level: String,
    /// The one module that it is for.
    pub target: Option<String>,
    /// When it ends, in Unix milliseconds.
    pub until_ms: u64,
}

impl From<Levels> for LogLevel {
    fn from(levels: Levels) -> Self {
        let raised = levels.raised.map(|raised| Raised { level: raised.level, target: raised.target, until_ms: unix_ms(raised.until) });
        Self { configured: levels.configured, raised }
    }
}

/// Does what was asked.
pub(super) fn change(log: &LogHandle, ask: &Ask) -> Result<LogLevel, LogError> {
    let Some(level) = &ask.level else {
        let levels = log.lower();
        tracing::info!("logging as configured again, as somebody asked on the status socket");
        return Ok(levels.into());
    };
    let levels = log.raise(level, ask.target.as_deref(), Duration::from_secs(ask.seconds))?;
    let target = ask.target.as_deref().unwrap_or("all targets");
    tracing::info!("logging {target} by {level} for {} s, as somebody asked on the status socket", ask.seconds);
    Ok(levels.into())
}

impl LogLevel {
    /// For people.
    pub fn told(&self, now: SystemTime) -> String {
        match &self.raised {
            None => format!("{}, as configured", self.configured),
            Some(Raised { level, target, until_ms }) => {
                let left = humantime::format_duration(Duration::from_secs(until_ms.saturating_sub(unix_ms(now)).div_ceil(1000)));
                let target = target.as_ref().map(|target| format!(" for {target}")).unwrap_or_default();
                format!("{level}{target} for {left} more, then {} as configured", self.configured)
            }
        }
    }
}
