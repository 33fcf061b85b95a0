//! Between the messages of `control` and their protobuf form.
//!
//! Everything that came over a network passes through `TryFrom` or `check` here, which bound every list and text. What an end
//! does not know it ignores (an unknown message reads as `None`); what it knows and finds wrong is an error that closes the tunnel.

use super::{
    AgentHello, ControlError, FromAgent, FromHub, Health, HubHello, MAX_REPLICAS, MAX_ROOTS, MAX_UPLINKS, Protocol, Replica, State, Uplink,
    Verdict, plain,
};
use crate::name::UplinkName;
use crate::pb;

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), ControlError> {
    if len > max { Err(ControlError::TooMany { what, len, max }) } else { Ok(()) }
}

impl TryFrom<pb::State> for State {
    type Error = ControlError;
    fn try_from(state: pb::State) -> Result<Self, ControlError> {
        let health = match state.health() {
            pb::Health::Ready => Health::Ready,
            pb::Health::Down => Health::Down,
            // A verdict that this build does not know must not bring traffic.
            pb::Health::Unknown | pb::Health::Unspecified => Health::Unknown,
        };
        Ok(Self { name: state.name.parse()?, health, reason: plain(&state.reason), open_connections: state.open_connections })
    }
}

impl From<State> for pb::State {
    fn from(state: State) -> Self {
        let health = match state.health {
            Health::Unknown => pb::Health::Unknown,
            Health::Ready => pb::Health::Ready,
            Health::Down => pb::Health::Down,
        };
        Self { name: state.name.to_string(), health: health.into(), reason: state.reason, open_connections: state.open_connections }
    }
}

impl TryFrom<pb::Uplink> for Uplink {
    type Error = ControlError;
    fn try_from(uplink: pb::Uplink) -> Result<Self, ControlError> {
        let protocol = match uplink.protocol() {
            pb::Protocol::Http1 => Protocol::Http1,
            pb::Protocol::H2c => Protocol::H2c,
            pb::Protocol::Tcp => Protocol::Tcp,
            pb::Protocol::Unspecified => return Err(ControlError::Missing("uplink.protocol")),
        };
        let state: State = uplink.state.ok_or(ControlError::Missing("uplink.state"))?.try_into()?;
        let name: UplinkName = uplink.name.parse()?;
        if state.name != name {
            return Err(ControlError::Range("uplink.state.name"));
        }
        Ok(Self { name, weight: uplink.weight.try_into()?, protocol, state })
    }
}

impl From<Uplink> for pb::Uplink {
    fn from(uplink: Uplink) -> Self {
        let protocol = match uplink.protocol {
            Protocol::Http1 => pb::Protocol::Http1,
            Protocol::H2c => pb::Protocol::H2c,
            Protocol::Tcp => pb::Protocol::Tcp,
        };
        Self { name: uplink.name.to_string(), weight: uplink.weight.get(), protocol: protocol.into(), state: Some(uplink.state.into()) }
    }
}

impl FromAgent {
    /// Checks a message. `Ok(None)` is one that this build does not know.
    pub fn check(message: pb::AgentMessage) -> Result<Option<Self>, ControlError> {
        use pb::agent_message::Body;
        Ok(Some(match message.body {
            None => return Ok(None),
            Some(Body::Hello(hello)) => Self::Hello(AgentHello {
                version: hello.version,
                software: plain(&hello.software),
                instance: plain(&hello.instance),
                time_ms: hello.time_ms,
                zone: if hello.zone.is_empty() { None } else { Some(hello.zone.parse()?) },
            }),
            Some(Body::List(list)) => {
                bounded("uplinks", list.uplinks.len(), MAX_UPLINKS)?;
                let uplinks = list.uplinks.into_iter().map(Uplink::try_from).collect::<Result<Vec<_>, _>>()?;
                let mut seen = std::collections::HashSet::new();
                if let Some(twice) = uplinks.iter().find(|uplink| !seen.insert(&uplink.name)) {
                    return Err(ControlError::Twice(twice.name.clone()));
                }
                Self::List { generation: list.generation, uplinks }
            }
            Some(Body::Change(change)) => match change.change {
                None => return Ok(None),
                Some(pb::uplink_change::Change::Upsert(uplink)) => {
                    Self::Upsert { generation: change.generation, uplink: uplink.try_into()? }
                }
                Some(pb::uplink_change::Change::Withdraw(name)) => Self::Withdraw { generation: change.generation, uplink: name.parse()? },
            },
            Some(Body::States(states)) => {
                bounded("states", states.states.len(), MAX_UPLINKS)?;
                Self::States(states.states.into_iter().map(State::try_from).collect::<Result<_, _>>()?)
            }
            Some(Body::Draining(draining)) => Self::Draining { deadline_ms: draining.deadline_ms },
            Some(Body::Counted(counted)) => {
                Self::Counted { nonce: counted.nonce, uplink: counted.uplink.parse()?, open_connections: counted.open_connections }
            }
        }))
    }
}

