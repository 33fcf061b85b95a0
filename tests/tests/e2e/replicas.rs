//! Several hubs of one CA: an agent that joined one serves all, and hubs and agents come and go without anybody noticing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use figspan_tests::balancer::{Arrived, Balanced, bookkeeper};
use figspan_tests::bed::{http, rule};
use figspan_tests::process::{HubProcess, Process, eventually};
use figspan_tests::web::{Connection, Workload};

/// Long beside the looks of the balancer, short beside a test.
const LAME_DUCK: Duration = Duration::from_secs(1);

/// An address of the loopback that no other test and no other run uses: hubs come back to fixed ports on it.
pub fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, NEXT.fetch_add(1, Ordering::SeqCst) % 127 + 128, high, low)
}

struct Site {
    hubs: Vec<HubProcess>,
    addresses: Vec<Ipv4Addr>,
    agents: Vec<Process>,
    _folder: tempfile::TempDir,
}

impl Site {
    /// That many hubs, each with a state directory of its own and the same CA, which somebody else made.
    fn start(hubs: usize, lame_duck: Duration) -> Self {
        let folder = tempfile::Builder::new().prefix("figspan-").tempdir().unwrap();
        let ca = figspan_tunnel::ca::Ca::create(&"figspan.local".parse().unwrap(), SystemTime::now()).unwrap();
        let (certificate, key) = (folder.path().join("ca.pem"), folder.path().join("ca.key"));
        std::fs::write(&certificate, ca.certificate_pem()).unwrap();
        std::fs::write(&key, ca.key_pem()).unwrap();
        let addresses: Vec<_> = (0..hubs).map(|_| own_address()).collect();
        let start = |(index, address): (usize, &Ipv4Addr)| {
            let own = folder.path().join(format!("hub-{index}"));
            std::fs::create_dir(&own).unwrap();
            let routes = http(&rule("{ uplink = \"shop\" }")).replace("127.0.0.1:0", &format!("{address}:8080"));
            let ca = format!("[ca]\ncertificate = {certificate:?}\nkey = {key:?}\n\n");
            let keys = format!("replica = \"hub-{index}\"\nlame_duck = \"{}ms\"", lame_duck.as_millis());
            HubProcess::start_at(&own, *address, &keys, &(ca + &routes))
        };
        let hubs = addresses.iter().enumerate().map(start).collect();
        Self { hubs, addresses, agents: Vec::new(), _folder: folder }
    }

    /// An agent that joins the first hub and knows them all.
    fn agent(mut self, workload: &Workload) -> Self {
        let name = format!("vm-{}", self.agents.len());
        let tunnels: Vec<SocketAddr> = self.addresses.iter().map(|address| (*address, 7443).into()).collect();
        self.hubs[0].dials(&name, &tunnels);
        self.agents.push(self.hubs[0].agent(&name, "shop,cart-*", &workload.uplink("shop", "")));
        self
    }

    fn ready(self) -> Self {
        self.all_accept();
        self
    }

    fn all_accept(&self) {
        self.hubs.iter().for_each(|hub| hub.accepts("shop", self.agents.len()));
    }

    fn web(&self, hub: usize) -> SocketAddr {
        (self.addresses[hub], 8080).into()
    }

    fn health(&self, hub: usize) -> SocketAddr {
        (self.addresses[hub], 9464).into()
    }

    fn readiness(&self, hub: usize) -> u16 {
        Connection::try_open(self.health(hub)).and_then(|mut to| to.ask("GET", "/readyz", "", b"")).map_or(0, |answer| answer.status())
    }

    fn load(&self) -> Balanced {
        let hubs: Vec<_> = (0..self.hubs.len()).map(|hub| (self.web(hub), self.health(hub))).collect();
        let load = Balanced::start(&hubs, 4);
        eventually("the balancer uses all hubs", Duration::from_secs(15), || (0..self.hubs.len()).all(|hub| load.ready(hub)));
        load
    }

    fn restart_hub(&mut self, hub: usize, load: &Balanced) {
        self.hubs[hub].restart();
        eventually("the balancer uses it again", Duration::from_secs(15), || load.ready(hub));
    }

    fn restart_agent(&mut self, agent: usize) {
        self.agents[agent].signal("TERM");
        assert!(self.agents[agent].ended(Duration::from_secs(15)));
        self.agents[agent] = self.hubs[0].run_agent(&format!("vm-{agent}"));
        self.all_accept();
    }
}

