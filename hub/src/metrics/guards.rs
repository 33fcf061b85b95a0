//! Backends as a scrape sees them: breakers, ejections and sessions.
//!
//! Only what a policy asks for is shown, of a bounded number of endpoints: names come from the configuration and from agents.

use std::fmt;

use figspan_proto::admin::{Backend, BackendEndpoint, BreakerStatus};
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Most endpoints that are shown.
const MAX_ENDPOINTS: usize = 5000;

/// States of a breaker, one series each.
const STATES: [&str; 3] = ["closed", "open", "half-open"];

/// One look at all backends.
#[derive(Debug)]
pub(super) struct Guards(pub(super) Vec<Backend>);

type Labels<'l> = [(&'static str, &'l str); 3];

impl Guards {
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Whether a circuit breaker is in that state; that of a whole backend has no endpoint.";
        let mut states = encoder.encode_descriptor("figspan_breaker_state", help, None, MetricType::Gauge)?;
        for ([kind, backend, endpoint], breaker) in self.breakers() {
            for state in STATES {
                states.encode_family(&[kind, backend, endpoint, ("state", state)])?.encode_gauge(&i64::from(breaker.state == state))?;
            }
        }
        let mut opened = encoder.encode_descriptor("figspan_breaker_opened", "Times it opened.", None, MetricType::Counter)?;
        for (labels, breaker) in self.breakers() {
            opened.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&breaker.opened, None)?;
        }
        let help = "Whether an endpoint that was ever ejected is out.";
        let mut out = encoder.encode_descriptor("figspan_endpoint_ejected", help, None, MetricType::Gauge)?;
        for (labels, endpoint) in self.endpoints().filter(|(_, endpoint)| endpoint.ejected > 0) {
            out.encode_family(&labels)?.encode_gauge(&i64::from(endpoint.verdict == "ejected"))?;
        }
        let mut ejections = encoder.encode_descriptor("figspan_endpoint_ejections", "Times it was ejected.", None, MetricType::Counter)?;
        for (labels, endpoint) in self.endpoints().filter(|(_, endpoint)| endpoint.ejected > 0) {
            ejections.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&endpoint.ejected, None)?;
        }
        let help = "Sessions bound to an endpoint that have not ended, about so many; 0 is exact.";
        let mut sessions = encoder.encode_descriptor("figspan_endpoint_sessions", help, None, MetricType::Gauge)?;
        for (labels, endpoint) in self.endpoints() {
            sessions.encode_family(&labels)?.encode_gauge(&i64::try_from(endpoint.sessions).unwrap_or(i64::MAX))?;
        }
        Ok(())
    }

    fn endpoints(&self) -> impl Iterator<Item = (Labels<'_>, &BackendEndpoint)> {
        let all = self.0.iter().flat_map(|backend| backend.endpoints.iter().map(move |endpoint| (backend, endpoint)));
        all.map(|(backend, endpoint)| (labels(backend, &endpoint.name), endpoint)).take(MAX_ENDPOINTS)
    }

    fn breakers(&self) -> impl Iterator<Item = (Labels<'_>, &BreakerStatus)> {
        let whole = self.0.iter().filter_map(|backend| Some((labels(backend, ""), backend.breaker.as_ref()?)));
        whole.chain(self.endpoints().filter_map(|(labels, endpoint)| Some((labels, endpoint.breaker.as_ref()?))))
    }
}

fn labels<'l>(backend: &'l Backend, endpoint: &'l str) -> Labels<'l> {
    [("backend_kind", &backend.kind), ("backend", &backend.name), ("endpoint", endpoint)]
}
