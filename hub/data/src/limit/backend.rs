//! Hop: balance -> limit -> dial. Room at a backend: so many requests or connections over all shards, and a queue for more.
//!
//! The count is exact: it never goes above the bound. The waiters of a shard go in turn; between shards, whoever leaves wakes
//! them by turns. A waiter costs a place of the bounded queue and no more than its deadline.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use figspan_model::routing::policy::BackendLimits;
use figspan_model::state::{BackendState, Gate, Shard};
use tokio::sync::Semaphore;

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Requests and connections under way.
    Requests,
    /// Open connections.
    Connections,
}

impl Bound {
    fn gate(self, state: &BackendState) -> &Gate {
        match self {
            Self::Requests => &state.requests,
            Self::Connections => &state.connections,
        }
    }

    fn most(self, limits: &BackendLimits) -> Option<NonZeroU32> {
        match self {
            Self::Requests => limits.requests,
            Self::Connections => limits.connections,
        }
    }
}

/// Room taken, until dropped.
#[derive(Debug)]
pub struct Permit {
    state: Arc<BackendState>,
    bound: Bound,
}

impl Permit {
    /// Whether others wait for what this one holds.
    pub fn wanted(&self) -> bool {
        self.bound.gate(&self.state).waiting() > 0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.bound.gate(&self.state).leave();
    }
}

/// No room, and none in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The queues of a shard, one for each gate that somebody waits at: only the first of each waits at the gate itself.
#[derive(Debug)]
pub struct Queues {
    shard: Shard,
    turns: RefCell<HashMap<usize, Rc<Semaphore>>>,
}

impl Queues {
    /// Empty ones.
    pub fn new(shard: Shard) -> Self {
        Self { shard, turns: RefCell::default() }
    }

    /// Takes room at a backend if there is some now. `None` where its policy does not bound it.
    pub fn try_enter(state: &Arc<BackendState>, bound: Bound, limits: &BackendLimits) -> Result<Option<Permit>, Full> {
        let Some(most) = bound.most(limits) else { return Ok(None) };
        let gate = bound.gate(state);
        // Nobody who comes now passes those who wait.
        if gate.waiting() == 0 && gate.enter(most.get()) { Ok(Some(Permit { state: Arc::clone(state), bound })) } else { Err(Full) }
    }

    /// Takes room at a backend, waiting for it in turn. `None` where its policy does not bound it.
    pub async fn enter(&self, state: &Arc<BackendState>, bound: Bound, limits: &BackendLimits) -> Result<Option<Permit>, Full> {
        if let Ok(permit) = Self::try_enter(state, bound, limits) {
            return Ok(permit);
        }
        let (gate, most) = (bound.gate(state), bound.most(limits).map_or(u32::MAX, NonZeroU32::get));
        if !gate.queue(limits.pending) {
            return Err(Full);
        }
        let _place = Place(gate);
        gate.want();
        let turn = self.turn(gate);
        let entered = tokio::time::timeout(limits.wait, async {
            let Ok(_turn) = turn.0.acquire().await else { return };
            let mut first = First { gate, shard: self.shard, waits: true };
            poll_fn(|cx| gate.poll_enter(self.shard, most, cx)).await;
            first.waits = false;
        });
        entered.await.map(|()| Some(Permit { state: Arc::clone(state), bound })).map_err(|_| Full)
    }

    fn turn(&self, gate: &Gate) -> Turn<'_> {
        let key = std::ptr::from_ref(gate) as usize;
        let mut turns = self.turns.borrow_mut();
        Turn(Rc::clone(turns.entry(key).or_insert_with(|| Rc::new(Semaphore::new(1)))), self, key)
    }
}

/// A place in a shard's queue; the queue goes with its last one.
struct Turn<'q>(Rc<Semaphore>, &'q Queues, usize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The map's and this one.
        if Rc::strong_count(&self.0) == 2 {
            self.1.turns.borrow_mut().remove(&self.2);
        }
    }
}

/// A place among those that wait, over all shards.
struct Place<'g>(&'g Gate);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.leave_queue();
    }
}

/// The first of a shard's queue.
struct First<'g> {
    gate: &'g Gate,
    shard: Shard,
    waits: bool,
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.gate.give_up(self.shard);
        }
    }
}

#[cfg(test)]
mod tests;
