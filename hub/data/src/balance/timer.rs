//! The clock of one attempt, for backends that are balanced by load.

use std::sync::Arc;

use figspan_model::routing::{Backend, Method};
use figspan_model::state::EndpointState;
use http::StatusCode;
use tokio::time::Instant;

use super::now;

/// Runs from a choice to its answer or failure; does nothing where nobody asks for latencies.
pub struct Timer(Option<(Arc<EndpointState>, Instant)>);

impl Timer {
    /// Starts with an attempt.
    pub fn begin(backend: &Backend, endpoint: &Arc<EndpointState>) -> Self {
        let method = backend.policy.as_ref().and_then(|policy| policy.load_balancing.as_ref()).map(|asked| asked.method);
        Self((method == Some(Method::LeastLoad)).then(|| (Arc::clone(endpoint), Instant::now())))
    }

    /// An answer's head has come. An error of the workload counts as a failure. Where the request's body is long, its time is
    /// the client's and says nothing.
    pub fn answered(&self, status: StatusCode, short: bool) {
        if let Some((state, began)) = &self.0 {
            match (status.is_server_error(), short) {
                (true, _) => state.latency.failed(began.elapsed(), now()),
                (false, true) => state.latency.answered(began.elapsed(), now()),
                (false, false) => {}
            }
        }
    }

    /// The endpoint failed.
    pub fn failed(&self) {
        if let Some((state, began)) = &self.0 {
            state.latency.failed(began.elapsed(), now());
        }
    }
}
