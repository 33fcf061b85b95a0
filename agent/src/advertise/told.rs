//! What one hub has been told, and what it has not heard yet. Pure.

use std::collections::BTreeMap;

use figspan_proto::control::{FromAgent, State, Uplink};
use figspan_proto::name::UplinkName;

use crate::uplinks::{Advertisement, Entry};

/// What one hub has been told so far.
#[derive(Debug)]
pub struct Told {
    generation: u64,
    states: BTreeMap<UplinkName, State>,
}

impl Told {
    /// Begins with the full list; `open` counts connections.
    pub fn list(now: &Advertisement, open: impl Fn(&UplinkName) -> u64) -> (Self, FromAgent) {
        let uplinks: Vec<Uplink> = now.entries.iter().map(|(name, entry)| uplink(name, entry, open(name))).collect();
        let states = uplinks.iter().map(|uplink| (uplink.name.clone(), uplink.state.clone())).collect();
        (Self { generation: now.generation, states }, FromAgent::List { generation: now.generation, uplinks })
    }

    /// The messages that bring the hub from what it was told to `now`: changes in the order of their generations, then one
    /// with all states that differ.
    pub fn update(&mut self, now: &Advertisement, open: impl Fn(&UplinkName) -> u64) -> Vec<FromAgent> {
        let since = self.generation;
        let mut changes: Vec<(u64, FromAgent)> = Vec::new();
        for (name, entry) in now.entries.iter().filter(|(_, entry)| entry.generation > since) {
            let uplink = uplink(name, entry, open(name));
            self.states.insert(name.clone(), uplink.state.clone());
            changes.push((entry.generation, FromAgent::Upsert { generation: entry.generation, uplink }));
        }
        for (name, &generation) in now.withdrawn.iter().filter(|(_, generation)| **generation > since) {
            // An uplink that came and went between two updates was never told, and its withdrawal is no news.
            if self.states.remove(name).is_some() {
                changes.push((generation, FromAgent::Withdraw { generation, uplink: name.clone() }));
            }
        }
        changes.sort_by_key(|(generation, _)| *generation);
        self.generation = now.generation;
        let mut messages: Vec<FromAgent> = changes.into_iter().map(|(_, message)| message).collect();
        let mut states = Vec::new();
        for (name, entry) in &now.entries {
            let state = state(name, entry, open(name));
            if self.states.get(name) != Some(&state) {
                self.states.insert(name.clone(), state.clone());
                states.push(state);
            }
        }
        if !states.is_empty() {
            messages.push(FromAgent::States(states));
        }
        messages
    }
}

fn uplink(name: &UplinkName, entry: &Entry, open: u64) -> Uplink {
    Uplink { name: name.clone(), weight: entry.weight, protocol: entry.protocol, state: state(name, entry, open) }
}

fn state(name: &UplinkName, entry: &Entry, open: u64) -> State {
    State { name: name.clone(), health: entry.health, reason: entry.reason.clone(), open_connections: open }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;
    use crate::uplinks::Uplinks;
    use figspan_proto::control::{Health, Protocol};

    fn uplinks(names: &[(&str, u32)]) -> Vec<settings::Uplink> {
        let one = |(name, weight): &(&str, u32)| {
            let address = settings::Address::Ip(([127, 0, 0, 1], 1).into());
            let mut uplink = settings::Uplink::new(name.parse().unwrap(), address, Protocol::Http1);
            uplink.weight = (*weight).try_into().unwrap();
            uplink
        };
        names.iter().map(one).collect()
    }

    #[test]
    fn a_hub_hears_the_list_then_only_what_changed_in_order() {
        let table = Uplinks::default();
        table.apply(&uplinks(&[("a", 1), ("b", 1)]));
        let (mut told, FromAgent::List { generation, uplinks: list }) = Told::list(&table.advertised(), |_| 0) else { panic!("a list") };
        assert_eq!((generation, list.len()), (2, 2));
        assert!(told.update(&table.advertised(), |_| 0).is_empty());

        table.apply(&uplinks(&[("b", 7), ("c", 1)]));
        let messages = told.update(&table.advertised(), |_| 0);
        let [
            FromAgent::Withdraw { uplink: a, generation: g3 },
            FromAgent::Upsert { uplink: b, .. },
            FromAgent::Upsert { uplink: c, generation: g5 },
        ] = &messages[..]
        else {
            panic!("{messages:?}")
        };
        assert_eq!((a.as_str(), b.name.as_str(), b.weight.get(), c.name.as_str()), ("a", "b", 7, "c"));
        assert!(g3 < g5);
    }

    #[test]
    fn many_changes_between_two_updates_come_as_the_newest_state_alone() {
        let table = Uplinks::default();
        table.apply(&uplinks(&[("a", 1)]));
        let (mut told, _) = Told::list(&table.advertised(), |_| 0);
        for weight in 2..50 {
            table.apply(&uplinks(&[("a", weight), ("flash", 1)]));
            table.apply(&uplinks(&[("a", weight)]));
        }
        let messages = told.update(&table.advertised(), |_| 0);
        let [FromAgent::Upsert { uplink, .. }] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(uplink.weight.get(), 49);
    }

    #[test]
    fn states_that_differ_travel_together_and_once() {
        let table = Uplinks::default();
        table.apply(&uplinks(&[("a", 1), ("b", 1), ("c", 1)]));
        let (mut told, _) = Told::list(&table.advertised(), |_| 0);
        table.set_health(&"a".parse().unwrap(), Health::Down, "connection refused");
        let open = |name: &UplinkName| if name.as_str() == "b" { 3 } else { 0 };
        let messages = told.update(&table.advertised(), open);
        let [FromAgent::States(states)] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(states.len(), 2);
        assert_eq!((states[0].reason.as_str(), states[1].open_connections), ("connection refused", 3));
        assert!(told.update(&table.advertised(), open).is_empty());
    }

    #[test]
    fn an_uplink_withdrawn_and_offered_again_is_told_anew() {
        let table = Uplinks::default();
        table.apply(&uplinks(&[("a", 1)]));
        let (mut told, _) = Told::list(&table.advertised(), |_| 0);
        table.apply(&[]);
        table.apply(&uplinks(&[("a", 1)]));
        let messages = told.update(&table.advertised(), |_| 0);
        assert!(matches!(&messages[..], [FromAgent::Upsert { .. }]), "{messages:?}");
    }
}
