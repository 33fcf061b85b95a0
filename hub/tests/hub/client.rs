//! Clients: HTTP/1.1 over TCP or a Unix socket, one connection each.

use std::net::SocketAddr;
use std::path::Path;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

/// A connection; dropped, it is closed.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn tcp(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (sender, connection) = handshake(TokioIo::new(io)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        Self { sender, _driver: driver }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Status and body.
    pub(crate) async fn get(&mut self, path: &str) -> hyper::Result<(u16, String)> {
        self.get_at("shop.example", path).await
    }

    /// The same of another host.
    pub(crate) async fn get_at(&mut self, host: &str, path: &str) -> hyper::Result<(u16, String)> {
        let request = Request::get(path).header("host", host).body(Full::default()).unwrap();
        whole(self.send(request).await?).await
    }

    /// With a bearer token.
    pub(crate) async fn get_with_token(&mut self, path: &str, token: &str) -> hyper::Result<(u16, String)> {
        let request = Request::get(path).header("host", "hub").header("authorization", format!("Bearer {token}"));
        whole(self.send(request.body(Full::default()).unwrap()).await?).await
    }
}

pub(crate) async fn whole(response: Response<Incoming>) -> hyper::Result<(u16, String)> {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// One GET on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    Connection::tcp(address).await.get(path).await.unwrap()
}

/// One call of the admin API: status and JSON.
pub(crate) async fn admin(socket: &Path, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    admin_text(socket, method, path, &body.map(|body| body.to_string()).unwrap_or_default()).await
}

/// The same with any body.
pub(crate) async fn admin_text(socket: &Path, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut connection = Connection::over(UnixStream::connect(socket).await.unwrap()).await;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("x-figspan-operator", "ann@laptop")
        .body(Full::from(body.to_owned()))
        .unwrap();
    let (status, text) = whole(connection.send(request).await.unwrap()).await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}
