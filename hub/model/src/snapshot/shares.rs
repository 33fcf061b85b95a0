//! Who takes part in a choice among an uplink's endpoints, worked out once for each publication of the uplink.
//!
//! A request then finds its endpoint in a few steps, however many there are: sums of weights for exact shares, identities side
//! by side for hashing. Those of the hub's own zone stand first, so that a choice among them is one among the first so many.

use std::sync::Arc;

use super::Endpoint;

/// The endpoints that accept, with their weights summed up.
#[derive(Debug, Default)]
pub struct Shares {
    /// How many of the first ones are in the hub's own zone.
    near: usize,
    /// Where each stands in the list of endpoints.
    index: Box<[u32]>,
    /// Sum of the weights before each, and at the end the sum of all.
    before: Box<[u64]>,
    /// Identity of each: see [`crate::state::EndpointState::id`].
    ids: Box<[u64]>,
    /// Of all endpoints, accepting or not: identity and place, in the order of identities.
    places: Box<[(u64, u32)]>,
}

impl Shares {
    /// The shares of those endpoints that accept and are wanted.
    pub fn of(endpoints: &[Arc<Endpoint>], wanted: impl Fn(&Endpoint) -> bool) -> Self {
        let zone = |near: bool| endpoints.iter().enumerate().filter(move |(_, endpoint)| endpoint.near == near);
        let accepting = zone(true).chain(zone(false)).filter(|(_, endpoint)| endpoint.accepts() && wanted(endpoint));
        let (mut index, mut before, mut ids) = (Vec::new(), vec![0], Vec::new());
        let (mut sum, mut near) = (0, 0);
        for (place, endpoint) in accepting {
            sum += u64::from(endpoint.weight.get());
            near += usize::from(endpoint.near);
            // An uplink has at most as many endpoints as there are agents.
            index.push(u32::try_from(place).unwrap_or(u32::MAX));
            before.push(sum);
            ids.push(endpoint.state.id);
        }
        let mut places: Vec<_> = endpoints.iter().zip(0..).map(|(endpoint, place)| (endpoint.state.id, place)).collect();
        places.sort_unstable();
        Self { near, index: index.into(), before: before.into(), ids: ids.into(), places: places.into() }
    }

    /// Where the endpoint of that identity stands in the list of endpoints, accepting or not.
    pub fn place(&self, id: u64) -> Option<usize> {
        let at = self.places.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.places[at].1 as usize)
    }

    /// How many take part.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// How many of them, the first ones, are in the hub's own zone.
    pub fn near(&self) -> usize {
        self.near
    }

    /// Whether nobody takes part.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Where one of them stands in the list of endpoints.
    pub fn endpoint(&self, at: usize) -> usize {
        self.index[at] as usize
    }

    /// The sum of the weights before one of them; at [`Shares::len`] the sum of all.
    pub fn before(&self, at: usize) -> u64 {
        self.before.get(at).copied().unwrap_or_default()
    }

    /// The weight of one of them.
    pub fn weight(&self, at: usize) -> u64 {
        self.before[at + 1] - self.before[at]
    }

    /// Identity and weight of each, in their order.
    pub fn weighed(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ids.iter().zip(self.before.windows(2)).map(|(id, sums)| (*id, sums[1] - sums[0]))
    }
}
