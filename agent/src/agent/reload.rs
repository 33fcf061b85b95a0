//! Settings taken on while the agent runs: what changes at once, what waits for a restart, and what became of each reload.
//!
//! Streams and tunnels that stand are not touched; a probe goes on unless what it asks has changed.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use tokio_util::sync::CancellationToken;

use super::{Running, wanted};
use crate::probe;
use crate::settings::{Settings, Uplink};
use crate::uplinks::Changes;

impl Running {
    /// Takes on other settings; streams that run are not touched. What needs a restart is told and left as it is.
    pub fn reload(&self, new: Settings) -> Changes {
        let old = std::mem::replace(&mut *self.0.settings.lock().unwrap_or_else(PoisonError::into_inner), new.clone());
        let changes = self.apply(&new);
        self.0.receiver.set_limit(new.max_streams);
        self.0.services.apply(&new.services);
        self.0.wanted.send_if_modified(|now| {
            let wanted = wanted(&new);
            let changed = *now != wanted;
            *now = wanted;
            changed
        });
        let restart = needs_restart(&old, &new);
        for key in &restart {
            tracing::warn!(key, "{key} has changed in agent.toml; it takes effect after a restart");
        }
        self.note_reload(None);
        changes
    }

    /// Notes what became of a reload; an error says that the old settings stay.
    pub fn note_reload(&self, error: Option<String>) {
        let mut reload = self.0.reload.lock().unwrap_or_else(PoisonError::into_inner);
        match &error {
            Some(_) => reload.failed += 1,
            None => reload.done += 1,
        }
        reload.at_ms = crate::advertise::unix_ms(SystemTime::now());
        reload.error = error;
    }

    pub(super) fn apply(&self, settings: &Settings) -> Changes {
        let inner = &*self.0;
        let changes = inner.uplinks.apply(&settings.uplinks);
        let mut probes = inner.probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.retain(|name, (probed, stop)| {
            let same = settings.uplinks.iter().any(|uplink| uplink.name == *name && asked_alike(uplink, probed));
            if !same {
                stop.cancel();
            }
            same
        });
        for uplink in &settings.uplinks {
            if probes.contains_key(&uplink.name) {
                continue;
            }
            let stop = CancellationToken::new();
            probes.insert(uplink.name.clone(), (uplink.clone(), stop.clone()));
            let (uplink, file) = (uplink.clone(), settings.file.clone());
            let (uplinks, resolver) = (Arc::clone(&inner.uplinks), inner.resolver.clone());
            let life = inner.life.clone();
            inner.life.spawn(async move {
                tokio::select! {
                    () = probe::watch(uplink, file, uplinks, resolver, stop) => {}
                    () = life.stopping() => {}
                }
            });
        }
        changes
    }
}

/// Whether a probe of one would find the same as a probe of the other.
fn asked_alike(a: &Uplink, b: &Uplink) -> bool {
    a.address == b.address && a.health == b.health
}

/// Keys that changed and cannot change while the agent runs.
pub(super) fn needs_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let keys = [
        ("state_dir", old.state_dir != new.state_dir),
        ("workers", old.workers != new.workers),
        ("status.socket", old.status_socket != new.status_socket),
        ("metrics.address", old.metrics != new.metrics),
        ("log.format", old.log.format != new.log.format),
        ("trust_domain", old.trust_domain != new.trust_domain),
        ("zone", old.zone != new.zone),
    ];
    keys.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}
