//! Where UDP does not pass, tunnels run over TCP: from the start, from the middle with what is under way, and back.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::{binary, eventually, text};
use figspan_tests::relay::Relay;
use figspan_tests::web::{Connection, Message, Workload, ok};

/// How long a request under way takes in the workload: longer than the move.
const SLOW: Duration = Duration::from_millis(3500);
/// Pieces of a long download, and their size.
const PIECES: usize = 50;
const PIECE: usize = 32 * 1024;

/// A workload that takes its time, and counts what it saw of each target.
fn shop() -> (Workload, Arc<Mutex<HashMap<String, usize>>>) {
    let seen = Arc::new(Mutex::new(HashMap::new()));
    let book = Arc::clone(&seen);
    let workload = Workload::raw(move |mut connection| {
        while let Ok(Some(request)) = connection.message() {
            *book.lock().unwrap().entry(request.target().to_owned()).or_default() += 1;
            if answer(&mut connection, &request).is_err() {
                return;
            }
        }
    });
    (workload, seen)
}

fn answer(connection: &mut Connection, request: &Message) -> std::io::Result<()> {
    if request.target().starts_with("/download") {
        let length = PIECES * PIECE;
        write!(connection.write, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")?;
        for piece in 0..PIECES {
            connection.write.write_all(&[piece as u8; PIECE])?;
            std::thread::sleep(SLOW / PIECES as u32);
        }
        return Ok(());
    }
    if request.target().starts_with("/slow") {
        std::thread::sleep(SLOW);
    }
    connection.write.write_all(ok(&format!("{} {}", request.method(), request.text())).as_bytes())
}

/// What one client asks; panics unless the answer is whole and right.
fn ask(web: SocketAddr, number: usize) {
    let mut client = Connection::open(web);
    match number % 10 {
        0 => {
            let answer = client.get(&format!("/download/{number}"));
            let wanted: Vec<u8> = (0..PIECES).flat_map(|piece| vec![piece as u8; PIECE]).collect();
            assert!(answer.status() == 200 && answer.body == wanted, "download {number}: {} bytes", answer.body.len());
        }
        1..4 => {
            let answer = client.post(&format!("/slow/{number}"), format!("order {number}").as_bytes());
            assert_eq!((answer.status(), answer.text()), (200, format!("POST order {number}")), "{answer:?}");
        }
        _ => assert_eq!(client.get(&format!("/slow/{number}")).text(), "GET "),
    }
}

/// What the hub says carries the agent's tunnels.
fn transports(bed: &Bed) -> Vec<String> {
    let agents = bed.hub.json(&["get", "agents"]);
    let tunnels = agents[0]["tunnels"].as_array().cloned().unwrap_or_default();
    tunnels.iter().map(|tunnel| tunnel["transport"].as_str().unwrap_or_default().to_owned()).collect()
}

fn all_over(bed: &Bed, transport: &str) -> bool {
    let transports = transports(bed);
    !transports.is_empty() && transports.iter().all(|each| each == transport)
}

/// `figspan-agent status` of an agent of the bed.
fn status(bed: &Bed, agent: &str) -> String {
    let socket = bed.hub.folder.join(format!("{agent}.sock"));
    text(&std::process::Command::new(binary("figspan-agent")).arg("status").arg("--socket").arg(socket).output().unwrap())
}

fn tunnel_address(bed: &Bed) -> SocketAddr {
    bed.hub.json(&["status"])["tunnel_address"].as_str().and_then(|text| text.parse().ok()).unwrap()
}

/// An agent behind a relay, reached by UDP.
struct Begun {
    bed: Bed,
    relay: Relay,
    seen: Arc<Mutex<HashMap<String, usize>>>,
    _workload: Workload,
}

fn begun() -> Begun {
    let (workload, seen) = shop();
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let relay = Relay::start_with_tcp(tunnel_address(&bed));
    bed.hub.dials("vm-1", &[relay.address]);
    let bed = bed.agent("vm-1", &workload.uplink("shop", "")).ready("shop", 1);
    eventually("both shards are reached by UDP", Duration::from_secs(5), || transports(&bed) == ["quic", "quic"]);
    Begun { bed, relay, seen, _workload: workload }
}

#[test]
fn udp_that_is_blocked_under_load_costs_no_request_nor_does_its_return() {
    let Begun { seen, relay, bed, _workload } = begun();
    let web = bed.web();
    let clients: Vec<_> = (0..100).map(|number| std::thread::spawn(move || ask(web, number))).collect();
    eventually("all of them are with the workload", Duration::from_secs(5), || seen.lock().unwrap().len() >= 100);

    relay.dark(true);
    let blocked = Instant::now();
    eventually("all tunnels are on TCP", Duration::from_secs(5), || all_over(&bed, "tcp"));
    println!("on TCP {:?} after the block", blocked.elapsed());
    for client in clients {
        client.join().expect("nothing that was under way is lost");
    }
    let again: Vec<(String, usize)> = seen.lock().unwrap().clone().into_iter().filter(|(_, count)| *count != 1).collect();
    assert!(again.iter().all(|(target, _)| target == "/"), "asked more than once: {again:?}");
    assert_eq!(bed.get("/").status(), 200);
    let (told, log) = (status(&bed, "vm-1"), bed.hub.log("vm-1"));
    assert!(told.contains("is reached over TCP"), "{told}");
    // What status says last may be that the connection was made anew, which a busy machine brings about.
    assert!(log.contains("UDP fell silent"), "{log}");
    let metrics = bed.metrics();
    assert!(metrics.contains("figspan_tunnel_transport{transport=\"tcp\"} 2"), "{metrics}");
    assert!(metrics.contains("figspan_tunnel_transport_changes_total{to=\"tcp\"} 2"), "{metrics}");

    // Clients ask on and on while it goes back.
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = [true, false]
        .map(|post| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || {
                let mut client = Connection::open(web);
                while !stop.load(Ordering::SeqCst) {
                    let answer = if post { client.post("/", b"one") } else { client.get("/") };
                    assert_eq!(answer.status(), 200, "{answer:?}");
                    asked.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(5));
                }
            })
        })
        .into();
    relay.dark(false);
    let passes = Instant::now();
    eventually("all tunnels are back on UDP", Duration::from_secs(60), || all_over(&bed, "quic"));
    println!("on UDP {:?} after it passed, {} requests meanwhile", passes.elapsed(), asked.load(Ordering::SeqCst));
    stop.store(true, Ordering::SeqCst);
    load.into_iter().for_each(|client| client.join().expect("no request failed on the way back"));
    assert!(status(&bed, "vm-1").contains("quic"));
}

