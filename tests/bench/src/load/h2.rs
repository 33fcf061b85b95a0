//! HTTP/2 with prior knowledge: plain requests, and unary gRPC calls. A few connections with several streams at a time each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{Done, together};

/// The message of a call: an uncompressed gRPC frame of 32 bytes.
const MESSAGE: [u8; 37] = {
    let mut message = [b'x'; 37];
    (message[0], message[1], message[2], message[3], message[4]) = (0, 0, 0, 0, 32);
    message
};

/// GETs in a closed loop over `connections` with `streams` at a time each.
pub fn requests(
    address: SocketAddr,
    path: &'static str,
    length: usize,
    connections: usize,
    streams: usize,
    time: Duration,
) -> anyhow::Result<Done> {
    let end = Instant::now() + time;
    together((0..connections).map(move |_| connection(address, streams, end, move |sender| get(sender, path, length))))
}

/// Unary calls in a closed loop.
pub fn calls(address: SocketAddr, connections: usize, streams: usize, time: Duration) -> anyhow::Result<Done> {
    let end = Instant::now() + time;
    together((0..connections).map(move |_| connection(address, streams, end, call)))
}

async fn connection<F>(
    address: SocketAddr,
    streams: usize,
    end: Instant,
    each: impl Fn(SendRequest<Bytes>) -> F + Copy + 'static,
) -> anyhow::Result<Done>
where
    F: Future<Output = anyhow::Result<usize>> + 'static,
{
    let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    tcp.set_nodelay(true)?;
    let (sender, driver) = h2::client::Builder::new().initial_window_size(1 << 20).handshake::<_, Bytes>(tcp).await?;
    let mut carried = JoinSet::new();
    carried.spawn_local(driver);
    let mut loops = JoinSet::new();
    for _ in 0..streams {
        let sender = sender.clone();
        loops.spawn_local(async move {
            let mut done = Done::new();
            while Instant::now() < end {
                let start = Instant::now();
                let bytes = each(sender.clone().ready().await?).await?;
                done.note(start.elapsed(), bytes);
            }
            anyhow::Ok(done)
        });
    }
    let mut sum = Done::new();
    while let Some(done) = loops.join_next().await {
        sum.add(&done??);
    }
    Ok(sum)
}

async fn get(mut sender: SendRequest<Bytes>, path: &'static str, length: usize) -> anyhow::Result<usize> {
    let request = http::Request::get(format!("http://bench.example{path}")).body(())?;
    let (answer, _) = sender.send_request(request, true)?;
    let answer = answer.await?;
    ensure!(answer.status() == 200, "the answer is {}", answer.status());
    let mut body = answer.into_body();
    let read = read(&mut body).await?;
    ensure!(read.len() == length, "an answer of {} bytes instead of {length}", read.len());
    Ok(length)
}

async fn call(mut sender: SendRequest<Bytes>) -> anyhow::Result<usize> {
    let request = http::Request::post("http://bench.example/bench.Echo/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut body) = sender.send_request(request, false)?;
    body.send_data(Bytes::from_static(&MESSAGE), true)?;
    let answer = answer.await?;
    ensure!(answer.status() == 200, "the answer is {}", answer.status());
    let mut body = answer.into_body();
    let echoed = read(&mut body).await?;
    ensure!(echoed == MESSAGE, "another message came back");
    let trailers = body.trailers().await?.context("a call without trailers")?;
    ensure!(trailers.get("grpc-status").is_some_and(|status| status == "0"), "the call failed: {trailers:?}");
    Ok(MESSAGE.len())
}

async fn read(body: &mut h2::RecvStream) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}
