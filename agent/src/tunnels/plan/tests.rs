use super::*;

const A: &str = "192.0.2.1:7443";
const B: &str = "192.0.2.2:7443";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn replica(id: &str) -> ReplicaId {
    id.parse().unwrap()
}

fn listed(id: &str, shards: u8, addresses: &[&str]) -> Replica {
    Replica { id: replica(id), shards, leaving: false, addresses: addresses.iter().map(|text| address(text)).collect() }
}

/// A planner with a clock and a hub at [`A`].
struct Bench {
    planner: Planner,
    now: Instant,
    tunnels: u64,
}

impl Bench {
    fn new(addresses: &[&str]) -> Self {
        let mut planner = Planner::new(8, 0);
        planner.set_addresses(addresses.iter().map(|text| address(text)).collect());
        Self { planner, now: Instant::now(), tunnels: 0 }
    }

    fn dials(&mut self) -> Vec<Dial> {
        self.planner.dials(self.now).0
    }

    fn answer(&mut self, dial: &Dial, id: &str, shard: u8, shards: u8) -> bool {
        self.tunnels += 1;
        self.planner.hello(dial, self.tunnels, Said { replica: replica(id), shard, shards }, self.now, 1.0)
    }

    /// Lets the hub `id` with `shards` answer all dials until none is left.
    fn settle(&mut self, id: &str, shards: u8) {
        loop {
            let dials = self.dials();
            if dials.is_empty() {
                return;
            }
            for dial in dials {
                self.answer(&dial, id, dial.shard % shards, shards);
            }
        }
    }

