//! A shard with real tunnels to agents whose answers a test scripts, byte by byte.
#![allow(unreachable_pub, reason = "the one module that all others use")]

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_data::body::Body;
use figspan_data::client::Client;
use figspan_data::exchange::{Inbound, Informational, Interim, WebSocket};
use figspan_data::forward;
use figspan_data::metrics::Metrics;
use figspan_data::shard::{ShardContext, ShardRef};
use figspan_model::routing::{
    Backend, BackendPolicy, BackendTls, HttpRoute, HttpRule, Limits, Listener, ListenerProtocol, MirrorTarget, Routing, RulePolicy,
    Service, ServiceAddress, Sources, Target, Timeouts,
};
use figspan_model::snapshot::{Endpoint, Publisher, Shares, TunnelAt, Uplink, publication};
use figspan_model::state::{Board, Book, EndpointState};
use figspan_proto::control::Protocol;
use figspan_proto::preamble::Preamble;
use figspan_proto::reset::{Reason, Reset};
use figspan_proto::weight::Weight;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::{Stream, Tunnel, testing};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tokio::task::LocalSet;

/// Runs a test on one thread, as a shard does, within 20 s.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(Duration::from_secs(20), test()).await.expect("the test hangs");
    });
}

/// Waits until the condition holds.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One agent's side of the uplink `monolith`.
pub struct Agent {
    pub name: &'static str,
    pub hub: Tunnel,
    pub tunnel: Tunnel,
    pub state: Arc<EndpointState>,
    pub weight: Cell<u32>,
}

/// A stream that a fake agent got: the preamble is read, the rest is the script's.
pub struct Taken {
    pub stream: Stream,
    pub preamble: Preamble,
    buffer: Vec<u8>,
    /// Bytes behind the preamble that the script has read: what a workload would have been given.
    pub read: u64,
}

impl Taken {
    /// Reads one request: head, and the body that its Content-Length announces.
    pub async fn request(&mut self) -> Option<String> {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            if let Some(end) = text.find("\r\n\r\n") {
                let length = text[..end].lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
                if self.buffer.len() >= end + 4 + length {
                    let rest = self.buffer.split_off(end + 4 + length);
                    let request = std::mem::replace(&mut self.buffer, rest);
                    return Some(String::from_utf8(request).unwrap());
                }
            }
            let chunk = self.stream.read_chunk(64 * 1024).await.ok()??;
            self.read += chunk.len() as u64;
            self.buffer.extend_from_slice(&chunk);
        }
    }

    pub async fn say(&mut self, text: &str) {
        self.stream.write_chunk(Bytes::copy_from_slice(text.as_bytes())).await.unwrap();
    }

    pub fn reset(&mut self, reason: Reason, delivered: u64) {
        self.stream.reset(Reset { reason, delivered });
    }
}

impl Agent {
    pub async fn join(name: &'static str, book: &Book) -> Self {
        let (hub, tunnel) = testing::pair(name).await;
        let state = book.endpoint(&format!("uplink/monolith/{name}"));
        Self { name, hub, tunnel, state, weight: Cell::new(100) }
    }

    /// An agent whose whole process stops, without a word, when the first stream has come.
    pub async fn join_and_freeze(name: &'static str, book: &Book) -> Self {
        let authority = testing::Authority::new();
        let endpoint = authority.endpoints(1).remove(0);
        let (address, credentials) = (endpoint.local_address().unwrap(), authority.agent(name));
        let (sender, tunnel) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let tunnel = figspan_tunnel::agent::dial(address, 0, &credentials).await.unwrap();
                let _ = sender.send(tunnel.clone());
                let _stream = tunnel.accept().await;
                // Nothing of this runtime moves meanwhile. Longer than a dead tunnel takes to time out.
                std::thread::sleep(Duration::from_secs(8));
            });
        });
        let hub = testing::accept(&endpoint).await;
        let tunnel = tunnel.await.unwrap();
        let state = book.endpoint(&format!("uplink/monolith/{name}"));
        // The endpoint must outlive its tunnel.
        std::mem::forget(endpoint);
        Self { name, hub, tunnel, state, weight: Cell::new(100) }
    }

    /// The next stream that the hub opens.
    pub async fn take(&self) -> Taken {
        take(&self.tunnel).await
    }

    /// Gives every stream to a script of its own; counts the streams.
    pub fn script<F: Future<Output = ()> + 'static>(&self, script: impl Fn(Taken) -> F + 'static) -> Rc<Cell<usize>> {
        let (tunnel, streams) = (self.tunnel.clone(), Rc::new(Cell::new(0)));
        let count = Rc::clone(&streams);
        tokio::task::spawn_local(async move {
            while let Ok(stream) = tunnel.accept().await {
                count.set(count.get() + 1);
                let taken = read_preamble(stream).await;
                tokio::task::spawn_local(script(taken));
            }
        });
        streams
    }

    /// Answers every request with its own name; keeps connections.
    pub fn answer(&self) -> Rc<Cell<usize>> {
        let name = self.name;
        self.script(move |mut taken| async move {
            while let Some(request) = taken.request().await {
                let head = request.starts_with("HEAD");
                let body = if head { "" } else { name };
                taken.say(&format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", name.len())).await;
            }
        })
    }
}

