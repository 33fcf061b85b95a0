//! A hub's control path with real tunnels over loopback, and agents that do what a test tells them. Tests only.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use figspan_model::snapshot::{Reader, publication};
use figspan_model::state::{Board, Book};
use figspan_proto::admin::{self, CreateGrant};
use figspan_proto::control::{AgentHello, FromAgent, FromHub, Health, Protocol, State, Uplink, Verdict};
use figspan_proto::join::{Issued, Refused, Token};
use figspan_proto::name::UplinkName;
use figspan_proto::pb;
use figspan_proto::reset::Close;
use figspan_tunnel::call::{Opened, read_header};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::hub::{Established, HubConfig, HubEndpoint, bind_shards};
use figspan_tunnel::{Credentials, Identity, KeyPair, Roots, Tunnel, agent, grpc};
use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::limiter::Pace;
use crate::{CaFiles, Clock, Control, ControlConfig};

pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A hub of one shard whose data path is a task that says what it sees.
pub(crate) struct Hub {
    pub(crate) control: Control,
    pub(crate) reader: Reader,
    pub(crate) book: Arc<Book>,
    /// Whether the fake shard follows publications.
    pub(crate) follows: Arc<AtomicBool>,
    endpoint: Arc<HubEndpoint>,
    tasks: Drain,
}

/// Milliseconds that the clock of a test is ahead.
#[derive(Clone, Default)]
pub(crate) struct Ahead(Arc<AtomicU64>);

