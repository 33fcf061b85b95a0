//! How an agent is, as `figspan-agent status`, its metrics and systemd are told. One source for all three.

pub mod ask;
pub mod level;
pub mod metrics;
pub mod serve;
pub mod service;
pub mod show;

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use figspan_proto::control::{Health, Protocol};
use figspan_proto::weight::Weight;
use figspan_tunnel::Why;
use serde::{Deserialize, Serialize};
pub use service::Service;

use crate::advertise::{SOFTWARE, unix_ms};
use crate::identity::Holder;
use crate::receive::Receiver;
use crate::service::Services;
use crate::tunnels::Tunnels;
use crate::uplinks::{Uplink as Offered, Uplinks};

/// How an agent is. Times are Unix milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The agent's name.
    pub agent: String,
    /// Name and version of the software.
    pub software: String,
    /// Tells this process from another of the same agent.
    pub instance: String,
    /// When it started.
    pub started_ms: u64,
    /// Its process.
    #[serde(default)]
    pub process: Process,
    /// Whether it takes no new streams.
    pub draining: bool,
    /// Streams open now.
    pub streams: u64,
    /// Streams refused before they had an uplink.
    pub streams_refused: u64,
    /// The certificate.
    pub certificate: Certificate,
    /// Hub names.
    pub hubs: Vec<Hub>,
    /// Tunnels that are up.
    pub tunnels: Vec<Tunnel>,
    /// How often tunnels came to be on a transport by that reason, since the start.
    #[serde(default)]
    pub transport_moves: Vec<(String, u64)>,
    /// Addresses that could not be reached at the last attempt.
    pub unreachable: Vec<Unreachable>,
    /// Uplinks.
    pub uplinks: Vec<Uplink>,
    /// Services that processes of this VM call.
    #[serde(default)]
    pub services: Vec<Service>,
    /// Reloads.
    pub reload: Reload,
}

/// The agent's process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// How many files and connections it may have open.
    pub descriptors: u64,
}

/// The certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Certificate {
    /// Whom it names.
    pub id: String,
    /// When it ends.
    pub not_after_ms: u64,
    /// Seconds until then; negative afterwards.
    pub seconds_left: i64,
    /// When renewal is due.
    pub renewal_ms: u64,
    /// Renewals since the start.
    pub renewed: u64,
    /// Why the last renewal failed.
    pub error: Option<String>,
}

/// A hub's name in the settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hub {
    /// The name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Why it could not be resolved.
    pub error: Option<String>,
}

/// A tunnel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tunnel {
    /// The replica at its end.
    pub replica: String,
    /// The shard at its end.
    pub shard: u8,
    /// Shards of the replica.
    pub shards: u8,
    /// The replica's address.
    pub address: String,
    /// What carries it: `quic` (UDP), or `tcp`.
    #[serde(default)]
    pub transport: String,
    /// Why that does.
    #[serde(default)]
    pub transport_why: String,
    /// Since when that does.
    #[serde(default)]
    pub transport_since_ms: u64,
    /// The replica's software.
    pub software: String,
    /// Since when.
    pub since_ms: u64,
    /// Round trip in microseconds.
    pub rtt_us: u64,
    /// Path MTU in bytes of UDP payload.
    pub mtu: u16,
    /// The agent's clock less the hub's.
    pub skew_ms: i64,
    /// Whether the replica said that it ends.
    pub leaving: bool,
    /// What it has carried.
    #[serde(default)]
    pub statistics: figspan_tunnel::tunnel::Statistics,
}

/// An address without a tunnel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unreachable {
    /// The address.
    pub address: String,
    /// Why.
    pub error: String,
}

/// An uplink.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Where the workload listens.
    pub address: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// The weight in the agent's file.
    pub weight: Weight,
    /// The weight in force on the hub, where one has said.
    pub weight_in_force: Option<Weight>,
    /// The probe's verdict.
    pub health: Health,
    /// Why it is down.
    pub reason: String,
    /// Why a hub refused it.
    pub refused: Option<String>,
    /// Connections open to the workload.
    pub open: u64,
    /// Streams taken on since the start.
    pub streams: u64,
    /// Bytes to the workload.
    pub bytes_to_workload: u64,
    /// Bytes from the workload.
    pub bytes_from_workload: u64,
    /// Streams that ended early, by reason.
    pub failed: Vec<(String, u64)>,
}

/// What became of changes to the settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Reload {
    /// Reloads that worked.
    pub done: u64,
    /// Reloads that were refused.
    pub failed: u64,
    /// When the last one was.
    pub at_ms: u64,
    /// Why it was refused; the old settings stay.
    pub error: Option<String>,
}

