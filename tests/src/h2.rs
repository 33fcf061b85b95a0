//! Workloads and clients that speak HTTP/2 in the clear and keep whole messages: head, body and trailers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

/// A message as it came.
#[derive(Debug)]
pub struct Whole<H> {
    /// Its head.
    pub head: H,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers, empty where there were none.
    pub trailers: HeaderMap,
}

/// What a workload answers: with `ends`, the head alone.
#[derive(Debug)]
pub struct Said {
    /// The head.
    pub head: Response<()>,
    /// The body and the trailers behind it; `None`: the head ends the answer.
    pub rest: Option<(Bytes, HeaderMap)>,
}

/// A workload of gRPC or anything else over HTTP/2. Serves to the end of the test's process.
#[derive(Debug)]
pub struct H2Workload {
    /// Where it listens.
    pub address: SocketAddr,
    /// Requests so far.
    pub requests: Arc<AtomicUsize>,
}

impl H2Workload {
    /// Answers each whole request with what the function makes of it.
    pub fn start(answer: impl Fn(Whole<http::request::Parts>) -> Said + Send + Sync + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        listener.set_nonblocking(true).expect("a socket option");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            runtime().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
                let mut connections = tokio::task::JoinSet::new();
                while let Ok((tcp, _)) = listener.accept().await {
                    let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
                    connections.spawn(async move {
                        let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                        let mut calls = tokio::task::JoinSet::new();
                        while let Some(Ok((request, mut respond))) = connection.accept().await {
                            let (answer, count) = (Arc::clone(&answer), Arc::clone(&count));
                            calls.spawn(async move {
                                let (head, body) = request.into_parts();
                                let Ok((body, trailers)) = whole(body).await else { return };
                                count.fetch_add(1, Ordering::SeqCst);
                                let said = answer(Whole { head, body, trailers });
                                let Ok(mut say) = respond.send_response(said.head, said.rest.is_none()) else { return };
                                if let Some((body, trailers)) = said.rest {
                                    let _ = say.send_data(body, false);
                                    let _ = say.send_trailers(trailers);
                                }
                            });
                        }
                    });
                }
            });
        });
        Self { address, requests }
    }

    /// Requests so far.
    pub fn seen(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// An `[[uplink]]` of this workload, unchecked.
    pub fn uplink(&self, name: &str) -> String {
        format!("[[uplink]]\nname = \"{name}\"\naddress = \"{}\"\nprotocol = \"h2c\"\nhealth = {{ type = \"none\" }}\n", self.address)
    }
}

/// One request on a connection of its own, with its trailers if there are any, and its whole answer.
pub fn ask(address: SocketAddr, request: Request<Bytes>, trailers: HeaderMap) -> Whole<http::response::Parts> {
    runtime().block_on(async move {
        let tcp = tokio::net::TcpStream::connect(address).await.expect("a listener");
        let (sender, connection) = h2::client::handshake(tcp).await.expect("HTTP/2");
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(connection);
        let (head, body) = request.into_parts();
        let mut sender = sender.ready().await.expect("room for a stream");
        let ends = body.is_empty() && trailers.is_empty();
        let (answer, mut say) = sender.send_request(Request::from_parts(head, ()), ends).expect("a request");
        if !ends {
            say.send_data(body, trailers.is_empty()).expect("a body");
            if !trailers.is_empty() {
                say.send_trailers(trailers).expect("trailers");
            }
        }
        let (head, body) = answer.await.expect("an answer").into_parts();
        let (body, trailers) = whole(body).await.expect("a whole answer");
        Whole { head, body, trailers }
    })
}

async fn whole(mut body: h2::RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        bytes.extend(data);
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
