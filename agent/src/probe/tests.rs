use super::*;
use crate::scripted::{eventually, nobody, uplink};
use crate::settings;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

fn checked(address: std::net::SocketAddr, check: Check) -> Uplink {
    let mut uplink = uplink("shop", address);
    uplink.health = settings::Health { check, interval: Duration::from_millis(20), timeout: Duration::from_millis(500), rise: 2, fall: 2 };
    uplink
}

fn http(status: &str) -> Check {
    let mut reader = settings::read::Reader::default();
    reader.read("t", &format!("[[uplink]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\nhealth = {{ type = \"http\", path = \"/healthz\", status = \"{status}\" }}"));
    reader.finish().unwrap().0.uplinks[0].health.check.clone()
}

/// A workload that answers every connection's first bytes with `answer`; its address, and what it was asked first.
async fn workload(tasks: &mut JoinSet<()>, answer: &'static str) -> (std::net::SocketAddr, tokio::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = tokio::sync::mpsc::channel(16);
    tasks.spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut bytes = [0; 1024];
            let count = tcp.read(&mut bytes).await.unwrap_or(0);
            let _ = tell.try_send(String::from_utf8_lossy(&bytes[..count]).into_owned());
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    });
    (address, asked)
}

async fn ask(uplink: &Uplink) -> Result<(), ProbeError> {
    check(uplink, &Resolver::system().unwrap()).await
}

#[test]
fn intervals_differ_by_a_tenth_at_most_and_do_differ() {
    use rand::{RngExt as _, SeedableRng as _};
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let interval = Duration::from_secs(10);
    let waits: Vec<Duration> = (0..1_000).map(|_| jittered(interval, random.random())).collect();
    assert!(waits.iter().all(|wait| (interval.mul_f64(0.9)..=interval.mul_f64(1.1)).contains(wait)), "{waits:?}");
    let spread = *waits.iter().max().unwrap() - *waits.iter().min().unwrap();
    let mean = waits.iter().sum::<Duration>() / 1_000;
    // All of the range is used, and evenly: a check is neither earlier nor later on the whole.
    assert!(spread > interval.mul_f64(0.19), "{spread:?}");
    assert!(mean.abs_diff(interval) < interval.mul_f64(0.01), "{mean:?}");
}

#[tokio::test]
async fn tcp_passes_where_somebody_listens_and_says_why_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(ask(&checked(listener.local_addr().unwrap(), Check::Tcp)).await.is_ok());
    let error = ask(&checked(nobody().await, Check::Tcp)).await.unwrap_err();
    assert_eq!(error.to_string(), "connection refused");
    let mut named = checked(listener.local_addr().unwrap(), Check::Tcp);
    named.address = format!("localhost:{}", listener.local_addr().unwrap().port()).parse().unwrap();
    assert!(ask(&named).await.is_ok(), "a name is resolved");
}

#[tokio::test]
async fn http_passes_by_status_and_sends_path_and_host() {
    let mut tasks = JoinSet::new();
    let (good, mut asked) = workload(&mut tasks, "HTTP/1.1 204 No Content\r\n\r\n").await;
    assert!(ask(&checked(good, http("200-399"))).await.is_ok());
    let request = asked.recv().await.unwrap();
    assert!(request.starts_with("GET /healthz HTTP/1.1\r\n") && request.contains(&format!("host: {good}\r\n")), "{request}");
    let (bad, _asked) = workload(&mut tasks, "HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy").await;
    assert_eq!(ask(&checked(bad, http("200-399"))).await.unwrap_err().to_string(), "answered 503 Service Unavailable");
    assert!(ask(&checked(bad, http("200,503"))).await.is_ok());
    let (garbage, _asked) = workload(&mut tasks, "SSH-2.0-hello\r\n\r\n").await;
    assert!(matches!(ask(&checked(garbage, http("200"))).await, Err(ProbeError::Check(CheckError::Http(_)))));
}

#[tokio::test]
async fn a_workload_that_does_not_answer_is_down_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for check in [http("200"), Check::Grpc { service: String::new() }] {
        let error = ask(&checked(listener.local_addr().unwrap(), check)).await.unwrap_err();
        assert_eq!(error.to_string(), "no answer within 500ms");
    }
}

/// Serves grpc.health.v1 by hand: answers `frame`, then `grpc-status: status`.
async fn grpc_server(tasks: &mut JoinSet<()>, frame: &'static [u8], status: &'static str) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut connection) = h2::server::handshake(tcp).await else { continue };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let response = ::http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let mut body = respond.send_response(response, false).unwrap();
                body.send_data(Bytes::from_static(frame), false).unwrap();
                let mut trailers = ::http::HeaderMap::new();
                trailers.insert("grpc-status", ::http::HeaderValue::from_static(status));
                body.send_trailers(trailers).unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn grpc_passes_when_the_health_service_says_serving() {
    let mut tasks = JoinSet::new();
    let check = || Check::Grpc { service: "shop.v1".to_owned() };
    let serving = grpc_server(&mut tasks, &[0, 0, 0, 0, 2, 8, 1], "0").await;
    ask(&checked(serving, check())).await.unwrap();
    let not = grpc_server(&mut tasks, &[0, 0, 0, 0, 2, 8, 2], "0").await;
    assert_eq!(ask(&checked(not, check())).await.unwrap_err().to_string(), "grpc.health.v1 says NOT_SERVING");
    let unknown = grpc_server(&mut tasks, &[], "5").await;
    let error = ask(&checked(unknown, check())).await.unwrap_err().to_string();
    assert!(error.contains("the server does not know the service"), "{error}");
}

#[tokio::test]
async fn the_first_check_is_at_once_and_verdicts_follow_the_workload() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let uplinks = Arc::new(Uplinks::default());
    let mut shop = checked(address, Check::Tcp);
    shop.health.interval = Duration::from_millis(20);
    uplinks.apply(std::slice::from_ref(&shop));
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(watch(shop, "agent.toml".into(), Arc::clone(&uplinks), Resolver::system().unwrap(), stop.clone()));
    let state = || uplinks.advertised().entries.values().next().map(|entry| (entry.health, entry.reason.clone()));
    eventually("ready", || state().filter(|(health, _)| *health == Health::Ready)).await;
    drop(listener);
    let (_, reason) = eventually("down", || state().filter(|(health, _)| *health == Health::Down)).await;
    assert_eq!(reason, "connection refused");
    let _back = TcpListener::bind(address).await.unwrap();
    let (_, reason) = eventually("ready again", || state().filter(|(health, _)| *health == Health::Ready)).await;
    assert_eq!(reason, "");
    stop.cancel();
    tasks.join_next().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_workload_without_a_check_counts_as_ready() {
    let uplinks = Arc::new(Uplinks::default());
    let shop = checked(nobody().await, Check::None);
    uplinks.apply(std::slice::from_ref(&shop));
    watch(shop, "agent.toml".into(), Arc::clone(&uplinks), Resolver::system().unwrap(), CancellationToken::new()).await;
    assert_eq!(uplinks.advertised().entries.values().next().unwrap().health, Health::Ready);
}
