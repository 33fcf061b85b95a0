//! Hop probe -> **advertise** -> hub discovery: tells one hub, over one tunnel, what this agent offers.
//!
//! The hub is the gRPC client and speaks first. The agent answers with its version, the full list, and from then on what
//! has changed since: [`told`] works that out, so that a slow hub costs nothing and always gets the newest state. What the
//! hub says about replicas, roots and leaving goes to whoever keeps the tunnels. A hub can make nothing grow here.

pub mod told;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use figspan_proto::control::{AgentHello, ControlError, FromAgent, FromHub, HubHello, Replica, Verdict, negotiate};
use figspan_proto::name::{ReplicaId, Zone};
use figspan_proto::{VERSIONS, pb};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::{Stream, grpc};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::uplinks::Uplinks;
use told::Told;

/// What this build calls itself.
pub const SOFTWARE: &str = concat!("figspan-agent/", env!("CARGO_PKG_VERSION"));
/// How long the hub may take for its first word.
const HELLO_TIME: Duration = Duration::from_secs(10);
/// How often open connections are counted for the hub.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// Messages on their way to the hub; more wait.
const OUTGOING: usize = 16;

/// What the hub said that concerns more than this conversation.
#[derive(Debug)]
pub enum Heard {
    /// Who it is. The answer says whether the tunnel shall be kept.
    Hello(HubHello, oneshot::Sender<bool>),
    /// The replicas there are.
    Directory(Vec<Replica>),
    /// Roots to trust from now on, in DER.
    Trust(Vec<Vec<u8>>),
    /// The replica ends.
    Leaving(Duration),
}

/// Why a conversation ended before the tunnel did.
#[derive(Debug, thiserror::Error)]
pub enum ConverseError {
    /// No common version.
    #[error("the hub speaks versions {}-{} of the control protocol, this agent {}-{}; upgrade the older of the two", .theirs.start(), .theirs.end(), VERSIONS.start(), VERSIONS.end())]
    Version {
        /// What the hub knows.
        theirs: RangeInclusive<u32>,
    },
    /// Another tunnel to the same shard is there already.
    #[error("this shard has a tunnel already")]
    Redundant,
    /// The hub's hello names another replica than its certificate.
    #[error("the hub says that it is {said}, but its certificate is of {proven}")]
    Impostor {
        /// The replica in the hello.
        said: ReplicaId,
        /// The replica in the certificate.
        proven: ReplicaId,
    },
    /// A message that is wrong, or comes at the wrong time.
    #[error("the hub broke the control protocol: {0}")]
    Protocol(String),
    /// The stream ended.
    #[error("the control stream ended: {0}")]
    Ended(String),
}

