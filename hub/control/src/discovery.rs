//! Hop of the control path: advertise -> *discovery* -> registry. One tunnel's control stream, from its hello to its end.
//!
//! The hub opens the tunnel's first stream and calls `Discovery.Watch` on it; what the agent says is checked, held to a pace
//! for each identity, and given to the registry's writer in order. Whatever breaks the protocol or its limits closes this
//! tunnel and no other. The end of the tunnel withdraws what it advertised at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use figspan_model::state::Shard;
use figspan_proto::control::{FromAgent, FromHub, plain};
use figspan_proto::name::AgentName;
use figspan_proto::pb;
use figspan_proto::reset::Close;
use figspan_tunnel::{Tunnel, grpc};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::context::Context;
use crate::core::Core;
use crate::events::Note;
use crate::registry::TunnelId;

/// How long each of these may take: opening the control stream, the hello, the first list.
const STEP: Duration = Duration::from_secs(5);
/// How long a tunnel may live without its control stream.
const GOODBYE: Duration = Duration::from_millis(100);
/// An agent keeps to its pace again once none of its messages has had to wait for so long.
const CALM: Duration = Duration::from_secs(1);
/// Most bytes of an instance's name.
const MAX_INSTANCE: usize = 64;
/// States that weigh as much as one uplink advertised: they change a number, not the snapshot.
const STATES_PER_ENTRY: usize = 8;

/// Why a conversation ended, when it was not the tunnel's own end.
enum Ending {
    /// The rules were broken: the tunnel is closed for it.
    Refused(Close, String),
    /// The control stream ended or broke off, as it does when an agent stops or a network fails.
    Over(String),
}

type FromAgentStream = BoxStream<'static, Result<pb::AgentMessage, tonic::Status>>;

/// Serves one tunnel until it ends.
pub(crate) async fn serve(context: Arc<Context>, shard: Shard, tunnel: Tunnel) {
    let id = tunnel.id();
    let Some(agent) = tunnel.peer().agent().cloned() else {
        tunnel.close(Close::Identity);
        return;
    };
    let adopted = tunnel.clone();
    let outgoing = match context.writer.ask(move |core| core.open(shard, adopted)).await {
        Ok(Ok(outgoing)) => outgoing,
        Ok(Err((close, why))) => {
            tracing::warn!(%agent, %why, "a tunnel is refused");
            tunnel.close(close);
            return;
        }
        Err(_) => {
            tunnel.close(Close::Leaving);
            return;
        }
    };
    let detail = tokio::select! {
        closed = tunnel.closed() => closed.detail,
        ending = converse(Arc::clone(&context), agent.clone(), tunnel.clone(), outgoing) => end(&context, &agent, &tunnel, ending).await,
        never = watch_silence(Arc::clone(&context), tunnel.clone()) => match never {},
        () = context.work.forced() => { tunnel.close(Close::Leaving); "the hub ends".to_owned() }
    };
    context.writer.tell(move |core| core.gone(id, detail)).await;
}

/// Ends a tunnel whose conversation is over; why, for people.
async fn end(context: &Arc<Context>, agent: &AgentName, tunnel: &Tunnel, ending: Ending) -> String {
    let (close, why, refused) = match ending {
        Ending::Refused(close, why) => (close, why, true),
        Ending::Over(why) => (Close::Protocol, why, false),
    };
    // Withdrawn first, so that no request is given to what is about to close.
    let (id, detail) = (tunnel.id(), why.clone());
    let withdraw = move |core: &mut Core| {
        core.gone(id, detail);
        core.publish();
    };
    context.writer.tell(withdraw).await;
    // An agent that ends closes its control stream a moment before its tunnel: nothing is wrong with that.
    if let Ok(closed) = timeout(GOODBYE, tunnel.closed()).await {
        return closed.detail;
    }
    if refused {
        let note = Note::new("refused", agent, agent, format!("a tunnel of agent {agent} was closed: {why}"));
        context.writer.tell(move |core| core.note(note)).await;
    }
    tunnel.close(close);
    why
}

