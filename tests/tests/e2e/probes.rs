//! Health of workloads, as agents see it and hubs act on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::port::Refusing;
use figspan_tests::process::eventually;
use figspan_tests::web::{Workload, ok};

/// The one endpoint of an uplink.
fn endpoint(bed: &Bed, uplink: &str) -> serde_json::Value {
    let uplinks = bed.hub.json(&["get", "uplinks"]);
    let found = uplinks.as_array().unwrap().iter().find(|found| found["name"] == uplink).cloned().unwrap_or_default();
    found["endpoints"][0].clone()
}

fn accepts(bed: &Bed, uplink: &str) -> bool {
    endpoint(bed, uplink)["accepts"] == true
}

#[test]
fn the_first_check_is_at_once_whatever_the_interval() {
    let shop = Workload::named("shop");
    let check = "health = { type = \"http\", path = \"/healthz\", interval = \"1h\", rise = 3 }";
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", check));
    eventually("it is ready long before its second check", Duration::from_secs(5), || accepts(&bed, "shop"));
    assert_eq!(bed.get("/").text(), "shop");
}

#[test]
fn a_workload_that_is_not_there_is_not_picked_and_the_log_says_how_to_mend_it() {
    let down = Refusing::anywhere();
    let address = down.address;
    let uplink =
        format!("[[uplink]]\nname = \"shop\"\naddress = \"{address}\"\nhealth = {{ type = \"tcp\", interval = \"100ms\", rise = 1 }}\n");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &uplink);
    eventually("the hub knows why", Duration::from_secs(5), || {
        endpoint(&bed, "shop")["reason"].as_str().is_some_and(|why| why.contains("connection refused"))
    });
    let answer = bed.get("/");
    assert_eq!((answer.status(), answer.field("retry-after").is_empty()), (503, false), "{answer:?}");
    let wanted = format!("cannot reach workload shop at {address}: connection refused; start it, or correct uplink.address in");
    let log = bed.hub.log("vm-1");
    assert!(log.contains(&wanted) && log.contains("vm-1.toml"), "{log}");
    assert_eq!(log.matches(&wanted).count(), 1, "said once, not with each check: {log}");
    // It comes up at the same address, and is found by itself.
    let listener = std::net::TcpListener::bind(address).unwrap();
    eventually("it is ready", Duration::from_secs(5), || accepts(&bed, "shop"));
    drop(listener);
}

#[test]
fn it_takes_fall_failures_to_fall_and_rise_successes_to_rise() {
    let status = Arc::new(AtomicU8::new(200));
    let checks = Arc::new(AtomicUsize::new(0));
    let (now, count) = (Arc::clone(&status), Arc::clone(&checks));
    let shop = Workload::http(move |request| {
        if request.target() != "/healthz" {
            return ok("shop");
        }
        count.fetch_add(1, Ordering::SeqCst);
        format!("HTTP/1.1 {} Told\r\ncontent-length: 0\r\n\r\n", now.load(Ordering::SeqCst))
    });
    let check = "health = { type = \"http\", path = \"/healthz\", status = \"200-209\", interval = \"400ms\", rise = 3, fall = 3 }";
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", check)).ready("shop", 1);
    let turn = |to: u8, ready: bool| {
        status.store(to, Ordering::SeqCst);
        let before = checks.load(Ordering::SeqCst);
        eventually("the verdict changes", Duration::from_secs(10), || accepts(&bed, "shop") == ready);
        let after = checks.load(Ordering::SeqCst) - before;
        // One check may have been under way as the status changed, one more may have begun as we looked.
        assert!((2..=5).contains(&after), "{after} checks for {ready}");
    };
    turn(210, false);
    assert_eq!(bed.get("/").status(), 503);
    let log = bed.hub.log("vm-1");
    assert!(
        log.contains("workload shop at")
            && log.contains("is down: answered 210")
            && log.contains("correct uplink.health.path and uplink.health.status in"),
        "{log}"
    );
    turn(200, true);
    assert_eq!(bed.get("/").text(), "shop");
}

#[test]
fn a_workload_that_hangs_is_down_after_the_timeout() {
    let hangs = Workload::raw(|mut connection| while connection.some(1024).is_ok_and(|read| !read.is_empty()) {});
    let check = "health = { type = \"http\", path = \"/healthz\", interval = \"1h\", timeout = \"300ms\" }";
    let start = Instant::now();
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &hangs.uplink("shop", check));
    eventually("the hub knows why", Duration::from_secs(5), || {
        endpoint(&bed, "shop")["reason"].as_str().is_some_and(|why| why.contains("no answer within 300ms"))
    });
    assert!(start.elapsed() < Duration::from_secs(20));
    let log = bed.hub.log("vm-1");
    assert!(log.contains("see why it is slow, or raise uplink.health.timeout in"), "{log}");
}

/// A gRPC server whose health service says SERVING or NOT_SERVING.
async fn grpc_server(listener: tokio::net::TcpListener, serving: Arc<AtomicBool>, asked: Arc<AtomicUsize>) {
    let mut tasks = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (serving, asked) = (Arc::clone(&serving), Arc::clone(&asked));
        tasks.spawn(async move {
            let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.uri().path() != "/grpc.health.v1.Health/Check" {
                    continue;
                }
                asked.fetch_add(1, Ordering::SeqCst);
                let head = http::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let Ok(mut body) = respond.send_response(head, false) else { continue };
                // HealthCheckResponse: field 1 is 1 for SERVING, 2 for NOT_SERVING.
                let status = if serving.load(Ordering::SeqCst) { 1 } else { 2 };
                let _ = body.send_data(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]), false);
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                let _ = body.send_trailers(trailers);
            }
        });
    }
}

#[test]
fn a_grpc_workload_is_ready_while_its_health_service_says_so() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let (serving, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let server = grpc_server(listener, Arc::clone(&serving), Arc::clone(&asked));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn_on(server, runtime.handle());
    let check = "health = { type = \"grpc\", interval = \"100ms\", rise = 1, fall = 1 }";
    let uplink = format!("[[uplink]]\nname = \"greeter\"\naddress = \"{address}\"\nprotocol = \"h2c\"\n{check}\n");
    let bed = Bed::start(&http(&rule("{ uplink = \"greeter\" }"))).agent("vm-1", &uplink);
    eventually("the hub knows why", Duration::from_secs(5), || {
        endpoint(&bed, "greeter")["reason"].as_str().is_some_and(|why| why.contains("NOT_SERVING"))
    });
    assert!(asked.load(Ordering::SeqCst) >= 1);
    assert_eq!(bed.get("/").status(), 503);
    let log = bed.hub.log("vm-1");
    assert!(log.contains("grpc.health.v1 says NOT_SERVING") && log.contains("correct uplink.health.service in"), "{log}");
    serving.store(true, Ordering::SeqCst);
    eventually("it is ready", Duration::from_secs(5), || accepts(&bed, "greeter"));
    serving.store(false, Ordering::SeqCst);
    eventually("it is down", Duration::from_secs(5), || !accepts(&bed, "greeter"));
}
