//! What is done while the load runs: each act a step of one thread, chosen by the seed.

use std::time::{Duration, Instant};

use figspan_ledger::Workload;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::bed::Bed;
use crate::process::{eventually, text};

use super::config::Config;

/// Something that was done.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    pub(crate) at: Duration,
    /// Its kind.
    pub(crate) kind: &'static str,
    pub(crate) what: String,
    /// What was under way may have been lost with it.
    pub(crate) brutal: bool,
}

/// What can be done in gentle time: none of it may cost a request.
const GENTLE: &[&str] =
    &["weight", "agent weight", "undrain", "slow", "sick", "restless", "calm", "restart", "reload", "bad file", "signal"];

/// What comes to that in rough time.
const ROUGH: &[&str] = &["kill", "down", "up", "crash", "crash"];

/// Everything that can be touched.
pub(crate) struct Stage<'s> {
    pub(crate) bed: Bed,
    began: Instant,
    shops: &'s [Workload],
    orders: &'s [Workload],
    config: &'s dyn Fn(&mut StdRng) -> Config,
    rough: bool,
    pub(crate) done: Vec<Act>,
}

impl<'s> Stage<'s> {
    pub(crate) fn new(
        bed: Bed,
        began: Instant,
        shops: &'s [Workload],
        orders: &'s [Workload],
        config: &'s dyn Fn(&mut StdRng) -> Config,
    ) -> Self {
        Self { bed, began, shops, orders, config, rough: false, done: Vec::new() }
    }

    fn note(&mut self, kind: &'static str, what: impl Into<String>, brutal: bool) {
        self.done.push(Act { at: self.began.elapsed(), kind, what: what.into(), brutal });
    }

    /// Does one thing.
    pub(crate) fn act(&mut self, random: &mut StdRng, rough: bool) {
        if self.rough && !rough {
            self.calm();
        }
        self.rough = rough;
        let kinds: Vec<&'static str> = GENTLE.iter().chain(if rough { ROUGH } else { &[] }).copied().collect();
        let kind = *kinds.choose(random).expect("there is always something to do");
        let workloads: Vec<&'s Workload> = self.shops.iter().chain(self.orders).collect();
        let workload = *workloads.choose(random).expect("there are workloads");
        let name = workload.address.to_string();
        let agent = format!("vm-{}", random.random_range(1..=self.shops.len()));
        let weight = *["0", "1", "7", "50", "100", "900"].choose(random).expect("a list of weights");
        match kind {
            "weight" => self.ctl(kind, &["uplink", "weight", "shop", weight, "--reason", "chaos"]),
            "agent weight" => self.ctl(kind, &["uplink", "weight", "shop", weight, "--agent", &agent, "--reason", "chaos"]),
            "undrain" => {
                // There may be nothing to take back; then the hub says so.
                self.note(kind, &agent, false);
                let _ = self.bed.hub.ctl(&["undrain", "uplink", "shop", "--reason", "chaos"]);
                let _ = self.bed.hub.ctl(&["undrain", "uplink", "shop", "--agent", &agent, "--reason", "chaos"]);
            }
            "slow" => {
                workload.mood().slow(random.random_range(0..300));
                self.note(kind, name, false);
            }
            "sick" => {
                workload.mood().sick(random.random());
                self.note(kind, name, false);
            }
            "restless" => {
                workload.mood().restless(random.random_range(1..200));
                self.note(kind, name, false);
            }
            "calm" => {
                workload.mood().calm();
                self.note(kind, name, false);
            }
            "restart" => self.restart(kind, &agent, "TERM"),
            "kill" => self.restart(kind, &agent, "KILL"),
            "reload" => {
                let config = (self.config)(random);
                self.note(kind, config.rule(), false);
                self.bed.hub.rewrite_with(&config.hub, &config.rest);
            }
            "bad file" => {
                let config = (self.config)(random);
                self.note(kind, "", false);
                self.bed.hub.rewrite_with(&config.hub, &config.rest.replacen("backend_refs", "backend_reefs", 1));
            }
            "signal" => {
                self.note(kind, "HUP", false);
                self.bed.hub.process.signal("HUP");
            }
            "down" => {
                self.note(kind, name, true);
                workload.down();
                self.note(kind, "is down", true);
            }
            "up" => {
                workload.up();
                self.note(kind, name, false);
            }
            "crash" => {
                workload.mood().crash(random.random_range(1..60));
                self.note(kind, name, false);
            }
            other => unreachable!("{other} is in no list"),
        }
    }

    /// Ends what rough time began.
    pub(crate) fn calm(&mut self) {
        for workload in self.shops.iter().chain(self.orders) {
            workload.mood().calm();
            workload.up();
        }
        self.note("calm", "all", false);
    }

    fn ctl(&mut self, kind: &'static str, arguments: &[&str]) {
        self.note(kind, arguments.join(" "), false);
        let output = self.bed.hub.ctl(arguments);
        // An agent that restarts is not known for a moment; else the hub does what it is told.
        assert!(output.status.success() || arguments.contains(&"--agent"), "{arguments:?}: {}", text(&output));
    }

    fn restart(&mut self, kind: &'static str, agent: &str, signal: &str) {
        let brutal = signal == "KILL";
        self.note(kind, agent, brutal);
        // Before that line a signal has its ordinary effect, and nothing runs through the agent yet.
        eventually(&format!("{agent} has started"), Duration::from_secs(20), || self.bed.hub.log(agent).contains("starting as"));
        let mut process = self.bed.agents.remove(agent).expect("every agent runs between two acts");
        process.signal(signal);
        let well = process.ended(Duration::from_secs(40));
        assert!(well || brutal, "{agent} did not end well");
        self.note(kind, format!("{agent} has ended"), brutal);
        self.bed.agents.insert(agent.to_owned(), self.bed.hub.run_agent(agent));
    }
}
