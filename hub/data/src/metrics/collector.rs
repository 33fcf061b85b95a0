//! Sums the shards' counters when somebody scrapes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use figspan_model::routing::Coding;
use figspan_model::state::{Copies, Own};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::histogram::Total;
use super::series::Labels;
use super::{CallEvent, Limit, Metrics, PinEvent, Retry, SessionEvent, TokenEvent, Turned, Zone};
use crate::admission::Reject;
use crate::reply::{Failure, side_name};

/// All shards' counters as one set of metrics.
#[derive(Debug)]
pub struct Shards(pub Vec<Arc<Metrics>>);

impl Shards {
    fn sum(&self, of: impl Fn(&Metrics) -> u64) -> u64 {
        self.0.iter().map(|metrics| of(metrics)).sum()
    }

    fn gauge(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, of: impl Fn(&Metrics) -> u64) -> fmt::Result {
        let value = i64::try_from(self.sum(of)).unwrap_or(i64::MAX);
        encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&self, encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, of: impl Fn(&Metrics) -> u64) -> fmt::Result {
        encoder.encode_descriptor(name, help, None, MetricType::Counter)?.encode_counter::<NoLabelSet, _, u64>(&self.sum(of), None)
    }
}

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let mut totals: BTreeMap<Labels, Total> = BTreeMap::new();
        for metrics in &self.0 {
            metrics.requests.add_to(&mut totals);
        }
        let mut durations = encoder.encode_descriptor(
            "http_server_request_duration",
            "Duration of HTTP requests, from their head to the end of their answer.",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (labels, total) in &totals {
            durations.encode_family(&set(labels))?.encode_histogram::<NoLabelSet>(total.sum, total.count(), &total.buckets(), None)?;
        }
        let mut requests = encoder.encode_descriptor("figspan_requests", "HTTP requests answered.", None, MetricType::Counter)?;
        for (labels, total) in &totals {
            requests.encode_family(&set(labels))?.encode_counter::<NoLabelSet, _, u64>(&total.count(), None)?;
        }
        let mut retries = encoder.encode_descriptor("figspan_retries", "Requests tried again.", None, MetricType::Counter)?;
        for why in Retry::ALL {
            let count = self.sum(|metrics| metrics.retried(*why));
            retries.encode_family(&[("reason", why.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut sessions = encoder.encode_descriptor("figspan_sessions", "What became of sessions.", None, MetricType::Counter)?;
        for event in SessionEvent::ALL {
            let count = self.sum(|metrics| metrics.sessions(*event));
            sessions.encode_family(&[("event", event.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut turns = encoder.encode_descriptor(
            "figspan_health_changes",
            "Circuit breakers opened and closed, and endpoints ejected.",
            None,
            MetricType::Counter,
        )?;
        for turned in Turned::ALL {
            let count = self.sum(|metrics| metrics.turns(*turned));
            turns.encode_family(&[("change", turned.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut failures =
            encoder.encode_descriptor("figspan_failures", "Requests and connections that failed.", None, MetricType::Counter)?;
        for failure in Failure::ALL {
            let count = self.sum(|metrics| metrics.failed(*failure));
            let labels = [("side", side_name(failure.side())), ("reason", failure.as_str())];
            failures.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut refusals = encoder.encode_descriptor("figspan_refusals", "Requests that admission refused.", None, MetricType::Counter)?;
        for reject in Reject::ALL {
            let count = self.sum(|metrics| metrics.refused(*reject));
            refusals.encode_family(&[("reason", reject.reason())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut limits = encoder.encode_descriptor("figspan_limit_hits", "Bounds that were reached.", None, MetricType::Counter)?;
        for limit in Limit::ALL {
            let count = self.sum(|metrics| metrics.limit_hits(*limit));
            limits.encode_family(&[("limit", limit.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut copies =
            encoder.encode_descriptor("figspan_mirror_copies", "Copies of requests for mirrors.", None, MetricType::Counter)?;
        for what in Copies::ALL.iter().filter_map(|what| what.word().map(|word| (*what, word))) {
            let count = self.sum(|metrics| metrics.copied(what.0));
            copies.encode_family(&[("outcome", what.1)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let help = "Choices within backends that prefer the hub's own zone, by where they led.";
        let mut zones = encoder.encode_descriptor("figspan_zone_choices", help, None, MetricType::Counter)?;
        for zone in Zone::ALL {
            let count = self.sum(|metrics| metrics.zone(*zone));
            zones.encode_family(&[("zone", zone.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut tokens =
            encoder.encode_descriptor("figspan_tokens", "Tokens of requests whose rule asks for one.", None, MetricType::Counter)?;
        for event in TokenEvent::ALL {
            let count = self.sum(|metrics| metrics.tokens(*event));
            tokens.encode_family(&[("outcome", event.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut pins = encoder.encode_descriptor("figspan_pins", "Wishes of clients for a backend.", None, MetricType::Counter)?;
        for event in PinEvent::ALL {
            let count = self.sum(|metrics| metrics.pins(*event));
            pins.encode_family(&[("outcome", event.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut calls = encoder.encode_descriptor("figspan_calls", "Calls of services by agents.", None, MetricType::Counter)?;
        for event in CallEvent::ALL {
            let count = self.sum(|metrics| metrics.called(*event));
            calls.encode_family(&[("outcome", event.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        self.gauge(encoder, "figspan_calls_open", "Connections of agents' processes to services.", |metrics| metrics.calls_open.value())?;
        for (name, help, of) in [
            ("figspan_compression_input_bytes", "Bytes of answers that were compressed.", (|pair| &pair.0) as fn(&(Own, Own)) -> &Own),
            ("figspan_compression_output_bytes", "Bytes that compression made of them.", |pair| &pair.1),
        ] {
            let mut bytes = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for coding in Coding::ALL {
                let count = self.sum(|metrics| of(metrics.coded(coding)).value());
                bytes.encode_family(&[("coding", coding.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        self.gauge(encoder, "figspan_compressions", "Answers that are being compressed.", |metrics| metrics.coders.value())?;
        self.gauge(encoder, "figspan_in_flight", "Requests and connections under way.", |metrics| metrics.in_flight.value())?;
        self.gauge(encoder, "figspan_pooled_streams", "Idle connections towards backends.", |metrics| metrics.pooled.value())?;
        self.gauge(encoder, "figspan_client_connections", "Connections of clients.", |metrics| metrics.connections.value())?;
        self.gauge(encoder, "figspan_stale_names", "DNS names whose last lookup failed.", |metrics| metrics.stale_names.value())?;
        self.counter(encoder, "figspan_client_connections_accepted", "Connections of clients so far.", |metrics| {
            metrics.connections_total.value()
        })?;
        self.counter(encoder, "figspan_stream_connections", "TCP and TLS-passthrough connections so far.", |metrics| {
            metrics.streams.value()
        })?;
        self.counter(encoder, "figspan_received_bytes", "Bytes of bodies and connections from clients.", |metrics| {
            metrics.bytes_in.value()
        })?;
        self.counter(encoder, "figspan_sent_bytes", "Bytes of bodies and connections to clients.", |metrics| metrics.bytes_out.value())
    }
}

fn set(labels: &Labels) -> [(&'static str, String); 5] {
    [
        ("http_route", labels.route.to_string()),
        ("backend_kind", labels.kind.to_owned()),
        ("backend", labels.backend.to_string()),
        ("http_request_method", labels.method.to_owned()),
        ("http_response_status_class", labels.status.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::series::RequestKey;
    use prometheus_client::registry::Registry;

    #[test]
    fn a_scrape_shows_the_sum_of_the_shards() {
        let shards = [Metrics::new(), Metrics::new()];
        for metrics in &shards {
            let key = RequestKey { route: "shop", kind: "uplink", backend: "monolith", method: "GET", status: 204 };
            metrics.request(key, 0.004);
            metrics.retry(Retry::Stale);
            metrics.failure(Failure::ConnectRefused);
            metrics.turned(Turned::Ejected);
            metrics.limit_hit(Limit::Pending);
            metrics.refusal(Reject::Host);
            metrics.chosen(true);
            metrics.in_flight.add(2);
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Shards(shards.to_vec())));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let labels = "http_route=\"shop\",backend_kind=\"uplink\",backend=\"monolith\",http_request_method=\"GET\",http_response_status_class=\"2xx\"";
        for line in [
            &format!("http_server_request_duration_seconds_count{{{labels}}} 2"),
            &format!("http_server_request_duration_seconds_bucket{{le=\"0.0025\",{labels}}} 0"),
            &format!("http_server_request_duration_seconds_bucket{{le=\"0.005\",{labels}}} 2"),
            &format!("http_server_request_duration_seconds_bucket{{le=\"+Inf\",{labels}}} 2"),
            &format!("figspan_requests_total{{{labels}}} 2"),
            "figspan_retries_total{reason=\"stale\"} 2",
            "figspan_failures_total{side=\"workload\",reason=\"connect-refused\"} 2",
            "figspan_limit_hits_total{limit=\"pending\"} 2",
            "figspan_health_changes_total{change=\"ejected\"} 2",
            "figspan_refusals_total{reason=\"host\"} 2",
            "figspan_zone_choices_total{zone=\"near\"} 2",
            "figspan_in_flight 4",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