pub async fn take(tunnel: &Tunnel) -> Taken {
    read_preamble(tunnel.accept().await.unwrap()).await
}

async fn read_preamble(mut stream: Stream) -> Taken {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await.unwrap();
    let mut body = vec![0; Preamble::length(length).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    Taken { stream, preamble: Preamble::decode(&body).unwrap(), buffer: Vec::new(), read: 0 }
}

/// A hub of one shard with a route `shop` to the uplink `monolith`.
pub struct Hub {
    pub shard: ShardRef,
    pub book: Arc<Book>,
    pub board: Arc<Board>,
    pub publisher: Publisher,
    pub protocol: Protocol,
    pub timeouts: RefCell<Timeouts>,
    pub policy: RefCell<Option<Arc<RulePolicy>>>,
    /// Of the uplink `monolith` and of every service.
    pub backend_policy: RefCell<Option<Arc<BackendPolicy>>>,
    pub limits: RefCell<Limits>,
    pub services: RefCell<Vec<(String, Protocol, Vec<ServiceAddress>)>>,
    /// Weight of every service as a backend; `None` is the service's own.
    pub service_weight: RefCell<Option<u32>>,
    /// TLS towards every service.
    pub tls: RefCell<Option<Arc<BackendTls>>>,
    pub informed: Rc<Informed>,
}

impl Hub {
    pub fn new() -> Self {
        Self::speaking(Protocol::Http1)
    }

    pub fn speaking(protocol: Protocol) -> Self {
        let (publisher, reader) = publication();
        let (book, board, metrics, drain) = (Book::new(1), Board::new(1), Metrics::new(), Drain::new());
        let shard = Rc::new(ShardContext::new(0, reader, Arc::clone(&board), Arc::clone(&book), metrics, drain));
        let follower = Rc::clone(&shard);
        shard.drain.spawn_local(async move { follower.follow().await });
        Self {
            shard,
            book,
            board,
            publisher,
            protocol,
            timeouts: RefCell::default(),
            policy: RefCell::default(),
            backend_policy: RefCell::default(),
            limits: RefCell::default(),
            services: RefCell::default(),
            service_weight: RefCell::default(),
            tls: RefCell::default(),
            informed: Rc::default(),
        }
    }

    /// Publishes a snapshot with these agents, and waits until the shard works with it.
    pub fn publish(&self, agents: &[&Agent]) -> u64 {
        let listener = Listener {
            name: "web".into(),
            address: ([127, 0, 0, 1], 0).into(),
            protocol: ListenerProtocol::Http,
            accept_proxy_protocol: false,
        };
        let mut backends = vec![Backend::plain(Target::Uplink("monolith".parse().unwrap()), None, &self.book)];
        let mut routing = Routing { listeners: vec![Arc::new(listener)], limits: self.limits.borrow().clone(), ..Routing::default() };
        for (name, protocol, addresses) in self.services.borrow().iter() {
            let name: Arc<str> = name.as_str().into();
            let addresses = addresses.clone();
            let weight = self.service_weight.borrow().map(|weight| Weight::try_from(weight).unwrap());
            backends.push(Backend::plain(Target::Service(Arc::clone(&name)), weight, &self.book));
            let service = Service {
                name: Arc::clone(&name),
                protocol: *protocol,
                addresses,
                zones: vec![],
                weight: Weight::DEFAULT,
                tls: self.tls.borrow().clone(),
            };
            let state = self.book.rule(&format!("service/{name}"));
            routing.service_states.insert(Arc::clone(&name), state);
            routing.services.insert(name, Arc::new(service));
        }
        backends.iter_mut().for_each(|backend| backend.policy = self.backend_policy.borrow().clone());
        let rule = HttpRule {
            name: None,
            matches: vec![],
            backends,
            timeouts: self.timeouts.borrow().clone(),
            policy: self.policy.borrow().clone(),
            state: self.book.rule("rule/shop/0"),
            sources: self.policy.borrow().as_deref().map(|policy| Sources::of(policy, "rule/shop/0", &self.book)).unwrap_or_default(),
            mirrors: self.mirrors(),
            pinned: vec![],
        };
        let route =
            HttpRoute { name: "shop".into(), listeners: vec![], hostnames: vec!["shop.example".into()], rules: vec![Arc::new(rule)] };
        routing.http_routes.push(Arc::new(route));
        let endpoint = |agent: &&Agent| {
            Arc::new(Endpoint {
                zone: None,
                near: false,
                agent: agent.name.parse().unwrap(),
                weight: Weight::try_from(agent.weight.get()).unwrap(),
                ready: true,
                reason: String::new(),
                tunnels: vec![TunnelAt { shard: 0, tunnel: agent.hub.clone() }],
                state: Arc::clone(&agent.state),
            })
        };
        let name: figspan_proto::name::UplinkName = "monolith".parse().unwrap();
        let endpoints: Vec<_> = agents.iter().map(endpoint).collect();
        let uplink = Uplink {
            shares: Shares::of(&endpoints, |_| true),
            name,
            protocol: self.protocol,
            weight: Weight::DEFAULT,
            draining: false,
            endpoints,
            state: self.book.rule("uplink/monolith"),
        };
        let uplinks = (!agents.is_empty()).then(|| Arc::new(uplink)).into_iter().collect();
        let generation = self.publisher.publish(Arc::new(routing), uplinks);
        self.shard.catch_up();
        generation
    }

    fn mirrors(&self) -> Vec<MirrorTarget> {
        let policy = self.policy.borrow();
        let mirrors = policy.as_deref().map(|policy| &*policy.mirrors).unwrap_or_default();
        mirrors.iter().map(|mirror| MirrorTarget::of(mirror, "rule/shop/0", None, &self.book)).collect()
    }

    /// A client of a connection of its own.
    pub fn client(&self) -> Rc<Client> {
        let (peer, local) = (([10, 0, 0, 9], 4321).into(), ([10, 0, 0, 1], 80).into());
        Rc::new(Client::connected("web".into(), peer, local, None))
    }

    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.send_as(self.client(), request).await
    }

    pub async fn send_as(&self, client: Rc<Client>, request: Request<Body>) -> Response<Body> {
        forward::serve(&self.shard, self.inbound(client, request, None)).await
    }

    pub async fn upgrade(&self, request: Request<Body>, websocket: WebSocket) -> Response<Body> {
        forward::serve(&self.shard, self.inbound(self.client(), request, Some(websocket))).await
    }

    fn inbound(&self, client: Rc<Client>, request: Request<Body>, websocket: Option<WebSocket>) -> Inbound {
        let informational = Informational::new(Rc::<Informed>::clone(&self.informed), 0);
        Inbound { request, client, informational, websocket }
    }

    pub async fn get(&self) -> (u16, String) {
        text(self.send(get())).await
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shard.metrics
    }
}

/// Statuses of the 1xx responses that came.
#[derive(Default)]
pub struct Informed(pub RefCell<Vec<u16>>);

impl Interim for Informed {
    fn send(&self, _: u64, response: Response<()>) {
        self.0.borrow_mut().push(response.status().as_u16());
    }
}

pub fn get() -> Request<Body> {
    request(Method::GET, Body::Empty)
}

pub fn post(body: &'static str) -> Request<Body> {
    let mut request = request(Method::POST, Body::Full(Bytes::from_static(body.as_bytes())));
    request.headers_mut().insert("content-length", body.len().into());
    request
}

pub fn request(method: Method, body: Body) -> Request<Body> {
    Request::builder().method(method).uri("http://shop.example/cart?id=7").body(body).unwrap()
}

/// Status and body of an answer that must be whole.
pub async fn text(answer: impl Future<Output = Response<Body>>) -> (u16, String) {
    let (parts, body) = answer.await.into_parts();
    let bytes = body.collect().await.expect("the answer is whole").to_bytes();
    (parts.status.as_u16(), String::from_utf8(bytes.to_vec()).unwrap())
}

/// Proxy-Status of an answer.
pub fn proxy_status(response: &Response<Body>) -> String {
    response.headers().get("proxy-status").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}
