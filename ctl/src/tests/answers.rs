//! Answers of a hub, built from the API's own types so that they cannot drift from it.

use figspan_proto::admin;
use figspan_proto::control::Protocol;
use figspan_proto::weight::Weight;
use serde_json::{Value, json};

const AT: &str = "2026-11-21T04:00:00Z";

fn weight(n: u32) -> Weight {
    Weight::try_from(n).unwrap()
}

fn value(answer: impl serde::Serialize) -> Value {
    serde_json::to_value(answer).unwrap()
}

pub(super) fn uplink(in_force: u32, in_flight: u64) -> Value {
    let over = admin::Override {
        sessions_until: None,
        weight: weight(in_force),
        who: "ada@desk".to_owned(),
        reason: "trying".to_owned(),
        at: AT.to_owned(),
    };
    let endpoint = |agent: &str, in_flight, failed| admin::Endpoint {
        zone: (agent == "vm-1").then(|| "eu-1a".parse().unwrap()),
        agent: agent.parse().unwrap(),
        weight: Weight::DEFAULT,
        advertised_weight: Weight::DEFAULT,
        weight_override: None,
        accepts: true,
        reason: String::new(),
        tunnels: 2,
        in_flight,
        pooled: 1,
        open_connections: 1,
        picked: 5,
        failed,
    };
    value(admin::Uplink {
        name: "monolith".parse().unwrap(),
        protocol: Protocol::Http1,
        weight: weight(in_force),
        weight_override: (in_force != 100).then_some(over),
        draining: false,
        endpoints: vec![endpoint("vm-1", in_flight, 1), endpoint("vm-2", 0, 0)],
        in_flight,
        picked: 10,
        failed: 1,
    })
}

pub(super) fn weight_change(old: u32, new: u32, generation: Option<u64>, confirmed: &[&str]) -> Value {
    value(admin::WeightChange {
        uplink: "monolith".parse().unwrap(),
        agent: None,
        old: weight(old),
        new: weight(new),
        generation,
        confirmed: confirmed.iter().map(ToString::to_string).collect(),
        dry_run: false,
    })
}

pub(super) fn verdict(drained: bool) -> Value {
    let count = |agent: &str| admin::AgentCount { agent: agent.parse().unwrap(), open_connections: Some(0) };
    value(admin::DrainVerdict {
        sessions: None,
        uplink: "monolith".parse().unwrap(),
        agent: None,
        drained,
        weight_is_zero: true,
        confirmed: vec!["hub-0".to_owned()],
        in_flight: if drained { 0 } else { 3 },
        pooled: 0,
        agents: if drained { vec![count("vm-1"), count("vm-2")] } else { vec![] },
        waiting_for: if drained { vec![] } else { vec!["3 requests in flight".to_owned()] },
    })
}

pub(super) fn status(generation: u64, oldest: u64) -> Value {
    value(admin::Status {
        replica: "hub-0".to_owned(),
        version: "0.1.0".to_owned(),
        trust_domain: "figspan.local".to_owned(),
        started: AT.to_owned(),
        shards: 2,
        ready: true,
        waiting_for: vec![],
        generation,
        oldest_generation: oldest,
        config: admin::ConfigStatus::default(),
        agents: 2,
        tunnels: 4,
        uplinks: 1,
        in_flight: 0,
        tunnel_address: "0.0.0.0:7443".to_owned(),
        metrics_address: None,
        listeners: vec![],
        roots: vec![],
        certificate_ends: AT.to_owned(),
    })
}

pub(super) fn created_grant() -> Value {
    value(admin::CreatedGrant {
        grant: admin::Grant {
            id: "g1".to_owned(),
            agent: Some("vm-1".parse().unwrap()),
            name_template: None,
            services: vec![],
            uplinks: vec!["monolith".parse().unwrap()],
            expires: AT.to_owned(),
            uses: 1,
            redeemed_by: vec![],
            revoked: false,
            who: "ada@desk".to_owned(),
            state: "open".to_owned(),
        },
        token: "figspan1.abc".to_owned(),
    })
}

pub(super) fn explanation() -> Value {
    value(admin::Explanation {
        refused: None,
        target: "http://shop.example/orders/1".to_owned(),
        route: Some("shop".to_owned()),
        rule: Some(0),
        rule_name: Some("orders".to_owned()),
        policies: vec!["sessions by cookie figspan for 1h".to_owned()],
        decisions: vec![
            admin::Decision {
                step: "pins".to_owned(),
                says: vec!["pin to uplink monolith for a signed x-figspan-pin: does not hold for this client".to_owned()],
            },
            admin::Decision {
                step: "timeouts".to_owned(),
                says: vec!["5s to reach the workload".to_owned(), "15s for the request".to_owned()],
            },
        ],
        attempts: vec!["uplink monolith on agent vm-1".to_owned(), "uplink monolith on agent vm-2".to_owned()],
        retried: vec!["no workload saw it: always".to_owned()],
        why: vec!["path /orders is the longest prefix".to_owned()],
        backends: vec![admin::RuleBackend {
            kind: "uplink".to_owned(),
            name: "monolith".to_owned(),
            weight: Some(weight(90)),
            effective_weight: weight(25),
            ready_endpoints: 2,
            endpoints: 2,
            tier: 0,
            share_wanted: 0.714,
            share_observed: Some(0.7),
            picked: 700,
            picked_last_minute: 70,
        }],
        tiers: vec![admin::Tier {
            tier: 0,
            state: "failing-back".to_owned(),
            share: 0.37,
            cause: Some("latency".to_owned()),
            seconds_left: Some(19.96),
            failovers: 2,
        }],
        next: Some("uplink monolith via vm-1".to_owned()),
        status: None,
    })
}

pub(super) fn event(number: u64) -> Value {
    json!({"number": number, "at": AT, "kind": "weight", "subject": "monolith", "who": "ada@desk", "old": "100", "new": "25", "message": "trying"})
}
