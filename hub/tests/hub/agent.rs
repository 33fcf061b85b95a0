//! A scripted agent: joins by a grant, opens tunnels, advertises one uplink, and is its own workload.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use figspan_hub::Running;
use figspan_proto::admin::CreateGrant;
use figspan_proto::control::{AgentHello, FromAgent, FromHub, Health, Protocol, State, Uplink};
use figspan_proto::join::{IdentityRequest, Token};
use figspan_proto::pb;
use figspan_proto::preamble::Preamble;
use figspan_tunnel::{Credentials, Identity, KeyPair, Roots, Stream, Tunnel, agent, exchange, grpc};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::task::JoinSet;

/// Dropped, it is gone without a word.
pub(crate) struct TestAgent {
    _tasks: JoinSet<()>,
    pub(crate) tunnels: Vec<Tunnel>,
    /// The hub has said that it leaves.
    pub(crate) told_leaving: Arc<AtomicBool>,
}

impl TestAgent {
    /// Joins, opens one tunnel to each shard and advertises `monolith`, whose workload answers `said` to every request.
    pub(crate) async fn join(hub: &Running, name: &str, said: &'static str) -> Self {
        let credentials = redeem(hub, name).await;
        let mut agent = Self { _tasks: JoinSet::new(), tunnels: Vec::new(), told_leaving: Arc::default() };
        for shard in 0..hub.settings().hub.shards {
            let tunnel = agent::dial(hub.tunnel_address(), shard as u8, &credentials).await.unwrap();
            agent._tasks.spawn(serve(tunnel.clone(), said, Arc::clone(&agent.told_leaving)));
            agent.tunnels.push(tunnel);
        }
        agent
    }
}

async fn redeem(hub: &Running, name: &str) -> Arc<Credentials> {
    let grant = CreateGrant {
        services: Vec::new(),
        agent: Some(name.parse().unwrap()),
        name_template: None,
        uplinks: vec!["monolith".parse().unwrap()],
        ttl_seconds: 60,
        uses: 1,
        hubs: Vec::new(),
        dry_run: false,
    };
    let created = hub.control().create_grant(grant, "test").await.unwrap();
    let token: Token = created.token.parse().unwrap();
    let address: SocketAddr = token.hubs[0].parse().expect("the grant names the port that the kernel chose");
    let dialled = agent::dial_join(address, token.pin).await.unwrap();
    let key = KeyPair::generate().unwrap();
    let join =
        IdentityRequest::Join { grant: token.grant, secret: token.secret, wanted_name: None, csr: key.csr().unwrap(), time_ms: now_ms() };
    let issued = exchange::ask(dialled.stream, join).await.unwrap().unwrap();
    Credentials::new(Identity::from_der(issued.chain, &key).unwrap(), Roots::from_der(issued.roots).unwrap())
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

async fn serve(tunnel: Tunnel, said: &'static str, told_leaving: Arc<AtomicBool>) {
    let Ok(control) = tunnel.accept().await else { return };
    let handler = move |messages| answers(messages, told_leaving);
    let data = async {
        let mut streams = JoinSet::new();
        while let Ok(stream) = tunnel.accept().await {
            streams.spawn(work(stream, said));
        }
    };
    let _ = tokio::join!(grpc::serve(control, handler), data);
}

type FromHubs = BoxStream<'static, Result<pb::HubMessage, tonic::Status>>;
type ToHub = BoxStream<'static, Result<pb::AgentMessage, tonic::Status>>;

fn answers(messages: FromHubs, told_leaving: Arc<AtomicBool>) -> ToHub {
    let answer = move |message: Result<pb::HubMessage, tonic::Status>| {
        let answers = match message.ok().and_then(|message| FromHub::check(message).ok().flatten()) {
            Some(FromHub::Hello(_)) => vec![hello(), list()],
            Some(FromHub::Count { nonce, uplink }) => vec![FromAgent::Counted { nonce, uplink, open_connections: 0 }],
            Some(FromHub::Leaving { .. }) => {
                told_leaving.store(true, Ordering::SeqCst);
                Vec::new()
            }
            _ => Vec::new(),
        };
        futures_util::stream::iter(answers.into_iter().map(|answer| Ok(answer.into())))
    };
    messages.flat_map(answer).boxed()
}

fn hello() -> FromAgent {
    FromAgent::Hello(AgentHello { version: 1, software: "test".into(), instance: "i-1".into(), time_ms: now_ms(), zone: None })
}

fn list() -> FromAgent {
    let name: figspan_proto::name::UplinkName = "monolith".parse().unwrap();
    let state = State { name: name.clone(), health: Health::Ready, reason: String::new(), open_connections: 0 };
    let uplink = Uplink { name, weight: figspan_proto::weight::Weight::DEFAULT, protocol: Protocol::Http1, state };
    FromAgent::List { generation: 1, uplinks: vec![uplink] }
}

/// A workload that answers requests without bodies. `/slow` is answered half at once, the rest when the test says so by a
/// second request to `/go` on any connection.
async fn work(mut stream: Stream, said: &'static str) {
    let mut length = [0; 2];
    if stream.read_exact(&mut length).await.is_err() {
        return;
    }
    let mut body = vec![0; Preamble::length(length).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    Preamble::decode(&body).unwrap();
    let mut held = Vec::new();
    loop {
        while let Some(end) = held.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(held.drain(..end + 4).collect()).unwrap();
            if answer(&mut stream, &head, said).await.is_err() {
                return;
            }
        }
        match stream.read_chunk(64 * 1024).await {
            Ok(Some(chunk)) => held.extend_from_slice(&chunk),
            _ => return stream.finish(),
        }
    }
}

static GO: tokio::sync::Notify = tokio::sync::Notify::const_new();

/// Lets all `/slow` answers that have begun end.
pub(crate) fn go() {
    GO.notify_waiters();
}

async fn answer(stream: &mut Stream, head: &str, said: &str) -> Result<(), figspan_tunnel::StreamError> {
    let length = said.len();
    if head.starts_with("GET /slow ") {
        let go = GO.notified();
        tokio::pin!(go);
        go.as_mut().enable();
        stream.write_chunk(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\nfirst ", length + 6).into()).await?;
        go.await;
        return stream.write_chunk(said.to_owned().into()).await;
    }
    stream.write_chunk(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{said}").into()).await
}
