//! The workload of the measurements: 200 bytes at `/`, N bytes at `/bytes/N`. A process of its own, so that its CPU is not counted.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// The process.
pub struct Workload {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    _stdin: ChildStdin,
}

impl Workload {
    /// Starts this same program as the workload.
    pub fn start() -> Self {
        let this = std::env::current_exe().expect("a program knows its path");
        let mut child =
            Command::new(this).arg("workload").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the workload starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("the workload says its address");
        Self { address: line.trim().parse().expect("an address"), _stdin: child.stdin.take().expect("piped"), child }
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves until standard input ends.
#[allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a process of its own: it says its address, and its tasks end with it")]
pub fn run() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        println!("{}", listener.local_addr().expect("bound"));
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = tcp.set_nodelay(true);
            tokio::spawn(async move {
                let service = hyper::service::service_fn(answer);
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service).await;
            });
        }
    });
}

async fn answer(request: Request<hyper::body::Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    static CHUNK: [u8; 65536] = [b'x'; 65536];
    let Some(length) = request.uri().path().strip_prefix("/bytes/").and_then(|text| text.parse::<u64>().ok()) else {
        return Ok(Response::new(Full::from(Bytes::from_static(&CHUNK[..200])).boxed()));
    };
    let frames = futures_util::stream::unfold(length, |left| async move {
        let now = left.min(CHUNK.len() as u64);
        (now > 0).then(|| (Ok::<_, Infallible>(Frame::data(Bytes::from_static(&CHUNK[..now as usize]))), left - now))
    });
    let mut answer = Response::new(BodyExt::boxed(StreamBody::new(frames)));
    answer.headers_mut().insert("content-length", length.into());
    Ok(answer)
}
