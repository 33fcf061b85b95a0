//! How the places are where processes of this VM call services.

use std::sync::atomic::Ordering;

use figspan_proto::preamble::Kind;
use serde::{Deserialize, Serialize};

use crate::service::Door;

/// A service, as it is called at one place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where it is called: an address, or `unix:` and a path.
    pub listen: String,
    /// `http` or `tcp`.
    pub protocol: String,
    /// Whether it can be called there.
    pub listening: bool,
    /// Why not.
    pub error: Option<String>,
    /// Why no hub took the last connection; gone with the next that one takes.
    pub refused: Option<String>,
    /// Connections open now.
    pub open: u64,
    /// Connections that hubs have taken since the start.
    pub taken: u64,
    /// Bytes to the service, of connections that have ended.
    pub bytes_to_service: u64,
    /// Bytes from it.
    pub bytes_from_service: u64,
    /// Connections that failed, by reason.
    pub failed: Vec<(String, u64)>,
}

/// How a door is now.
pub(super) fn of(door: &Door) -> Service {
    let settings = door.settings.load();
    Service {
        name: settings.name.to_string(),
        listen: door.address().to_string(),
        protocol: match settings.protocol {
            Kind::Http => "http",
            Kind::Tcp => "tcp",
        }
        .to_owned(),
        listening: door.listener().is_some(),
        error: door.error(),
        refused: door.refused(),
        open: door.counts.open(),
        taken: door.counts.taken.load(Ordering::Relaxed),
        bytes_to_service: door.counts.to_service.load(Ordering::Relaxed),
        bytes_from_service: door.counts.from_service.load(Ordering::Relaxed),
        failed: door.counts.failures(),
    }
}
