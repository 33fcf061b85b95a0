//! The monolith of docs/05-tomcat.md on two VMs, from Debian's packages: orders by every method, uploads, carts in sessions and
//! WebSockets go through the hub while the list of faults runs. The shop's own book says afterwards what became of each order.

mod visitors;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use figspan_ledger::{Findings, Ledger, Load, Mix, Recorder, Row, Sent, Target, join};
use figspan_tests::hosts::{Bed, Delay, Fault, Host, Tree, bed, measured, row, tomcat};
use figspan_tests::process::eventually;
use serde_json::Value;

use super::UNIT;
use visitors::{Visit, Visitors};

/// Sessions stay with the VM that their id names, as in docs/05-tomcat.md.
const RULES: &str = r#"
[[http_route.rules]]
matches = [{ headers = [{ name = "cookie", type = "RegularExpression", value = "(.*; *)?JSESSIONID=[0-9A-F]+\\.vm-1(;.*)?" }] }]
backend_refs = [{ uplink = "session-vm-1" }]

[[http_route.rules]]
matches = [{ headers = [{ name = "cookie", type = "RegularExpression", value = "(.*; *)?JSESSIONID=[0-9A-F]+\\.vm-2(;.*)?" }] }]
backend_refs = [{ uplink = "session-vm-2" }]

"#;

/// From the end of a fault until nothing that it did is felt any more.
const FELT: Duration = Duration::from_secs(4);

/// Shards of the bed's hub, to each of which an agent has a tunnel.
const SHARDS: usize = 2;

/// A fault that was there for a time.
struct Act {
    what: &'static str,
    /// Whether it tears off what is under way, so that what nobody can mend may fail.
    tears: bool,
    time: (Instant, Instant),
}

/// The stage: two VMs, and what was done to them.
struct Stage<'a> {
    bed: &'a Bed,
    vms: [Host; 2],
    acts: Vec<Act>,
}

impl Stage<'_> {
    fn act(&mut self, what: &'static str, tears: bool, act: impl FnOnce(&mut [Host; 2], &Bed)) {
        let start = Instant::now();
        act(&mut self.vms, self.bed);
        self.acts.push(Act { what, tears, time: (start, Instant::now()) });
        // The next one finds everybody well.
        self.all_well();
    }

    /// Waits until both VMs serve, and through the tunnels of the processes that run now alone. A hub takes seconds to notice that
    /// an agent was killed, and shows it as it was until then; an act that began meanwhile would take the last VM that is left.
    fn all_well(&self) {
        let hub = &self.bed.hub;
        hub.accepts("monolith", 2);
        for vm in &self.vms {
            let name = vm.name();
            hub.accepts(&format!("session-{name}"), 1);
            eventually(&format!("the hub knows the agent of {name} as it is"), Duration::from_secs(20), || {
                let status: Value = serde_json::from_slice(&vm.output("figspan-agent status -o json").stdout).unwrap_or_default();
                let agents = hub.json(&["get", "agents"]);
                let agent = agents.as_array().into_iter().flatten().find(|agent| agent["name"] == name);
                let instances = agent.and_then(|agent| agent["instances"].as_array());
                let known = instances.is_some_and(|instances| instances.contains(&status["instance"]));
                let uplinks = hub.json(&["get", "uplinks"]);
                let used = uplinks.as_array().into_iter().flatten().flat_map(|uplink| uplink["endpoints"].as_array().into_iter().flatten());
                let counts: Vec<_> = used.filter(|endpoint| endpoint["agent"] == name).map(|endpoint| &endpoint["tunnels"]).collect();
                let own = status["tunnels"].as_array().map_or(0, Vec::len);
                known && own == SHARDS && counts.len() == 2 && counts.iter().all(|count| **count == SHARDS)
            });
        }
    }

    /// What had been done last at that time, for people.
    fn act_at(&self, at: Instant) -> &'static str {
        self.acts.iter().rev().find(|act| act.time.0 <= at).map_or("before all acts", |act| act.what)
    }

    /// Whether something tore off what was under way at that time.
    fn torn(&self, from: Instant, to: Instant) -> bool {
        self.acts.iter().any(|act| act.tears && from <= act.time.1 + FELT && to + Duration::from_millis(100) >= act.time.0)
    }
}

