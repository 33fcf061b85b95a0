//! An HTTP server that answers what a test says and remembers what it was asked.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use figspan_tunnel::front_tls::{FrontTls, PemPair};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) operator: String,
    pub(super) authorization: String,
    pub(super) body: String,
}

impl Asked {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// One answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn ok(body: serde_json::Value) -> Self {
        Self { status: 200, body: body.to_string() }
    }
}

type Answers = Arc<Mutex<dyn FnMut(&Asked) -> Reply + Send>>;

/// A hub on a socket of its own; its thread lives as long as the test's process.
pub(super) struct FakeHub {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _dir: tempfile::TempDir,
}

impl FakeHub {
    pub(super) fn start(answers: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let asked = Arc::default();
        let (record, answers): (Arc<Mutex<Vec<Asked>>>, Answers) = (Arc::clone(&asked), Arc::new(Mutex::new(answers)));
        std::thread::spawn(move || {
            run(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                loop {
                    serve(listener.accept().await.unwrap().0, &record, &answers).await;
                }
            });
        });
        Self { address: format!("unix:{}", path.display()), asked, _dir: dir }
    }

    pub(super) fn start_tcp(answers: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::default();
        let (record, answers): (Arc<Mutex<Vec<Asked>>>, Answers) = (Arc::clone(&asked), Arc::new(Mutex::new(answers)));
        std::thread::spawn(move || {
            run(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    serve(listener.accept().await.unwrap().0, &record, &answers).await;
                }
            });
        });
        Self { address, asked, _dir: tempfile::tempdir().unwrap() }
    }

    /// Over TLS, under the name `localhost`; with `client_roots` only for those who show a certificate.
    pub(super) fn start_tls(pair: &PemPair, client_roots: Option<&str>, answers: impl FnMut(&Asked) -> Reply + Send + 'static) -> Self {
        let tls = FrontTls::for_operators(pair, client_roots).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let asked = Arc::default();
        let (record, answers): (Arc<Mutex<Vec<Asked>>>, Answers) = (Arc::clone(&asked), Arc::new(Mutex::new(answers)));
        std::thread::spawn(move || {
            run(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    if let Ok(stream) = tls.accept(listener.accept().await.unwrap().0).await {
                        serve(stream.io, &record, &answers).await;
                    }
                }
            });
        });
        Self { address, asked, _dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The first request; at least one must have come.
    pub(super) fn only(&self) -> Asked {
        self.asked().first().cloned().expect("a request came")
    }
}

fn run(serve: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(serve);
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, record: &Mutex<Vec<Asked>>, answers: &Answers) {
    let service = service_fn(async |request: Request<Incoming>| {
        let (head, body) = request.into_parts();
        let header = |name: &str| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        assert_eq!(head.headers.get_all("host").iter().count(), 1, "exactly one Host");
        let asked = Asked {
            method: head.method.to_string(),
            path: head.uri.to_string(),
            operator: header("x-figspan-operator"),
            authorization: header("authorization"),
            body: String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap(),
        };
        record.lock().unwrap().push(asked.clone());
        let reply = answers.lock().unwrap()(&asked);
        let response = Response::builder().status(reply.status).body(Full::new(Bytes::from(reply.body))).unwrap();
        Ok::<_, Infallible>(response)
    });
    let _ = hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service).await;
}