impl Ahead {
    pub(crate) fn set(&self, ahead: Duration) {
        self.0.store(ahead.as_millis() as u64, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let ahead = Arc::clone(&self.0);
        Clock::new(move || SystemTime::now() + Duration::from_millis(ahead.load(Ordering::Relaxed)))
    }
}

pub(crate) fn config(dir: &Path, ahead: &Ahead) -> (ControlConfig, Reader) {
    let (publisher, reader) = publication();
    let config = ControlConfig {
        trust_domain: "figspan.local".parse().unwrap(),
        replica: "hub-0".parse().unwrap(),
        state_dir: dir.to_owned(),
        ca: None,
        certificate_lifetime: figspan_tunnel::ca::LEAF_LIFETIME,
        advertise: vec!["hub.example:7443".into()],
        direct: Vec::new(),
        software: "test 1".into(),
        routing: Arc::default(),
        book: Book::new(1),
        publisher,
        board: Board::new(1),
        clock: ahead.clock(),
    };
    (config, reader)
}

impl Hub {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, Pace::default(), &Ahead::default())
    }

    pub(crate) fn start_with(dir: &Path, pace: Pace, ahead: &Ahead) -> Self {
        Self::run(config(dir, ahead), pace)
    }

    /// One of several hubs of a CA.
    pub(crate) fn of_ca(dir: &Path, ca: &CaFiles) -> Self {
        let (mut config, reader) = config(dir, &Ahead::default());
        config.ca = Some(ca.clone());
        Self::run((config, reader), Pace::default())
    }

    fn run((config, reader): (ControlConfig, Reader), pace: Pace) -> Self {
        let (book, board) = (Arc::clone(&config.book), Arc::clone(&config.board));
        let control = Control::start_with(config, pace).unwrap();
        let socket = bind_shards(([127, 0, 0, 1], 0).into(), 1).unwrap().remove(0);
        let settings = HubConfig { shard: 0, shards: 1, credentials: control.credentials(), reset_key: control.reset_key() };
        let endpoint = Arc::new(HubEndpoint::new(socket, settings).unwrap());
        let (tasks, follows) = (Drain::new(), Arc::new(AtomicBool::new(true)));

        let (accepting, adopting, stopped) = (Arc::clone(&endpoint), control.clone(), tasks.clone());
        let answering = tasks.clone();
        tasks.spawn(async move {
            while let Some(incoming) = tokio::select! { next = accepting.accept() => next, () = stopped.stopping() => None } {
                if let Ok(established) = incoming.establish().await {
                    if let Established::Tunnel(tunnel) = &established {
                        answering.spawn(questions(adopting.clone(), tunnel.clone()));
                    }
                    adopting.adopt(0, established).await;
                }
            }
        });
        let (mut seen, following, stopped) = (reader.clone(), Arc::clone(&follows), tasks.clone());
        tasks.spawn(async move {
            loop {
                if following.load(Ordering::Relaxed) {
                    board.saw(0, seen.load().generation);
                }
                let wake = async { tokio::time::timeout(Duration::from_millis(5), seen.changed()).await.is_ok_and(|open| !open) };
                if tokio::select! { ended = wake => ended, () = stopped.stopping() => true } {
                    return;
                }
            }
        });
        Self { control, reader, book, follows, endpoint, tasks }
    }

    pub(crate) fn address(&self) -> std::net::SocketAddr {
        self.endpoint.local_address().unwrap()
    }

    /// Makes a grant and returns its line.
    pub(crate) async fn grant(&self, agent: Option<&str>, uplinks: &[&str], uses: u32) -> Token {
        let ask = CreateGrant {
            agent: agent.map(|name| name.parse().unwrap()),
            name_template: None,
            uplinks: uplinks.iter().map(|pattern| pattern.parse().unwrap()).collect(),
            services: Vec::new(),
            ttl_seconds: 900,
            uses,
            hubs: Vec::new(),
            dry_run: false,
        };
        self.control.create_grant(ask, "ann").await.unwrap().token.parse().unwrap()
    }

    /// Makes a grant that allows calls, and returns its line.
    pub(crate) async fn grant_calling(&self, agent: &str, uplinks: &[&str], services: &[&str]) -> Token {
        let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let ask = CreateGrant {
            agent: Some(agent.parse().unwrap()),
            name_template: None,
            uplinks: patterns(uplinks),
            services: patterns(services),
            ttl_seconds: 900,
            uses: 1,
            hubs: Vec::new(),
            dry_run: false,
        };
        self.control.create_grant(ask, "ann").await.unwrap().token.parse().unwrap()
    }

    /// Lets an agent join, in process.
    pub(crate) async fn joined(&self, name: &str, uplinks: &[&str]) -> Arc<Credentials> {
        let token = self.grant(Some(name), uplinks, 1).await;
        let (key, result) = self.redeem(&token, None, now_ms()).await;
        credentials(result.unwrap(), &key)
    }

    pub(crate) async fn redeem(&self, token: &Token, wanted: Option<&str>, time_ms: u64) -> (KeyPair, Result<Issued, Refused>) {
        let key = KeyPair::generate().unwrap();
        let csr = key.csr().unwrap();
        let result = self.control.redeem(&token.grant, &token.secret, wanted, &csr, time_ms).await;
        (key, result)
    }

    /// An agent that joined and connected.
    pub(crate) async fn agent(&self, name: &str, uplinks: &[&str]) -> Agent {
        let credentials = self.joined(name, uplinks).await;
        Agent::connect(self, &credentials, "instance-1", 1).await
    }

    pub(crate) fn accepts(&self, uplink: &str, agent: &str) -> bool {
        let snapshot = self.reader.load();
        let found = snapshot.uplinks.get(uplink).filter(|uplink| !uplink.draining);
        found.is_some_and(|uplink| uplink.endpoints.iter().any(|endpoint| endpoint.agent.as_str() == agent && endpoint.accepts()))
    }

    pub(crate) async fn set_weight(&self, uplink: &str, agent: Option<&str>, weight: u32) -> admin::WeightChange {
        let change = admin::SetWeight {
            sessions_seconds: None,
            weight: weight.try_into().unwrap(),
            agent: agent.map(|name| name.parse().unwrap()),
            reason: "test".into(),
            dry_run: false,
        };
        self.control.set_weight(&uplink.parse().unwrap(), change, "ann").await.unwrap()
    }

    pub(crate) async fn stop(self) {
        self.control.stop().await;
        self.endpoint.close(Close::Leaving);
        self.tasks.force();
    }
}

/// What a shard does with the streams that agents open.
async fn questions(control: Control, tunnel: Tunnel) {
    while let Ok(mut stream) = tunnel.accept().await {
        if let Ok(Opened::Identity) = read_header(&mut stream).await {
            control.question(&tunnel, stream).await;
        }
    }
}

