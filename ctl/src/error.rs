//! Why a command failed, and the exit code that says so.

use std::path::PathBuf;

use figspan_proto::admin::Problem;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; for a `--wait`, proven.
    Done,
    /// 1: refused by the hub, or failed.
    Failed,
    /// 2: the command line makes no sense.
    Usage,
    /// 3: a `--wait` ran out of time. The change itself is made.
    TimedOut,
    /// 78 (`EX_CONFIG`): the configuration has errors.
    Config,
}

impl Exit {
    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TimedOut => 3,
            Self::Config => 78,
        }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// No connection, or no answer on it.
    #[error("cannot reach the hub at {hub}: {why}; {mend}")]
    Unreachable { hub: String, why: String, mend: String },
    /// The hub said no.
    #[error("{}: {}", .0.title, .0.detail)]
    Refused(Problem),
    /// An answer that this version does not understand.
    #[error("the hub at {hub} answered {path} with something else than expected: {why}; compare `version` with the hub's")]
    Answer { hub: String, path: String, why: String },
    /// A `--wait` ran out of time.
    #[error("gave up after {after}: {what}; still waiting for: {waiting_for}. The change itself is made and stays")]
    TimedOut { after: String, what: String, waiting_for: String },
    /// A file cannot be read or written.
    #[error("cannot {act} {}: {source}", .path.display())]
    File { act: &'static str, path: PathBuf, source: std::io::Error },
    /// An argument that only this command can judge.
    #[error("{0}")]
    Usage(String),
    /// Standard output is gone.
    #[error("cannot write the answer: {0}")]
    Output(#[from] std::io::Error),
}

impl CtlError {
    /// How a command that failed so ends.
    pub const fn exit(&self) -> Exit {
        match self {
            Self::TimedOut { .. } => Exit::TimedOut,
            Self::Usage(_) => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}
