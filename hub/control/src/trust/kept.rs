//! The hub's CAs as they are in memory, and as `ca.json` keeps them. Pure.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use figspan_proto::admin::CaRoot;
use figspan_proto::name::TrustDomain;
use figspan_tunnel::ca::{Ca, LEAF_LIFETIME};
use figspan_tunnel::identity::Roots;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::TrustError;
use crate::config::text;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    current: Pem,
    next: Option<Pem>,
    previous: Option<Previous>,
    /// How long leafs lived when the file was written, in seconds.
    #[serde(default)]
    lifetime: Option<u64>,
    #[serde(default)]
    longest: Option<Timestamp>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pem {
    certificate: String,
    key: String,
    #[serde(default)]
    since: Option<Timestamp>,
}

/// A root that no longer issues.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Previous {
    pub(super) certificate: String,
    /// Until when it is trusted.
    pub(super) until: Timestamp,
    #[serde(default)]
    pub(super) since: Option<Timestamp>,
}

/// A root that does not yet issue.
#[derive(Debug, Clone)]
pub(super) struct Next {
    pub(super) ca: Arc<Ca>,
    pub(super) since: Option<Timestamp>,
}

/// All CAs. Each has been what it is `since` then.
#[derive(Debug, Clone)]
pub(super) struct Cas {
    pub(super) current: Arc<Ca>,
    pub(super) since: Option<Timestamp>,
    pub(super) next: Option<Next>,
    pub(super) previous: Option<Previous>,
    lifetime: Duration,
    /// When the last leaf ends that was issued for longer than leafs live now.
    pub(super) longest: Option<Timestamp>,
}

impl Cas {
    /// One CA, and no change.
    pub(super) fn alone(current: Ca, lifetime: Duration, since: Option<Timestamp>) -> Self {
        Self { current: Arc::new(current), since, next: None, previous: None, lifetime, longest: None }
    }

    /// From now on leafs live so long; whether that is news.
    pub(super) fn live(&mut self, lifetime: Duration, now: Timestamp) -> bool {
        let before = std::mem::replace(&mut self.lifetime, lifetime);
        if before > lifetime {
            let last = now.checked_add(before).unwrap_or(Timestamp::MAX);
            self.longest = Some(self.longest.map_or(last, |longest| longest.max(last)));
        }
        before != lifetime
    }

    /// For people, in the order of [`roots`].
    pub(super) fn view(&self) -> Vec<CaRoot> {
        let root = |pin: String, state: &str, since: Option<Timestamp>, until: Option<Timestamp>| CaRoot {
            pin,
            state: state.to_owned(),
            since: since.map(text),
            until: until.map(text),
        };
        let mut view = vec![root(self.current.pin().to_string(), "issues", self.since, None)];
        view.extend(self.next.iter().map(|next| root(next.ca.pin().to_string(), "next", next.since, None)));
        if let Some(old) = &self.previous {
            let pins = Roots::from_pem(&old.certificate).map(|roots| roots.pins()).unwrap_or_default();
            view.extend(pins.iter().map(|pin| root(pin.to_string(), "old", old.since, Some(old.until))));
        }
        view
    }
}

pub(super) fn restore(domain: &TrustDomain, kept: Kept, path: &Path) -> Result<Cas, TrustError> {
    let load = |pem: &Pem| {
        let ca = Ca::from_pem(domain, &pem.certificate, &pem.key);
        ca.map(Arc::new).map_err(|source| TrustError::Ca { place: path.display().to_string(), source })
    };
    Ok(Cas {
        current: load(&kept.current)?,
        since: kept.current.since,
        next: kept.next.map(|pem| Ok::<_, TrustError>(Next { ca: load(&pem)?, since: pem.since })).transpose()?,
        previous: kept.previous,
        lifetime: kept.lifetime.map_or(LEAF_LIFETIME, Duration::from_secs),
        longest: kept.longest,
    })
}

pub(super) fn keep(cas: &Cas) -> Kept {
    let pem = |ca: &Ca, since| Pem { certificate: ca.certificate_pem(), key: ca.key_pem(), since };
    Kept {
        current: pem(&cas.current, cas.since),
        next: cas.next.as_ref().map(|next| pem(&next.ca, next.since)),
        previous: cas.previous.clone(),
        lifetime: Some(cas.lifetime.as_secs()),
        longest: cas.longest,
    }
}

/// Whom to trust: the CA that issues first.
pub(super) fn roots(cas: &Cas) -> Result<Roots, TrustError> {
    let mut der = cas.current.roots().to_der();
    if let Some(next) = &cas.next {
        der.extend(next.ca.roots().to_der());
    }
    if let Some(previous) = &cas.previous {
        der.extend(Roots::from_pem(&previous.certificate)?.to_der());
    }
    Ok(Roots::from_der(der)?)
}
