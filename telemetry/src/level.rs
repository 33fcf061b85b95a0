//! Which events are logged: what the settings say, and what somebody asked for a while.
//!
//! Both live in one filter, exchanged whole: the path of an event costs the same whether anything was raised or not. What was
//! raised ends by itself, by a thread that lives only that long; nothing of it survives the process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::render::escape;
use crate::{ACCESS, LogError};

/// Longest time for which a level may be raised: whoever needs more writes it into the settings.
pub const MAX_RAISED: Duration = Duration::from_secs(24 * 3600);
/// Longest directives.
const MAX_DIRECTIVES: usize = 1024;

/// What is asked for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raised {
    /// The level or directives, as they were asked for.
    pub level: String,
    /// The one target that it is for; all where absent.
    pub target: Option<String>,
    /// When it ends.
    pub until: SystemTime,
}

/// The levels in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Levels {
    /// What the settings say.
    pub configured: String,
    /// What holds instead, or beside it, for a while.
    pub raised: Option<Raised>,
}

struct State {
    configured: String,
    access: bool,
    raised: Option<(Raised, Instant)>,
    /// Whether a thread waits for the end of what was raised.
    watched: bool,
}

/// The one owner of the filter. Clones share it.
#[derive(Clone)]
pub(crate) struct Level(Arc<Inner>);

struct Inner {
    filter: reload::Handle<EnvFilter, Registry>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Level {
    pub(crate) fn new(filter: reload::Handle<EnvFilter, Registry>, configured: &str, access: bool) -> Self {
        let state = State { configured: configured.to_owned(), access, raised: None, watched: false };
        Self(Arc::new(Inner { filter, state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// What the settings say from now on; what was raised stays until its end. On an error nothing changes.
    pub(crate) fn configure(&self, level: Option<&str>, access: Option<bool>) -> Result<(), LogError> {
        let mut state = self.0.state();
        let level = level.unwrap_or(&state.configured).to_owned();
        let access = access.unwrap_or(state.access);
        self.0.put(&level, access, state.raised.as_ref().map(|(raised, _)| raised))?;
        (state.configured, state.access) = (level, access);
        Ok(())
    }

    pub(crate) fn raise(&self, level: &str, target: Option<&str>, time: Duration) -> Result<Levels, LogError> {
        if time.is_zero() || time > MAX_RAISED {
            return Err(LogError::Time);
        }
        if target.is_some_and(|target| !is_target(target)) {
            return Err(LogError::Target(escape(target.unwrap_or_default())));
        }
        let raised = Raised { level: level.to_owned(), target: target.map(str::to_owned), until: SystemTime::now() + time };
        let mut state = self.0.state();
        self.0.put(&state.configured, state.access, Some(&raised))?;
        state.raised = Some((raised, Instant::now() + time));
        if state.watched {
            self.0.changed.notify_all();
        } else {
            let inner = Arc::clone(&self.0);
            let started = std::thread::Builder::new().name("log-level".into()).spawn(move || inner.watch());
            if let Err(error) = started {
                // Nobody would end it.
                state.raised = None;
                self.0.put(&state.configured, state.access, None)?;
                return Err(LogError::Thread(error));
            }
            state.watched = true;
        }
        Ok(state.levels())
    }

    /// Back to what the settings say, now.
    pub(crate) fn lower(&self) -> Levels {
        let mut state = self.0.state();
        self.0.end(&mut state);
        self.0.changed.notify_all();
        state.levels()
    }

    pub(crate) fn levels(&self) -> Levels {
        self.0.state().levels()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, configured: &str, access: bool, raised: Option<&Raised>) -> Result<(), LogError> {
        self.filter.reload(filter(configured, access, raised)?).map_err(|error| LogError::Twice(error.to_string()))
    }

    fn end(&self, state: &mut State) {
        if state.raised.take().is_some() {
            // What was in force before cannot be refused.
            let _ = self.put(&state.configured, state.access, None);
        }
    }

    fn watch(&self) {
        let mut state = self.state();
        while let Some((_, until)) = &state.raised {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.end(&mut state);
            } else {
                state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.watched = false;
    }
}

impl State {
    fn levels(&self) -> Levels {
        Levels { configured: self.configured.clone(), raised: self.raised.as_ref().map(|(raised, _)| raised.clone()) }
    }
}

/// A module path: what events are told apart by.
fn is_target(text: &str) -> bool {
    !text.is_empty() && text.len() <= 128 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':' | b'-'))
}

/// The filter of a configured level, the access log's switch, and what was raised.
pub(crate) fn filter(configured: &str, access: bool, raised: Option<&Raised>) -> Result<EnvFilter, LogError> {
    let read = |level: &str| {
        if level.len() > MAX_DIRECTIVES {
            return Err(LogError::Level(escape(&level.chars().take(100).collect::<String>()), "it is too long".to_owned()));
        }
        EnvFilter::builder().parse(level).map_err(|error| LogError::Level(escape(level), error.to_string()))
    };
    let directive = |text: &str| text.parse().map_err(|error| LogError::Level(escape(text), format!("{error}")));
    let base = match raised {
        Some(Raised { level, target: None, .. }) => read(level)?,
        Some(Raised { level, target: Some(target), .. }) => {
            // A level alone; directives have targets of their own.
            level.parse::<tracing::Level>().map_err(|error| LogError::Level(escape(level), error.to_string()))?;
            read(configured)?.add_directive(directive(&format!("{target}={level}"))?)
        }
        None => read(configured)?,
    };
    Ok(base.add_directive(directive(&format!("{ACCESS}={}", if access { "info" } else { "off" }))?))
}
