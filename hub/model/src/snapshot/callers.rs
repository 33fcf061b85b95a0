//! Agents whose processes may call services, by name: a map of which two versions share all but what differs.
//!
//! Whoever is not in it may call nothing. A map never changes under those who hold it.

use std::sync::Arc;

use figspan_proto::name::{AgentName, NamePattern};
use xxhash_rust::xxh3::xxh3_64;

use crate::state::CallerState;

/// A thousand callers make sixteen to a bucket; a change copies the list of buckets and one of them.
const BUCKETS: usize = 64;

type Bucket = Arc<Vec<(AgentName, Arc<Caller>)>>;

/// What one agent may call.
#[derive(Debug)]
pub struct Caller {
    /// The services; never empty.
    pub services: Vec<NamePattern>,
    /// Counters that outlive this snapshot.
    pub state: Arc<CallerState>,
}

impl Caller {
    /// Whether it may call the service.
    pub fn may_call(&self, service: &str) -> bool {
        self.services.iter().any(|pattern| pattern.matches(service))
    }
}

/// The map. Cloning it costs one counter.
#[derive(Debug, Clone)]
pub struct Callers(Arc<[Bucket; BUCKETS]>);

impl Default for Callers {
    fn default() -> Self {
        let empty = Bucket::default();
        Self(Arc::new(std::array::from_fn(|_| Arc::clone(&empty))))
    }
}

fn place(agent: &AgentName) -> usize {
    xxh3_64(agent.as_str().as_bytes()) as usize % BUCKETS
}

impl Callers {
    /// What an agent may call; `None`: nothing.
    pub fn get(&self, agent: &AgentName) -> Option<&Arc<Caller>> {
        self.0[place(agent)].iter().find(|(name, _)| name == agent).map(|(_, caller)| caller)
    }

    /// Says what an agent may call from now on; `None`: nothing. Other versions of the map keep what they said.
    pub fn set(&mut self, agent: &AgentName, caller: Option<Caller>) {
        let bucket = Arc::make_mut(&mut Arc::make_mut(&mut self.0)[place(agent)]);
        bucket.retain(|(name, _)| name != agent);
        bucket.extend(caller.map(|caller| (agent.clone(), Arc::new(caller))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(services: &[&str]) -> Caller {
        let services = services.iter().map(|text| text.parse().unwrap()).collect();
        Caller { services, state: crate::state::Book::new(1).caller("vm-1") }
    }

    #[test]
    fn an_agent_may_call_what_it_was_given_and_nothing_else() {
        let mut callers = Callers::default();
        let (one, other): (AgentName, AgentName) = ("vm-1".parse().unwrap(), "vm-2".parse().unwrap());
        let before = callers.clone();
        callers.set(&one, Some(caller(&["orders-*", "mail"])));
        let may = |callers: &Callers, agent, service| callers.get(agent).is_some_and(|caller| caller.may_call(service));
        assert!(may(&callers, &one, "orders-v2") && may(&callers, &one, "mail"));
        assert!(!may(&callers, &one, "orders") && !may(&callers, &other, "mail") && !may(&before, &one, "mail"));
        callers.set(&one, Some(caller(&["billing"])));
        assert!(may(&callers, &one, "billing") && !may(&callers, &one, "mail"));
        callers.set(&one, None);
        assert!(callers.get(&one).is_none());
    }
}