fn set_up(bed: &Bed, vm: &mut Host) {
    tomcat::prepare(vm);
    vm.boot();
    tomcat::open(vm);
    bed::install(vm);
    vm.write("/etc/figspan-agent/agent.toml.d/monolith.toml", &tomcat::uplinks(vm));
    bed.join_with(vm, &format!("monolith,session-{}", vm.name()));
}

fn orders(bed: &Bed, mix: Mix, rate: u32) -> Load {
    let target = Target {
        address: bed.web(),
        host: http::HeaderValue::from_static("shop.example"),
        path: "/shop/orders".to_owned(),
        rate,
        own: Some(mix),
        keep: true,
        most: None,
    };
    bed.outside.inside(|| Load::start(target).unwrap())
}

/// What is done to the VMs and between them and the hub.
fn faults(stage: &mut Stage<'_>) {
    let wait = |seconds: u64| std::thread::sleep(Duration::from_secs(seconds));
    stage.act("nothing", false, |_, _| wait(2));
    stage.act("30 % loss", false, |vms, _| {
        let _loss = Fault::loss(&vms[0].namespace, 30);
        wait(4);
    });
    stage.act("200 ms RTT with jitter", false, |vms, _| {
        let _delay = Delay::start(&vms[1].namespace, Duration::from_millis(100), Duration::from_millis(30));
        wait(4);
    });
    stage.act("address changed", false, |vms, _| {
        vms[0].namespace.ip(&["addr", "del", "10.97.0.11/24", "dev", "eth0"]);
        vms[0].namespace.ip(&["addr", "add", "10.97.0.77/24", "dev", "eth0"]);
        wait(2);
    });
    stage.act("MTU black hole", false, |_, bed| {
        bed.bridge.carries(1300);
        wait(4);
        bed.bridge.carries(1500);
    });
    stage.act("agent reinstalled", false, |vms, _| {
        vms[1].run("apt-get install -y --reinstall --no-install-recommends /root/figspan-agent.deb </dev/null 2>&1");
    });
    stage.act("settings reloaded", false, |vms, _| {
        vms[0].write("/etc/figspan-agent/agent.toml.d/zz.toml", "drain_timeout = \"20s\"\n");
        vms[0].run("systemctl reload figspan-agent");
        wait(1);
    });
    stage.act("CA changed", false, |_, bed| {
        bed.hub.json(&["ca", "begin", "--reason", "drill"]);
        eventually("every agent knows both roots", Duration::from_secs(20), || bed.hub.json(&["ca", "show"])["safe_to_finish"] == true);
        bed.hub.json(&["ca", "finish", "--reason", "drill"]);
    });
    stage.act("burst of loss", true, |vms, _| {
        let _burst = Fault::no_udp(&vms[1].namespace);
        wait(2);
    });
    stage.act("VM hears nothing", true, |vms, _| {
        let _deaf = Fault::deaf(&vms[0].namespace);
        wait(4);
    });
    stage.act("agent kill -9", true, |vms, _| {
        vms[1].run(&format!("kill -KILL {}", vms[1].main_process(UNIT)));
        vms[1].has(UNIT, "NRestarts", "1", Duration::from_secs(10));
    });
    stage.act("Tomcat restarted", true, |vms, _| {
        vms[0].run("systemctl restart tomcat10");
        tomcat::opens(&vms[0]);
    });
    stage.act("VM rebooted", true, |vms, _| {
        vms[1].reboot();
        tomcat::opens(&vms[1]);
    });
}

