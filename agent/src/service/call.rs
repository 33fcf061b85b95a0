//! Hop listener -> **call** -> splice: finds a hub that takes a connection.
//!
//! Nothing of the process is sent before a hub has taken the connection, so that every refusal may be tried elsewhere, whatever
//! the bytes are. Replicas are asked one after the other, each once; one that stays silent is not waited for before the next is
//! asked too, and the first that takes the connection has it. Bounded in time and tries.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use figspan_proto::name::{ReplicaId, ServiceName};
use figspan_proto::preamble::call::Call;
use figspan_proto::reset::Reason;
use figspan_tunnel::Stream;
use figspan_tunnel::call::{CallError, call};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::tunnels::{Live, Tunnels};

/// How long a call waits for a first tunnel: a hub that restarts is back by then, and a process that waits longer is better told.
const NO_TUNNEL: Duration = Duration::from_secs(1);
/// How long one replica is asked alone. A hub connects to the service before it takes a TCP connection, which is a round trip
/// in the cluster; a hub that was killed says nothing at all.
const ALONE: Duration = Duration::from_secs(1);
/// Most tries of one call.
const MAX_TRIES: usize = 6;

/// Why no hub took a connection. Nothing of it reached a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A hub said no, and why.
    Hub(ReplicaId, Reason),
    /// This one does not know of services, and no other was there.
    Old(ReplicaId),
    /// No tunnel is up.
    NoTunnel,
    /// The tunnels that were there broke.
    Lost,
    /// No hub answered in time.
    Late,
    /// As many connections are open as may be.
    Limit,
}

impl Refusal {
    /// A word for metrics and headers.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Hub(_, reason) => reason.as_str(),
            Self::Old(_) => "old-hub",
            Self::NoTunnel => "no-tunnel",
            Self::Lost => "tunnel-lost",
            Self::Late => "timeout",
            Self::Limit => "limit",
        }
    }

    /// What happened, for people, with its mend.
    pub fn told(&self, service: &ServiceName) -> String {
        let Self::Hub(replica, reason) = self else { return self.to_string() };
        match reason {
            Reason::ServiceDenied => format!(
                "hub {replica} does not allow this agent to call {service}; have a grant made that names it (`figspanctl grant create \
                 NAME --uplinks ... --services {service}`) and run `figspan-agent join --again`"
            ),
            Reason::UnknownService => {
                format!("hub {replica} knows no service {service}; add it to the hub's settings, or correct the name")
            }
            Reason::ServiceProtocol => {
                format!("service {service} speaks another protocol, says hub {replica}; correct protocol in agent.toml")
            }
            reason => format!("hub {replica} says {} for service {service}; see the hub's log", reason.as_str()),
        }
    }

    /// Which of two tells more of why a call failed.
    fn rank(&self) -> u8 {
        match self {
            Self::Hub(_, Reason::HubDraining) => 2,
            Self::Hub(..) => 4,
            Self::Old(_) => 3,
            Self::Late => 1,
            Self::NoTunnel | Self::Lost | Self::Limit => 0,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub(replica, reason) => write!(f, "hub {replica} says {}", reason.as_str()),
            Self::Old(replica) => write!(f, "hub {replica} does not know services; upgrade it"),
            Self::NoTunnel => f.write_str("no tunnel to a hub is up; see `figspan-agent doctor`"),
            Self::Lost => f.write_str("the tunnel broke before the hub had answered"),
            Self::Late => f.write_str("no hub answered in time"),
            Self::Limit => f.write_str("as many connections are open as max_connections allows"),
        }
    }
}

/// Opens a connection to a service within that time.
pub async fn open(tunnels: &Tunnels, wanted: Call, within: Duration) -> Result<Stream, Refusal> {
    let deadline = Instant::now() + within;
    if tunnels.live().is_empty() {
        let mut count = tunnels.count();
        let up = count.wait_for(|up| *up > 0);
        if !matches!(tokio::time::timeout(NO_TUNNEL.min(within), up).await, Ok(Ok(_))) {
            return Err(Refusal::NoTunnel);
        }
    }
    let mut search = Search { tried: Vec::new(), dead: Vec::new(), tries: 0, worst: None };
    let mut asked = FuturesUnordered::new();
    loop {
        if let Some(live) = search.next(tunnels) {
            let wanted = wanted.clone();
            asked.push(async move { (call(&live.tunnel, wanted).await, live) });
        } else if asked.is_empty() {
            return Err(search.worst.unwrap_or(Refusal::Lost));
        }
        tokio::select! {
            Some((answer, live)) = asked.next() => match answer {
                Ok(stream) => return Ok(stream),
                Err(error) => search.failed(&live, &error),
            },
            // Silence: another one is asked as well, if there is any.
            () = tokio::time::sleep(ALONE), if search.has_next(tunnels) => {}
            () = tokio::time::sleep_until(deadline) => return Err(search.worst.unwrap_or(Refusal::Late)),
        }
    }
}

/// What was tried of one call.
struct Search {
    /// Replicas that were asked.
    tried: Vec<ReplicaId>,
    /// Tunnels that broke.
    dead: Vec<u64>,
    tries: usize,
    worst: Option<Refusal>,
}

impl Search {
    /// Whether anybody is left to be asked.
    fn has_next(&self, tunnels: &Tunnels) -> bool {
        self.tries < MAX_TRIES && tunnels.live().iter().any(|live| live.calls && self.fits(live))
    }

    fn fits(&self, live: &Live) -> bool {
        !self.tried.contains(&live.replica) && !self.dead.contains(&live.tunnel.id()) && !live.tunnel.is_closed()
    }

    /// The tunnel to ask next: of a replica that stays, if there is one; the others take turns.
    fn next(&mut self, tunnels: &Tunnels) -> Option<Arc<Live>> {
        static TURN: AtomicUsize = AtomicUsize::new(0);
        if self.tries >= MAX_TRIES {
            return None;
        }
        let all = tunnels.live();
        if let Some(old) = all.iter().find(|live| !live.calls) {
            self.note(Refusal::Old(old.replica.clone()));
        }
        let leaving = |live: &Live| live.leaving.load(Ordering::Acquire);
        let fit: Vec<_> = all.iter().filter(|live| live.calls && self.fits(live)).collect();
        let staying: Vec<_> = fit.iter().filter(|live| !leaving(live)).copied().collect();
        let best = if staying.is_empty() { fit } else { staying };
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let live = Arc::clone(best.get(turn % best.len().max(1))?);
        self.tries += 1;
        self.tried.push(live.replica.clone());
        Some(live)
    }

    fn failed(&mut self, live: &Live, error: &CallError) {
        match error {
            CallError::Refused(reason) => self.note(Refusal::Hub(live.replica.clone(), *reason)),
            CallError::Answer => self.note(Refusal::Hub(live.replica.clone(), Reason::Malformed)),
            CallError::Tunnel(_) => {
                // The replica may have other tunnels that live.
                self.tried.retain(|replica| *replica != live.replica);
                self.dead.push(live.tunnel.id());
                self.note(Refusal::Lost);
            }
        }
    }

    fn note(&mut self, refusal: Refusal) {
        if self.worst.as_ref().is_none_or(|worst| refusal.rank() > worst.rank()) {
            self.worst = Some(refusal);
        }
    }
}
