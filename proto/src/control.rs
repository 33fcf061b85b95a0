//! What is said on a tunnel's control stream, checked: its messages, their limits, and what can be wrong with one.
//!
//! `wire` makes these of what came over a network, and the other way round.

mod wire;

use std::ops::RangeInclusive;

use crate::name::{NameError, ReplicaId, UplinkName, Zone};
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

#[cfg(test)]
mod tests;
