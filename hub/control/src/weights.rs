//! Operators' overrides, and the weights that come of them.
//!
//! Pure. An endpoint (one agent's side of an uplink) has the operator's word for (uplink, agent), else what the agent
//! advertises. An uplink has the operator's word for it, else the largest weight among its endpoints. Zero drains.

use std::collections::BTreeMap;
use std::ops::Not as _;

use figspan_proto::admin::Override;
use figspan_proto::control::Protocol;
use figspan_proto::name::{AgentName, UplinkName};
use figspan_proto::weight::Weight;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Most uplinks with overrides, and agents with one in each: what the state file may grow to.
pub(crate) const MAX_OVERRIDDEN: usize = 10_000;

/// All overrides. This is what `overrides.json` holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Overrides(BTreeMap<UplinkName, UplinkOverrides>);

/// The overrides of one uplink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UplinkOverrides {
    /// For the uplink as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) whole: Option<Override>,
    /// For single agents.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) agents: BTreeMap<AgentName, Override>,
    /// What its workloads spoke when the override was made, so that the uplink can be shown while its agents are away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) protocol: Option<Protocol>,
}

impl Overrides {
    /// The overrides of one uplink, if there are any.
    pub(crate) fn of(&self, uplink: &UplinkName) -> Option<&UplinkOverrides> {
        self.0.get(uplink)
    }

    /// The one override for an uplink as a whole, or for one agent of it.
    pub(crate) fn find(&self, uplink: &UplinkName, agent: Option<&AgentName>) -> Option<&Override> {
        let of = self.0.get(uplink)?;
        match agent {
            Some(agent) => of.agents.get(agent),
            None => of.whole.as_ref(),
        }
    }

    /// Uplinks that have any.
    pub(crate) fn uplinks(&self) -> impl Iterator<Item = &UplinkName> {
        self.0.keys()
    }

    /// Sets or (with `None`) takes back one override. `false` when there is no room.
    pub(crate) fn set(
        &mut self,
        uplink: &UplinkName,
        agent: Option<&AgentName>,
        value: Option<Override>,
        protocol: Option<Protocol>,
    ) -> bool {
        if value.is_some() && !self.0.contains_key(uplink) && self.0.len() >= MAX_OVERRIDDEN {
            return false;
        }
        let of = self.0.entry(uplink.clone()).or_default();
        let full = agent.is_some_and(|agent| !of.agents.contains_key(agent)) && of.agents.len() >= MAX_OVERRIDDEN;
        if value.is_some() && full {
            return false;
        }
        of.protocol = protocol.or(of.protocol);
        match (agent, value) {
            (None, value) => of.whole = value,
            (Some(agent), Some(value)) => drop(of.agents.insert(agent.clone(), value)),
            (Some(agent), None) => drop(of.agents.remove(agent)),
        }
        if of.whole.is_none() && of.agents.is_empty() {
            self.0.remove(uplink);
        }
        true
    }

    /// The weight in force of one agent's side of an uplink.
    pub(crate) fn endpoint_weight(&self, uplink: &UplinkName, agent: &AgentName, advertised: Weight) -> Weight {
        self.find(uplink, Some(agent)).map_or(advertised, |set| set.weight)
    }

    /// The weight in force of an uplink whose endpoints have these weights; `None` when nobody gives it any.
    pub(crate) fn uplink_weight(&self, uplink: &UplinkName, endpoints: impl Iterator<Item = Weight>) -> Option<Weight> {
        self.find(uplink, None).map(|set| set.weight).or(endpoints.max())
    }

    /// Whether sessions bound to an uplink, as a whole or on one agent, are past the deadline of its drain.
    pub(crate) fn sessions_over(&self, uplink: &UplinkName, agent: Option<&AgentName>, now: Timestamp) -> bool {
        let until = self.find(uplink, agent).filter(|set| set.weight.is_zero()).and_then(|set| set.sessions_until.as_deref());
        // A deadline that cannot be read has come: whoever set it wants an end.
        until.is_some_and(|until| until.parse::<Timestamp>().is_ok_and(|until| until > now).not())
    }

    /// Uplinks with a deadline for sessions anywhere.
    pub(crate) fn with_deadlines(&self) -> impl Iterator<Item = &UplinkName> {
        let has = |set: &Override| set.sessions_until.is_some();
        self.0.iter().filter(move |(_, of)| of.whole.iter().chain(of.agents.values()).any(has)).map(|(uplink, _)| uplink)
    }

    /// Whether an operator drains the uplink as a whole.
    pub(crate) fn drains(&self, uplink: &UplinkName) -> bool {
        self.find(uplink, None).is_some_and(|set| set.weight.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(number: u32) -> Weight {
        number.try_into().unwrap()
    }

    fn word(number: u32) -> Option<Override> {
        Some(Override { sessions_until: None, weight: weight(number), who: "ann".into(), reason: "test".into(), at: "now".into() })
    }

    #[test]
    fn an_operators_word_beats_the_agents() {
        let (uplink, a, b): (UplinkName, AgentName, AgentName) = ("m".parse().unwrap(), "a".parse().unwrap(), "b".parse().unwrap());
        let mut overrides = Overrides::default();
        assert_eq!(overrides.endpoint_weight(&uplink, &a, weight(7)), weight(7));
        assert_eq!(overrides.uplink_weight(&uplink, [weight(7), weight(9)].into_iter()), Some(weight(9)));
        assert_eq!(overrides.uplink_weight(&uplink, std::iter::empty()), None);

        overrides.set(&uplink, Some(&a), word(0), None);
        assert_eq!(overrides.endpoint_weight(&uplink, &a, weight(7)), Weight::ZERO);
        assert_eq!(overrides.endpoint_weight(&uplink, &b, weight(7)), weight(7));
        assert!(!overrides.drains(&uplink));

        overrides.set(&uplink, None, word(0), Some(Protocol::Http1));
        assert!(overrides.drains(&uplink));
        assert_eq!(overrides.uplink_weight(&uplink, [weight(9)].into_iter()), Some(Weight::ZERO));
    }

    #[test]
    fn overrides_taken_back_leave_nothing_behind() {
        let (uplink, a): (UplinkName, AgentName) = ("m".parse().unwrap(), "a".parse().unwrap());
        let mut overrides = Overrides::default();
        overrides.set(&uplink, Some(&a), word(3), None);
        overrides.set(&uplink, None, word(4), None);
        let text = serde_json::to_string(&overrides).unwrap();
        assert_eq!(serde_json::from_str::<Overrides>(&text).unwrap(), overrides);
        overrides.set(&uplink, Some(&a), None, None);
        overrides.set(&uplink, None, None, None);
        assert_eq!(overrides, Overrides::default());
    }
}