/// Tells the registry when the agent falls silent and when it speaks again. The writer looks by itself once a second, for what
/// changes between two waits here.
async fn watch_silence(context: Arc<Context>, tunnel: Tunnel) -> Infallible {
    loop {
        let silent = tunnel.changed_suspicion().await;
        let id = tunnel.id();
        context.writer.tell(move |core| core.registry.silent(id, silent)).await;
    }
}

async fn converse(context: Arc<Context>, agent: AgentName, tunnel: Tunnel, outgoing: mpsc::Receiver<Box<FromHub>>) -> Ending {
    match talk(&context, &agent, tunnel, outgoing).await {
        Ok(never) => match never {},
        Err(ending) => ending,
    }
}

async fn talk(
    context: &Arc<Context>,
    agent: &AgentName,
    tunnel: Tunnel,
    outgoing: mpsc::Receiver<Box<FromHub>>,
) -> Result<Infallible, Ending> {
    let outgoing = ReceiverStream::new(outgoing).map(|message| pb::HubMessage::from(*message)).boxed();
    let mut incoming = timeout(STEP, open(tunnel.clone(), outgoing)).await.map_err(|_| late("answer to Discovery.Watch"))??;

    let hello = match timeout(STEP, next(&mut incoming)).await.map_err(|_| late("hello"))?? {
        FromAgent::Hello(hello) => hello,
        other => return Err(protocol(format!("the first message is not a hello but {}", kind(&other)))),
    };
    if !figspan_proto::VERSIONS.contains(&hello.version) {
        let ours = figspan_proto::VERSIONS;
        let why =
            format!("the agent speaks version {} of the control protocol, this hub {} to {}", hello.version, ours.start(), ours.end());
        return Err(Ending::Refused(Close::Version, why));
    }
    if hello.instance.len() > MAX_INSTANCE {
        return Err(protocol(format!("the instance's name has more than {MAX_INSTANCE} bytes")));
    }
    let id = tunnel.id();
    context.writer.tell(move |core| core.hello(id, hello.instance, hello.software, hello.time_ms, hello.zone)).await;

    let first = timeout(STEP, next(&mut incoming)).await.map_err(|_| late("list of uplinks"))??;
    if !matches!(first, FromAgent::List { .. }) {
        return Err(protocol(format!("the second message is not a list but {}", kind(&first))));
    }
    let mut gate = Gate { context, agent, over: None };
    let mut message = first;
    loop {
        gate.pass(&message).await?;
        deliver(context, id, message).await?;
        message = next(&mut incoming).await?;
    }
}

fn protocol(why: String) -> Ending {
    Ending::Refused(Close::Protocol, why)
}

fn late(what: &str) -> Ending {
    protocol(format!("no {what} within {} s", STEP.as_secs()))
}

async fn open(tunnel: Tunnel, outgoing: BoxStream<'static, pb::HubMessage>) -> Result<FromAgentStream, Ending> {
    let stream = tunnel.open().await.map_err(|error| Ending::Over(error.to_string()))?;
    grpc::watch(stream, outgoing).await.map_err(|status| broken(&status))
}

/// What a failed control stream means. gRPC's own texts of a stream that broke off are for developers, and logged as such; an
/// agent that says something itself is quoted.
fn broken(status: &tonic::Status) -> Ending {
    if std::error::Error::source(status).is_none() && !status.message().is_empty() {
        return protocol(format!("the agent ended its control stream: {}", plain(status.message())));
    }
    tracing::debug!(%status, "a control stream broke off");
    Ending::Over("its control stream broke off".to_owned())
}

