//! A hub for tests: real QUIC, and a discovery client that does what each test says.

use std::sync::Arc;
use std::time::Duration;

use figspan_proto::control::{FromAgent, FromHub, HubHello, Uplink};
use figspan_proto::name::{Role, SpiffeId};
use figspan_proto::pb;
use figspan_proto::preamble::{Kind, Preamble};
use figspan_tunnel::hub::HubEndpoint;
use figspan_tunnel::stream::Stream;
use figspan_tunnel::testing::{Authority, accept};
use figspan_tunnel::{Identity, KeyPair, Tunnel, grpc};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::identity::{Holder, Kept};
use crate::settings::{self, Address, Settings};

/// How long a test waits for what must come.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A hub of `hub-0` with some shards.
pub(crate) struct Hub {
    pub(crate) authority: Authority,
    pub(crate) shards: Vec<HubEndpoint>,
}

/// One tunnel whose control stream is open and whose hello is said.
pub(crate) struct Watching {
    pub(crate) tunnel: Tunnel,
    pub(crate) say: mpsc::Sender<pb::HubMessage>,
    hear: BoxStream<'static, Result<pb::AgentMessage, tonic::Status>>,
}

impl Hub {
    pub(crate) fn new(shards: usize) -> Self {
        let authority = Authority::new();
        Self { shards: authority.endpoints(shards), authority }
    }

    /// Settings of an agent that dials this hub and nothing else.
    pub(crate) fn settings(&self, uplinks: Vec<settings::Uplink>) -> Settings {
        let hubs = vec![self.shards[0].local_address().unwrap().to_string()];
        Settings { hubs, uplinks, status_socket: None, ..Settings::default() }
    }

    /// An identity for agent `vm-1` that lives so long.
    pub(crate) fn holder(&self, life: Duration) -> Holder {
        let key = KeyPair::generate().unwrap();
        Holder::new(
            Kept {
                identity: Identity::from_der(self.issue(&key.csr().unwrap(), life), &key).unwrap(),
                key,
                roots: self.authority.ca.roots(),
            },
            None,
        )
        .unwrap()
    }

    /// Signs a request for agent `vm-1`.
    pub(crate) fn issue(&self, csr: &[u8], life: Duration) -> Vec<Vec<u8>> {
        let id = SpiffeId { trust_domain: self.authority.ca.trust_domain().clone(), role: Role::Agent("vm-1".parse().unwrap()) };
        self.authority.ca.issue(&id, csr, std::time::SystemTime::now(), life).unwrap()
    }

    /// Takes the next tunnel to a shard and says hello as hubs did before there were calls.
    pub(crate) async fn watch_old(&self, shard: usize) -> Watching {
        let mut old = hello(shard, self.shards.len(), "hub-0", 1..=1);
        if let FromHub::Hello(hello) = &mut old {
            hello.calls = false;
        }
        self.greet(shard, old).await
    }

    /// Takes the next tunnel to a shard and says hello.
    pub(crate) async fn watch(&self, shard: usize) -> Watching {
        self.greet(shard, hello(shard, self.shards.len(), "hub-0", 1..=1)).await
    }

    async fn greet(&self, shard: usize, hello: FromHub) -> Watching {
        let tunnel = tokio::time::timeout(SOON, accept(&self.shards[shard])).await.expect("a tunnel comes");
        let (say, messages) = mpsc::channel(16);
        say.send(hello.into()).await.unwrap();
        let stream = tunnel.open().await.unwrap();
        let mut watch = grpc::watch(stream, ReceiverStream::new(messages).boxed()).await.unwrap();
        // What is said goes out while somebody waits for the agent's messages.
        let (heard, hear) = mpsc::channel(1);
        #[allow(clippy::disallowed_methods, reason = "it ends with what it feeds")]
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = watch.next() => message,
                    () = heard.closed() => None,
                };
                let Some(message) = message else { return };
                if heard.send(message).await.is_err() {
                    return;
                }
            }
        });
        Watching { tunnel, say, hear: ReceiverStream::new(hear).boxed() }
    }
}

/// A hub's hello.
pub(crate) fn hello(shard: usize, shards: usize, replica: &str, versions: std::ops::RangeInclusive<u32>) -> FromHub {
    FromHub::Hello(HubHello {
        versions,
        replica: replica.parse().unwrap(),
        shard: shard as u8,
        shards: shards as u8,
        software: "scripted".to_owned(),
        time_ms: crate::advertise::unix_ms(std::time::SystemTime::now()),
        calls: true,
    })
}

impl Watching {
    /// The agent's next message.
    pub(crate) async fn hear(&mut self) -> FromAgent {
        let message = tokio::time::timeout(SOON, self.hear.next()).await.expect("a message comes").expect("the stream goes on").unwrap();
        FromAgent::check(message).unwrap().unwrap()
    }

    /// The first message that `wanted` makes something of; others are passed over.
    pub(crate) async fn hear_until<T>(&mut self, mut wanted: impl FnMut(FromAgent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.hear().await) {
                return found;
            }
        }
    }

    /// The full list, behind the agent's hello.
    pub(crate) async fn list(&mut self) -> Vec<Uplink> {
        assert!(matches!(self.hear().await, FromAgent::Hello(hello) if hello.version == 1));
        match self.hear().await {
            FromAgent::List { uplinks, .. } => uplinks,
            other => panic!("expected the list, not {other:?}"),
        }
    }

    pub(crate) async fn say(&self, message: FromHub) {
        self.say.send(message.into()).await.unwrap();
    }

    /// Opens a data stream and sends the preamble with the first bytes.
    pub(crate) async fn open(&self, uplink: &str, kind: Kind, first: &[u8]) -> Stream {
        open(&self.tunnel, uplink, kind, first).await
    }
}

/// Opens a data stream and sends the preamble with the first bytes.
pub(crate) async fn open(tunnel: &Tunnel, uplink: &str, kind: Kind, first: &[u8]) -> Stream {
    let client = Some("192.0.2.7:4000".parse().unwrap());
    let server = Some("198.51.100.1:80".parse().unwrap());
    let preamble = Preamble { kind, uplink: uplink.parse().unwrap(), client, server, trace: None };
    let mut bytes = Vec::new();
    preamble.encode(&mut bytes);
    bytes.extend_from_slice(first);
    let mut stream = tunnel.open().await.unwrap();
    stream.write_chunk(bytes.into()).await.unwrap();
    stream
}

/// An uplink at an address, without checks.
pub(crate) fn uplink(name: &str, address: std::net::SocketAddr) -> settings::Uplink {
    let mut uplink = settings::Uplink::new(name.parse().unwrap(), Address::Ip(address), figspan_proto::control::Protocol::Http1);
    uplink.health.check = settings::Check::None;
    uplink
}

/// Waits until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A workload that echoes, one connection after the other; its address.
pub(crate) async fn echo(tasks: &mut tokio::task::JoinSet<()>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        let connections = Arc::new(tokio::sync::Mutex::new(tokio::task::JoinSet::new()));
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            connections.lock().await.spawn(async move {
                let (mut read, mut write) = tcp.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
            });
        }
    });
    address
}

/// An address at which nobody listens.
pub(crate) async fn nobody() -> std::net::SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
