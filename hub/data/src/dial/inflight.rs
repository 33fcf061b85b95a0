//! Hop: balance -> dial. The count of work under way on an endpoint, as a value that cannot be forgotten.
//!
//! Made in the same step as the choice (no await between), dropped when both directions have ended. The drain proof rests on
//! this: see `figspan_model::state`.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use figspan_model::state::{EndpointState, Shard};

use super::place::Place;
use crate::limit::backend::Permit;

/// One request or connection under way; counts until its last clone is dropped.
#[derive(Clone)]
pub struct InFlight(Rc<Counted>);

struct Counted {
    place: Rc<Place>,
    shard: Shard,
    /// Room at the backend as a whole, for the work and for its connection.
    permits: [OnceCell<Permit>; 2],
}

impl InFlight {
    /// Counts a request or connection that was just given to the endpoint of that place.
    pub fn picked(place: &Rc<Place>, shard: Shard) -> Self {
        let state = place.state();
        state.in_flight.add(shard, 1);
        state.picked.add(shard, 1);
        Self(Rc::new(Counted { place: Rc::clone(place), shard, permits: Default::default() }))
    }

    /// Keeps room at the backend for as long as the work is under way.
    pub fn hold(&self, permit: Permit) {
        let free = self.0.permits.iter().find(|place| place.get().is_none());
        // One piece of work has one permit of each kind; a third would be given back at once.
        let _ = free.map(|place| place.set(permit));
    }

    /// The endpoint's state.
    pub fn state(&self) -> &Arc<EndpointState> {
        self.0.place.state()
    }

    /// Whether the endpoint takes no new work any more.
    pub fn draining(&self) -> bool {
        self.state().draining.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Counts a failure on the endpoint's side.
    pub fn failed(&self) {
        self.state().failed.add(self.0.shard, 1);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.place.state().in_flight.sub(self.shard, 1);
    }
}
