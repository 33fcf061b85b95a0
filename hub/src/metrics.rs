//! The metrics endpoint: `/metrics`, `/livez` and `/readyz`. Reads what others count; counts nothing itself.

mod guards;
mod hub;
mod process;
mod rules;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use figspan_control::Control;
use figspan_data::metrics::Metrics;
use figspan_data::metrics::collector::Shards;
use figspan_model::snapshot::Reader;
use figspan_model::state::Book;
use figspan_telemetry::LogHandle;
use http::{HeaderName, StatusCode, header};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::face::Face;

/// What a scrape looks at.
#[derive(Clone)]
pub(crate) struct Seen {
    pub(crate) control: Control,
    pub(crate) face: Arc<Face>,
    pub(crate) shards: Vec<Arc<Metrics>>,
    pub(crate) log: Option<LogHandle>,
    pub(crate) reader: Reader,
    pub(crate) book: Arc<Book>,
}

/// OpenMetrics, which Prometheus reads; its older text format differs in the names of counters' headers alone.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const TEXT: &str = "text/plain; charset=utf-8";

type Said = (StatusCode, [(HeaderName, &'static str); 1], String);

/// The endpoint.
pub(crate) fn router(seen: Seen) -> Router {
    Router::new().route("/metrics", get(metrics)).route("/livez", get(livez)).route("/readyz", get(readyz)).with_state(seen)
}

async fn metrics(State(seen): State<Seen>) -> Said {
    let scrape = hub::Scrape::gather(&seen).await;
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Shards(seen.shards.clone())));
    registry.register_collector(Box::new(scrape));
    registry.register_collector(Box::new(process::Process::now()));
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => (StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], body),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, TEXT)], format!("cannot encode metrics: {error}\n")),
    }
}

/// Whether restarting would help: a shard hangs. That control lives shows in the answer itself.
async fn livez(State(seen): State<Seen>) -> Said {
    let stuck = seen.face.stuck();
    if stuck.is_empty() {
        return (StatusCode::OK, [(header::CONTENT_TYPE, TEXT)], "alive\n".into());
    }
    let stuck: Vec<_> = stuck.iter().map(ToString::to_string).collect();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, TEXT)], format!("shards that hang: {}\n", stuck.join(", ")))
}

/// Whether new work shall come here, and what it waits for if not.
async fn readyz(State(seen): State<Seen>) -> Said {
    let waiting = seen.face.waiting_for(&seen.control);
    if waiting.is_empty() {
        return (StatusCode::OK, [(header::CONTENT_TYPE, TEXT)], "ready\n".into());
    }
    let lines: String = waiting.iter().map(|what| format!("waiting for {what}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, [(header::CONTENT_TYPE, TEXT)], lines)
}
