//! What was begun while only one agent was there, and goes to whoever has come since when that one fails: another, or its own next process.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use figspan_tests::bed::{Bed, http, rule};
use figspan_tests::process::eventually;
use figspan_tests::web::{Connection, Workload};
use socket2::{Domain, Socket, Type};

const NO_CHECK: &str = "health = { type = \"none\" }";

/// A listener whose queue is full: who connects waits, and is refused once it is dropped.
struct Full {
    _listener: Socket,
    address: SocketAddr,
    _queued: Vec<TcpStream>,
}

impl Full {
    fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let patience = Duration::from_millis(200);
        let queued: Vec<_> = std::iter::from_fn(|| TcpStream::connect_timeout(&address, patience).ok()).take(8).collect();
        assert!(queued.len() < 8, "its queue never fills");
        Self { _listener: listener, address, _queued: queued }
    }

    fn uplink(&self, more: &str) -> String {
        format!("[[uplink]]\nname = \"shop\"\naddress = \"{}\"\nconnect_timeout = \"20s\"\n{NO_CHECK}\n{more}", self.address)
    }
}

/// The agent of `vm-1` counts the connection that waits for its workload.
fn waits(bed: &Bed) {
    eventually("the connection waits at vm-1", Duration::from_secs(5), || bed.hub.agent_status("vm-1")["uplinks"][0]["open"] == 1);
}

#[test]
fn a_get_whose_workload_dies_goes_to_an_agent_that_came_meanwhile() {
    let (asked, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (count, end) = (Arc::clone(&asked), Arc::clone(&told));
    let dies = Workload::raw(move |mut connection| {
        if let Ok(Some(_)) = connection.message() {
            count.fetch_add(1, Ordering::SeqCst);
            eventually("it is told to die", Duration::from_secs(20), || end.load(Ordering::SeqCst) > 0);
        }
    });
    let good = Workload::named("good");
    let bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &dies.uplink("shop", NO_CHECK)).ready("shop", 1);
    let mut client = bed.client();
    client.send("GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n");
    eventually("the workload has the request", Duration::from_secs(5), || asked.load(Ordering::SeqCst) == 1);
    let _bed = bed.agent("vm-2", &good.uplink("shop", NO_CHECK)).ready("shop", 2);
    told.store(1, Ordering::SeqCst);
    let answer = client.answer(true).unwrap();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "good"), "{answer:?}");
    assert_eq!((asked.load(Ordering::SeqCst), good.seen()), (1, 1));
}

#[test]
fn a_post_that_waits_for_a_connection_goes_to_an_agent_that_came_meanwhile_also_over_a_reload() {
    let (full, good) = (Full::start(), Workload::named("good"));
    let config = http(&rule("{ uplink = \"shop\" }"));
    let bed = Bed::start(&config).agent("vm-1", &full.uplink("")).ready("shop", 1);
    let mut client = bed.client();
    client.send("POST /order HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\n\r\none");
    waits(&bed);
    // The request keeps its rule, and finds who is there by now.
    bed.hub
        .rewrite(&(config + "\n[[http_route]]\nname = \"other\"\nhostnames = [\"other.example\"]\n\n" + &rule("{ uplink = \"other\" }")));
    eventually("the new route is there", Duration::from_secs(5), || {
        bed.hub.json(&["get", "routes"]).as_array().is_some_and(|all| all.len() == 2)
    });
    let _bed = bed.agent("vm-2", &good.uplink("shop", NO_CHECK)).ready("shop", 2);
    drop(full);
    let answer = client.answer(true).unwrap();
    assert_eq!((answer.status(), answer.text().as_str(), good.seen()), (200, "good", 1), "{answer:?}");
}

#[test]
fn a_tcp_connection_that_waits_goes_to_an_agent_that_came_meanwhile() {
    let full = Full::start();
    let good = Workload::raw(|mut connection| connection.send("good"));
    let config = "[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\nbackend_refs = [{ uplink = \"shop\" }]\n";
    let tcp = "protocol = \"tcp\"\n";
    let bed = Bed::start(config).agent("vm-1", &full.uplink(tcp)).ready("shop", 1);
    let mut client = Connection::open(bed.web());
    waits(&bed);
    let _bed = bed.agent("vm-2", &good.uplink("shop", &(NO_CHECK.to_owned() + "\n" + tcp))).ready("shop", 2);
    drop(full);
    assert_eq!(client.exactly(4).unwrap(), b"good");
}

/// A workload that leaves the first `mute` requests without an answer, and how many it was asked.
fn answers_after(mute: usize) -> (Workload, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let workload = Workload::raw(move |mut connection| {
        while let Ok(Some(message)) = connection.message() {
            if count.fetch_add(1, Ordering::SeqCst) < mute {
                drop(connection.some(1));
            } else {
                connection.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}", message.text().len(), message.text()));
            }
        }
    });
    (workload, asked)
}

