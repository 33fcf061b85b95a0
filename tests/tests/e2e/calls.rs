//! The other direction: processes on a VM call services of the cluster through their agent, over HTTP of both versions and TCP,
//! by port and by Unix socket; and only those that the agent's grant names.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use figspan_tests::bed::Bed;
use figspan_tests::port::Refusing;
use figspan_tests::process::{eventually, text};
use figspan_tests::web::{Connection, Message, Workload, accept_websocket, ok};

use crate::traffic::{grpc_echo, runtime};

const SOON: Duration = Duration::from_secs(10);

/// A service in the hub's settings.
pub fn service(name: &str, protocol: &str, addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    format!("[[service]]\nname = \"{name}\"\nprotocol = \"{protocol}\"\naddresses = {addresses:?}\n\n")
}

/// A place in an agent's settings where a service is called; `more` are further keys.
pub fn called(name: &str, listen: &str, more: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nlisten = \"{listen}\"\n{more}\n\n")
}

/// Where an agent's service really listens.
pub fn port(bed: &Bed, agent: &str, index: usize) -> SocketAddr {
    let mut found = None;
    eventually("the service can be called", SOON, || {
        let status = bed.hub.agent_status(agent);
        let up = status["tunnels"].as_array().is_some_and(|tunnels| !tunnels.is_empty());
        let service = &status["services"][index];
        found = service["listen"].as_str().filter(|_| up && service["listening"] == true).and_then(|text| text.parse().ok());
        found.is_some()
    });
    found.unwrap()
}

fn bed(services: &str) -> Bed {
    Bed::start(&format!("[proxies]\ntrusted = [\"127.0.0.0/8\"]\n\n{services}"))
}

/// An agent of that name whose processes may call `allowed`.
fn calling(mut bed: Bed, name: &str, allowed: &str, settings: &str) -> Bed {
    let agent = bed.hub.agent_calling(name, allowed, settings);
    bed.agents.insert(name.to_owned(), agent);
    bed
}

fn heard(request: &Message) -> String {
    let fields = ["x-figspan-agent", "x-forwarded-for", "x-real-ip", "host"].map(|name| format!("{name}={}", request.field(name)));
    ok(&format!("{} {} {} {}", request.method(), request.target(), fields.join(" "), request.text()))
}

#[test]
fn a_process_calls_by_port_and_by_socket_and_the_service_hears_which_vm_it_is() {
    let orders = Workload::http(heard);
    let bed = bed(&service("orders", "http1", &[orders.address]));
    let socket = bed.hub.folder.join("orders.sock");
    let settings = called("orders", "127.0.0.1:0", "") + &called("orders", &format!("unix:{}", socket.display()), "mode = \"0666\"");
    let bed = calling(bed, "vm-1", "ord*", &settings);
    let at = port(&bed, "vm-1", 0);
    let mut process = Connection::open(at);
    let answer = process.get("/orders/7");
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.text(), "GET /orders/7 x-figspan-agent=vm-1 x-forwarded-for=127.0.0.1 x-real-ip= host=shop.example ");
    // What a process says of itself counts for nothing, although its VM stands among trusted proxies.
    let lies = "x-forwarded-for: 6.6.6.6\r\nx-real-ip: 6.6.6.6\r\nx-figspan-agent: vm-9\r\nX_Figspan_Agent: vm-9\r\n";
    let answer = process.ask("POST", "/a/../b", lies, b"body").unwrap();
    assert_eq!(answer.text(), "POST /b x-figspan-agent=vm-1 x-forwarded-for=127.0.0.1 x-real-ip= host=shop.example body");
    // One parser, and a strict one, here too.
    let refused = Connection::open(at).ask("GET", "/a%2fb%5c", "", b"").unwrap();
    assert_eq!(refused.status(), 400, "{refused:?}");

    let mut process = UnixStream::connect(&socket).unwrap();
    process.write_all(b"GET /by-socket HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    process.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("host=orders "), "{answer}");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions()) & 0o777, 0o666);

    // What people see: both ends, in words and numbers.
    let status = bed.hub.agent_status("vm-1");
    assert_eq!((&status["services"][0]["taken"], &status["services"][1]["taken"]), (&2.into(), &1.into()), "{status}");
    let agent = bed.hub.json(&["get", "agents"])[0].clone();
    assert_eq!((&agent["services"][0], &agent["calls"]), (&"ord*".into(), &3.into()), "{agent}");
    let services = bed.hub.json(&["get", "services"]);
    assert_eq!((&services[0]["name"], &services[0]["callers"][0]), (&"orders".into(), &"vm-1".into()), "{services}");
    let metrics = bed.metrics();
    assert!(metrics.contains("figspan_calls_total{outcome=\"taken\"} 3"), "{metrics}");
    assert!(metrics.contains("http_route=\"service/orders\",backend_kind=\"service\",backend=\"orders\""), "{metrics}");
    eventually("the log says who called", SOON, || bed.hub.log("hub").contains("agent=vm-1"));
    let kept: UnixStream = UnixStream::connect(bed.hub.folder.join("vm-1.sock")).unwrap();
    let mut kept = kept;
    kept.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    kept.read_to_string(&mut text).unwrap();
    assert!(text.contains(&format!("figspan_agent_service_calls_total{{service=\"orders\",listen=\"{at}\"}} 2")), "{text}");
}