/// Joins orders with the books. What nobody can mend may fail while something is torn off; all else may not.
fn judge(stage: &Stage<'_>, began: Instant, record: &Recorder, books: &Ledger) -> Findings {
    let rows = books.rows();
    let sent: BTreeMap<u64, ()> = record.kept().iter().map(|sent| (sent.id, ())).collect();
    let own = rows.into_iter().filter(|(id, _)| sent.contains_key(id)).collect();
    let excused = |sent: &Sent, _: Option<&Row>| stage.torn(began + sent.time.0, began + sent.time.1);
    let found = join(record.kept(), Some(&own), excused);
    let faults: Vec<_> = found.faults().into_iter().filter(|(_, count)| *count > 0).collect();
    if !faults.is_empty() {
        for sent in record.kept().iter().filter(|sent| sent.why.is_some()).take(20) {
            println!("{:?} {:?} {} after {:?}", sent.verb, sent.why, sent.replayable, stage.act_at(began + sent.time.1));
        }
    }
    assert!(faults.is_empty(), "{faults:?} {found:?}");
    found
}

/// Nothing wrong, and nothing broken off but by what tears.
fn assert_sound(stage: &Stage<'_>, visit: &Visit, what: &str) {
    assert!(visit.wrong.is_empty(), "{what}: {:?}", visit.wrong);
    let unexcused = visit.broken.iter().filter(|(from, to, _)| !stage.torn(*from, *to));
    let unexcused: Vec<_> = unexcused.map(|(_, to, why)| format!("{why} after {:?}", stage.act_at(*to))).collect();
    assert!(unexcused.is_empty(), "{what}: {unexcused:?}");
    assert!(visit.answered > 100, "{what}: {}", visit.answered);
}

#[test]
fn a_real_monolith_on_two_vms_loses_nothing_while_everything_around_it_fails() {
    let bed = Bed::start_routed("10.97.0.1:7443", "certificate_lifetime = \"30s\"", RULES);
    let mut vms = [bed.vm_of(Tree::Tomcat, "vm-1", 11), bed.vm_of(Tree::Tomcat, "vm-2", 12)];
    std::thread::scope(|scope| {
        for vm in &mut vms {
            scope.spawn(|| set_up(&bed, vm));
        }
    });
    let mut stage = Stage { bed: &bed, vms, acts: Vec::new() };
    stage.all_well();

    let began = Instant::now();
    let loads = [orders(&bed, Mix::Everything, 50), orders(&bed, Mix::Uploads, 1)];
    let visitors = Visitors::start(&bed.outside, bed.web(), 4);
    faults(&mut stage);
    std::thread::sleep(Duration::from_secs(1));
    let (carts, sockets) = visitors.leave();
    // The last of all, since it ends sessions as it ends everything else on a VM.
    stage.act("plug pulled", true, |vms, _| {
        vms[1].pull_plug();
        std::thread::sleep(Duration::from_secs(2));
        vms[1].plug_back();
        tomcat::opens(&vms[1]);
    });
    std::thread::sleep(Duration::from_secs(1));
    let records = loads.map(Load::finish);
    let took = began.elapsed();

    let books = Ledger::default();
    stage.vms.iter().for_each(|vm| tomcat::read_book(vm, &books));
    let list: Vec<_> = stage.acts.iter().map(|act| act.what).collect();
    for (record, what) in records.iter().zip(["orders by every method", "uploads of 1 to 4 MiB"]) {
        let found = judge(&stage, began, record, &books);
        measured(
            &format!("Tomcat on two VMs, all faults: {what}"),
            None,
            None,
            &found,
            format!("{} faults in {:.0} s", list.len(), took.as_secs_f64()),
        );
        assert!(found.excused * 10 < found.requests, "{found:?}");
    }
    let on = |vm: &str| carts.iter().filter(|cart| cart.session.ends_with(vm)).count();
    assert!(on(".vm-1") > 0 && on(".vm-2") > 0, "carts on both VMs");
    for cart in &carts {
        assert_sound(&stage, &cart.visit, &format!("cart {}", cart.session));
    }
    for socket in &sockets {
        assert_sound(&stage, socket, "WebSocket");
    }
    let answered = |visits: &mut dyn Iterator<Item = &Visit>| visits.map(|visit| visit.answered).sum::<usize>();
    let (things, echoes) = (answered(&mut carts.iter().map(|cart| &cart.visit)), answered(&mut sockets.iter()));
    row(
        "Tomcat on two VMs, all faults",
        format_args!("{things} things put into carts and none lost, {echoes} messages echoed; {}", list.join(", ")),
    );
}