impl From<FromAgent> for pb::AgentMessage {
    fn from(message: FromAgent) -> Self {
        use pb::agent_message::Body;
        let change = |generation, change| Body::Change(pb::UplinkChange { generation, change: Some(change) });
        let body = match message {
            FromAgent::Hello(hello) => Body::Hello(pb::AgentHello {
                version: hello.version,
                software: hello.software,
                instance: hello.instance,
                time_ms: hello.time_ms,
                zone: hello.zone.map(|zone| zone.to_string()).unwrap_or_default(),
            }),
            FromAgent::List { generation, uplinks } => {
                Body::List(pb::UplinkList { generation, uplinks: uplinks.into_iter().map(Into::into).collect() })
            }
            FromAgent::Upsert { generation, uplink } => change(generation, pb::uplink_change::Change::Upsert(uplink.into())),
            FromAgent::Withdraw { generation, uplink } => change(generation, pb::uplink_change::Change::Withdraw(uplink.to_string())),
            FromAgent::States(states) => Body::States(pb::States { states: states.into_iter().map(Into::into).collect() }),
            FromAgent::Draining { deadline_ms } => Body::Draining(pb::Draining { deadline_ms }),
            FromAgent::Counted { nonce, uplink, open_connections } => {
                Body::Counted(pb::Counted { nonce, uplink: uplink.to_string(), open_connections })
            }
        };
        Self { body: Some(body) }
    }
}

fn shards(number: u32) -> Result<u8, ControlError> {
    match u8::try_from(number) {
        Ok(shards @ 1..=128) => Ok(shards),
        _ => Err(ControlError::Range("shards")),
    }
}

impl FromHub {
    /// Checks a message. `Ok(None)` is one that this build does not know.
    pub fn check(message: pb::HubMessage) -> Result<Option<Self>, ControlError> {
        use pb::hub_message::Body;
        Ok(Some(match message.body {
            None => return Ok(None),
            Some(Body::Hello(hello)) => {
                let count = shards(hello.shards)?;
                let shard = u8::try_from(hello.shard).ok().filter(|shard| *shard < count).ok_or(ControlError::Range("shard"))?;
                Self::Hello(HubHello {
                    versions: hello.min_version..=hello.max_version,
                    replica: hello.replica.parse()?,
                    shard,
                    shards: count,
                    software: plain(&hello.software),
                    time_ms: hello.time_ms,
                    calls: hello.calls,
                })
            }
            Some(Body::Directory(directory)) => {
                bounded("replicas", directory.replicas.len(), MAX_REPLICAS)?;
                Self::Directory(directory.replicas.into_iter().map(Replica::try_from).collect::<Result<_, _>>()?)
            }
            Some(Body::Verdicts(verdicts)) => {
                bounded("verdicts", verdicts.verdicts.len(), MAX_UPLINKS)?;
                Self::Verdicts(verdicts.verdicts.into_iter().map(Verdict::try_from).collect::<Result<_, _>>()?)
            }
            Some(Body::Trust(trust)) => {
                bounded("roots", trust.roots.len(), MAX_ROOTS)?;
                if trust.roots.is_empty() {
                    return Err(ControlError::Missing("roots"));
                }
                Self::Trust(trust.roots)
            }
            Some(Body::Leaving(leaving)) => Self::Leaving { deadline_ms: leaving.deadline_ms },
            Some(Body::Count(count)) => Self::Count { nonce: count.nonce, uplink: count.uplink.parse()? },
        }))
    }
}

impl TryFrom<pb::Replica> for Replica {
    type Error = ControlError;
    fn try_from(replica: pb::Replica) -> Result<Self, ControlError> {
        bounded("addresses", replica.addresses.len(), MAX_REPLICAS)?;
        let addresses = replica.addresses.iter().map(|text| text.parse().map_err(|_| ControlError::Range("replica.addresses")));
        Ok(Self {
            id: replica.id.parse()?,
            shards: shards(replica.shards)?,
            leaving: replica.leaving,
            addresses: addresses.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<pb::Verdict> for Verdict {
    type Error = ControlError;
    fn try_from(verdict: pb::Verdict) -> Result<Self, ControlError> {
        let refused = (!verdict.refused.is_empty()).then(|| plain(&verdict.refused));
        Ok(Self { uplink: verdict.uplink.parse()?, refused, weight: verdict.weight.try_into()? })
    }
}

impl From<FromHub> for pb::HubMessage {
    fn from(message: FromHub) -> Self {
        use pb::hub_message::Body;
        let body = match message {
            FromHub::Hello(hello) => Body::Hello(pb::HubHello {
                min_version: *hello.versions.start(),
                max_version: *hello.versions.end(),
                replica: hello.replica.to_string(),
                shard: hello.shard.into(),
                shards: hello.shards.into(),
                software: hello.software,
                time_ms: hello.time_ms,
                calls: hello.calls,
            }),
            FromHub::Directory(replicas) => Body::Directory(pb::Directory {
                replicas: replicas
                    .into_iter()
                    .map(|replica| pb::Replica {
                        id: replica.id.to_string(),
                        shards: replica.shards.into(),
                        leaving: replica.leaving,
                        addresses: replica.addresses.iter().map(ToString::to_string).collect(),
                    })
                    .collect(),
            }),
            FromHub::Verdicts(verdicts) => Body::Verdicts(pb::Verdicts {
                verdicts: verdicts
                    .into_iter()
                    .map(|verdict| pb::Verdict {
                        uplink: verdict.uplink.to_string(),
                        refused: verdict.refused.unwrap_or_default(),
                        weight: verdict.weight.get(),
                    })
                    .collect(),
            }),
            FromHub::Trust(roots) => Body::Trust(pb::Trust { roots }),
            FromHub::Leaving { deadline_ms } => Body::Leaving(pb::Leaving { deadline_ms }),
            FromHub::Count { nonce, uplink } => Body::Count(pb::Count { nonce, uplink: uplink.to_string() }),
        };
        Self { body: Some(body) }
    }
}
