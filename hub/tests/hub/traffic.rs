//! From a client through listener, shard, tunnel and back.

use crate::agent::TestAgent;
use crate::client::{Connection, get};
use crate::{TestHub, WEB, eventually};

#[tokio::test]
async fn a_request_reaches_a_joined_agents_workload() {
    let hub = TestHub::start(WEB);
    let web = hub.running.listener("web").unwrap();
    assert_eq!(get(web, "/").await.0, 503, "nobody advertises the uplink yet");
    let _agent = TestAgent::join(&hub.running, "vm-1", "hello from the VM").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    let mut connection = Connection::tcp(web).await;
    for _ in 0..50 {
        assert_eq!(connection.get("/").await.unwrap(), (200, "hello from the VM".to_owned()));
    }
}

#[tokio::test]
async fn two_hubs_live_in_one_process_without_meeting() {
    let (one, other) = (TestHub::start(WEB), TestHub::start(WEB));
    let _agent = TestAgent::join(&one.running, "vm-1", "one").await;
    let (first, second) = (one.running.listener("web").unwrap(), other.running.listener("web").unwrap());
    eventually("the first hub serves", || async { get(first, "/").await.0 == 200 }).await;
    assert_eq!(get(second, "/").await.0, 503);
}

#[tokio::test]
async fn an_agent_that_is_gone_is_withdrawn() {
    let hub = TestHub::start(WEB);
    let web = hub.running.listener("web").unwrap();
    let agent = TestAgent::join(&hub.running, "vm-1", "here").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    for tunnel in &agent.tunnels {
        tunnel.close(figspan_proto::reset::Close::Leaving);
    }
    eventually("the uplink is withdrawn", || async { get(web, "/").await.0 == 503 }).await;
}