/// Every request was answered, and every one that may not be repeated arrived once.
fn nothing_is_lost(load: Balanced, arrived: &Arrived) {
    let (asked, wrong) = load.end();
    assert!(wrong.is_empty(), "{} of {} went wrong: {:#?}", wrong.len(), asked.len(), &wrong[..wrong.len().min(5)]);
    assert!(asked.len() > 300, "{} is no load", asked.len());
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    for id in &asked {
        let count = arrived.get(id).copied().unwrap_or(0);
        let once = id.starts_with("POST") || id.starts_with("PATCH");
        assert!(count == 1 || count > 1 && !once, "{id} arrived {count} times");
    }
    assert_eq!(arrived.len(), asked.len(), "nothing arrived that nobody asked");
}

#[test]
fn hubs_restart_in_turn_under_load_and_no_request_of_any_method_is_lost() {
    let arrived = Arrived::default();
    let shop = bookkeeper(&arrived);
    let mut site = Site::start(2, LAME_DUCK).agent(&shop).ready();
    let load = site.load();
    for hub in [0, 1, 0] {
        site.restart_hub(hub, &load);
    }
    nothing_is_lost(load, &arrived);
}

#[test]
fn agents_restart_in_turn_under_load_at_two_hubs_and_no_request_of_any_method_is_lost() {
    let arrived = Arrived::default();
    let (one, two) = (bookkeeper(&arrived), bookkeeper(&arrived));
    let mut site = Site::start(2, LAME_DUCK).agent(&one).agent(&two).ready();
    let load = site.load();
    for agent in [0, 1] {
        site.restart_agent(agent);
    }
    nothing_is_lost(load, &arrived);
}

#[test]
fn an_agent_that_joined_one_hub_serves_the_other_and_is_held_to_its_grant_there() {
    let shop = Workload::named("shop");
    let site = Site::start(2, Duration::ZERO).agent(&shop).ready();
    assert_eq!(Connection::open(site.web(1)).get("/").text(), "shop");
    let agent = site.hubs[1].json(&["get", "agents"])[0].clone();
    let allowed: Vec<&str> = agent["allowed"].as_array().unwrap().iter().filter_map(|pattern| pattern.as_str()).collect();
    assert_eq!((agent["name"].as_str(), allowed), (Some("vm-0"), vec!["shop", "cart-*"]));
    assert_eq!(site.hubs[1].json(&["grant", "list"]).as_array().map(Vec::len), Some(0), "the grant is the other hub's");
}

#[test]
fn a_lame_duck_serves_kept_connections_tells_them_to_close_and_then_ends() {
    let shop = Workload::named("shop");
    let mut site = Site::start(1, LAME_DUCK).agent(&shop).ready();
    let web = site.web(0);
    let mut kept = Connection::open(web);
    assert_eq!(kept.get("/").field("connection"), "");
    site.hubs[0].process.signal("TERM");
    let began = Instant::now();
    eventually("it is not ready", Duration::from_millis(900), || site.readiness(0) == 503);
    let answer = kept.post("/", b"x");
    assert_eq!((answer.status(), answer.field("connection")), (200, "close"));
    let mut served = 0;
    while let Ok(mut client) = Connection::try_open(web) {
        match client.ask("POST", "/", "", b"x") {
            Ok(answer) => assert_eq!((answer.status(), answer.field("connection")), (200, "close")),
            Err(error) => panic!("a connection that was accepted is served: {error}"),
        }
        served += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(began.elapsed() >= LAME_DUCK && served > 5, "{served} served in {:?}", began.elapsed());
    assert!(site.hubs[0].process.ended(Duration::from_secs(5)), "it ends by itself, with 0");
}

#[test]
fn a_second_signal_ends_a_lame_duck_at_once() {
    let mut site = Site::start(1, Duration::from_secs(60));
    site.hubs[0].process.signal("TERM");
    eventually("it is not ready", Duration::from_secs(5), || site.readiness(0) == 503);
    let start = Instant::now();
    site.hubs[0].process.signal("TERM");
    assert!(!site.hubs[0].process.ended(Duration::from_secs(3)), "it does not claim to have ended well");
    assert!(start.elapsed() < Duration::from_secs(2));
}
