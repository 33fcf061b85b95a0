use super::reload::needs_restart;
use super::*;
use crate::scripted::{Hub, SOON, Watching, echo, eventually, nobody, uplink};
use figspan_proto::control::{FromAgent, FromHub, Health, Verdict};
use figspan_proto::join::{IdentityRequest, Issued};
use figspan_proto::preamble::Kind;
use figspan_proto::reset::{Close, Reason};
use figspan_tunnel::stream::Stream;
use figspan_tunnel::{exchange, testing::Authority};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

const DAY: Duration = Duration::from_secs(86_400);

async fn say_and_hear(stream: &mut Stream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    hear(stream, text).await;
}

async fn hear(stream: &mut Stream, text: &str) {
    let mut back = vec![0; text.len()];
    tokio::time::timeout(SOON, stream.read_exact(&mut back)).await.expect("an echo comes").unwrap();
    assert_eq!(back, text.as_bytes());
}

/// A hub, and an agent with one echoing uplink `echo`.
async fn bridge(tasks: &mut JoinSet<()>) -> (Hub, Running, Watching) {
    let hub = Hub::new(1);
    let settings = hub.settings(vec![uplink("echo", echo(tasks).await)]);
    let running = Agent::start(settings, hub.holder(DAY)).await.unwrap();
    let watching = hub.watch(0).await;
    (hub, running, watching)
}

#[tokio::test]
async fn a_workload_answers_through_a_real_tunnel() {
    let mut tasks = JoinSet::new();
    let (_hub, running, mut watching) = bridge(&mut tasks).await;
    let list = watching.list().await;
    assert_eq!((list.len(), list[0].name.as_str(), list[0].state.health), (1, "echo", Health::Ready));
    let mut stream = watching.open("echo", Kind::Tcp, b"hello").await;
    hear(&mut stream, "hello").await;
    say_and_hear(&mut stream, "again").await;
    eventually("one open connection in the status", || (running.status().uplinks[0].open == 1).then_some(())).await;
    stream.finish();
    assert_eq!(stream.read_chunk(10).await.unwrap(), None, "half-close reaches the workload, and its end comes back");
    eventually("no open connection", || (running.status().uplinks[0].open == 0).then_some(())).await;
    let status = running.status();
    assert_eq!((status.tunnels.len(), status.uplinks[0].streams, status.uplinks[0].bytes_to_workload), (1, 1, 10));
    let metrics = status::metrics::render(&status);
    assert!(metrics.contains("figspan_agent_uplink_streams_total{uplink=\"echo\"} 1"), "{metrics}");
    assert!(metrics.contains("figspan_agent_tunnel_up{replica=\"hub-0\",shard=\"0\"} 1"), "{metrics}");
}

#[tokio::test]
async fn open_connections_are_told_and_counted_on_request() {
    let mut tasks = JoinSet::new();
    let (_hub, _running, mut watching) = bridge(&mut tasks).await;
    watching.list().await;
    let mut stream = watching.open("echo", Kind::Tcp, b"x").await;
    hear(&mut stream, "x").await;
    watching.say(FromHub::Count { nonce: 7, uplink: "echo".parse().unwrap() }).await;
    // In whichever order: the states come once a second, the count at once.
    let (mut counted, mut told) = (None, None);
    let both = watching.hear_until(|message| {
        match message {
            FromAgent::Counted { nonce: 7, open_connections, .. } => counted = Some(open_connections),
            FromAgent::States(states) => told = Some(states[0].open_connections),
            other => panic!("unexpected {other:?}"),
        }
        counted.zip(told)
    });
    assert_eq!(both.await, (1, 1));
    drop(stream);
}

#[tokio::test]
async fn a_drain_tells_the_hub_then_refuses_new_streams_and_waits_for_old_ones() {
    let mut tasks = JoinSet::new();
    let (_hub, running, mut watching) = bridge(&mut tasks).await;
    watching.list().await;
    let mut old = watching.open("echo", Kind::Tcp, b"old").await;
    hear(&mut old, "old").await;
    let drain = running.drain(SOON);
    let hub = async {
        let left = watching.hear_until(|message| match message {
            FromAgent::Draining { deadline_ms } => Some(deadline_ms),
            _ => None,
        });
        assert!(left.await > 0);
        // On its way while the word was: it is served.
        let mut late = watching.open("echo", Kind::Tcp, b"late").await;
        hear(&mut late, "late").await;
        late.finish();
        eventually("the hubs have been quiet", || running.0.work.is_stopping().then_some(())).await;
        let new = watching.open("echo", Kind::Tcp, b"new").await;
        let fate = new.probe().fate_within(SOON).await.unwrap();
        assert_eq!((fate.reason, fate.may_have_seen(0)), (Reason::Draining, false));
        say_and_hear(&mut old, "still served").await;
        old.finish();
        assert_eq!(old.read_chunk(10).await.unwrap(), None);
        watching.tunnel.closed().await
    };
    let (clean, closed) = tokio::join!(drain, hub);
    assert!(clean);
    assert_eq!(closed.close, Some(Close::Leaving));
}

