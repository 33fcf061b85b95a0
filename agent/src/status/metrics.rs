//! Metrics in OpenMetrics text, made from a [`Status`] when asked for: what an operator sees and what is graphed cannot differ.

use std::sync::atomic::AtomicU64;

use figspan_proto::control::Health;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::Status;

/// The content type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;
type Counters = Family<Labels, Counter>;

fn labels_of(service: &super::Service) -> Labels {
    vec![("service", service.name.clone()), ("listen", service.listen.clone())]
}

/// All metrics as text. Labels are names of uplinks, replicas and reasons, all of them bounded.
pub fn render(status: &Status) -> String {
    let mut registry = Registry::with_prefix("figspan_agent");
    registry.register("build", "The software", Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned())]));
    let set = |registry: &mut Registry, name: &str, help: &str, values: Vec<(Labels, f64)>| {
        let family = Gauges::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        registry.register(name, help, family);
    };
    let count = |registry: &mut Registry, name: &str, help: &str, values: Vec<(Labels, u64)>| {
        let family = Counters::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        registry.register(name, help, family);
    };
    let uplinks = |value: &dyn Fn(&super::Uplink) -> u64| -> Vec<(Labels, u64)> {
        status.uplinks.iter().map(|uplink| (vec![("uplink", uplink.name.clone())], value(uplink))).collect()
    };
    let tunnels = |value: &dyn Fn(&super::Tunnel) -> f64| -> Vec<(Labels, f64)> {
        let labels = |tunnel: &super::Tunnel| vec![("replica", tunnel.replica.clone()), ("shard", tunnel.shard.to_string())];
        status.tunnels.iter().map(|tunnel| (labels(tunnel), value(tunnel))).collect()
    };
    let flag = |value: bool| if value { 1.0 } else { 0.0 };
    let gauges =
        |values: Vec<(Labels, u64)>| -> Vec<(Labels, f64)> { values.into_iter().map(|(labels, value)| (labels, value as f64)).collect() };

    set(&mut registry, "tunnel_up", "Tunnels that are up", tunnels(&|_| 1.0));
    let by = |tunnel: &super::Tunnel| {
        let labels =
            vec![("replica", tunnel.replica.clone()), ("shard", tunnel.shard.to_string()), ("transport", tunnel.transport.clone())];
        (labels, 1.0)
    };
    set(&mut registry, "tunnel_transport", "What carries each tunnel", status.tunnels.iter().map(by).collect());
    let moves = status.transport_moves.iter().map(|(reason, count)| (vec![("reason", reason.clone())], *count)).collect();
    count(&mut registry, "tunnel_transport_chosen", "How often tunnels came to be on a transport", moves);
    set(&mut registry, "tunnel_rtt_seconds", "Round trip to the hub", tunnels(&|tunnel| tunnel.rtt_us as f64 / 1e6));
    set(&mut registry, "tunnel_mtu_bytes", "UDP payload that the path carries", tunnels(&|tunnel| f64::from(tunnel.mtu)));
    set(&mut registry, "clock_skew_seconds", "The agent's clock less the hub's", tunnels(&|tunnel| tunnel.skew_ms as f64 / 1e3));
    set(
        &mut registry,
        "certificate_expiry_seconds",
        "Time left of the certificate",
        vec![(vec![], status.certificate.seconds_left as f64)],
    );
    set(&mut registry, "draining", "Whether the agent takes no new streams", vec![(vec![], flag(status.draining))]);
    set(&mut registry, "streams_open", "Streams open now", vec![(vec![], status.streams as f64)]);
    set(
        &mut registry,
        "settings_good",
        "Whether the last change of the settings was accepted",
        vec![(vec![], flag(status.reload.error.is_none()))],
    );
    set(
        &mut registry,
        "uplink_ready",
        "Whether the workload's checks pass",
        gauges(uplinks(&|uplink| u64::from(uplink.health == Health::Ready))),
    );
    set(
        &mut registry,
        "uplink_refused",
        "Whether a hub refuses the uplink",
        gauges(uplinks(&|uplink| u64::from(uplink.refused.is_some()))),
    );
    set(&mut registry, "uplink_open_connections", "Connections open to the workload", gauges(uplinks(&|uplink| uplink.open)));
    count(&mut registry, "uplink_streams", "Streams taken on", uplinks(&|uplink| uplink.streams));
    count(&mut registry, "uplink_sent_bytes", "Bytes to the workload", uplinks(&|uplink| uplink.bytes_to_workload));
    count(&mut registry, "uplink_received_bytes", "Bytes from the workload", uplinks(&|uplink| uplink.bytes_from_workload));
    let failed = |uplink: &super::Uplink| -> Vec<(Labels, u64)> {
        let one = |(reason, count): &(String, u64)| (vec![("uplink", uplink.name.clone()), ("reason", reason.clone())], *count);
        uplink.failed.iter().map(one).collect()
    };
    count(&mut registry, "uplink_streams_failed", "Streams that ended early", status.uplinks.iter().flat_map(failed).collect());
    let services = |value: &dyn Fn(&super::Service) -> u64| -> Vec<(Labels, u64)> {
        status.services.iter().map(|service| (labels_of(service), value(service))).collect()
    };
    set(
        &mut registry,
        "service_listening",
        "Whether processes can call the service there",
        gauges(services(&|service| u64::from(service.listening))),
    );
    set(&mut registry, "service_open_connections", "Connections to the service open now", gauges(services(&|service| service.open)));
    count(&mut registry, "service_calls", "Connections that hubs have taken", services(&|service| service.taken));
    count(&mut registry, "service_sent_bytes", "Bytes to the service", services(&|service| service.bytes_to_service));
    count(&mut registry, "service_received_bytes", "Bytes from the service", services(&|service| service.bytes_from_service));
    let failed = |service: &super::Service| -> Vec<(Labels, u64)> {
        let one = |(reason, count): &(String, u64)| ([labels_of(service), vec![("reason", reason.clone())]].concat(), *count);
        service.failed.iter().map(one).collect()
    };
    count(&mut registry, "service_calls_failed", "Connections that failed", status.services.iter().flat_map(failed).collect());
    count(&mut registry, "streams_refused", "Streams refused before they had an uplink", vec![(vec![], status.streams_refused)]);
    count(&mut registry, "certificate_renewals", "Renewals of the certificate", vec![(vec![], status.certificate.renewed)]);
    let reloads =
        vec![(vec![("result", "done".to_owned())], status.reload.done), (vec![("result", "refused".to_owned())], status.reload.failed)];
    count(&mut registry, "settings_reloads", "Changes of the settings", reloads);

    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = encode(&mut text, &registry);
    text
}
