//! What goes on, as the hub itself says it: its metrics for counts and latency, its admin API for weights, agents and events.
//!
//! So the view shows all traffic, yours included, and not only what our own load sees.

mod metrics;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use figspan_ctl::Client;
use figspan_proto::admin::{Agent, Event, Route, Uplink};
use tokio::time::Instant;

use metrics::Counters;

/// Looks over which rates and shares are told: long enough for a share to settle, short enough to follow a change.
const WINDOW: usize = 5;

/// Looks kept for the rate's curve.
const CURVE: usize = 240;

/// Events shown.
const EVENTS: usize = 6;

/// What a view draws.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    pub(crate) backends: Vec<Backend>,
    /// Requests per second.
    pub(crate) rate: f64,
    /// 5xx answers per second.
    pub(crate) errors: f64,
    /// 5xx answers since the start.
    pub(crate) errors_total: u64,
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    pub(crate) in_flight: u64,
    pub(crate) agents: Vec<Agent>,
    pub(crate) uplinks: Vec<Uplink>,
    /// Newest last.
    pub(crate) events: Vec<Event>,
    /// Requests per second, oldest first.
    pub(crate) curve: Vec<u64>,
}

/// One backend of the route.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Backend {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) weight: u32,
    /// Share wanted, 0 to 1.
    pub(crate) wanted: f64,
    /// Share observed over the last seconds; `None` without requests.
    pub(crate) observed: Option<f64>,
    pub(crate) ready: (usize, usize),
    /// Requests since the start.
    pub(crate) requests: u64,
}

/// Looks again and again.
pub(crate) struct Observer {
    client: Client,
    metrics: SocketAddr,
    looks: VecDeque<(Instant, Counters)>,
    curve: VecDeque<u64>,
    events: VecDeque<Event>,
    last_event: u64,
}

impl Observer {
    pub(crate) fn new(client: Client, metrics: SocketAddr) -> Self {
        Self { client, metrics, looks: VecDeque::new(), curve: VecDeque::new(), events: VecDeque::new(), last_event: 0 }
    }

    /// One look.
    pub(crate) async fn look(&mut self) -> anyhow::Result<Picture> {
        let counters = metrics::scrape(self.metrics).await?;
        let routes: Vec<Route> = self.client.get("/v1/routes").await?;
        let uplinks: Vec<Uplink> = self.client.get("/v1/uplinks").await?;
        let agents: Vec<Agent> = self.client.get("/v1/agents").await?;
        let fresh: Vec<Event> = self.client.get(&format!("/v1/events?since={}", self.last_event)).await?;
        for event in fresh {
            self.last_event = self.last_event.max(event.number);
            self.events.push_back(event);
        }
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }

        let now = Instant::now();
        let (before, since) = match self.looks.front() {
            Some((at, before)) => (before.clone(), now.duration_since(*at)),
            None => (counters.clone(), Duration::ZERO),
        };
        let delta = counters.since(&before);
        let seconds = since.as_secs_f64().max(f64::MIN_POSITIVE);
        if let Some((at, last)) = self.looks.back() {
            let rate = counters.since(last).requests() as f64 / now.duration_since(*at).as_secs_f64().max(0.001);
            self.curve.push_back(rate.round() as u64);
            while self.curve.len() > CURVE {
                self.curve.pop_front();
            }
        }
        self.looks.push_back((now, counters.clone()));
        while self.looks.len() > WINDOW {
            self.looks.pop_front();
        }
        let per_second = |n: u64| if since.is_zero() { 0.0 } else { n as f64 / seconds };
        Ok(Picture {
            backends: backends(&routes, &counters, &delta),
            rate: per_second(delta.requests()),
            errors: per_second(delta.errors),
            errors_total: counters.errors,
            p50: delta.quantile(0.5),
            p99: delta.quantile(0.99),
            in_flight: counters.in_flight,
            agents,
            uplinks,
            events: self.events.iter().cloned().collect(),
            curve: self.curve.iter().copied().collect(),
        })
    }
}

/// The first rule's backends: figspan-try writes one route with one rule.
fn backends(routes: &[Route], now: &Counters, delta: &Counters) -> Vec<Backend> {
    let Some(rule) = routes.first().and_then(|route| route.rules.first()) else { return Vec::new() };
    let of = |counters: &Counters, kind: &str, name: &str| counters.by.get(&(kind.to_owned(), name.to_owned())).copied().unwrap_or(0);
    let answered: u64 = rule.backends.iter().map(|backend| of(delta, &backend.kind, &backend.name)).sum();
    let backend = |backend: &figspan_proto::admin::RuleBackend| Backend {
        kind: backend.kind.clone(),
        name: backend.name.clone(),
        weight: backend.effective_weight.get(),
        wanted: backend.share_wanted,
        observed: (answered > 0).then(|| of(delta, &backend.kind, &backend.name) as f64 / answered as f64),
        ready: (backend.ready_endpoints, backend.endpoints),
        requests: of(now, &backend.kind, &backend.name),
    };
    rule.backends.iter().map(backend).collect()
}