/// An agent that says what it is told to, and answers counts.
pub(crate) struct Agent {
    pub(crate) tunnel: Tunnel,
    pub(crate) say: mpsc::Sender<FromAgent>,
    pub(crate) heard: mpsc::UnboundedReceiver<FromHub>,
    /// What it answers when asked to count.
    pub(crate) open_connections: Arc<AtomicU64>,
    /// Whether it answers.
    pub(crate) answers: Arc<AtomicBool>,
    tasks: Drain,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.tunnel.close(Close::Done);
        self.tasks.force();
    }
}

/// How the hub turns away whoever comes with these credentials.
pub(crate) async fn turned_away(hub: &Hub, credentials: &Arc<Credentials>) -> Option<Close> {
    // The handshake is over before the hub looks at the registry: the word may come a moment later.
    match agent::dial(hub.address(), 0, credentials).await {
        Ok(tunnel) => tokio::time::timeout(SOON, tunnel.closed()).await.expect("the tunnel ends").close,
        Err(error) => Some(error.close().unwrap_or_else(|| panic!("{error}"))),
    }
}

impl Agent {
    pub(crate) async fn connect(hub: &Hub, credentials: &Arc<Credentials>, instance: &str, version: u32) -> Self {
        Self::dial(hub.address(), credentials, instance, version).await
    }

    pub(crate) async fn dial(address: std::net::SocketAddr, credentials: &Arc<Credentials>, instance: &str, version: u32) -> Self {
        let tunnel = agent::dial(address, 0, credentials).await.unwrap();
        let (say, said) = mpsc::channel(4096);
        let (hear, heard) = mpsc::unbounded_channel();
        let (open_connections, answers) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(true)));
        let hello = AgentHello { version, software: "agent 1".into(), instance: instance.into(), time_ms: now_ms(), zone: None };
        say.send(FromAgent::Hello(hello)).await.unwrap();
        let tasks = Drain::new();
        let (carrying, counting, answering, reply, reading) =
            (tunnel.clone(), Arc::clone(&open_connections), Arc::clone(&answers), say.clone(), tasks.clone());
        tasks.spawn(async move {
            let stream = carrying.accept().await.unwrap();
            let served = grpc::serve(stream, move |mut messages| {
                reading.spawn(async move {
                    while let Some(Ok(message)) = messages.next().await {
                        let Ok(Some(message)) = FromHub::check(message) else { return };
                        if let (FromHub::Count { nonce, uplink }, true) = (&message, answering.load(Ordering::Relaxed)) {
                            let open_connections = counting.load(Ordering::Relaxed);
                            let _ = reply.send(FromAgent::Counted { nonce: *nonce, uplink: uplink.clone(), open_connections }).await;
                        }
                        let _ = hear.send(message);
                    }
                });
                ReceiverStream::new(said).map(|message| Ok(pb::AgentMessage::from(message))).boxed()
            });
            // Its end is the tunnel's, which tests look at.
            let _ = served.await;
        });
        Self { tunnel, say, heard, open_connections, answers, tasks }
    }

    pub(crate) async fn list(&self, uplinks: Vec<Uplink>) {
        self.say.send(FromAgent::List { generation: 1, uplinks }).await.unwrap();
    }

    pub(crate) async fn verdicts(&mut self) -> Vec<Verdict> {
        loop {
            if let FromHub::Verdicts(verdicts) = self.hear().await {
                return verdicts;
            }
        }
    }

    pub(crate) async fn hear(&mut self) -> FromHub {
        tokio::time::timeout(SOON, self.heard.recv()).await.expect("the hub says something").expect("the stream is open")
    }

    pub(crate) async fn closed(&self) -> Option<Close> {
        tokio::time::timeout(SOON, self.tunnel.closed()).await.expect("the tunnel ends").close
    }
}

pub(crate) fn credentials(issued: Issued, key: &KeyPair) -> Arc<Credentials> {
    Credentials::new(Identity::from_der(issued.chain, key).unwrap(), Roots::from_der(issued.roots).unwrap())
}

pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}

pub(crate) fn uplink(name: &str) -> Uplink {
    let name: UplinkName = name.parse().unwrap();
    let state = State { name: name.clone(), health: Health::Ready, reason: String::new(), open_connections: 0 };
    Uplink { name, weight: 100.try_into().unwrap(), protocol: Protocol::Http1, state }
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) -> Duration {
    let start = std::time::Instant::now();
    while !done().await {
        assert!(start.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}
