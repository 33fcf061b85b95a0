//! Requests by label. Written by one shard, read by the scrape; a lock of its own that no other shard takes.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, StatusCode};

use super::histogram::{Histogram, Total};
use figspan_model::Map;

/// Most series of a shard. Names come from the configuration, so that this is reached only by churn of names.
const MAX_SERIES: usize = 4096;

/// Labels of a finished request.
#[derive(Debug, Clone, Copy)]
pub struct RequestKey<'a> {
    /// Name of the route; empty where none matched.
    pub route: &'a str,
    /// `uplink`, `service` or empty.
    pub kind: &'static str,
    /// Name of the backend; empty where none was chosen.
    pub backend: &'a str,
    /// Normalised method.
    pub method: &'static str,
    /// Status.
    pub status: u16,
}

/// Labels as they are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels {
    /// See [`RequestKey`].
    pub route: Arc<str>,
    /// See [`RequestKey`].
    pub kind: &'static str,
    /// See [`RequestKey`].
    pub backend: Arc<str>,
    /// See [`RequestKey`].
    pub method: &'static str,
    /// `2xx`.
    pub status: &'static str,
}

/// A method, or `_OTHER` (OpenTelemetry's word for one that is not known).
pub fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// The class of a status.
pub fn status_class(status: u16) -> &'static str {
    match StatusCode::from_u16(status).map(|status| status.as_u16() / 100) {
        Ok(1) => "1xx",
        Ok(2) => "2xx",
        Ok(3) => "3xx",
        Ok(4) => "4xx",
        _ => "5xx",
    }
}

/// One route's series, by the rest of the labels.
type OfRoute = Vec<(Labels, Arc<Histogram>)>;

/// Durations by label.
///
/// The lock is taken by the shard's thread for each request and by a scrape for the time of a copy of pointers. No other
/// shard takes it, so that it is free whenever nobody scrapes.
#[derive(Debug, Default)]
pub struct Series(Mutex<Map<Arc<str>, OfRoute>>);

impl Series {
    /// Counts a request.
    pub fn observe(&self, key: RequestKey<'_>, seconds: f64) {
        let class = status_class(key.status);
        let mut routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = routes.get(key.route).and_then(|of_route| {
            let same = |labels: &Labels| {
                labels.status == class && labels.method == key.method && labels.kind == key.kind && *labels.backend == *key.backend
            };
            of_route.iter().find(|(labels, _)| same(labels))
        });
        if let Some((_, histogram)) = found {
            histogram.observe(seconds);
            return;
        }
        let full = routes.values().map(Vec::len).sum::<usize>() >= MAX_SERIES;
        let name = |text: &str| Arc::from(if full { "other" } else { text });
        let (route, backend): (Arc<str>, Arc<str>) = (name(key.route), name(key.backend));
        let labels = Labels { route: Arc::clone(&route), kind: key.kind, backend, method: key.method, status: class };
        let of_route = routes.entry(route).or_default();
        match of_route.iter().find(|(other, _)| *other == labels) {
            Some((_, histogram)) => histogram.observe(seconds),
            None => {
                let histogram = Arc::new(Histogram::default());
                histogram.observe(seconds);
                of_route.push((labels, histogram));
            }
        }
    }

    /// Adds all series to `totals`.
    pub fn add_to(&self, totals: &mut std::collections::BTreeMap<Labels, Total>) {
        let all: Vec<_> = {
            let routes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            routes.values().flatten().map(|(labels, histogram)| (labels.clone(), Arc::clone(histogram))).collect()
        };
        for (labels, histogram) in all {
            histogram.add_to(totals.entry(labels).or_default());
        }
    }
}
