//! Hop `call`: a process on a VM calls a service of the cluster, over a stream that its agent opened.
//!
//! In the place of `listen`: asks whether the agent may call that service (its grant says so, or it may not), answers, and hands
//! the stream to `inbound` or to `tcp` as a listener hands a connection. It is served on the shard whose tunnel brought it.
//! Nothing is read of a call before it was taken, so every refusal is "not delivered". What a process says of itself counts for
//! nothing: the client of such a request is the VM, by its certificate.

mod io;
mod tcp;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use figspan_model::routing::CallRoute;
use figspan_model::snapshot;
use figspan_proto::name::AgentName;
use figspan_proto::preamble::Kind;
use figspan_proto::preamble::call::Call;
use figspan_proto::reset::{Reason, Reset};
use figspan_tunnel::call::take;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::{Stream, Tunnel};

use crate::client::Client;
use crate::door::{Counted, Door};
use crate::inbound::{self, Spoken};
use crate::metrics::{CallEvent, Limit};
use crate::shard::ShardRef;

/// From the word of an agent that it ends to the moment from which idle connections of its processes are closed. Until then the
/// next answer of each says that it is the last.
const GOING: Duration = Duration::from_secs(1);

/// One tunnel's calls.
pub struct Calls {
    shard: ShardRef,
    tunnel: Tunnel,
    agent: AgentName,
    drain: Drain,
}

/// A call that was taken: who it is from, as long as it counts.
struct Taken {
    caller: Arc<snapshot::Caller>,
    shard: ShardRef,
    _connection: Counted,
}

impl Calls {
    /// The calls that come over a tunnel of an agent; `None` for a hub's.
    pub fn new(shard: &ShardRef, tunnel: &Tunnel) -> Option<Rc<Self>> {
        let agent = tunnel.peer().agent()?.clone();
        Some(Rc::new(Self { shard: Rc::clone(shard), tunnel: tunnel.clone(), agent, drain: shard.drain.part() }))
    }

    /// Whether the agent may call anything, as of now.
    pub fn any(&self) -> bool {
        self.shard.snapshot().callers.get(&self.agent).is_some()
    }

    /// Serves a call to its end, as a task that the shard's drain waits for. Tells `denied` where the agent may not call that.
    pub fn serve(self: &Rc<Self>, mut stream: Stream, call: Call, denied: impl FnOnce(Reason)) {
        let route = match self.admit(&call) {
            Ok(route) => route,
            Err(reason) => {
                self.refuse(&mut stream, &call, reason);
                return denied(reason);
            }
        };
        let this = Rc::clone(self);
        self.drain.spawn_local(async move { this.carry(stream, call, route).await });
    }

    /// The agent ends: its processes are asked to come again on other connections, and what runs goes on.
    pub fn leave(&self) {
        self.drain.leave();
        let drain = self.drain.clone();
        self.drain.spawn_local(async move {
            tokio::select! {
                () = tokio::time::sleep(GOING) => {}
                () = drain.stopping() => {}
            }
            drain.stop();
        });
    }

    /// The way of a call and who calls, or why it is not taken. Who may not call a service does not learn whether it is there.
    fn admit(&self, call: &Call) -> Result<(CallRoute, Taken), Reason> {
        let (snapshot, service) = (self.shard.snapshot(), call.service.as_str());
        let caller = snapshot.callers.get(&self.agent).filter(|caller| caller.may_call(service)).ok_or(Reason::ServiceDenied)?;
        let route = snapshot.routing.calls.get(service).ok_or(Reason::UnknownService)?;
        match (route, call.kind) {
            (CallRoute::Http(_), Kind::Http) | (CallRoute::Stream(_), Kind::Tcp) => {}
            _ => return Err(Reason::ServiceProtocol),
        }
        if self.drain.is_stopping() {
            return Err(Reason::HubDraining);
        }
        if self.shard.metrics.connections.value() >= snapshot.routing.limits.connections as u64 {
            self.shard.metrics.limit_hit(Limit::Connections);
            return Err(Reason::HubLimit);
        }
        Ok((route.clone(), Taken::new(&self.shard, caller)))
    }

    fn refuse(&self, stream: &mut Stream, call: &Call, reason: Reason) {
        self.shard.metrics.call(CallEvent::of(reason));
        tracing::debug!(agent = %self.agent, service = %call.service, reason = reason.as_str(), "call refused");
        stream.reset(Reset::not_delivered(reason));
    }

    async fn carry(&self, mut stream: Stream, call: Call, (route, taken): (CallRoute, Taken)) {
        let client = Client::calling(Arc::clone(route.name()), &self.agent, self.tunnel.remote_address(), call.client);
        match route {
            CallRoute::Http(_) => {
                // An error is the end of the stream or its tunnel: nobody waits for the answer.
                if take(&mut stream).await.is_ok() {
                    self.shard.metrics.call(CallEvent::Taken);
                    inbound::run(io::socket(stream), client, Spoken::Unknown, Door::new(&self.shard, &self.drain)).await;
                }
            }
            CallRoute::Stream(route) => {
                if let Err((mut stream, reason)) = tcp::serve(&self.shard, &self.drain, stream, &route, &client).await {
                    self.refuse(&mut stream, &call, reason);
                }
            }
        }
        drop(taken);
    }
}

impl Taken {
    fn new(shard: &ShardRef, caller: &Arc<snapshot::Caller>) -> Self {
        caller.state.open.add(shard.shard, 1);
        caller.state.taken.add(shard.shard, 1);
        shard.metrics.calls_open.add(1);
        Self { caller: Arc::clone(caller), shard: Rc::clone(shard), _connection: Counted::new(shard) }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.caller.state.open.sub(self.shard.shard, 1);
        self.shard.metrics.calls_open.sub(1);
    }
}
