use std::net::SocketAddr;
use std::time::Duration;

use figspan_proto::preamble::Kind;
use figspan_proto::preamble::call::Opening;
use figspan_proto::reset::{Reason, Reset};
use figspan_tunnel::call::{Opened, read_header, take};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::agent::{Agent, Running};
use crate::scripted::{Hub, eventually};
use crate::settings::{Listen, Service, Settings};

const DAY: Duration = Duration::from_secs(86_400);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n";

fn orders() -> Service {
    let service = Service::new("orders".parse().unwrap(), Listen::Tcp(([127, 0, 0, 1], 0).into()), Kind::Http);
    Service { connect_timeout: Duration::from_millis(400), ..service }
}

/// An agent with one service, and where it is called.
async fn agent(hub: &Hub) -> (Running, SocketAddr) {
    let settings = Settings { services: vec![orders()], ..hub.settings(vec![]) };
    let running = Agent::start(settings, hub.holder(DAY)).await.unwrap();
    let listens = || running.status().services[0].listening.then(|| running.status().services[0].listen.parse().unwrap());
    let at = eventually("the place is open", listens).await;
    (running, at)
}

async fn up(running: &Running) {
    eventually("the tunnel is up", || (running.status().tunnels.len() == 1).then_some(())).await;
}

async fn get(at: SocketAddr) -> String {
    let mut process = TcpStream::connect(at).await.unwrap();
    process.write_all(GET).await.unwrap();
    let mut answer = String::new();
    process.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_hub_that_knows_no_calls_is_named_and_asked_nothing() {
    let hub = Hub::new(1);
    let (running, at) = agent(&hub).await;
    let watching = hub.watch_old(0).await;
    up(&running).await;
    let answer = get(at).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("figspan-reason: old-hub"), "{answer}");
    let status = running.status().services.remove(0);
    assert_eq!(status.refused.as_deref(), Some("hub hub-0 does not know services; upgrade it"));
    assert_eq!(status.failed, [("old-hub".to_owned(), 1)]);
    let asked = tokio::time::timeout(Duration::from_millis(50), watching.tunnel.accept()).await;
    assert!(asked.is_err(), "no stream was opened");
}

#[tokio::test]
async fn a_silent_hub_is_not_waited_for_beyond_the_time_and_one_that_answers_has_the_bytes() {
    let hub = Hub::new(1);
    let (running, at) = agent(&hub).await;
    let watching = hub.watch(0).await;
    up(&running).await;
    let began = std::time::Instant::now();
    let answer = get(at).await;
    assert!(answer.contains("figspan-reason: timeout") && began.elapsed() < Duration::from_secs(2), "{answer}");
    let mut given_up = watching.tunnel.accept().await.unwrap();
    assert!(matches!(read_header(&mut given_up).await, Ok(Opened::Header(Opening::Call(call))) if call.client.is_some()));
    assert!(given_up.read_chunk(1).await.is_err(), "the stream was reset, nothing was sent");
    let serving = async {
        let mut stream = watching.tunnel.accept().await.unwrap();
        read_header(&mut stream).await.unwrap();
        take(&mut stream).await.unwrap();
        let mut request = vec![0; GET.len()];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_chunk((&b"HTTP/1.1 204 No Content\r\n\r\n"[..]).into()).await.unwrap();
        stream.finish();
        assert_eq!(request, GET);
        // The process ends its side when it has read the answer.
        while stream.read_chunk(1).await.is_ok_and(|chunk| chunk.is_some()) {}
    };
    let (answer, ()) = tokio::join!(get(at), serving);
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    eventually("it is counted", || (running.status().services[0].taken == 1 && running.status().services[0].open == 0).then_some(())).await;
    assert_eq!(running.status().services[0].refused, None, "what was refused before is over");
}

#[tokio::test]
async fn each_word_of_a_hub_is_handed_on_as_a_status_and_a_sentence() {
    let hub = Hub::new(1);
    let (running, at) = agent(&hub).await;
    let watching = hub.watch(0).await;
    up(&running).await;
    for (reason, line, sentence) in [
        (Reason::ServiceDenied, "HTTP/1.1 403 ", "does not allow this agent to call orders"),
        (Reason::UnknownService, "HTTP/1.1 502 ", "knows no service orders"),
        (Reason::ServiceProtocol, "HTTP/1.1 502 ", "speaks another protocol"),
        (Reason::HubDraining, "HTTP/1.1 503 ", "says hub-draining"),
        (Reason::HubLimit, "HTTP/1.1 503 ", "says hub-limit"),
    ] {
        let refusing = async {
            let mut stream = watching.tunnel.accept().await.unwrap();
            read_header(&mut stream).await.unwrap();
            stream.reset(Reset::not_delivered(reason));
        };
        let (answer, ()) = tokio::join!(get(at), refusing);
        assert!(answer.starts_with(line) && answer.contains(reason.as_str()), "{reason:?}: {answer}");
        let told = running.status().services[0].refused.clone().unwrap_or_default();
        assert!(told.contains(sentence), "{reason:?}: {told}");
    }
}

#[tokio::test]
async fn hubs_hear_that_an_agent_with_calls_ends() {
    let hub = Hub::new(1);
    let (running, at) = agent(&hub).await;
    let watching = hub.watch(0).await;
    up(&running).await;
    let mut process = TcpStream::connect(at).await.unwrap();
    let mut called = watching.tunnel.accept().await.unwrap();
    read_header(&mut called).await.unwrap();
    take(&mut called).await.unwrap();
    let draining = running.drain(Duration::from_secs(5));
    let hearing = async {
        let mut stream = watching.tunnel.accept().await.unwrap();
        assert_eq!(read_header(&mut stream).await, Ok(Opened::Header(Opening::Leaving)));
        stream.finish();
        // As a hub does with a connection that has nothing to say any more.
        called.finish();
        assert_eq!(process.read(&mut [0]).await.unwrap(), 0);
        drop(process);
        assert_eq!(called.read_chunk(1).await.unwrap(), None);
    };
    let (clean, ()) = tokio::join!(draining, hearing);
    assert!(clean, "nothing had to be cut");
    assert!(TcpStream::connect(at).await.is_err(), "its place is closed");
}