#[tokio::test]
async fn what_still_runs_at_the_drain_deadline_is_cut_and_may_have_been_seen() {
    let mut tasks = JoinSet::new();
    let (_hub, running, mut watching) = bridge(&mut tasks).await;
    watching.list().await;
    let mut stream = watching.open("echo", Kind::Http, b"old").await;
    hear(&mut stream, "old").await;
    let (clean, fate) = tokio::join!(running.drain(Duration::from_millis(300)), async { stream.probe().fate_within(SOON).await.unwrap() });
    assert!(!clean);
    assert_eq!((fate.reason, fate.may_have_seen(0)), (Reason::DrainDeadline, true));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let mut tasks = JoinSet::new();
    let (_hub, running, mut watching) = bridge(&mut tasks).await;
    watching.list().await;
    let mut stream = watching.open("echo", Kind::Tcp, b"old").await;
    hear(&mut stream, "old").await;
    let began = std::time::Instant::now();
    tokio::select! {
        _ = running.drain(DAY) => panic!("a stream is open"),
        () = async { while !running.status().draining { tokio::task::yield_now().await } } => {}
    }
    tokio::join!(running.abort(), async { assert_eq!(watching.tunnel.closed().await.close, Some(Close::Leaving)) });
    assert!(began.elapsed() < SOON);
}

#[tokio::test]
async fn a_reload_changes_weights_and_withdraws_uplinks_without_touching_their_streams() {
    let mut tasks = JoinSet::new();
    let (hub, running, mut watching) = bridge(&mut tasks).await;
    let list = watching.list().await;
    let mut stream = watching.open("echo", Kind::Tcp, b"x").await;
    hear(&mut stream, "x").await;

    let mut lighter = uplink("echo", nobody().await);
    lighter.weight = 5.try_into().unwrap();
    running.reload(hub.settings(vec![lighter]));
    let weight = watching.hear_until(|message| match message {
        FromAgent::Upsert { uplink, .. } => Some(uplink.weight.get()),
        _ => None,
    });
    assert_eq!((list[0].weight.get(), weight.await), (100, 5));
    running.reload(hub.settings(vec![]));
    let gone = watching.hear_until(|message| match message {
        FromAgent::Withdraw { uplink, .. } => Some(uplink),
        _ => None,
    });
    assert_eq!(gone.await.as_str(), "echo");
    say_and_hear(&mut stream, "still here").await;
    let new = watching.open("echo", Kind::Tcp, b"x").await;
    let fate = new.probe().fate_within(SOON).await.unwrap();
    assert_eq!((fate.reason, fate.may_have_seen(0)), (Reason::UnknownUplink, false));
    // The proof of a drain asks after the withdrawal, too.
    watching.say(FromHub::Count { nonce: 1, uplink: "echo".parse().unwrap() }).await;
    let open = watching.hear_until(|message| match message {
        FromAgent::Counted { open_connections, .. } => Some(open_connections),
        _ => None,
    });
    assert_eq!(open.await, 1);
}

#[tokio::test]
async fn every_shard_gets_a_tunnel_and_any_of_them_serves() {
    let mut tasks = JoinSet::new();
    let hub = Hub::new(3);
    let mut settings = hub.settings(vec![uplink("echo", echo(&mut tasks).await)]);
    settings.workers = 2;
    let running = Agent::start(settings, hub.holder(DAY)).await.unwrap();
    let mut first = hub.watch(0).await;
    first.list().await;
    let (mut second, mut third) = tokio::join!(hub.watch(1), hub.watch(2));
    for watching in [&mut second, &mut third] {
        watching.list().await;
        let mut stream = watching.open("echo", Kind::Tcp, b"hello").await;
        hear(&mut stream, "hello").await;
    }
    let shards: Vec<u8> = eventually("three tunnels", || {
        let shards: Vec<u8> = running.status().tunnels.iter().map(|tunnel| tunnel.shard).collect();
        (shards.len() == 3).then_some(shards)
    })
    .await;
    assert_eq!(shards, [0, 1, 2]);
    assert!(running.alive(SOON).await);
}

#[tokio::test]
async fn a_closed_tunnel_is_dialled_again_and_its_new_hub_gets_the_full_list() {
    let mut tasks = JoinSet::new();
    let (hub, _running, mut watching) = bridge(&mut tasks).await;
    watching.list().await;
    watching.tunnel.close(Close::Leaving);
    let mut again = hub.watch(0).await;
    assert_eq!(again.list().await.len(), 1);
}

