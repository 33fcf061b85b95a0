//! An agent without a VM: real tunnels and real gRPC, uplinks that come and go at a word. For scale and for misbehaviour.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use figspan_agent::identity::join::{JoinFailure, join as redeem};
use figspan_proto::control::{AgentHello, FromAgent, FromHub, Health, Protocol, State, Uplink, negotiate};
use figspan_proto::join::{RefusedReason, Token};
use figspan_proto::preamble::Preamble;
use figspan_proto::weight::Weight;
use figspan_proto::{VERSIONS, pb};
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::{Credentials, Stream, Tunnel};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::process::HubProcess;

/// Redeems a grant of its own for a simulated agent.
pub async fn join(hub: &HubProcess, name: &str, allowed: &str) -> Arc<Credentials> {
    let grant = hub.json(&["grant", "create", name, "--uplinks", allowed, "--ttl", "5m"]);
    let token: Token = grant["token"].as_str().expect("a token").parse().expect("a valid token");
    let joined = redeem(&token, None, &Resolver::system().expect("a resolver")).await.expect("the grant is good");
    Credentials::new(joined.kept.identity, joined.kept.roots)
}

/// Redeems one grant for many simulated agents `sim-0`, `sim-1`, ..., at most `at_once` at a time.
pub async fn join_many(hub: &HubProcess, allowed: &str, agents: usize, at_once: usize) -> Vec<Arc<Credentials>> {
    let uses = agents.to_string();
    let grant = hub.json(&["grant", "create", "--any-name", "--uses", &uses, "--uplinks", allowed, "--ttl", "10m"]);
    let token: Token = grant["token"].as_str().expect("a token").parse().expect("a valid token");
    let resolver = Resolver::system().expect("a resolver");
    let joins = (0..agents).map(|number| {
        let (token, resolver) = (&token, &resolver);
        async move {
            let name: figspan_proto::name::AgentName = format!("sim-{number}").parse().expect("a name");
            let joined = loop {
                match redeem(token, Some(Clone::clone(&name)), resolver).await {
                    // A hub takes so many attempts in a time and not more.
                    Err(JoinFailure::Refused { refused, .. }) if refused.reason == RefusedReason::Busy => {
                        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
                    }
                    joined => break joined.expect("the grant is good"),
                }
            };
            Credentials::new(joined.kept.identity, joined.kept.roots)
        }
    });
    futures_util::stream::iter(joins).buffer_unordered(at_once).collect().await
}

/// One tunnel of a simulated agent; every data stream is answered with a short 200.
#[derive(Debug)]
pub struct Simulated {
    /// The tunnel.
    pub tunnel: Tunnel,
    say: mpsc::UnboundedSender<FromAgent>,
    generation: AtomicU64,
    _tasks: tokio::task::JoinSet<()>,
}

impl Simulated {
    /// Dials a shard and answers the hub's control stream with an empty list.
    pub async fn connect(hub: &HubProcess, credentials: &Arc<Credentials>, shard: u8) -> Self {
        let address = hub.json(&["status"])["tunnel_address"].as_str().and_then(|text| text.parse().ok()).expect("the tunnel's address");
        Self::dial(address, credentials, shard).await
    }

    /// The same, to a known address.
    pub async fn dial(address: std::net::SocketAddr, credentials: &Arc<Credentials>, shard: u8) -> Self {
        let tunnel = figspan_tunnel::agent::dial(address, shard, credentials).await.expect("a tunnel");
        // Unbounded, but only the test itself puts anything in.
        let (say, said) = mpsc::unbounded_channel();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(serve(tunnel.clone(), said));
        Self { tunnel, say, generation: AtomicU64::new(1), _tasks: tasks }
    }

    /// Sends any message.
    pub fn say(&self, message: FromAgent) {
        let _ = self.say.send(message);
    }

    /// Advertises a ready HTTP uplink.
    pub fn advertise(&self, name: &str) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        self.say(FromAgent::Upsert { generation, uplink: uplink(name) });
    }

    /// Takes it back.
    pub fn withdraw(&self, name: &str) {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        self.say(FromAgent::Withdraw { generation, uplink: name.parse().expect("a name") });
    }
}

/// A ready HTTP uplink.
pub fn uplink(name: &str) -> Uplink {
    let name: figspan_proto::name::UplinkName = name.parse().expect("a name");
    let state = State { name: name.clone(), health: Health::Ready, reason: String::new(), open_connections: 0 };
    Uplink { name, weight: Weight::DEFAULT, protocol: Protocol::Http1, state }
}

async fn serve(tunnel: Tunnel, said: mpsc::UnboundedReceiver<FromAgent>) {
    let Ok(control) = tunnel.accept().await else { return };
    let instance = format!("sim-{}", tunnel.id());
    let answers = move |mut from_hub: futures_util::stream::BoxStream<'static, Result<pb::HubMessage, tonic::Status>>| {
        let hello = async_stream(async move {
            // The hub speaks first; what it offers decides the version.
            let offered = from_hub.next().await.and_then(Result::ok).and_then(|message| FromHub::check(message).ok().flatten());
            let Some(FromHub::Hello(hello)) = offered else { return Vec::new() };
            let version = negotiate(&VERSIONS, &hello.versions).unwrap_or(0);
            let time_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64);
            let hello = FromAgent::Hello(AgentHello { version, software: "simulated".into(), instance, time_ms, zone: None });
            // What else the hub says is read, so that its stream never fills.
            let mut rest = tokio::task::JoinSet::new();
            rest.spawn(async move { while from_hub.next().await.is_some() {} });
            rest.detach_all();
            vec![hello, FromAgent::List { generation: 1, uplinks: Vec::new() }]
        });
        let later = futures_util::stream::unfold(said, |mut said| async move { said.recv().await.map(|message| (message, said)) });
        hello.chain(later).map(|message| Ok(message.into())).boxed()
    };
    let mut streams = tokio::task::JoinSet::new();
    streams.spawn(async move {
        let _ = figspan_tunnel::grpc::serve(control, answers).await;
    });
    while let Ok(stream) = tunnel.accept().await {
        streams.spawn(answer(stream));
        while streams.try_join_next().is_some() {}
    }
}

fn async_stream(first: impl Future<Output = Vec<FromAgent>> + Send + 'static) -> impl futures_util::Stream<Item = FromAgent> + Send {
    futures_util::stream::once(first).flat_map(futures_util::stream::iter)
}

async fn answer(mut stream: Stream) {
    let mut length = [0; 2];
    if stream.read_exact(&mut length).await.is_err() {
        return;
    }
    let mut preamble = vec![0; Preamble::length(length).expect("a length")];
    if stream.read_exact(&mut preamble).await.is_err() {
        return;
    }
    Preamble::decode(&preamble).expect("a preamble");
    while let Ok(Some(_)) = stream.read_chunk(65536).await {
        if stream.write_chunk(bytes::Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await.is_err() {
            return;
        }
    }
}
