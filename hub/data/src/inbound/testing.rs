//! A service of one closure behind real sockets on loopback, for the tests of both HTTP versions.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use figspan_model::routing::Routing;
use figspan_tunnel::drain::Drain;
use http::Response;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use super::socket::Socket;
use super::{Serve, Spoken, run};
use crate::admission::Reject;
use crate::body::{Body, BodyError};
use crate::client::Client;
use crate::exchange::{Inbound, Outbound};
use crate::metrics::Limit;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

type Answer = Pin<Box<dyn Future<Output = Outbound>>>;

pub(crate) struct Fake {
    routing: Arc<Routing>,
    pub(crate) drain: Drain,
    pub(crate) seen: RefCell<Vec<String>>,
    pub(crate) refused: RefCell<Vec<Reject>>,
    pub(crate) limited: RefCell<Vec<Limit>>,
    answer: Box<dyn Fn(Inbound) -> Answer>,
    server_name: Option<&'static str>,
}

impl Serve for Fake {
    fn routing(&self) -> impl Deref<Target = Routing> {
        Arc::clone(&self.routing)
    }

    fn drain(&self) -> &Drain {
        &self.drain
    }

    fn refused(&self, _client: &Client, reject: Reject) {
        self.refused.borrow_mut().push(reject);
    }

    fn limited(&self, limit: Limit) {
        self.limited.borrow_mut().push(limit);
    }

    fn serve(&self, inbound: Inbound) -> impl Future<Output = Outbound> {
        self.seen.borrow_mut().push(format!("{} {}", inbound.request.method(), inbound.request.uri()));
        (self.answer)(inbound)
    }
}

impl Fake {
    pub(crate) fn new<F: Future<Output = Outbound> + 'static>(answer: impl Fn(Inbound) -> F + 'static) -> Self {
        Self {
            routing: Arc::default(),
            drain: Drain::new(),
            seen: RefCell::default(),
            refused: RefCell::default(),
            limited: RefCell::default(),
            answer: Box::new(move |inbound| Box::pin(answer(inbound))),
            server_name: None,
        }
    }

    pub(crate) fn with_routing(mut self, change: impl FnOnce(&mut Routing)) -> Self {
        let mut routing = Routing::default();
        change(&mut routing);
        self.routing = Arc::new(routing);
        self
    }

    pub(crate) fn with_server_name(mut self, name: &'static str) -> Self {
        self.server_name = Some(name);
        self
    }

    /// Listens on loopback; each connection is a task.
    pub(crate) async fn listen(self) -> (SocketAddr, Rc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = Rc::new(self);
        let accepting = Rc::clone(&service);
        tokio::task::spawn_local(async move {
            loop {
                let (tcp, peer) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let mut client = Client::connected("web".into(), peer, address, None);
                if let Some(name) = accepting.server_name {
                    client = client.over_tls(Some(name.to_owned()));
                }
                tokio::task::spawn_local(run(Socket::tcp(tcp), client, Spoken::Unknown, Rc::clone(&accepting)));
            }
        });
        (address, service)
    }
}

/// Runs a test with a place for local tasks and an end.
pub(crate) async fn local(test: impl Future<Output = ()>) {
    let test = Box::pin(test);
    tokio::time::timeout(PATIENCE * 6, LocalSet::new().run_until(test)).await.expect("the test ends in time");
}

/// Answers with what arrived: method, URI, fields in `x-seen`, the body, and trailers in `x-trailers`.
pub(crate) async fn echo(inbound: Inbound) -> Outbound {
    let (parts, body) = inbound.request.into_parts();
    let mut fields: Vec<_> =
        parts.headers.iter().map(|(name, value)| format!("{name}={}", String::from_utf8_lossy(value.as_bytes()))).collect();
    fields.sort();
    let body = match body.collect().await {
        Ok(body) => body,
        Err(error) => return Response::builder().status(400).body(Body::Full(error.to_string().into())).unwrap(),
    };
    let trailers = body.trailers().map(|trailers| format!("{trailers:?}")).unwrap_or_default();
    let text = format!("{} {} {}", parts.method, parts.uri, String::from_utf8_lossy(&body.to_bytes()));
    Response::builder()
        .header("x-seen", fields.join("|"))
        .header("x-trailers", trailers)
        .header("x-client", inbound.client.address.ip().to_string())
        .body(Body::Full(text.into()))
        .unwrap()
}

/// A body made of these frames.
pub(crate) fn frames(frames: Vec<Result<http_body::Frame<Bytes>, BodyError>>) -> Body {
    Body::stream(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
}

pub(crate) fn data(bytes: &'static str) -> Result<http_body::Frame<Bytes>, BodyError> {
    Ok(http_body::Frame::data(Bytes::from_static(bytes.as_bytes())))
}

/// A raw client.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        Self(tcp)
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the text ends so, and returns all of it.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut held = Vec::new();
        while !String::from_utf8_lossy(&held).ends_with(end) {
            let mut piece = [0; 1024];
            let read = tokio::time::timeout(PATIENCE, self.0.read(&mut piece)).await.expect("an answer in time").unwrap();
            assert_ne!(read, 0, "the connection ended after {:?}", String::from_utf8_lossy(&held));
            held.extend_from_slice(&piece[..read]);
        }
        String::from_utf8(held).unwrap()
    }

    /// Reads to the end of the connection: the text, and whether the end was clean.
    pub(crate) async fn rest(&mut self) -> (String, bool) {
        let mut held = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut held)).await.expect("an end in time");
        (String::from_utf8_lossy(&held).into_owned(), ended.is_ok())
    }
}

/// Sends bytes and reads to the end of the connection.
pub(crate) async fn ask(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(address).await;
    raw.send(bytes).await;
    raw.rest().await.0
}
