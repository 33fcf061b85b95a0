//! Hop: balance -> forward. The choice of one try: an endpoint, its count of work under way, and room at its backend.
//!
//! From a choice to its count there is no await: the drain proof rests on it. Room is waited for afterwards, in turn and for a
//! bounded time, and then the endpoint is looked at again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use figspan_model::snapshot::{Endpoint, Snapshot};

use crate::balance::{Choice, Chosen, NoChoice, Question, Tried};
use crate::dial::inflight::InFlight;
use crate::dial::place::Place;
use crate::health::{self, TierOf, Watch};
use crate::limit::backend::{Bound, Queues};
use crate::metrics::Limit;
use crate::reply::Failure;

use super::Request;

/// A place, with its count of work under way.
pub(super) struct Picked {
    pub(super) place: Rc<Place>,
    pub(super) in_flight: InFlight,
    /// Index of the backend in its rule.
    pub(super) backend: usize,
    pub(super) watch: Watch,
}

/// Chooses an endpoint, counts the request on it and remembers it as tried. After the first time among those that there are
/// by now: a request may have waited long for one that then failed.
pub(super) fn pick(request: &Request<'_>, tried: &mut Tried) -> Result<Picked, Failure> {
    let renewed = (!tried.is_empty()).then(|| request.shard.renewed(request.snapshot));
    let snapshot = renewed.as_ref().unwrap_or(request.snapshot);
    let (choice, permit) = health::choose(request.question(snapshot, tried)).map_err(none)?;
    let backend = choice.backend;
    choice.near.into_iter().for_each(|near| request.shard.metrics.chosen(near));
    request.rule.backends[backend].share.add(request.shard.shard);
    let tier = TierOf::of(request.rule.failover(), &request.rule.state, &request.rule.backends, backend);
    tried.add(&choice);
    let Some(place) = snapshot.place(&choice.endpoint) else {
        health::give_back(&request.rule.backends[backend], choice.state(), permit);
        return Err(Failure::NobodyReady);
    };
    let watch = Watch::new(request.shard, &request.rule.backends[backend], &place, permit, tier);
    let in_flight = InFlight::picked(&place, request.shard.shard);
    Ok(Picked { place, in_flight, backend, watch })
}

/// The same where room is there at once, or `None`: a second try does not wait.
pub(super) fn pick_with_room(request: &Request<'_>, tried: &mut Tried) -> Option<Picked> {
    let picked = pick(request, tried).ok()?;
    let backend = &request.rule.backends[picked.backend];
    if let Some(limits) = backend.policy.as_ref().and_then(|policy| policy.limits.as_ref()) {
        let permit = Queues::try_enter(&backend.state, Bound::Requests, limits).ok()?;
        permit.into_iter().for_each(|permit| picked.in_flight.hold(permit));
    }
    Some(picked)
}

/// Takes room for a try at its backend, where that is bounded. `Err`: choose again, and what to tell if nothing else is left.
pub(super) async fn room(request: &Request<'_>, picked: &Picked, tried: &mut Tried) -> Result<(), Option<Failure>> {
    let backend = &request.rule.backends[picked.backend];
    let Some(limits) = backend.policy.as_ref().and_then(|policy| policy.limits.as_ref()) else { return Ok(()) };
    // A session may go where nothing new goes.
    let drained = picked.in_flight.draining();
    match request.shard.dialer.queues().enter(&backend.state, Bound::Requests, limits).await {
        Ok(Some(permit)) => picked.in_flight.hold(permit),
        Ok(None) => {}
        Err(_) => {
            request.shard.metrics.limit_hit(Limit::BackendRequests);
            tried.add_full(&backend.state);
            return Err(Some(Failure::BackendLimit));
        }
    }
    // It may have begun to drain while the request waited: nothing new goes there.
    if picked.in_flight.draining() && !drained { Err(None) } else { Ok(()) }
}

impl Request<'_> {
    /// What `balance` is asked for this request.
    fn question<'p, 'q>(&'q self, snapshot: &'p Snapshot, tried: &'q Tried) -> Question<'p, 'q> {
        let (backends, rule) = (&*self.rule.backends, &*self.rule.state);
        let question = Question::new(snapshot, backends, rule, tried, self.shard.dialer.services());
        let failover = self.rule.failover().map(|terms| &**terms);
        Question { failover, hash: self.affinity.hash, bound: self.affinity.bound(), ..question }.now()
    }

    /// Whether there is an endpoint by now that this request has not tried; `heard`: one that is not silent itself.
    pub(super) fn has_other(&self, tried: &Tried, heard: bool) -> bool {
        has_other(self.question(&self.shard.renewed(self.snapshot), tried), heard)
    }

    /// See [`has_other_way`].
    pub(super) fn has_other_way(&self, place: &Place, since: Option<Instant>) -> bool {
        has_other_way(&self.shard.renewed(self.snapshot), place, since)
    }
}

/// Whether an endpoint of which a tunnel failed is there by another one that speaks and was opened after `since`: then probably
/// of a new process of its agent.
pub(super) fn has_other_way(newest: &Snapshot, place: &Place, since: Option<Instant>) -> bool {
    let Place::Uplink { uplink, endpoint, .. } = place else { return false };
    let same = |other: &&Arc<Endpoint>| Arc::ptr_eq(&other.state, &endpoint.state);
    let now = newest.uplinks.get(&uplink.name).and_then(|uplink| uplink.endpoints.iter().find(same));
    now.is_some_and(|endpoint| endpoint.speaks_since(since))
}

/// Whether something else can be chosen now; `heard`: an endpoint that is not silent itself.
pub(super) fn has_other(question: Question<'_, '_>, heard: bool) -> bool {
    match health::peek(question) {
        Err(_) => false,
        Ok(Choice { endpoint: Chosen::Uplink { endpoint, .. }, .. }) if heard => endpoint.speaks(),
        Ok(_) => true,
    }
}

/// What a client hears where nothing can be chosen.
pub(super) fn none(why: NoChoice) -> Failure {
    match why {
        NoChoice::AllZero => Failure::AllDrained,
        NoChoice::Breaker => Failure::BreakerOpen,
        NoChoice::Unknown | NoChoice::NobodyReady | NoChoice::Shut | NoChoice::AllTried => Failure::NobodyReady,
    }
}
