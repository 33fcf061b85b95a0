//! Checked forms of the messages on a tunnel's control stream.
//!
//! Everything that came over a network passes through `TryFrom` here, which bounds every list and text. What an end does
//! not know it ignores (an unknown message reads as `None`); what it knows and finds wrong is an error that closes the tunnel.

use std::ops::RangeInclusive;

use crate::name::{NameError, ReplicaId, UplinkName, Zone};
use crate::pb;
use crate::weight::{Weight, WeightError};

/// Most uplinks that one agent may advertise.
pub const MAX_UPLINKS: usize = 256;
/// Most replicas in a directory, and addresses of one.
pub const MAX_REPLICAS: usize = 256;
/// Most bytes of a text for people.
pub const MAX_TEXT: usize = 512;
/// Most bytes of one control message.
pub const MAX_MESSAGE: usize = 256 * 1024;
/// Most roots in a trust bundle, and bytes of one.
pub const MAX_ROOTS: usize = 4;

/// Why a control message is wrong.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A name in it is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A weight in it is out of range.
    #[error(transparent)]
    Weight(#[from] WeightError),
    /// A list in it is longer than allowed.
    #[error("{what}: {len} entries; the limit is {max}")]
    TooMany {
        /// Which list.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Something that must be there is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// An uplink is listed twice.
    #[error("uplink {0} is listed twice")]
    Twice(UplinkName),
    /// A number that makes no sense.
    #[error("{0} is out of range")]
    Range(&'static str),
}

/// What a workload speaks, as its agent declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, without TLS; gRPC.
    H2c,
    /// Any bytes.
    Tcp,
}

impl Protocol {
    /// The word for it in files and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
            Self::Tcp => "tcp",
        }
    }
}

/// What the agent's probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No check has ended yet.
    Unknown,
    /// Checks pass, or none is asked for.
    Ready,
    /// Checks fail.
    Down,
}

/// An uplink as advertised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: UplinkName,
    /// Its share among agents that advertise the same name.
    pub weight: Weight,
    /// What the workload speaks.
    pub protocol: Protocol,
    /// How it is.
    pub state: State,
}

/// How an uplink is, in the eyes of its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The uplink.
    pub name: UplinkName,
    /// The probe's verdict.
    pub health: Health,
    /// Why it is down, without control characters, at most [`MAX_TEXT`] bytes.
    pub reason: String,
    /// Connections open to the workload now.
    pub open_connections: u64,
}

/// A message from the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromAgent {
    /// The first message.
    Hello(AgentHello),
    /// All uplinks; replaces what was known.
    List {
        /// Grows with each list or change.
        generation: u64,
        /// The uplinks.
        uplinks: Vec<Uplink>,
    },
    /// One uplink is new or changed.
    Upsert {
        /// Grows with each list or change.
        generation: u64,
        /// The uplink.
        uplink: Uplink,
    },
    /// One uplink is gone.
    Withdraw {
        /// Grows with each list or change.
        generation: u64,
        /// Its name.
        uplink: UplinkName,
    },
    /// Some uplinks' states.
    States(Vec<State>),
    /// No new streams, please.
    Draining {
        /// Time left for what runs, in milliseconds.
        deadline_ms: u64,
    },
    /// The answer to [`FromHub::Count`].
    Counted {
        /// The question's number.
        nonce: u64,
        /// The uplink counted.
        uplink: UplinkName,
        /// Connections open to its workload at that moment.
        open_connections: u64,
    },
}

/// The agent's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentHello {
    /// The version chosen.
    pub version: u32,
    /// Name and version of the software, for people.
    pub software: String,
    /// Tells two processes of one agent apart.
    pub instance: String,
    /// The agent's clock, Unix milliseconds.
    pub time_ms: u64,
    /// Where the VM is, where the agent knows it.
    pub zone: Option<Zone>,
}

/// The hub's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubHello {
    /// Versions that the hub knows.
    pub versions: RangeInclusive<u32>,
    /// The replica's id.
    pub replica: ReplicaId,
    /// The shard that answered.
    pub shard: u8,
    /// Shards of the replica: 1 to 128.
    pub shards: u8,
    /// Name and version of the software, for people.
    pub software: String,
    /// The hub's clock, Unix milliseconds.
    pub time_ms: u64,
    /// Whether it takes calls of services.
    pub calls: bool,
}

/// One replica, as the directory lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Its id.
    pub id: ReplicaId,
    /// Its shards.
    pub shards: u8,
    /// Whether it is about to end.
    pub leaving: bool,
    /// Addresses that reach it directly; often none.
    pub addresses: Vec<std::net::SocketAddr>,
}

/// What the hub made of one uplink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The uplink.
    pub uplink: UplinkName,
    /// Why it was refused; `None` when it was accepted.
    pub refused: Option<String>,
    /// The weight in force.
    pub weight: Weight,
}

/// A message from the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromHub {
    /// The first message.
    Hello(HubHello),
    /// The replicas there are.
    Directory(Vec<Replica>),
    /// What became of the uplinks.
    Verdicts(Vec<Verdict>),
    /// Root certificates, in DER, to trust from now on.
    Trust(Vec<Vec<u8>>),
    /// The replica ends; keep its streams until then.
    Leaving {
        /// Time left, in milliseconds.
        deadline_ms: u64,
    },
    /// Count an uplink's connections now.
    Count {
        /// Comes back in the answer.
        nonce: u64,
        /// The uplink.
        uplink: UplinkName,
    },
}

/// Picks the version to speak: the highest that both ends know.
pub fn negotiate(ours: &RangeInclusive<u32>, theirs: &RangeInclusive<u32>) -> Option<u32> {
    let version = *ours.end().min(theirs.end());
    (ours.contains(&version) && theirs.contains(&version)).then_some(version)
}

fn bounded(what: &'static str, len: usize, max: usize) -> Result<(), ControlError> {
    if len > max { Err(ControlError::TooMany { what, len, max }) } else { Ok(()) }
}

/// Cuts a text from a network down to what a log and a terminal can bear.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        let c = if c.is_control() { '?' } else { c };
        if out.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        out.push(c);
    }
    out
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

#[cfg(test)]
mod tests;