    fn up(&self) -> Vec<(String, u8)> {
        let mut up: Vec<_> = self.planner.up.values().map(|up| (up.replica.to_string(), up.shard)).collect();
        up.sort();
        up
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

#[tokio::test(start_paused = true)]
async fn shard_0_is_dialled_first_and_every_shard_after_the_hubs_hello() {
    let mut bench = Bench::new(&[A]);
    let first = bench.dials();
    assert_eq!(first, [Dial { wish: Wish::Explore(address(A)), address: address(A), shard: 0 }]);
    assert!(bench.dials().is_empty(), "one dial for one wish");
    assert!(bench.answer(&first[0], "hub-0", 0, 3));
    let shards: Vec<u8> = bench.dials().iter().map(|dial| dial.shard).collect();
    assert_eq!(shards, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn tunnels_to_one_replica_stop_at_the_limit_and_spread() {
    let mut bench = Bench::new(&[A]);
    bench.planner.per_replica = 3;
    bench.planner.spread = 5;
    bench.settle("hub-0", 16);
    let shards: Vec<u8> = bench.up().into_iter().map(|(_, shard)| shard).collect();
    assert_eq!(shards, [0, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_same_wish_waits_and_other_addresses_do_not() {
    let mut bench = Bench::new(&[A, B]);
    let dials = bench.dials();
    assert_eq!(dials.len(), 2);
    bench.planner.failed(&dials[0], None, bench.now, 1.0);
    assert!(bench.dials().is_empty());
    assert_eq!(bench.planner.due(bench.now), Some(bench.now + 2 * FLOOR));
    bench.answer(&dials[1], "hub-1", 0, 1);
    bench.pass(2 * FLOOR);
    assert_eq!(bench.dials(), [Dial { wish: Wish::Explore(address(A)), address: address(A), shard: 0 }]);
    bench.planner.failed(&dials[0], None, bench.now, 1.0);
    assert_eq!(bench.planner.due(bench.now), Some(bench.now + 4 * FLOOR), "the wait doubles");
}

#[tokio::test(start_paused = true)]
async fn two_addresses_of_one_replica_end_in_one_tunnel_per_shard() {
    let mut bench = Bench::new(&[A, B]);
    let dials = bench.dials();
    assert!(bench.answer(&dials[0], "hub-0", 0, 1));
    assert!(bench.planner.is_redundant(&replica("hub-0"), 0));
    assert!(!bench.answer(&dials[1], "hub-0", 0, 1));
    bench.pass(CEILING);
    assert!(bench.dials().is_empty(), "both addresses are known to lead to hub-0");
}

#[tokio::test(start_paused = true)]
async fn a_replica_behind_a_shared_address_is_dialled_until_its_id_answers() {
    let mut bench = Bench::new(&[A]);
    bench.settle("hub-0", 1);
    bench.planner.set_directory(vec![listed("hub-0", 1, &[]), listed("hub-1", 1, &[])]);
    for _ in 0..3 {
        let dials = bench.dials();
        assert_eq!(dials, [Dial { wish: Wish::Shard(replica("hub-1"), 0), address: address(A), shard: 0 }]);
        assert!(!bench.answer(&dials[0], "hub-0", 0, 1), "hub-0 has its tunnel");
        assert!(bench.dials().is_empty(), "not again at once");
        bench.pass(CEILING);
    }
    let dial = bench.dials().remove(0);
    assert!(bench.answer(&dial, "hub-1", 0, 1));
    assert_eq!(bench.up(), [("hub-0".to_owned(), 0), ("hub-1".to_owned(), 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_replicas_own_addresses_come_first_and_the_next_after_a_failure() {
    let mut bench = Bench::new(&[A]);
    bench.settle("hub-0", 1);
    bench.planner.set_directory(vec![listed("hub-0", 1, &[]), listed("hub-1", 1, &[B])]);
    let first = bench.dials().remove(0);
    assert_eq!(first.address, address(B));
    bench.planner.failed(&first, None, bench.now, 1.0);
    bench.pass(CEILING);
    assert_eq!(bench.dials()[0].address, address(A));
}

#[tokio::test(start_paused = true)]
async fn a_leaving_replica_is_not_dialled_by_its_id_but_its_address_is_asked_who_is_there() {
    let mut bench = Bench::new(&[A]);
    bench.settle("hub-0", 2);
    bench.planner.leaving(1);
    let dials = bench.dials();
    assert!(matches!(&dials[..], [Dial { wish: Wish::Explore(_), .. }]), "{dials:?}");
    assert!(bench.answer(&dials[0], "hub-1", 0, 1), "its successor");
}

#[tokio::test(start_paused = true)]
async fn a_hub_that_comes_back_after_a_good_life_is_dialled_soon_and_one_that_closes_at_once_ever_more_rarely() {
    let mut bench = Bench::new(&[A]);
    bench.settle("hub-0", 1);
    bench.pass(GOOD_LIFE);
    bench.planner.closed(1, bench.now, 1.0);
    assert_eq!(bench.planner.due(bench.now), Some(bench.now + 2 * FLOOR));
    let mut waits = Vec::new();
    for _ in 0..8 {
        let before = bench.now;
        let dial = loop {
            bench.now = bench.planner.due(bench.now).unwrap();
            if let Some(dial) = bench.dials().pop() {
                break dial;
            }
        };
        waits.push(bench.now - before);
        assert!(bench.answer(&dial, "hub-0", 0, 1));
        let tunnel = bench.tunnels;
        bench.planner.closed(tunnel, bench.now, 1.0);
    }
    assert!(waits.is_sorted() && *waits.last().unwrap() == CEILING, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_leaving_hub_answered_does_not_delay_the_one_that_takes_its_place() {
    let mut bench = Bench::new(&[A]);
    bench.settle("hub-0", 2);
    bench.pass(ORDERLY_LIFE);
    bench.planner.leaving(1);
    // It takes no new tunnel for as long as it leaves.
    for _ in 0..6 {
        let dial = loop {
            if let Some(dial) = bench.dials().pop() {
                break dial;
            }
            bench.now = bench.planner.due(bench.now).unwrap();
        };
        bench.planner.failed(&dial, Some(&replica("hub-0")), bench.now, 1.0);
    }
    assert!(bench.planner.due(bench.now) > Some(bench.now + 20 * FLOOR));
    for tunnel in [1, 2] {
        bench.planner.closed(tunnel, bench.now, 1.0);
    }
    assert_eq!(bench.planner.due(bench.now), Some(bench.now + 2 * FLOOR));
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_is_under_way_while_a_leaving_hub_ends_is_soon_made_again() {
    let mut bench = Bench::new(&[A]);
    bench.settle("hub-0", 1);
    bench.pass(ORDERLY_LIFE);
    bench.planner.leaving(1);
    let mut last = bench.dials().pop();
    for _ in 0..6 {
        bench.planner.failed(&last.unwrap(), Some(&replica("hub-0")), bench.now, 1.0);
        bench.now = bench.planner.due(bench.now).unwrap();
        last = bench.dials().pop();
    }
    bench.planner.closed(1, bench.now, 1.0);
    assert!(bench.dials().is_empty());
    bench.planner.failed(&last.unwrap(), None, bench.now, 1.0);
    bench.pass(2 * FLOOR);
    assert_eq!(bench.dials().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_dialled_yet_is_due_at_its_moment_however_near_that_is() {
    let mut bench = Bench::new(&[A]);
    let dial = bench.dials().remove(0);
    bench.planner.failed(&dial, None, bench.now, 1.0);
    let due = bench.now + 2 * FLOOR;
    assert_eq!(bench.planner.dials(due - Duration::from_nanos(1)), (Vec::new(), Some(due)));
    assert_eq!(bench.planner.dials(due), (vec![dial], None));
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_forgotten_with_the_last_tunnel() {
    let mut bench = Bench::new(&[A]);
    bench.settle("hub-0", 1);
    bench.planner.set_directory(vec![listed("gone", 4, &[B])]);
    bench.planner.closed(1, bench.now, 1.0);
    bench.pass(CEILING);
    assert_eq!(bench.dials(), [Dial { wish: Wish::Explore(address(A)), address: address(A), shard: 0 }]);
}

proptest::proptest! {
    /// Whatever answers, fails or ends: no shard ever has two tunnels, and the numbers stay within their limits.
    #[test]
    fn any_course_of_events_keeps_one_tunnel_per_shard(events in proptest::collection::vec((0u8..6, 0u8..4, 0u8..3), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::new(&[A, B]);
            let mut under_way: Vec<Dial> = Vec::new();
            for (event, number, id) in events {
                let (dials, due) = bench.planner.dials(bench.now);
                under_way.extend(dials);
                assert!(under_way.len() <= MAX_DIALS);
                // Nothing that waits for its time is forgotten.
                let waits = bench.planner.attempts.values().filter(|attempts| !attempts.dialling).filter_map(|attempts| attempts.not_before);
                assert_eq!(due, waits.filter(|at| *at > bench.now).min());
                let id = format!("hub-{id}");
                match event {
                    0 if !under_way.is_empty() => {
                        let dial = under_way.remove(usize::from(number) % under_way.len());
                        bench.planner.failed(&dial, None, bench.now, 0.5);
                    }
                    1 | 2 if !under_way.is_empty() => {
                        let dial = under_way.remove(usize::from(number) % under_way.len());
                        bench.answer(&dial, &id, dial.shard % 3, 3);
                    }
                    3 => {
                        let tunnel = bench.planner.up.keys().next().copied();
                        if let Some(tunnel) = tunnel { bench.planner.closed(tunnel, bench.now, 0.5) }
                    }
                    4 => bench.planner.set_directory(vec![listed(&id, 3, &[]), listed("hub-0", 3, &[B])]),
                    _ => bench.pass(Duration::from_secs(u64::from(number) * 3)),
                }
                let up = bench.up();
                let distinct: HashSet<_> = up.iter().collect();
                assert_eq!(distinct.len(), up.len());
            }
        });
    }
}
