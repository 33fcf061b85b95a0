//! Small requests: closed loop over 32 connections, direct and through figspan in turn.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;

use super::{Chain, median};

const CONNECTIONS: usize = 32;

/// Requests per second, and CPU per request, each beside direct.
pub fn measure(chain: &Chain, web: SocketAddr, rounds: usize, say: &mut impl FnMut(&str, String)) {
    let (mut direct, mut through, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    load(web, Duration::from_secs(1));
    for _ in 0..rounds {
        direct.push(load(chain.workload.address, Duration::from_secs(3)) / 3.0);
        let before = chain.cpu();
        let requests = load(web, Duration::from_secs(3));
        cpu.push((chain.cpu() - before) / requests * 1e6);
        through.push(requests / 3.0);
    }
    let (direct, through) = (median(direct), median(through));
    say("requests/s of 200 B, 32 connections, direct", format!("{direct:.0}"));
    say("requests/s of 200 B, 32 connections, through hub and agent", format!("{through:.0} ({:.2} of direct)", through / direct));
    say("CPU per request, hub and agent together", format!("{:.1} us", median(cpu)));
}

/// Closed loop for a while; how many requests were answered with 200.
fn load(address: SocketAddr, time: Duration) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let end = Instant::now() + time;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            tasks.spawn(async move {
                let tcp = tokio::net::TcpStream::connect(address).await.expect("connect");
                tcp.set_nodelay(true).expect("a socket option");
                let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.expect("handshake");
                let mut drivers = tokio::task::JoinSet::new();
                drivers.spawn(driver);
                let mut count = 0.0;
                while Instant::now() < end {
                    let request = hyper::Request::get("/").header("host", "figures").body(Empty::<bytes::Bytes>::new()).expect("a request");
                    sender.ready().await.expect("a connection that stays");
                    let answer = sender.send_request(request).await.expect("an answer");
                    assert_eq!(answer.status(), 200);
                    let body = answer.into_body().collect().await.expect("a body").to_bytes();
                    assert_eq!(body.len(), 200);
                    count += 1.0;
                }
                count
            });
        }
        tasks.join_all().await.into_iter().sum()
    })
}