#[test]
fn what_was_under_way_at_an_agent_that_was_killed_goes_to_its_next_process() {
    let (shop, asked) = answers_after(2);
    let mut bed = Bed::start(&http(&rule("{ uplink = \"shop\" }"))).agent("vm-1", &shop.uplink("shop", NO_CHECK)).ready("shop", 1);
    let (mut known, mut unknown) = (bed.client(), bed.client());
    known.send("PUT /known HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\n\r\none");
    unknown.send("PUT /unknown HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n");
    eventually("the workload has both", Duration::from_secs(5), || asked.load(Ordering::SeqCst) == 2);
    bed.agents.remove("vm-1").unwrap().signal("KILL");
    let killed = Instant::now();
    let _again = bed.hub.run_agent("vm-1");
    for (client, body) in [(&mut known, "one"), (&mut unknown, "two")] {
        let answer = client.answer(true).unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{answer:?} after {:?}", killed.elapsed());
    }
    // Not only when the tunnels of the one before have died of silence.
    assert!(killed.elapsed() < Duration::from_millis(4500), "{:?}", killed.elapsed());
    assert_eq!(asked.load(Ordering::SeqCst), 4, "each was given once more");
}

#[test]
fn a_hedged_request_whose_agents_were_all_killed_goes_to_their_next_processes() {
    for agents in 1..=2 {
        let (shop, asked) = answers_after(agents);
        let rules = rule("{ uplink = \"shop\" }") + "retry = { hedge = \"300ms\" }\n";
        let names: Vec<String> = (1..=agents).map(|number| format!("vm-{number}")).collect();
        let bed = names.iter().fold(Bed::start(&http(&rules)), |bed, name| bed.agent(name, &shop.uplink("shop", NO_CHECK)));
        let mut bed = bed.ready("shop", agents);
        let mut client = bed.client();
        client.send("PUT /hedged HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\n\r\none");
        eventually("the workload has every try", Duration::from_secs(5), || asked.load(Ordering::SeqCst) == agents);
        for name in &names {
            bed.agents.remove(name).unwrap().signal("KILL");
        }
        let killed = Instant::now();
        let _again: Vec<_> = names.iter().map(|name| bed.hub.run_agent(name)).collect();
        let answer = client.answer(true).unwrap();
        assert_eq!((answer.status(), answer.text().as_str()), (200, "one"), "{answer:?} after {:?}, {agents} agents", killed.elapsed());
        // Not only when the tunnels of the ones before have died of silence.
        assert!(killed.elapsed() < Duration::from_millis(4500), "{:?}", killed.elapsed());
        assert!((agents + 1..=agents + 2).contains(&asked.load(Ordering::SeqCst)), "once more, and once beside it where that was slow");
    }
}

#[test]
fn a_tcp_connection_of_which_nothing_was_sent_goes_to_the_next_process_of_a_killed_agent() {
    let (taken, said) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (took, heard) = (Arc::clone(&taken), Arc::clone(&said));
    // Never answers who says `lost`.
    let workload = Workload::raw(move |mut connection| {
        took.fetch_add(1, Ordering::SeqCst);
        if let Ok(bytes) = connection.exactly(4) {
            heard.fetch_add(1, Ordering::SeqCst);
            connection.send(if bytes == b"ping" { "pong" } else { "" });
            drop(connection.some(1));
        }
    });
    let config = "[[listener]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\nprotocol = \"TCP\"\n\n[[tcp_route]]\nname = \"db\"\nlisteners = [\"db\"]\nbackend_refs = [{ uplink = \"shop\" }]\n";
    let uplink = workload.uplink("shop", &format!("{NO_CHECK}\nprotocol = \"tcp\"\n"));
    let mut bed = Bed::start(config).agent("vm-1", &uplink).ready("shop", 1);
    let (mut quiet, mut spoken) = (Connection::open(bed.web()), Connection::open(bed.web()));
    spoken.send("lost");
    eventually("the workload has both, and what one said", Duration::from_secs(5), || {
        taken.load(Ordering::SeqCst) == 2 && said.load(Ordering::SeqCst) == 1
    });
    bed.agents.remove("vm-1").unwrap().signal("KILL");
    let killed = Instant::now();
    let _again = bed.hub.run_agent("vm-1");
    eventually("the quiet one is at the next process", Duration::from_millis(4500), || taken.load(Ordering::SeqCst) == 3);
    quiet.send("ping");
    assert_eq!(quiet.exactly(4).unwrap(), b"pong", "after {:?}", killed.elapsed());
    assert!(spoken.some(1).map_or(true, |bytes| bytes.is_empty()), "what a workload may have seen is not said twice");
    assert_eq!((taken.load(Ordering::SeqCst), said.load(Ordering::SeqCst)), (3, 2));
}