/// The next message that this build knows.
async fn next(incoming: &mut FromAgentStream) -> Result<FromAgent, Ending> {
    loop {
        let message = match incoming.next().await {
            None => return Err(Ending::Over("it ended its control stream".to_owned())),
            Some(Err(status)) => return Err(broken(&status)),
            Some(Ok(message)) => message,
        };
        if let Some(message) = FromAgent::check(message).map_err(|error| protocol(error.to_string()))? {
            return Ok(message);
        }
        tracing::debug!("a control message that this hub does not know is passed over");
    }
}

/// Gives a message to the registry. Waits while the writer is busy, which holds the agent back in turn.
async fn deliver(context: &Arc<Context>, id: TunnelId, message: FromAgent) -> Result<(), Ending> {
    let writer = &context.writer;
    let clock = context.clock.clone();
    match message {
        FromAgent::Hello(_) => return Err(protocol("a second hello".to_owned())),
        FromAgent::List { uplinks, .. } => {
            writer.tell(move |core| core.listed(id, uplinks)).await;
        }
        FromAgent::Upsert { uplink, .. } => {
            let upsert = move |core: &mut Core| {
                if let Err(violation) = core.registry.upsert(id, uplink, clock.stamp()) {
                    core.close(id, Close::Protocol, &violation.0);
                }
            };
            writer.tell(upsert).await;
        }
        FromAgent::Withdraw { uplink, .. } => writer.tell(move |core| core.registry.withdraw(id, &uplink, clock.stamp())).await,
        FromAgent::States(states) => writer.tell(move |core| core.registry.states(id, states, clock.stamp())).await,
        FromAgent::Draining { .. } => writer.tell(move |core| core.registry.draining(id)).await,
        FromAgent::Counted { nonce, uplink, open_connections } => {
            writer.tell(move |core| core.counted(id, nonce, &uplink, open_connections)).await;
        }
    }
    Ok(())
}

/// Holds an agent to its pace. What the hub has to say to it waits meanwhile: it goes out while the next message is waited for.
struct Gate<'a> {
    context: &'a Context,
    agent: &'a AgentName,
    /// Since when it is over its pace, and when it last had to wait.
    over: Option<(Instant, Instant)>,
}

impl Gate<'_> {
    /// Lets a message pass when its agent's pace allows it; an error once patience is at its end.
    async fn pass(&mut self, message: &FromAgent) -> Result<(), Ending> {
        let entries = u32::try_from(entries(message)).unwrap_or(u32::MAX);
        // A single message that need not wait is no sign of peace: a wait that is a little too long lets the next one through.
        self.over = self.over.filter(|(_, waited)| waited.elapsed() < CALM);
        while let Err(wait) = self.context.talk.check(self.agent, entries) {
            let pace = self.context.pace;
            let since = self.over.map_or_else(Instant::now, |(since, _)| since);
            if self.over.is_none() {
                tracing::warn!(agent = %self.agent, "an agent sends more than {} entries a second; it is held back", pace.per_second);
            }
            if since.elapsed() >= pace.patience {
                let why = format!("it sent more than {} entries a second for {:.1} s", pace.per_second, pace.patience.as_secs_f64());
                return Err(protocol(why));
            }
            tokio::time::sleep(wait.min(pace.patience)).await;
            self.over = Some((since, Instant::now()));
        }
        Ok(())
    }
}

fn entries(message: &FromAgent) -> usize {
    match message {
        FromAgent::List { uplinks, .. } => uplinks.len().max(1),
        FromAgent::States(states) => states.len() / STATES_PER_ENTRY + 1,
        _ => 1,
    }
}

fn kind(message: &FromAgent) -> &'static str {
    match message {
        FromAgent::Hello(_) => "a hello",
        FromAgent::List { .. } => "a list",
        FromAgent::Upsert { .. } | FromAgent::Withdraw { .. } => "a change",
        FromAgent::States(_) => "states",
        FromAgent::Draining { .. } => "a drain",
        FromAgent::Counted { .. } => "a count",
    }
}
