//! The hub's own metrics, as control and the book have them at the moment of a scrape.

use std::fmt;

use figspan_control::StatusParts;
use figspan_proto::admin::Uplink;
use figspan_tunnel::Transport;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::Seen;
use super::guards::Guards;
use super::rules::Rules;
use crate::admin::backends;

/// Most uplinks of which endpoints are shown, so that a flood of names does not become a flood of series.
const MAX_UPLINKS: usize = 2000;

/// One look at the hub.
#[derive(Debug)]
pub(super) struct Scrape {
    parts: Option<StatusParts>,
    uplinks: Vec<Uplink>,
    config_good: bool,
    config_loaded: u64,
    ready: bool,
    shards: u64,
    moved: [(Transport, u64); 2],
    log_lost: Option<u64>,
    version: String,
    rules: Rules,
    guards: Guards,
}

impl Scrape {
    pub(super) async fn gather(seen: &Seen) -> Self {
        let mut uplinks = seen.control.uplinks().await.unwrap_or_default();
        uplinks.truncate(MAX_UPLINKS);
        let (config_good, config_loaded) = seen.face.config_metrics();
        let snapshot = seen.reader.load();
        Self {
            parts: seen.control.status_parts().await.ok(),
            uplinks,
            config_good,
            config_loaded,
            ready: seen.face.waiting_for(&seen.control).is_empty(),
            shards: seen.face.shards as u64,
            moved: Transport::ALL.map(|transport| (transport, seen.face.moved(transport))),
            log_lost: seen.log.as_ref().map(figspan_telemetry::LogHandle::dropped),
            version: seen.face.version.clone(),
            rules: Rules::gather(&snapshot, &seen.book),
            guards: Guards(backends::all(&snapshot, &seen.book)),
        }
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        encoder
            .encode_descriptor("figspan_build", "The software that runs.", None, MetricType::Info)?
            .encode_info(&[("version", self.version.as_str())])?;
        gauge(encoder, "figspan_ready", "Whether the hub takes new work.", self.ready.into())?;
        gauge(encoder, "figspan_shards", "Threads that carry traffic.", self.shards)?;
        let help = "Whether the newest configuration is in force.";
        gauge(encoder, "figspan_config_last_reload_successful", help, self.config_good.into())?;
        let help = "Unix time at which a configuration last came into force.";
        gauge(encoder, "figspan_config_last_reload_success_timestamp_seconds", help, self.config_loaded)?;
        if let Some(parts) = &self.parts {
            gauge(encoder, "figspan_tunnels", "Tunnels open.", parts.tunnels as u64)?;
            let by = [(Transport::Quic, parts.tunnels.saturating_sub(parts.tunnels_over_tcp)), (Transport::Tcp, parts.tunnels_over_tcp)];
            let mut family =
                encoder.encode_descriptor("figspan_tunnel_transport", "Tunnels by what carries them.", None, MetricType::Gauge)?;
            for (transport, count) in by {
                family.encode_family(&[("transport", transport.word())])?.encode_gauge(&clamp(count as u64))?;
            }
            gauge(encoder, "figspan_agents_connected", "Agents with at least one tunnel.", parts.agents as u64)?;
            gauge(encoder, "figspan_uplinks", "Uplinks known.", parts.uplinks as u64)?;
            gauge(encoder, "figspan_snapshot_generation", "Generation of the snapshot in force.", parts.generation)?;
            let help = "Oldest generation that a shard still works with.";
            gauge(encoder, "figspan_snapshot_oldest_generation", help, parts.oldest_generation)?;
        }
        let help = "Live tunnels that moved to a transport.";
        let mut family = encoder.encode_descriptor("figspan_tunnel_transport_changes", help, None, MetricType::Counter)?;
        for (transport, count) in self.moved {
            family.encode_family(&[("to", transport.word())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        if let Some(lost) = self.log_lost {
            encoder
                .encode_descriptor("figspan_log_lines_lost", "Log lines that nobody read in time.", None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&lost, None)?;
        }
        self.uplinks(encoder)?;
        self.endpoints(encoder)?;
        self.rules.encode(encoder)?;
        self.guards.encode(encoder)
    }
}

impl Scrape {
    fn uplinks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut weights = encoder.encode_descriptor("figspan_uplink_weight", "Weight in force; 0 drains.", None, MetricType::Gauge)?;
        for uplink in &self.uplinks {
            let weight = if uplink.draining { 0 } else { i64::from(uplink.weight.get()) };
            weights.encode_family(&[("uplink", uplink.name.as_str())])?.encode_gauge(&weight)?;
        }
        let help = "Endpoints that may get new work.";
        let mut ready = encoder.encode_descriptor("figspan_uplink_ready", help, None, MetricType::Gauge)?;
        for uplink in &self.uplinks {
            let count = uplink.endpoints.iter().filter(|endpoint| endpoint.accepts).count();
            ready.encode_family(&[("uplink", uplink.name.as_str())])?.encode_gauge(&clamp(count as u64))?;
        }
        Ok(())
    }

    fn endpoints(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Of = fn(&figspan_proto::admin::Endpoint) -> u64;
        let gauges: [(&str, &str, Of); 5] = [
            ("figspan_endpoint_weight", "Weight in force of an agent's side of an uplink.", |e| u64::from(e.weight.get())),
            ("figspan_endpoint_accepts", "Whether it may get new work.", |e| e.accepts.into()),
            ("figspan_endpoint_in_flight", "Requests and connections under way.", |e| e.in_flight),
            ("figspan_endpoint_pooled", "Idle streams held for reuse.", |e| e.pooled),
            ("figspan_endpoint_open_connections", "Connections to the workload, as its agent last said.", |e| e.open_connections),
        ];
        for (name, help, of) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, endpoint) in self.each() {
                family.encode_family(&labels)?.encode_gauge(&clamp(of(endpoint)))?;
            }
        }
        let counters: [(&str, &str, Of); 2] = [
            ("figspan_endpoint_picked", "Requests and connections given to it.", |e| e.picked),
            ("figspan_endpoint_failed", "Of those, failed on its side.", |e| e.failed),
        ];
        for (name, help, of) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, endpoint) in self.each() {
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&of(endpoint), None)?;
            }
        }
        Ok(())
    }

    fn each(&self) -> impl Iterator<Item = ([(&'static str, &str); 2], &figspan_proto::admin::Endpoint)> {
        self.uplinks
            .iter()
            .flat_map(|uplink| {
                let labelled = |endpoint| (uplink.name.as_str(), endpoint);
                uplink.endpoints.iter().map(labelled)
            })
            .map(|(uplink, endpoint)| ([("uplink", uplink), ("agent", endpoint.agent.as_str())], endpoint))
    }
}

pub(super) fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&clamp(value))
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
