//! The end of a hub: what is under way finishes, what is new goes elsewhere, what does not end is cut.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::Request;

use crate::agent::{TestAgent, go};
use crate::client::{Connection, get};
use crate::{SOON, TestHub, WEB, eventually};

#[tokio::test]
async fn drain_finishes_what_is_under_way_and_tells_the_agents() {
    let hub = TestHub::start(WEB);
    let (web, metrics) = (hub.running.listener("web").unwrap(), hub.running.metrics_address().unwrap());
    let agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    let mut slow = Connection::tcp(web).await;
    let request = Request::get("/slow").header("host", "shop.example").body(Full::default()).unwrap();
    let mut response = slow.send(request).await.unwrap();
    assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), "first ");

    let drained = hub.running.drain(SOON);
    let watched = async {
        eventually("nothing new is accepted", || async { tokio::net::TcpStream::connect(web).await.is_err() }).await;
        let (code, text) = get(metrics, "/readyz").await;
        assert!(code == 503 && text.contains("leaving"), "{code} {text}");
        eventually("the agent is told", || async { agent.told_leaving.load(Ordering::SeqCst) }).await;
        go();
        let rest = response.collect().await.unwrap().to_bytes();
        assert_eq!(rest, "hello");
    };
    let (in_time, ()) = tokio::time::timeout(SOON * 2, async { tokio::join!(drained, watched) }).await.unwrap();
    assert!(in_time);
    assert_eq!(hub.running.wait().await, Ok(()));
    assert!(agent.tunnels.iter().all(|tunnel| tunnel.is_closed()));
    assert!(!hub.running.admin_socket().exists(), "the socket's file is gone");
}

#[tokio::test]
async fn what_does_not_end_by_the_deadline_is_cut() {
    let hub = TestHub::start(WEB);
    let web = hub.running.listener("web").unwrap();
    let _agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    let mut slow = Connection::tcp(web).await;
    let request = Request::get("/slow").header("host", "shop.example").body(Full::default()).unwrap();
    let response = slow.send(request).await.unwrap();
    assert!(!hub.running.drain(Duration::from_millis(200)).await);
    assert!(response.collect().await.is_err(), "a cut answer never looks whole");
    assert_eq!(hub.running.wait().await, Ok(()));
}

#[tokio::test]
async fn a_lame_duck_is_not_ready_and_serves_all_the_same() {
    let hub = TestHub::start(WEB);
    let (web, metrics) = (hub.running.listener("web").unwrap(), hub.running.metrics_address().unwrap());
    let agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    let began = tokio::time::Instant::now();
    let lame_duck = Duration::from_secs(1);
    let leaving = hub.running.leave(lame_duck, SOON);
    let watched = async {
        eventually("it says so", || async { get(metrics, "/readyz").await.0 == 503 }).await;
        eventually("the agent is told", || async { agent.told_leaving.load(Ordering::SeqCst) }).await;
        while began.elapsed() < lame_duck * 3 / 4 {
            assert_eq!(get(web, "/").await.0, 200, "a new connection is served after {:?}", began.elapsed());
        }
        eventually("then nothing new is accepted", || async { tokio::net::TcpStream::connect(web).await.is_err() }).await;
        assert!(began.elapsed() >= lame_duck);
    };
    let (in_time, ()) = tokio::time::timeout(SOON * 2, async { tokio::join!(leaving, watched) }).await.unwrap();
    assert!(in_time);
}
