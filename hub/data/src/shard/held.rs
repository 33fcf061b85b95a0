//! A snapshot as one shard holds it, with what its requests share of it.
//!
//! What a request keeps beyond its own picture belongs to all shards: an endpoint, the name of a route. Each count of owners that
//! is written moves between processors, so a shard owns them once for each picture, and its requests share them by `Rc`.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use figspan_model::Map;
use figspan_model::snapshot::Snapshot;

use crate::balance::Chosen;
use crate::dial::place::Place;

/// A snapshot, owned once by a shard for all of its requests.
pub struct Held {
    snapshot: Arc<Snapshot>,
    /// Places that requests were given, by the address of the endpoint: the snapshot keeps it alive.
    places: RefCell<Map<usize, Rc<Place>>>,
    /// Names of routes that requests matched, by address.
    names: RefCell<Map<usize, Rc<str>>>,
}

impl Held {
    /// Nothing of it is shared yet.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, places: RefCell::default(), names: RefCell::default() }
    }

    /// Whether it is that one.
    pub fn is(&self, snapshot: &Arc<Snapshot>) -> bool {
        Arc::ptr_eq(&self.snapshot, snapshot)
    }

    /// The place that was chosen from this snapshot, with its settings from the same. `None` where a service left the configuration
    /// meanwhile.
    pub fn place(&self, chosen: &Chosen<'_>) -> Option<Rc<Place>> {
        let Chosen::Uplink { endpoint, .. } = chosen else { return Place::of(chosen, &self.snapshot).map(Rc::new) };
        let key = Arc::as_ptr(endpoint) as usize;
        if let Some(place) = self.places.borrow().get(&key) {
            return Some(Rc::clone(place));
        }
        let place = Rc::new(Place::of(chosen, &self.snapshot)?);
        self.places.borrow_mut().insert(key, Rc::clone(&place));
        Some(place)
    }

    /// The name of a route of this snapshot.
    pub fn name(&self, name: &Arc<str>) -> Rc<str> {
        let key = name.as_ptr() as usize;
        if let Some(name) = self.names.borrow().get(&key) {
            return Rc::clone(name);
        }
        let shared: Rc<str> = (&**name).into();
        self.names.borrow_mut().insert(key, Rc::clone(&shared));
        shared
    }
}

impl Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}
