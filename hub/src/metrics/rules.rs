//! Rules as a scrape sees them: shares wanted and observed, and tiers under failover.
//!
//! Only rules with a choice to make are shown, and a bounded number of them: names come from the configuration.

use std::fmt;
use std::sync::Arc;

use figspan_model::snapshot::Snapshot;
use figspan_model::state::Book;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::standing::{Place, Tier};

/// Most rules that are shown.
const MAX_RULES: usize = 2000;

/// States of a tier, one series each.
const STATES: [&str; 3] = ["up", "held", "failing-back"];

/// One look at a rule.
#[derive(Debug)]
struct Seen {
    route: String,
    rule: String,
    backends: Vec<Share>,
    tiers: Vec<Tier>,
}

#[derive(Debug)]
struct Share {
    kind: &'static str,
    name: String,
    wanted: f64,
    /// Of the last minute; `None`: nobody asked.
    observed: Option<f64>,
}

/// One look at all of them.
#[derive(Debug)]
pub(super) struct Rules(Vec<Seen>);

impl Rules {
    pub(super) fn gather(snapshot: &Snapshot, book: &Arc<Book>) -> Self {
        let http = snapshot.routing.http_routes.iter().flat_map(|route| {
            route.rules.iter().enumerate().map(move |(index, rule)| {
                let name = rule.name.as_ref().map_or_else(|| index.to_string(), |name| name.to_string());
                (route.name.to_string(), name, Place::from(&**rule))
            })
        });
        let streams = snapshot.routing.stream_routes.iter();
        let streams = streams.map(|route| (route.name.to_string(), "0".to_owned(), Place::from(&**route)));
        let chosen = http.chain(streams).filter(|(_, _, place)| place.backends.len() > 1).take(MAX_RULES);
        Self(chosen.map(|(route, rule, place)| Seen::of(route, rule, place, snapshot, book)).collect())
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.shares(encoder)?;
        self.tiers(encoder)
    }

    fn shares(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Value = fn(&Share) -> Option<f64>;
        let of: [(&str, &str, Value); 2] = [
            ("figspan_share_wanted_ratio", "Part of a rule's next requests that a backend gets.", |share| Some(share.wanted)),
            ("figspan_share_observed_ratio", "Part of a rule's tries of the last minute that a backend got.", |share| share.observed),
        ];
        for (name, help, value) in of {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (seen, share) in self.0.iter().flat_map(|seen| seen.backends.iter().map(move |share| (seen, share))) {
                let Some(value) = value(share) else { continue };
                let labels = [("route", &*seen.route), ("rule", &*seen.rule), ("backend_kind", share.kind), ("backend", &*share.name)];
                family.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn tiers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let all = || self.0.iter().flat_map(|seen| seen.tiers.iter().map(move |tier| (seen, tier, tier.number.to_string())));
        let help = "Whether a tier of a rule with failover is in that state.";
        let mut states = encoder.encode_descriptor("figspan_tier_state", help, None, MetricType::Gauge)?;
        for (seen, tier, number) in all() {
            for state in STATES {
                let labels = [("route", &*seen.route), ("rule", &*seen.rule), ("tier", &*number), ("state", state)];
                states.encode_family(&labels)?.encode_gauge(&i64::from(tier.standing.as_str() == state))?;
            }
        }
        let help = "Part of the requests that come to a tier which it gets, as far as it is able.";
        let mut shares = encoder.encode_descriptor("figspan_tier_share_ratio", help, None, MetricType::Gauge)?;
        for (seen, tier, number) in all() {
            shares.encode_family(&[("route", &*seen.route), ("rule", &*seen.rule), ("tier", &*number)])?.encode_gauge(&tier.share)?;
        }
        let mut failed = encoder.encode_descriptor("figspan_failovers", "Times a tier failed.", None, MetricType::Counter)?;
        for (seen, tier, number) in all() {
            for (cause, times) in tier.failed {
                let labels = [("route", &*seen.route), ("rule", &*seen.rule), ("tier", &*number), ("cause", cause.as_str())];
                failed.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&times, None)?;
            }
        }
        Ok(())
    }
}

impl Seen {
    fn of(route: String, rule: String, place: Place<'_>, snapshot: &Snapshot, book: &Arc<Book>) -> Self {
        let recent: u64 = place.backends.iter().map(|backend| backend.share.recent()).sum();
        let share = |(backend, wanted): (&figspan_model::routing::Backend, f64)| Share {
            kind: backend.target.kind(),
            name: backend.target.name().to_owned(),
            wanted,
            observed: (recent > 0).then(|| backend.share.recent() as f64 / recent as f64),
        };
        let mut backends: Vec<Share> = Vec::new();
        for share in place.backends.iter().zip(place.shares(snapshot, book)).map(share) {
            // A target may stand twice in a rule: one series has both.
            match backends.iter_mut().find(|known| known.kind == share.kind && known.name == share.name) {
                Some(known) => {
                    known.wanted += share.wanted;
                    known.observed = known.observed.zip(share.observed).map(|(one, other)| one + other);
                }
                None => backends.push(share),
            }
        }
        Self { route, rule, backends, tiers: place.tiers() }
    }
}