impl From<ControlError> for ConverseError {
    fn from(error: ControlError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// What one conversation needs.
#[derive(Debug)]
pub struct Conversation {
    /// The tunnel's number, which goes with all that is heard.
    pub tunnel: u64,
    /// The replica, as its certificate says.
    pub replica: ReplicaId,
    /// Tells this process from another of the same agent.
    pub instance: Arc<str>,
    /// Where this machine is.
    pub zone: Option<Zone>,
    /// What to offer.
    pub uplinks: Arc<Uplinks>,
    /// Leaves when hubs shall bring no new streams, and stops when none is taken.
    pub work: Drain,
    /// Time that streams have then, in milliseconds.
    pub drain_ms: u64,
    /// Where to report.
    pub heard: mpsc::Sender<(u64, Heard)>,
}

/// The hub's messages.
pub type Incoming = BoxStream<'static, Result<pb::HubMessage, tonic::Status>>;
/// Where the agent's messages go.
pub type Outgoing = mpsc::Sender<Result<pb::AgentMessage, tonic::Status>>;

/// Takes the hub's call on a tunnel's first stream, and talks with it until that ends.
pub async fn answer(control: Stream, with: Conversation) -> Result<(), ConverseError> {
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    let (incoming, called) = oneshot::channel();
    let serving = grpc::serve(control, move |hub| {
        let _ = incoming.send(hub);
        ReceiverStream::new(messages).boxed()
    });
    let conversing = async {
        match called.await {
            Ok(incoming) => converse(incoming, outgoing, with).await,
            Err(_) => Err(ConverseError::Ended("before the hub's call".to_owned())),
        }
    };
    tokio::pin!(serving, conversing);
    // The server ends by itself once the call has ended; a conversation that failed decides at once.
    tokio::select! {
        result = &mut conversing => result,
        served = &mut serving => {
            let ended = served.err().map_or("by the hub".to_owned(), |status| status.message().to_owned());
            Err(ConverseError::Ended(ended))
        }
    }
}

/// Talks with the hub until the stream ends.
pub async fn converse(mut incoming: Incoming, outgoing: Outgoing, with: Conversation) -> Result<(), ConverseError> {
    let hello = match tokio::time::timeout(HELLO_TIME, next(&mut incoming)).await {
        Ok(Some(Ok(Some(FromHub::Hello(hello))))) => hello,
        Ok(Some(Ok(_))) => return Err(ConverseError::Protocol("its first message is no hello".to_owned())),
        Ok(Some(Err(error))) => return Err(error),
        Ok(None) => return Err(ConverseError::Ended("before the hub's hello".to_owned())),
        Err(_) => return Err(ConverseError::Protocol(format!("no hello within {HELLO_TIME:?}"))),
    };
    let version = negotiate(&VERSIONS, &hello.versions).ok_or(ConverseError::Version { theirs: hello.versions.clone() })?;
    if hello.replica != with.replica {
        return Err(ConverseError::Impostor { said: hello.replica, proven: with.replica });
    }
    let (keep, kept) = oneshot::channel();
    with.report(Heard::Hello(hello, keep)).await?;
    if !kept.await.unwrap_or(false) {
        return Err(ConverseError::Redundant);
    }
    let hello = AgentHello {
        version,
        software: SOFTWARE.to_owned(),
        instance: with.instance.to_string(),
        time_ms: unix_ms(SystemTime::now()),
        zone: with.zone.clone(),
    };
    say(&outgoing, FromAgent::Hello(hello)).await?;

    let mut advertised = with.uplinks.subscribe();
    let now = Arc::clone(&advertised.borrow_and_update());
    let (mut told, list) = Told::list(&now, |name| with.uplinks.open(name));
    say(&outgoing, list).await?;
    let mut count = tokio::time::interval(COUNT_EVERY);
    count.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut draining = false;
    loop {
        tokio::select! {
            message = next(&mut incoming) => match message {
                Some(message) => if let Some(message) = message? { with.heed(message, &outgoing).await? },
                None => return Err(ConverseError::Ended("by the hub".to_owned())),
            },
            // The sender lives in `with.uplinks`, so this never fails.
            _ = advertised.changed() => {}
            _ = count.tick() => {}
            () = with.work.leaving(), if !draining => {
                draining = true;
                say(&outgoing, FromAgent::Draining { deadline_ms: with.drain_ms }).await?;
            }
        }
        let now = Arc::clone(&advertised.borrow_and_update());
        for message in told.update(&now, |name| with.uplinks.open(name)) {
            say(&outgoing, message).await?;
        }
    }
}

impl Conversation {
    async fn heed(&self, message: FromHub, outgoing: &Outgoing) -> Result<(), ConverseError> {
        match message {
            FromHub::Hello(_) => Err(ConverseError::Protocol("it said hello twice".to_owned())),
            FromHub::Directory(replicas) => self.report(Heard::Directory(replicas)).await,
            FromHub::Trust(roots) => self.report(Heard::Trust(roots)).await,
            FromHub::Leaving { deadline_ms } => self.report(Heard::Leaving(Duration::from_millis(deadline_ms))).await,
            FromHub::Verdicts(verdicts) => {
                verdicts.into_iter().for_each(|verdict| self.judge(verdict));
                Ok(())
            }
            FromHub::Count { nonce, uplink } => {
                let open_connections = self.uplinks.open(&uplink);
                say(outgoing, FromAgent::Counted { nonce, uplink, open_connections }).await
            }
        }
    }

    fn judge(&self, verdict: Verdict) {
        let (uplink, weight) = (verdict.uplink.clone(), verdict.weight);
        let refused = verdict.refused.clone();
        if !self.uplinks.set_verdict(&self.replica, verdict) {
            return;
        }
        match refused {
            Some(why) => tracing::warn!(
                %uplink, replica = %self.replica,
                "hub {} refuses uplink {uplink}: {why}; ask for a grant that allows it and join again, or remove it from agent.toml", self.replica
            ),
            None => {
                tracing::info!(%uplink, replica = %self.replica, %weight, "hub {} takes uplink {uplink} with weight {weight}", self.replica)
            }
        }
    }

    async fn report(&self, heard: Heard) -> Result<(), ConverseError> {
        self.heard.send((self.tunnel, heard)).await.map_err(|_| ConverseError::Ended("by the agent".to_owned()))
    }
}

/// The next message; `Some(Ok(None))` is one that this build does not know.
async fn next(incoming: &mut Incoming) -> Option<Result<Option<FromHub>, ConverseError>> {
    match incoming.next().await? {
        Ok(message) => Some(FromHub::check(message).map_err(Into::into)),
        Err(status) => Some(Err(ConverseError::Ended(status.message().to_owned()))),
    }
}

async fn say(outgoing: &Outgoing, message: FromAgent) -> Result<(), ConverseError> {
    outgoing.send(Ok(message.into())).await.map_err(|_| ConverseError::Ended("by the hub".to_owned()))
}

/// Unix milliseconds.
pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
