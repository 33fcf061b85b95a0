//! The whole journey under load: all on the monolith, a tenth moved, half, all; then drained, and the proof.
//!
//! Weights move in both ways that operators have: by file (a reload) and by command. In the middle one agent is restarted.
//! Each stage counts the requests that begin while its weights are in force on every shard, none from between.

use std::time::Duration;

use figspan_ledger::{Load, Mix, Recorder, Target};
use figspan_proto::admin::{DrainVerdict, SetWeight, Uplink, WeightChange};
use figspan_proto::name::UplinkName;
use figspan_proto::weight::Weight;
use http::{HeaderValue, Method};
use tokio::time::Instant;

use crate::bridge::{Bridge, PATIENCE};
use crate::config::Written;
use crate::report::{Drain, Report, Step, in_ms};

/// Between two questions for the drain verdict.
const EVERY: Duration = Duration::from_millis(50);

/// How long the load goes on after the proof, to see that it stays true.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// Weights in the file at the beginning: everything to the uplink.
pub(crate) const BEGIN: Written = Written { uplinks: None, services: Some(0) };

/// Runs the journey; `say` gets a line for each step. Everything that happened is in the report, also what broke it off.
pub(crate) async fn run(bridge: &mut Bridge, time: Duration, mut say: impl FnMut(&str)) -> anyhow::Result<Report> {
    let plan = bridge.plan.clone();
    let (uplink, service) = (plan.uplinks[0].0.clone(), plan.services[0].0.clone());
    let began = Instant::now();
    let host = HeaderValue::try_from(bridge.listen.to_string())?;
    let load = Load::start(Target {
        address: bridge.listen,
        host,
        path: plan.path.clone(),
        rate: plan.rate,
        own: plan.own.then_some(Mix::Orders),
        keep: true,
        most: None,
    })?;
    let mut report = Report {
        uplink: uplink.to_string(),
        service: service.to_string(),
        agents: plan.agents,
        rate: plan.rate,
        ledger: plan.own,
        ..Report::default()
    };
    let mut journey = Journey { bridge, load: &load, uplink, service, stages: Vec::new(), each: time / 5 };
    match journey.travel(&mut say).await {
        Ok(drain) => report.drain = Some(drain),
        Err(error) => report.broken_off = Some(format!("{error:#}")),
    }
    let (stages, service) = (journey.stages, journey.service);
    let recorder = load.finish();
    report.seconds = began.elapsed().as_secs_f64();
    report.steps =
        stages.into_iter().map(|(stage, step, picked)| finished(&recorder, stage, step, plan.own.then_some(&service), picked)).collect();
    let rows = plan.own.then(|| bridge.ledger.rows());
    report.findings = figspan_ledger::join(recorder.kept(), rows.as_ref(), |_, _| false);
    report.held_back = recorder.held_back;
    report.failures = recorder.failures.clone();
    Ok(report)
}

struct Journey<'a> {
    bridge: &'a mut Bridge,
    load: &'a Load,
    uplink: UplinkName,
    service: UplinkName,
    /// Stage number of the load, what is known of the step, and how many picks of the uplink the hub counted in it.
    stages: Vec<(usize, Step, u64)>,
    each: Duration,
}

