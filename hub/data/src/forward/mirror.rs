//! Hop: route -> forward -> *mirror*. Copies of requests to other targets, for whose answers nobody waits.
//!
//! A copy is a task of its own with its own time; what it costs the request is a look at counters, a copy of the head and
//! pointers to parts of the body (`dial::tee`). Copies are bounded per shard; what does not fit is dropped and counted. They
//! end when drain begins. Answers are read to be compared, or to free their connection, and dropped.

mod copy;

use std::rc::Rc;
use std::sync::Arc;

use figspan_model::routing::policy::Mirror;
use figspan_model::routing::{HttpRule, MirrorTarget, RouteName};
use figspan_model::state::Copies;
use http::{HeaderName, HeaderValue, Method, request};
use tokio::sync::oneshot;

use super::compare::{Eye, Witness};
use crate::body::Body;
use crate::client::Client;
use crate::dial::tee::tee;
use crate::dial::upload::Upload;
use crate::shard::{Held, ShardRef};
use copy::Copy;

/// Tells a workload that a request is a copy, and of which route.
const MARKER: HeaderName = HeaderName::from_static("figspan-mirror");

/// A request that may be copied.
pub(super) struct Original<'o> {
    pub(super) shard: &'o ShardRef,
    pub(super) snapshot: &'o Rc<Held>,
    pub(super) route: &'o RouteName,
    pub(super) rule: &'o Arc<HttpRule>,
    pub(super) parts: &'o request::Parts,
    pub(super) client: &'o Rc<Client>,
}

impl Original<'_> {
    /// Sends the copies that the rule asks for on their way; who shall look at the request's own answer.
    pub(super) fn copy(&self, mirrors: &[Mirror], upload: &mut Upload) -> Vec<Witness> {
        let mut witnesses = Vec::new();
        for (index, (mirror, target)) in mirrors.iter().zip(&self.rule.mirrors).enumerate() {
            if copies(mirror, &self.parts.method) && !self.shard.drain.is_stopping() {
                witnesses.extend(self.copy_to(index, mirror, target, upload));
            }
        }
        witnesses
    }

    fn copy_to(&self, index: usize, mirror: &Mirror, target: &MirrorTarget, upload: &mut Upload) -> Option<Witness> {
        let (shard, state) = (self.shard, &target.state);
        let number = shard.shard;
        if !is_picked(state.count(number, Copies::Seen), mirror.percent) {
            return None;
        }
        let dropped = |why| {
            state.count(number, why);
            shard.metrics.copies(why);
        };
        if upload.length().is_some_and(|length| length > mirror.max_body as u64) {
            dropped(Copies::DroppedBody);
            return None;
        }
        let Some(slot) = shard.copies.take() else {
            dropped(Copies::DroppedFull);
            return None;
        };
        let begun = state.count(number, Copies::Begun);
        shard.metrics.copies(Copies::Begun);
        let compare = mirror.compare.as_ref().filter(|compare| is_picked(begun, compare.sample_percent));
        let (witness, seen) = match compare {
            None => (None, None),
            Some(compare) => {
                let (to, seen) = oneshot::channel();
                (Some(Witness::new(Eye::new(&compare.body), to)), Some(seen))
            }
        };
        let body = match upload.meter() {
            None => Body::Empty,
            Some(_) => {
                let (to, copied) = tee(mirror.max_body, upload.length());
                upload.tee(to);
                Body::stream(copied)
            }
        };
        let mut parts = self.parts.clone();
        if let Ok(route) = HeaderValue::from_str(self.route) {
            parts.headers.insert(MARKER, route);
        }
        let copy = Copy {
            shard: Rc::clone(shard),
            _slot: slot,
            snapshot: Rc::clone(self.snapshot),
            rule: Arc::clone(self.rule),
            index,
            parts,
            client: Rc::clone(self.client),
            body,
            seen,
        };
        shard.drain.spawn_local(copy.run());
        witness
    }
}

/// Whether requests of that method are copied.
pub fn copies(mirror: &Mirror, method: &Method) -> bool {
    mirror.unsafe_methods.is_some() || is_safe(method)
}

/// Methods that change nothing (RFC 9110, section 9.2.1). TRACE would show a stranger the request's own fields.
fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// Whether the one with number `n` is among `percent` of all, evenly spread.
fn is_picked(n: u64, percent: u32) -> bool {
    let share = |n: u64| (n % 100) * u64::from(percent) / 100;
    percent >= 100 || share(n + 1) > share(n) || (n % 100 == 99 && u64::from(percent) > share(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_every_hundred_requests_exactly_so_many_are_copied_evenly() {
        for percent in [1, 5, 10, 33, 50, 99, 100] {
            let picked: Vec<u64> = (0..1000).filter(|n| is_picked(*n, percent)).collect();
            assert_eq!(picked.len() as u32, percent * 10, "{percent}");
            assert!((0..10).all(|hundred| picked.iter().filter(|n| **n / 100 == hundred).count() as u32 == percent), "{percent}");
            let gap = picked.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(gap.is_none_or(|gap| gap <= u64::from(100 / percent + 1)), "{percent}: {gap:?}");
        }
    }
}
