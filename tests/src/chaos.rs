//! The ledger of the whole: mixed requests at a fixed rate through real programs, while weights, health and configuration change
//! at random, policies of every kind among it. Afterwards every request is joined with what the workloads wrote.
//!
//! Two kinds of time alternate. In *gentle* time everything happens that must cost no request of any method: weights, drains,
//! reloads good and bad, agents that restart, workloads that are slow, sick, or drop idle connections. In *rough* time agents
//! are killed, and workloads crash or go down as well: what nobody can mend then may fail, visibly and with a reason, and is
//! told apart by the book itself. A workload behind an agent and one in the cluster are never touched, so that there is always
//! somebody to go to. Everything random follows from one seed.

mod acts;
mod config;
mod verdict;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use figspan_ledger::{Ledger, Load, Mix, Target, Workload};
use http::HeaderValue;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::bed::Bed;
use crate::process::eventually;
use acts::Stage;
use config::{Config, Services, ZONES};
pub use verdict::Verdict;

/// How long one kind of time lasts.
const PHASE: Duration = Duration::from_millis(2500);

/// After a brutal act the hub may still take what it did to be true: a dead tunnel is noticed within this time.
pub const NOTICED: Duration = Duration::from_millis(1500);

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Requests.
    pub requests: u64,
    /// Requests per second.
    pub rate: u32,
    /// What all chance follows from.
    pub seed: u64,
    /// Longest pause between two acts.
    pub pause: Duration,
}

/// A seed: from `FIGSPAN_SEED` to see a run again, else a new one.
pub fn seed() -> u64 {
    std::env::var("FIGSPAN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random)
}

/// An agent's health check that notices at once.
const CHECK: &str = "health = { type = \"http\", path = \"/healthz\", interval = \"100ms\", rise = 1, fall = 1 }";

/// Does it all, and says what came of it.
pub fn run(plan: Plan) -> Verdict {
    let ledger = Arc::new(Ledger::default());
    let start = |at: u8, name| Workload::start_at(own_address(at), name, name, Arc::clone(&ledger)).expect("a workload starts");
    // The last of each is never touched.
    let shops = [start(1, "shop-1"), start(2, "shop-2"), start(3, "shop-3")];
    let orders = [start(4, "orders-1"), start(5, "orders-2")];
    // What mirrors write there is nobody's order, and so it is in another book.
    let copies = Workload::start_at(own_address(6), "copies", "copies", Arc::default()).expect("a workload starts");
    let services = Services { orders: &orders, copies: copies.address };
    let mut random = StdRng::seed_from_u64(plan.seed);
    let config = |random: &mut StdRng| Config::draw(random, &services);
    let first = config(&mut random);
    let mut bed = Bed::start_with(&first.hub, &first.rest);
    for (at, (shop, zone)) in shops.iter().zip(ZONES).enumerate() {
        bed = bed.agent_in(zone, &format!("vm-{}", at + 1), &shop.uplink_of("shop", CHECK));
    }
    let bed = bed.ready("shop", shops.len());
    let load = Load::start(Target {
        address: bed.web(),
        host: HeaderValue::from_static("shop.example"),
        path: "/orders".to_owned(),
        rate: plan.rate,
        own: Some(Mix::Everything),
        keep: true,
        most: Some(plan.requests),
    })
    .expect("the load starts");
    let began = Instant::now();
    let mut stage = Stage::new(bed, began, &shops[..2], &orders[..1], &config);
    while !load.is_done() {
        let rough = (began.elapsed().as_millis() / PHASE.as_millis()) % 2 == 1;
        stage.act(&mut random, rough);
        std::thread::sleep(random.random_range(Duration::from_millis(5)..plan.pause));
    }
    stage.calm();
    let record = load.finish();
    let bed = stage.bed;
    eventually("nothing is under way", Duration::from_secs(20), || bed.hub.json(&["status"])["in_flight"] == 0);
    // Whatever was done: the counts still fall to nothing, by the hub's word and by the agents'.
    let drained = bed.hub.ctl(&["drain", "uplink", "shop", "--reason", "the end", "--sessions-until", "1s", "--wait", "--timeout", "20s"]);
    Verdict::of(plan, &record, &ledger.rows(), &stage.done, &drained, &bed.hub.log("hub"))
}

/// An address of this machine that nobody else takes: what goes down leaves its port to others.
fn own_address(last: u8) -> IpAddr {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    Ipv4Addr::new(127, 100 + high % 100, low, last).into()
}

/// What the harness needs of a workload.
pub(crate) trait Advertised {
    /// An `[[uplink]]` of it.
    fn uplink_of(&self, name: &str, more: &str) -> String;
}

impl Advertised for Workload {
    fn uplink_of(&self, name: &str, more: &str) -> String {
        format!("[[uplink]]\nname = \"{name}\"\naddress = \"{}\"\n{more}\n", self.address)
    }
}