impl Journey<'_> {
    async fn travel(&mut self, say: &mut impl FnMut(&str)) -> anyhow::Result<Drain> {
        let uplink = self.uplink.clone();
        self.step(say, "100/0", "as started", 1.0, Duration::ZERO).await?;

        // The command changes nothing yet, because the service has weight 0 in the file; the file then makes it 90 to 10.
        self.bridge.weigh(&uplink, Weight::try_from(90)?, "figspan-try: a tenth").await?;
        let began = self.between();
        self.bridge.rewrite(Written { uplinks: None, services: Some(10) }).await?;
        self.step(say, "90/10", "hub.toml reloaded", 0.9, began.elapsed()).await?;

        let began = self.between();
        self.bridge.weigh(&uplink, Weight::try_from(10)?, "figspan-try: half").await?;
        let effective = began.elapsed();
        self.restart_an_agent(say).await?;
        self.step(say, "50/50", &format!("uplink weight {uplink} 10, vm-1 restarted"), 0.5, effective).await?;

        let began = self.between();
        self.bridge.rewrite(Written { uplinks: Some(0), services: Some(10) }).await?;
        self.step(say, "0/100", "hub.toml reloaded", 0.0, began.elapsed()).await?;

        self.between();
        say(&format!("drain     drain uplink {uplink} --wait"));
        let drain = self.drain().await?;
        self.step(say, "drained", &format!("drain uplink {uplink}"), 0.0, Duration::ZERO).await?;
        Ok(drain)
    }

    /// Requests from now on belong to no step.
    fn between(&self) -> Instant {
        self.load.with(|recorder| recorder.next_stage());
        Instant::now()
    }

    async fn step(&mut self, say: &mut impl FnMut(&str), name: &str, how: &str, wanted: f64, effective: Duration) -> anyhow::Result<()> {
        say(&format!("{name:<8}  {how}"));
        let before = self.picked().await?;
        let stage = self.load.with(|recorder| recorder.next_stage());
        tokio::time::sleep(self.each).await;
        self.between();
        let picked = self.picked().await?.saturating_sub(before);
        let effective_ms = in_ms(effective);
        self.stages.push((stage, Step { name: name.to_owned(), how: how.to_owned(), wanted, effective_ms, ..Step::default() }, picked));
        Ok(())
    }

    /// Requests that the hub ever gave to the uplink.
    async fn picked(&self) -> anyhow::Result<u64> {
        let uplink: Uplink = self.bridge.client.get(&format!("/v1/uplinks/{}", self.uplink)).await?;
        Ok(uplink.picked)
    }

    /// A package upgrade in small: one agent drains and ends, the other serves, and a new process takes its place.
    async fn restart_an_agent(&mut self, say: &mut impl FnMut(&str)) -> anyhow::Result<()> {
        if self.bridge.agents.len() < 2 {
            return Ok(());
        }
        say("          restarting agent vm-1");
        self.bridge.agents[0].stop().await?;
        self.bridge.agents[0].start(None)?;
        self.bridge.until_connected().await?;
        self.bridge.until_ready().await
    }

    async fn drain(&self) -> anyhow::Result<Drain> {
        let began = Instant::now();
        let change = SetWeight {
            sessions_seconds: None,
            weight: Weight::ZERO,
            agent: None,
            reason: "figspan-try: drain".to_owned(),
            dry_run: false,
        };
        let path = format!("/v1/uplinks/{}/weight", self.uplink);
        let _: WeightChange = self.bridge.client.send(Method::PUT, &path, &change).await?;
        let verdict = loop {
            let verdict: DrainVerdict = self.bridge.client.get(&format!("/v1/uplinks/{}/drain", self.uplink)).await?;
            if verdict.drained || began.elapsed() > PATIENCE {
                break verdict;
            }
            tokio::time::sleep(EVERY).await;
        };
        let took_ms = in_ms(began.elapsed());
        let count = || self.bridge.monoliths.iter().map(|monolith| monolith.requests()).sum::<u64>();
        let at_proof = count();
        tokio::time::sleep(AFTERWARDS).await;
        let requests_after = (!self.bridge.monoliths.is_empty()).then(|| count() - at_proof);
        Ok(Drain { verdict, took_ms, requests_after })
    }
}

/// What the load saw of a step. Our own workloads say who answered (`told`: the service's name); with others the hub's count of
/// picks is all there is.
fn finished(recorder: &Recorder, stage: usize, mut step: Step, told: Option<&UplinkName>, picked: u64) -> Step {
    if let Some(seen) = recorder.stage(stage) {
        step.requests = seen.ended;
        step.failed = seen.failed;
        step.observed = match told {
            Some(service) => 1.0 - seen.share(service.as_str()),
            None => picked as f64 / seen.ended.max(1) as f64,
        };
        step.p50_ms = in_ms(seen.latency(0.5));
        step.p99_ms = in_ms(seen.latency(0.99));
    }
    step
}
