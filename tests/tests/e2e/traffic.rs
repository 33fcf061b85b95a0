//! What HTTP can do, through the tunnel: bodies of any size, trailers, 1xx, events, WebSocket, HTTP/2 and gRPC.

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::{Connection, Workload, accept_websocket, ok};

const NO_CHECK: &str = "health = { type = \"none\" }";

fn shop(workload: &Workload) -> Bed {
    Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &workload.uplink("shop", NO_CHECK)).ready("shop", 1)
}

#[test]
fn trailers_early_hints_and_continue_pass_in_both_directions() {
    let workload = Workload::raw(|mut connection| {
        while let Ok(Some(head)) = connection.head() {
            if head.field("expect") == "100-continue" {
                connection.send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            connection.send("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n");
            // Chunked, with a trailer.
            let mut rest = Vec::new();
            while !rest.ends_with(b"\r\n\r\n") {
                rest.extend(connection.some(1).unwrap());
            }
            let said = String::from_utf8(rest).unwrap().to_ascii_lowercase();
            let trailer = said.contains("x-sum: 42");
            connection.send(&format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-got\r\n\r\n2\r\nok\r\n0\r\nx-got: {trailer}\r\n\r\n"
            ));
        }
    });
    let bed = shop(&workload);
    let mut client = bed.client();
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n");
    let first = client.head().unwrap().unwrap();
    assert_eq!(first.status(), 100, "{first:?}");
    client.send("3\r\nabc\r\n0\r\nx-sum: 42\r\n\r\n");
    let hints = client.head().unwrap().unwrap();
    assert_eq!((hints.status(), hints.field("link")), (103, "</style.css>; rel=preload"), "{hints:?}");
    let answer = client.answer(true).unwrap();
    assert_eq!((answer.text().as_str(), answer.trailers.get("x-got").map(String::as_str)), ("ok", Some("true")), "{answer:?}");
}

#[test]
fn events_arrive_as_they_are_sent() {
    let workload = Workload::raw(|mut connection| {
        if let Ok(Some(_)) = connection.message() {
            connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
            for number in 0..5 {
                connection.send(&format!("data: {number}\n\n"));
                // The next one only when the client has had this one's time.
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    });
    let bed = shop(&workload);
    let mut client = bed.client();
    client.send("GET /events HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n");
    assert_eq!(client.head().unwrap().unwrap().status(), 200);
    let start = Instant::now();
    let mut first = Vec::new();
    while !first.windows(7).any(|window| window == b"data: 0") {
        first.extend(client.some(100).unwrap());
    }
    assert!(start.elapsed() < Duration::from_millis(600), "the first event waited for the others");
}

#[test]
fn an_upload_and_a_download_of_half_a_gigabyte_take_constant_memory() {
    const SIZE: usize = 512 << 20;
    let workload = Workload::raw(|mut connection| {
        while let Ok(Some(head)) = connection.head() {
            let mut left: usize = head.field("content-length").parse().unwrap_or(0);
            while left > 0 {
                let read = connection.some(left.min(1 << 20)).unwrap().len();
                assert!(read > 0, "the upload was cut");
                left -= read;
            }
            connection.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"));
            let chunk = vec![b'x'; 1 << 20];
            for _ in 0..SIZE >> 20 {
                if connection.write.write_all(&chunk).is_err() {
                    return;
                }
            }
        }
    });
    let bed = shop(&workload);
    bed.client().post("/", b"warm");
    let (hub, agent) = (&bed.hub.process, &bed.agents["vm-1"]);
    let before = hub.rss() + agent.rss();
    let mut client = bed.client();
    let mut upload = client.write.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        write!(upload, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n").unwrap();
        let chunk = vec![b'y'; 1 << 20];
        for _ in 0..SIZE >> 20 {
            upload.write_all(&chunk).unwrap();
        }
    });
    let head = client.head().unwrap().unwrap();
    assert_eq!(head.field("content-length"), SIZE.to_string());
    let (mut got, mut peak) = (0, 0.0_f64);
    while got < SIZE {
        let read = client.some(1 << 20).unwrap().len();
        assert!(read > 0, "the download was cut at {got}");
        got += read;
        if got % (64 << 20) < read {
            peak = peak.max(hub.rss() + agent.rss());
        }
    }
    writer.join().unwrap();
    assert!(peak - before < 64.0, "memory grew from {before:.0} to {peak:.0} MiB");
}

/// KiB that an idle agent may have of its own: about 1,000 are its heap, stacks and two tunnels. The rest of what is resident are pages
/// of its program's file, which the kernel shares and may take back.
const IDLE: u64 = 1280;

#[test]
fn an_idle_agent_keeps_little_memory_of_its_own() {
    let workload = Workload::named("shop");
    let bed = shop(&workload).covered("vm-1");
    let own = bed.agents["vm-1"].own_memory();
    println!("idle agent: {own} KiB of its own, {:.1} MiB resident", bed.agents["vm-1"].rss());
    assert!(own < IDLE, "{own} KiB");
    let agent = &bed.agents["vm-1"];
    eventually("what only its start needed is given back", Duration::from_secs(10), || agent.rss() < 0.7 * agent.most_resident());
    println!("a moment later: {:.1} MiB resident", agent.rss());
    assert_eq!(bed.client().get("/").status(), 200, "what is needed after all is read again");
}

#[test]
fn a_client_over_http_2_reaches_an_http_1_workload() {
    let workload = Workload::http(|request| ok(&format!("{} {}", request.first, request.text())));
    let bed = shop(&workload);
    runtime().block_on(async {
        let (mut client, _driver) = h2(&bed).await;
        let requests = (0..20).map(|number| {
            let request = hyper::Request::post(format!("http://shop.example/{number}")).body(()).unwrap();
            let (answer, mut body) = client.send_request(request, false).unwrap();
            body.send_data(Bytes::from(format!("body {number}")), true).unwrap();
            async move {
                let (_, text, _) = whole(answer).await;
                assert_eq!(text, format!("POST /{number} HTTP/1.1 body {number}"));
            }
        });
        futures_util::future::join_all(requests.collect::<Vec<_>>()).await;
    });
}

#[test]
fn grpc_with_trailers_and_both_directions_at_once_reaches_an_h2c_workload() {
    let address = grpc_echo();
    let uplink = format!("[[uplink]]\nname = \"rpc\"\naddress = \"{address}\"\nprotocol = \"h2c\"\n{NO_CHECK}\n");
    let service = format!("[[service]]\nname = \"rpc-too\"\nprotocol = \"h2c\"\naddresses = [\"{address}\"]\n\n");
    let rules = "[[http_route.rules]]\nmatches = [{ path = { type = \"PathPrefix\", value = \"/in.Cluster\" } }]\nbackend_refs = [{ service = \"rpc-too\" }]\n\n".to_owned()
        + &rule("{ uplink = \"rpc\" }");
    let bed = Bed::start(&(service + &http(&rules))).agent("vm-1", &uplink).ready("rpc", 1);
    runtime().block_on(async {
        for path in ["/on.Vm/Chat", "/in.Cluster/Chat"] {
            let (mut client, _driver) = h2(&bed).await;
            let request = hyper::Request::post(format!("http://shop.example{path}"))
                .header("te", "trailers")
                .header("content-type", "application/grpc")
                .body(())
                .unwrap();
            let (answer, mut say) = client.send_request(request, false).unwrap();
            say.send_data(Bytes::from_static(b"one"), false).unwrap();
            // The head and the first echo come while our side is still open.
            let mut answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            let body = answer.body_mut();
            for word in [&b"one"[..], b"two", b"three"] {
                let mut got = Vec::new();
                while got.len() < word.len() {
                    let data = body.data().await.unwrap().unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    got.extend(data);
                }
                assert_eq!(got, word, "{path}");
                if word == b"one" {
                    say.send_data(Bytes::from_static(b"two"), false).unwrap();
                } else if word == b"two" {
                    say.send_data(Bytes::from_static(b"three"), true).unwrap();
                }
            }
            assert!(body.data().await.is_none());
            let trailers = body.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "0", "{path}");
        }
    });
}

