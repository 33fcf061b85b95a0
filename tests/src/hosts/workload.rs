//! The workload on a VM: it writes every request into a ledger before it answers, and echoes its body.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Namespace;
use crate::web::{ANYWHERE, Workload, ok};

/// A workload with a ledger, listening on the loopback of its VM.
#[derive(Debug)]
pub struct Shop {
    workload: Workload,
    ledger: Arc<Mutex<HashMap<String, usize>>>,
}

impl Shop {
    /// Starts one in a VM's network.
    pub fn open(namespace: &Namespace) -> Self {
        Self::open_at(namespace, ANYWHERE)
    }

    /// The same at a port that somebody has written down.
    pub fn open_at(namespace: &Namespace, address: SocketAddr) -> Self {
        let ledger: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let rows = Arc::clone(&ledger);
        let workload = namespace.inside(|| {
            Workload::http_at(address, move |request| {
                if request.target() == "/healthz" {
                    return ok("up");
                }
                *rows.lock().unwrap_or_else(PoisonError::into_inner).entry(request.target().to_owned()).or_default() += 1;
                // `/slow/3000` takes three seconds.
                if let Some(time) = request.target().strip_prefix("/slow/").and_then(|time| time.parse().ok()) {
                    std::thread::sleep(Duration::from_millis(time));
                }
                ok(&format!("{} {}", request.target(), request.text()))
            })
        });
        Self { workload, ledger }
    }

    /// Where it listens, on the VM.
    pub fn address(&self) -> SocketAddr {
        self.workload.address
    }

    /// How often it saw that target.
    pub fn count(&self, target: &str) -> usize {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).get(target).copied().unwrap_or(0)
    }
}

impl From<&Shop> for SocketAddr {
    fn from(shop: &Shop) -> Self {
        shop.address()
    }
}