#[test]
fn a_tunnel_that_moves_alone_keeps_its_requests_although_its_agents_other_one_speaks() {
    let Begun { seen, relay, bed, _workload } = begun();
    let web = bed.web();
    let clients: Vec<_> = (0..40).map(|number| std::thread::spawn(move || ask(web, 10 * number + 5))).collect();
    eventually("all of them are with the workload", Duration::from_secs(5), || seen.lock().unwrap().len() >= 40);

    // What joined and looked for the hub before is silent by now.
    std::thread::sleep(Duration::from_secs(1));
    relay.dark_but_for(*relay.speaking().first().expect("a tunnel speaks"));
    eventually("one tunnel is on TCP", Duration::from_secs(5), || {
        let mut transports = transports(&bed);
        transports.sort();
        transports == ["quic", "tcp"]
    });
    for client in clients {
        client.join().expect("nothing that was under way is lost");
    }
    let again: Vec<(String, usize)> = seen.lock().unwrap().clone().into_iter().filter(|(_, count)| *count != 1).collect();
    assert!(again.is_empty(), "asked more than once: {again:?}");
}

#[test]
fn where_udp_is_blocked_from_the_start_an_agent_serves_over_tcp_and_says_why() {
    let workload = Workload::named("shop");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }")));
    let relay = Relay::start_with_tcp(tunnel_address(&bed));
    relay.dark(true);
    bed.hub.dials("vm-1", &[relay.address]);
    let started = Instant::now();
    let bed = bed.agent("vm-1", &workload.uplink("shop", ""));
    eventually("it serves", Duration::from_secs(5), || bed.get("/").status() == 200);
    println!("served over TCP {:?} after the join", started.elapsed());
    assert!(all_over(&bed, "tcp"));
    let told = status(&bed, "vm-1");
    assert!(told.contains("UDP did not answer the dial"), "{told}");
    assert!(bed.hub.log("vm-1").contains("over TCP: UDP did not answer the dial"), "{}", bed.hub.log("vm-1"));
    let agents = text(&bed.hub.ctl(&["describe", "agent", "vm-1"]));
    assert!(agents.contains("TRANSPORT") && agents.contains("tcp"), "{agents}");
}

#[test]
fn a_hub_that_is_told_so_listens_on_no_tcp_port_for_tunnels() {
    let bed = Bed::start_with("", "[tunnel]\naddress = \"127.0.0.1:0\"\ntcp = false\n");
    assert!(std::net::TcpStream::connect(tunnel_address(&bed)).is_err());
}
