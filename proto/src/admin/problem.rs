//! Every refusal of the API.

use serde::{Deserialize, Serialize};

/// Every refusal of the API, with its HTTP status (RFC 9457, problem details).
#[derive(Debug, Clone, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// HTTP status.
    pub status: u16,
    /// What failed.
    pub title: String,
    /// Why, and how to mend it.
    pub detail: String,
}