#[tokio::test]
async fn a_hub_without_a_common_version_is_told_so() {
    let hub = Hub::new(1);
    let _running = Agent::start(hub.settings(vec![]), hub.holder(DAY)).await.unwrap();
    let tunnel = figspan_tunnel::testing::accept(&hub.shards[0]).await;
    let stream = tunnel.open().await.unwrap();
    let hello = crate::scripted::hello(0, 1, "hub-0", 7..=9).into();
    let outgoing = futures_util::StreamExt::boxed(futures_util::StreamExt::chain(
        futures_util::stream::iter([hello]),
        futures_util::stream::pending(),
    ));
    let watching = figspan_tunnel::grpc::watch(stream, outgoing).await;
    assert_eq!(tokio::time::timeout(SOON, tunnel.closed()).await.unwrap().close, Some(Close::Version));
    drop(watching);
}

#[tokio::test]
async fn a_certificate_is_renewed_over_the_tunnel_without_a_reconnect() {
    let mut tasks = JoinSet::new();
    let hub = Hub::new(1);
    let settings = hub.settings(vec![uplink("echo", echo(&mut tasks).await)]);
    let running = Agent::start(settings, hub.holder(Duration::from_secs(4))).await.unwrap();
    let mut watching = hub.watch(0).await;
    watching.list().await;
    let before = running.identity().credentials.identity().not_after();
    let mut question = tokio::time::timeout(SOON, watching.tunnel.accept()).await.unwrap().unwrap();
    let IdentityRequest::Renew { csr, .. } = exchange::question(&mut question).await.unwrap() else { panic!("a renewal") };
    let issued = Issued {
        services: Vec::new(),
        chain: hub.issue(&csr, DAY),
        roots: hub.authority.ca.roots().to_der(),
        spiffe_id: "spiffe://figspan.local/agent/vm-1".parse().unwrap(),
        uplinks: vec![],
    };
    exchange::answer(question, Ok(issued)).await.unwrap();
    eventually("a later end", || (running.identity().credentials.identity().not_after() > before).then_some(())).await;
    assert_eq!(running.status().certificate.renewed, 1);
    let mut stream = watching.open("echo", Kind::Tcp, b"same tunnel").await;
    hear(&mut stream, "same tunnel").await;
    assert!(!watching.tunnel.is_closed());
}

#[tokio::test]
async fn roots_that_the_hub_sends_are_trusted_and_verdicts_shown() {
    let mut tasks = JoinSet::new();
    let (hub, running, mut watching) = bridge(&mut tasks).await;
    watching.list().await;
    let mut roots = hub.authority.ca.roots().to_der();
    roots.extend(Authority::new().ca.roots().to_der());
    watching.say(FromHub::Trust(roots.clone())).await;
    eventually("two roots", || (running.identity().credentials.roots().to_der().len() == 2).then_some(())).await;
    let verdict = |refused: Option<&str>| Verdict {
        uplink: "echo".parse().unwrap(),
        refused: refused.map(str::to_owned),
        weight: 25.try_into().unwrap(),
    };
    watching.say(FromHub::Verdicts(vec![verdict(Some("not in the grant"))])).await;
    let refused = eventually("a refusal", || running.status().uplinks[0].refused.clone()).await;
    assert_eq!(refused, "hub-0: not in the grant");
    watching.say(FromHub::Verdicts(vec![verdict(None)])).await;
    let weight = eventually("a weight in force", || running.status().uplinks[0].weight_in_force).await;
    assert_eq!((weight.get(), running.status().uplinks[0].refused.clone()), (25, None));
}

#[tokio::test]
async fn the_status_socket_answers_and_is_gone_with_the_agent() {
    let hub = Hub::new(1);
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("status.sock");
    let mut settings = hub.settings(vec![uplink("echo", nobody().await)]);
    settings.status_socket = Some(socket.clone());
    let running = Agent::start(settings, hub.holder(DAY)).await.unwrap();
    let status = status::ask::ask(&socket).await.unwrap();
    assert_eq!((status.agent.as_str(), status.uplinks.len()), ("vm-1", 1));
    assert!(status::serve::bind(&socket, Bind::Alone).is_err(), "a socket that answers is not taken over");
    running.drain(SOON).await;
    assert!(!socket.exists());
    let error = status::ask::ask(&socket).await.unwrap_err().to_string();
    assert!(error.contains("no agent answers") && error.contains("systemctl start"), "{error}");
}

#[test]
fn keys_that_cannot_change_while_the_agent_runs_are_named() {
    let old = Settings::default();
    let mut new = old.clone();
    new.max_streams += 1;
    assert!(needs_restart(&old, &new).is_empty(), "this one can");
    new.zone = Some("eu-1a".parse().unwrap());
    assert_eq!(needs_restart(&old, &new), ["zone"], "hubs hear of it in the hello of a tunnel");
}
