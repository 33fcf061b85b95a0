//! Mirrors of a rule: where copies of its requests go, which of them, and how their answers are compared with the client's.

use std::sync::Arc;
use std::time::Duration;

use super::json_path::JsonPath;
use crate::routing::Target;

/// One target of copies (Gateway API: `HTTPRequestMirrorFilter`). Nobody waits for what it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Where copies go.
    pub target: Target,
    /// Which part of the requests is copied, in percent.
    pub percent: u32,
    /// Longest body that is copied; a request with a longer one is not, or its copy is broken off.
    pub max_body: usize,
    /// How long a copy may take as a whole.
    pub timeout: Duration,
    /// Why requests that may change something are copied too, if they are.
    pub unsafe_methods: Option<Arc<str>>,
    /// How answers are compared.
    pub compare: Option<Compare>,
}

/// How the answer to a copy is compared with the client's. Status and latency always are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// Which part of the copies is compared, in percent.
    pub sample_percent: u32,
    /// How bodies are.
    pub body: CompareBody,
}

/// How bodies are compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CompareBody {
    /// Not at all.
    #[default]
    Ignored,
    /// Byte for byte, by a hash that is made as they pass.
    Hash,
    /// As JSON, whatever the order of fields.
    Json {
        /// What may differ.
        ignore: Vec<JsonPath>,
        /// Longest body that is kept for it, in bytes; longer ones are compared by hash.
        max_bytes: usize,
    },
}
