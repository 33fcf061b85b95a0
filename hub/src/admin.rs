//! The admin API: what operators see and change, over a Unix socket, or over TCP with a token. Not on either path.
//!
//! One table ([`operations`]) says which operations there are; the router and the OpenAPI document are both made from it. The
//! API decides nothing itself: it maps requests to [`Control`], reads the published snapshot, and asks for reloads.

pub(crate) mod backends;
mod explain;
mod extract;
mod handlers;
pub(crate) mod listen;
mod log;
mod openapi;
mod operations;
mod policies;
mod routes;
mod schemas;
mod socket;
mod token;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::{Extension, Router};
use figspan_control::Control;
use figspan_data::seal::Sealer;
use figspan_model::snapshot::Reader;
use figspan_model::state::Book;
use figspan_telemetry::LogHandle;
use http::StatusCode;

use crate::face::Face;
use crate::problem::Refusal;
use crate::reload::Reloader;

/// Largest request body: a TOML file of some thousand routes.
const MAX_BODY: usize = 256 * 1024;

/// What the operations work with; clones share it.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) control: Control,
    pub(crate) reader: Reader,
    pub(crate) book: Arc<Book>,
    /// Opens session cookies, to say where one leads.
    pub(crate) sessions: Arc<Sealer>,
    pub(crate) face: Arc<Face>,
    pub(crate) reloader: Reloader,
    /// The process's log; none where the hub is a part of another program.
    pub(crate) log: Option<LogHandle>,
}

/// The API without authentication, for a socket whose file mode is that.
pub(crate) fn router(admin: Admin) -> Router {
    let mut router = Router::new();
    for operation in operations::OPERATIONS {
        router = router.route(operation.path, (operation.route)());
    }
    let document = handlers::Document(openapi::document().to_string().into());
    router
        .layer(Extension(document))
        .fallback(|| async { Refusal::new(StatusCode::NOT_FOUND, "no such path", "the paths of this API are in /openapi.json") })
        .method_not_allowed_fallback(|| async {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "no such operation", "the operations of this API are in /openapi.json")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(admin)
}

#[cfg(test)]
mod tests;