/// Where a status is read from.
#[derive(Debug)]
pub struct Seen<'a> {
    /// When the agent started.
    pub started: SystemTime,
    /// Its instance.
    pub instance: &'a str,
    /// Its identity.
    pub identity: &'a Holder,
    /// Its uplinks.
    pub uplinks: &'a Uplinks,
    /// Its tunnels.
    pub tunnels: &'a Tunnels,
    /// Its streams.
    pub receiver: &'a Receiver,
    /// Its services.
    pub services: &'a Services,
    /// Whether it drains.
    pub draining: bool,
    /// Its hubs.
    pub hubs: Vec<String>,
    /// Its reloads.
    pub reload: Reload,
}

impl Seen<'_> {
    /// The status at `now`.
    pub fn status(self, now: SystemTime) -> Status {
        let known = self.tunnels.hubs();
        let hub = |name: String| {
            let known = known.get(&name).cloned().unwrap_or_default();
            Hub { addresses: known.addresses.iter().map(ToString::to_string).collect(), error: known.error, name }
        };
        let advertised = self.uplinks.advertised();
        let uplink = |offered: &std::sync::Arc<Offered>| {
            let entry = advertised.entries.get(&offered.settings.name);
            let (health, reason) = entry.map_or((Health::Unknown, String::new()), |entry| (entry.health, entry.reason.clone()));
            self.uplink(offered, health, reason)
        };
        Status {
            agent: self.identity.name().to_string(),
            software: SOFTWARE.to_owned(),
            instance: self.instance.to_owned(),
            started_ms: unix_ms(self.started),
            process: process(),
            draining: self.draining,
            streams: self.receiver.open(),
            streams_refused: self.receiver.refused(),
            certificate: self.certificate(now),
            hubs: self.hubs.iter().cloned().map(hub).collect(),
            tunnels: self.tunnels.live().iter().map(|live| tunnel(live)).collect(),
            transport_moves: Why::ALL.iter().map(|why| (why.word().to_owned(), self.tunnels.moves().of(*why))).collect(),
            unreachable: self
                .tunnels
                .errors()
                .into_iter()
                .map(|(address, error)| Unreachable { address: address.to_string(), error })
                .collect(),
            uplinks: self.uplinks.all().iter().map(uplink).collect(),
            services: self.services.doors().iter().map(|door| service::of(door)).collect(),
            reload: self.reload.clone(),
        }
    }

    fn certificate(&self, now: SystemTime) -> Certificate {
        let identity = self.identity.credentials.identity();
        let renewal = self.identity.renewal();
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let seconds_left = match identity.not_after().duration_since(now) {
            Ok(left) => seconds(left),
            Err(over) => -seconds(over.duration()),
        };
        Certificate {
            id: identity.id().to_string(),
            not_after_ms: unix_ms(identity.not_after()),
            seconds_left,
            renewal_ms: renewal.due.map_or(0, unix_ms),
            renewed: renewal.done,
            error: renewal.error,
        }
    }

    fn uplink(&self, offered: &Offered, health: Health, reason: String) -> Uplink {
        let (settings, counts) = (&offered.settings, &offered.counts);
        let verdicts = self.uplinks.verdicts(&settings.name);
        Uplink {
            name: settings.name.to_string(),
            address: settings.address.to_string(),
            protocol: settings.protocol,
            weight: settings.weight,
            weight_in_force: verdicts.iter().find(|(_, verdict)| verdict.refused.is_none()).map(|(_, verdict)| verdict.weight),
            health,
            reason,
            refused: verdicts.into_iter().find_map(|(replica, verdict)| Some(format!("{}: {}", replica, verdict.refused?))),
            open: counts.open(),
            streams: counts.streams.load(Ordering::Relaxed),
            bytes_to_workload: counts.to_workload.load(Ordering::Relaxed),
            bytes_from_workload: counts.from_workload.load(Ordering::Relaxed),
            failed: counts.failures().map(|(reason, count)| (reason.as_str().to_owned(), count)).collect(),
        }
    }
}

fn process() -> Process {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    Process { id: std::process::id(), descriptors: limit.unwrap_or(u64::MAX) }
}

fn tunnel(live: &crate::tunnels::Live) -> Tunnel {
    let carried = live.tunnel.carried();
    Tunnel {
        replica: live.replica.to_string(),
        shard: live.shard,
        shards: live.shards,
        address: live.tunnel.remote_address().to_string(),
        transport: carried.transport.word().to_owned(),
        transport_why: carried.why.to_string(),
        transport_since_ms: unix_ms(carried.since),
        software: live.software.clone(),
        since_ms: unix_ms(live.since),
        rtt_us: u64::try_from(live.tunnel.rtt().as_micros()).unwrap_or(u64::MAX),
        mtu: live.tunnel.mtu(),
        skew_ms: live.skew_ms,
        leaving: live.leaving.load(Ordering::Acquire),
        statistics: live.tunnel.statistics(),
    }
}