#[test]
fn a_websocket_over_http_2_reaches_an_http_1_workload() {
    let workload = Workload::raw(|mut connection| {
        let request = connection.message().unwrap().unwrap();
        if request.target() == "/" {
            return connection.send(&ok(""));
        }
        assert_eq!((request.method(), request.field("upgrade")), ("GET", "websocket"), "{request:?}");
        assert!(!request.field("sec-websocket-key").is_empty());
        connection.send(&accept_websocket(&request));
        while let Ok(bytes) = connection.some(1024) {
            if bytes.is_empty() {
                return;
            }
            let _ = connection.write.write_all(&bytes);
        }
    });
    let bed = shop(&workload);
    runtime().block_on(async {
        let (client, _driver) = h2(&bed).await;
        let mut client = client.ready().await.unwrap();
        let request = hyper::Request::builder()
            .method("CONNECT")
            .uri("http://shop.example/chat")
            .extension(h2::ext::Protocol::from("websocket"))
            .header("sec-websocket-version", "13")
            .body(())
            .unwrap();
        let (answer, mut say) = client.send_request(request, false).unwrap();
        let mut answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        say.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let body = answer.body_mut();
        let mut got = Vec::new();
        while got.len() < 5 {
            got.extend(body.data().await.unwrap().unwrap());
        }
        assert_eq!(got, b"hello");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let workload = Workload::http(|request| {
        if request.target() == "/0" {
            std::thread::sleep(Duration::from_millis(100));
        }
        ok(request.target())
    });
    let bed = shop(&workload);
    let mut client: Connection = bed.client();
    client.send(&(0..10).map(|number| format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n")).collect::<String>());
    for number in 0..10 {
        assert_eq!(client.answer(true).unwrap().text(), format!("/{number}"));
    }
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub type Sender = h2::client::SendRequest<Bytes>;

/// An HTTP/2 connection with prior knowledge, and what drives it.
pub async fn h2(bed: &Bed) -> (Sender, tokio::task::JoinSet<()>) {
    let tcp = tokio::net::TcpStream::connect(bed.web()).await.unwrap();
    let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    // One round trip, so that the hub's settings are here.
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(hyper::Request::get("http://nobody.invalid/").body(()).unwrap(), true).unwrap();
    let _ = answer.await;
    (sender, driver)
}

async fn whole(answer: h2::client::ResponseFuture) -> (u16, String, Option<hyper::HeaderMap>) {
    let mut answer = answer.await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.body_mut();
    let mut text = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        text.extend(data);
    }
    let trailers = body.trailers().await.unwrap();
    (status, String::from_utf8(text).unwrap(), trailers)
}

/// An HTTP/2 workload that echoes what comes, message by message, and ends with gRPC's trailer.
pub fn grpc_echo() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tasks.spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                    let mut calls = tokio::task::JoinSet::new();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        calls.spawn(async move {
                            let mut incoming = request.into_body();
                            let answer = hyper::Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                            let mut say = respond.send_response(answer, false).unwrap();
                            while let Some(Ok(data)) = incoming.data().await {
                                let _ = incoming.flow_control().release_capacity(data.len());
                                let _ = say.send_data(data, false);
                            }
                            let _ = say.send_trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect());
                        });
                    }
                });
            }
        });
    });
    address
}
