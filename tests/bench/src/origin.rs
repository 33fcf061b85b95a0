//! The workload behind every chain: nginx for bytes, and this program itself for what answers back (WebSocket, gRPC, TCP).

use std::io::Read;
use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::bed::{Bed, Part, port};

/// Bytes of a small answer.
pub const SMALL: usize = 200;
/// Bytes of a medium one.
pub const MEDIUM: usize = 100 * 1024;
/// Bytes of one of many downloads at a time.
pub const PART: usize = 64 << 20;
/// Bytes of a download over a slow network.
pub const FEW: usize = 8 << 20;
/// Bytes of the one long download.
pub const LARGE: usize = 1 << 30;

/// Where the workload listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// HTTP/1.1: `/small`, `/files/medium`, `/files/part`, `/files/large`.
    pub http: SocketAddr,
    /// A WebSocket at any path; echoes.
    pub websocket: SocketAddr,
    /// HTTP/2 with prior knowledge: a unary gRPC call at any path; echoes.
    pub grpc: SocketAddr,
    /// Echoes bytes.
    pub tcp: SocketAddr,
}

/// The running workload.
pub struct Origin {
    /// Where it listens.
    pub at: Addresses,
    _parts: Vec<Part>,
    _files: TempDir,
}

/// A folder in memory, where there is one: it is not the disk that is measured, nor how the kernel keeps what was read from it.
fn memory() -> anyhow::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("figspan-bench-files-");
    let folder = builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir())?;
    // nginx's workers are another user.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(folder)
}

impl Origin {
    /// Starts nginx and the echoing process.
    pub fn start(bed: &Bed) -> anyhow::Result<Self> {
        let at = Addresses { http: port(), websocket: port(), grpc: port(), tcp: port() };
        let files = memory()?;
        for (name, bytes) in [("medium", MEDIUM), ("few", FEW), ("part", PART), ("large", LARGE)] {
            // Sparse: the page cache holds zeros, no disk is read.
            std::io::copy(&mut std::io::repeat(0).take(bytes as u64), &mut std::fs::File::create(files.path().join(name))?)?;
        }
        let (folder, http, small) = (bed.path().display(), at.http, "x".repeat(SMALL));
        let from = files.path().display();
        let config = bed.write(
            "origin.conf",
            &format!(
                "worker_processes 1; daemon off; pid {folder}/origin.pid; error_log {folder}/origin.err warn;\n\
                 events {{ worker_connections 8192; }}\n\
                 http {{ access_log off; sendfile on; tcp_nopush off; keepalive_requests 1000000000; keepalive_timeout 600s;\n\
                 server {{ listen {http} reuseport backlog=4096; location = /small {{ return 200 \"{small}\"; }} location /files/ {{ alias {from}/; }} }} }}\n"
            ),
        )?;
        let nginx =
            bed.find("nginx").ok_or_else(|| anyhow::anyhow!("nginx is the workload and is not installed; run tests/bench/install"))?;
        let mut bytes = bed.start("origin", &nginx, &["-e", "stderr", "-c", &config.display().to_string()])?;
        bed.listens(&mut bytes, at.http)?;
        let this = std::env::current_exe()?;
        let mut echo = bed.start("echo", &this, &["echo", &at.websocket.to_string(), &at.grpc.to_string(), &at.tcp.to_string()])?;
        bed.listens(&mut echo, at.tcp)?;
        Ok(Self { at, _parts: vec![bytes, echo], _files: files })
    }
}

/// Serves the three echoes until it is killed.
pub async fn echo(websocket: SocketAddr, grpc: SocketAddr, tcp: SocketAddr) -> anyhow::Result<()> {
    let mut servers = JoinSet::new();
    servers.spawn(serve(TcpListener::bind(websocket).await?, echo_messages));
    servers.spawn(serve(TcpListener::bind(grpc).await?, echo_calls));
    servers.spawn(serve(TcpListener::bind(tcp).await?, echo_bytes));
    while servers.join_next().await.is_some() {}
    Ok(())
}

async fn serve<F: Future<Output = Option<()>> + Send + 'static>(listener: TcpListener, each: fn(TcpStream) -> F) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let _ = tcp.set_nodelay(true);
        connections.spawn(each(tcp));
        while connections.try_join_next().is_some() {}
    }
}

async fn echo_bytes(mut tcp: TcpStream) -> Option<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = tcp.read(&mut buffer).await.ok().filter(|n| *n > 0)?;
        tcp.write_all(&buffer[..n]).await.ok()?;
    }
}

async fn echo_messages(tcp: TcpStream) -> Option<()> {
    let mut socket = tokio_tungstenite::accept_async(tcp).await.ok()?;
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() || message.is_binary() {
            socket.send(message).await.ok()?;
        }
    }
    Some(())
}

async fn echo_calls(tcp: TcpStream) -> Option<()> {
    let mut connection = h2::server::Builder::new().max_concurrent_streams(1000).handshake::<_, Bytes>(tcp).await.ok()?;
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        calls.spawn(echo_call(request.into_body(), respond));
        while calls.try_join_next().is_some() {}
    }
    Some(())
}

/// A unary call: message in, the same message out, status in the trailers.
async fn echo_call(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>) -> Option<()> {
    let mut message = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        let _ = body.flow_control().release_capacity(chunk.len());
        message.put(chunk);
    }
    let head = http::Response::builder().header("content-type", "application/grpc").body(()).ok()?;
    let mut answer = respond.send_response(head, false).ok()?;
    answer.send_data(message.copy_to_bytes(message.remaining()), false).ok()?;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    answer.send_trailers(trailers).ok()
}