#[test]
fn nothing_may_be_called_that_the_grant_does_not_name_and_each_refusal_says_why() {
    let orders = Workload::named("orders");
    let bed = bed(&(service("orders", "http1", &[orders.address]) + &service("ledger", "tcp", &[orders.address])));
    let places = called("orders", "127.0.0.1:0", "")
        + &called("orphan", "127.0.0.1:0", "")
        + &called("ledger", "127.0.0.1:0", "")
        + &called("ledger", "127.0.0.1:0", "protocol = \"tcp\"");
    let bed = calling(calling(bed, "vm-1", "", &places), "vm-2", "or*,ledger", &places);
    let ask = |agent: &str, index: usize| Connection::open(port(&bed, agent, index)).get("/");
    let denied = ask("vm-1", 0);
    assert_eq!((denied.status(), denied.field("figspan-reason")), (403, "service-denied"));
    assert!(denied.field("proxy-status").contains("http_request_denied"), "{denied:?}");
    // Who may not call does not learn what there is.
    assert_eq!(ask("vm-1", 1).field("figspan-reason"), "service-denied");
    assert_eq!(ask("vm-2", 0).text(), "orders");
    let unknown = ask("vm-2", 1);
    assert_eq!((unknown.status(), unknown.field("figspan-reason")), (502, "unknown-service"));
    assert_eq!(ask("vm-2", 2).field("figspan-reason"), "service-protocol");
    let mut tcp = TcpStream::connect(port(&bed, "vm-1", 3)).unwrap();
    assert_eq!(tcp.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    let status = bed.hub.agent_status("vm-1");
    let told = status["services"][0]["refused"].as_str().unwrap_or_default();
    assert!(told.contains("hub hub-0 does not allow this agent to call orders") && told.contains("--services orders"), "{told}");
    assert_eq!(status["services"][0]["failed"], serde_json::json!([["service-denied", 1]]));
    let told = text(&bed.hub.ctl(&["describe", "agent", "vm-1"]));
    assert!(told.contains("Refused calls:") && told.contains("service-denied") && told.contains("ledger"), "{told}");
    let told = text(&bed.hub.ctl(&["events"]));
    assert!(told.contains("agent vm-1 called service orders and was refused: service-denied"), "{told}");
    let metrics = bed.metrics();
    assert!(metrics.contains("figspan_calls_total{outcome=\"denied\"} 3"), "{metrics}");
    assert!(metrics.contains("figspan_calls_total{outcome=\"unknown\"} 1") && metrics.contains("outcome=\"protocol\"} 1"), "{metrics}");
    assert_eq!(orders.seen(), 1, "nothing else arrived");
}

#[test]
fn a_revoked_agent_is_cut_within_a_second_and_what_it_calls_with_it() {
    let slow = Workload::raw(|mut connection| {
        let _ = connection.head();
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n");
        let _ = connection.some(1);
    });
    let bed = calling(bed(&service("orders", "http1", &[slow.address])), "vm-1", "orders", &called("orders", "127.0.0.1:0", ""));
    let at = port(&bed, "vm-1", 0);
    let mut process = Connection::open(at);
    process.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(process.head().unwrap().unwrap().status(), 200);
    assert_eq!(process.chunk().unwrap(), b"hi");
    let began = Instant::now();
    assert!(bed.hub.ctl(&["agent", "revoke", "vm-1", "--reason", "lost"]).status.success());
    assert!(process.chunk().is_err(), "an answer that broke off never ends well");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let away = Connection::open(at).get("/");
    assert_eq!((away.status(), away.field("retry-after")), (503, "1"), "{away:?}");
    assert!(["no-tunnel", "tunnel-lost"].contains(&away.field("figspan-reason")), "{away:?}");
}

#[test]
fn events_websockets_and_grpc_pass_as_they_come() {
    let events = Workload::raw(|mut connection| {
        while let Ok(Some(request)) = connection.message() {
            if request.target() == "/socket" {
                connection.send(&accept_websocket(&request));
                while let Ok(bytes) = connection.some(1024) {
                    if bytes.is_empty() || connection.write.write_all(&bytes).is_err() {
                        return;
                    }
                }
                return;
            }
            connection.send("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n");
            // The second event waits until the first has been read.
            if connection.message().is_err() {
                return;
            }
        }
    });
    let services = service("events", "http1", &[events.address]) + &service("api", "h2c", &[grpc_echo()]);
    let places = called("events", "127.0.0.1:0", "") + &called("api", "127.0.0.1:0", "");
    let bed = calling(bed(&services), "vm-1", "*", &places);
    let mut process = Connection::open(port(&bed, "vm-1", 0));
    process.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(process.head().unwrap().unwrap().field("content-type"), "text/event-stream");
    assert_eq!(process.chunk().unwrap(), b"data: 1\n\n", "it is here although the answer goes on");

    let mut process = Connection::open(port(&bed, "vm-1", 0));
    process.send(
        "GET /socket HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(process.answer(false).unwrap().status(), 101);
    process.send("hello");
    assert_eq!(process.exactly(5).unwrap(), b"hello");

    let at = port(&bed, "vm-1", 1);
    runtime().block_on(async {
        let tcp = tokio::net::TcpStream::connect(at).await.unwrap();
        let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        let mut sender = sender.ready().await.unwrap();
        let request = hyper::Request::post("http://api/echo").header("te", "trailers").body(()).unwrap();
        let (answer, mut say) = sender.send_request(request, false).unwrap();
        say.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), false).unwrap();
        let mut answer = answer.await.unwrap();
        let body = answer.body_mut();
        assert_eq!(body.data().await.unwrap().unwrap(), "\0\0\0\0\x02hi", "both directions at once");
        say.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn tcp_goes_both_ways_over_port_and_socket_passes_dead_endpoints_over_and_ends_as_it_should() {
    // Reads to the end, then answers with the length and ends.
    let counter = Workload::raw(|mut connection| {
        let mut all = 0;
        while let Ok(bytes) = connection.some(65536) {
            if bytes.is_empty() {
                connection.send(&format!("{all} bytes"));
                return;
            }
            all += bytes.len();
        }
    });
    let refusing = Refusing::anywhere();
    let dead: SocketAddr = refusing.address;
    let services = service("db", "tcp", &[counter.address, dead]) + &service("down", "tcp", &[dead]);
    let bed = bed(&services);
    let socket = bed.hub.folder.join("db.sock");
    let tcp = "protocol = \"tcp\"";
    let places =
        called("db", "127.0.0.1:0", tcp) + &called("db", &format!("unix:{}", socket.display()), tcp) + &called("down", "127.0.0.1:0", tcp);
    let bed = calling(bed, "vm-1", "*", &places);
    let at = port(&bed, "vm-1", 0);
    // One of the two endpoints is dead: nobody notices.
    for _ in 0..4 {
        let mut client = TcpStream::connect(at).unwrap();
        client.write_all(&vec![7; 300_000]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "300000 bytes");
    }
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(&vec![7; 3_000_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "3000000 bytes");
    let mut client = TcpStream::connect(port(&bed, "vm-1", 2)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset, "nobody there is no clean end");
    let status = bed.hub.agent_status("vm-1");
    assert_eq!(status["services"][2]["failed"], serde_json::json!([["connect-refused", 1]]));
}

#[test]
fn the_policies_of_a_service_hold_for_calls() {
    let sick = Workload::http(|_| "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_owned());
    let slow = Workload::http(|request| {
        std::thread::sleep(Duration::from_millis(400));
        ok(request.target())
    });
    let services = service("sick", "http1", &[sick.address])
        + &service("slow", "http1", &[slow.address])
        + "[[backend_policy]]\nservice = \"sick\"\ncircuit_breaker = { error_ratio = 0.5, min_requests = 3, open = \"30s\" }\n\n\
           [[backend_policy]]\nservice = \"slow\"\nlimits = { requests = 1, pending = 0 }\n\n";
    let places =
        called("sick", "127.0.0.1:0", "") + &called("slow", "127.0.0.1:0", "") + &called("slow", "127.0.0.1:0", "max_connections = 1");
    let bed = calling(bed(&services), "vm-1", "*", &places);
    let at = port(&bed, "vm-1", 0);
    eventually("the breaker opens", SOON, || Connection::open(at).post("/", b"x").field("figspan-reason") == "breaker-open");
    let seen = sick.seen();
    assert_eq!(Connection::open(at).post("/", b"x").status(), 503);
    assert_eq!(sick.seen(), seen, "nothing is sent there any more");

    let at = port(&bed, "vm-1", 1);
    let running = std::thread::spawn(move || Connection::open(at).get("/one"));
    eventually("the first is under way", SOON, || slow.connections.load(std::sync::atomic::Ordering::SeqCst) > 0 && slow.seen() == 1);
    assert_eq!(Connection::open(at).get("/two").field("figspan-reason"), "backend-limit");
    assert_eq!(running.join().unwrap().text(), "/one");

    // The agent's own bound on connections.
    let narrow = port(&bed, "vm-1", 2);
    let mut first = Connection::open(narrow);
    assert_eq!(first.get("/first").text(), "/first");
    let refused = Connection::open(narrow).get("/second");
    assert_eq!((refused.status(), refused.field("figspan-reason"), refused.field("retry-after")), (503, "limit", "1"));
    drop(first);
    eventually("there is room again", SOON, || Connection::open(narrow).get("/third").status() == 200);
}

#[test]
fn a_place_that_is_taken_is_told_and_healed_and_a_reload_touches_no_other() {
    let orders = Workload::named("orders");
    let bed = bed(&service("orders", "http1", &[orders.address]));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap();
    let bed = calling(bed, "vm-1", "orders", &called("orders", "127.0.0.1:0", ""));
    let mut kept = Connection::open(port(&bed, "vm-1", 0));
    assert_eq!(kept.get("/").text(), "orders");
    let file = bed.hub.folder.join("vm-1.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, settings.clone() + &called("orders", &at.to_string(), "")).unwrap();
    let error = |index: usize| bed.hub.agent_status("vm-1")["services"][index]["error"].as_str().unwrap_or_default().to_owned();
    eventually("the status says that it is taken", SOON, || error(1).contains("end the process that has it"));
    assert_eq!(kept.get("/").text(), "orders", "nothing else was touched");
    drop(taken);
    eventually("it is open once it can be", SOON, || Connection::try_open(at).is_ok());
    assert_eq!(Connection::open(at).get("/").text(), "orders");
    std::fs::write(&file, settings).unwrap();
    eventually("a place that is no longer wanted is closed", SOON, || Connection::try_open(at).is_err());
    assert_eq!(kept.get("/").text(), "orders");
}
