//! Reads the few metrics of the hub that the view needs. Reading is pure; only [`scrape`] talks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Largest text read.
const MAX_TEXT: usize = 8 << 20;

/// Longest wait for it.
const SCRAPE_TIME: Duration = Duration::from_secs(3);

/// Counts since the hub started.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counters {
    /// Requests by kind and name of the backend; an empty name where none was chosen.
    pub(crate) by: BTreeMap<(String, String), u64>,
    /// 5xx answers.
    pub(crate) errors: u64,
    pub(crate) in_flight: u64,
    /// Durations: upper bound in microseconds, and how many were at most that long.
    buckets: BTreeMap<u64, u64>,
}

impl Counters {
    /// Reads the text exposition format; lines of other metrics are passed over.
    pub(crate) fn read(text: &str) -> Self {
        let mut counters = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let label = |wanted: &str| {
                let (_, rest) =
                    labels.split_once(&format!("{wanted}=\"")).filter(|(before, _)| before.is_empty() || before.ends_with(','))?;
                rest.split('"').next()
            };
            let Some(count) = value.parse::<f64>().ok().filter(|value| *value >= 0.0).map(|value| value as u64) else { continue };
            match name {
                "figspan_requests_total" => {
                    let key = (label("backend_kind").unwrap_or_default().to_owned(), label("backend").unwrap_or_default().to_owned());
                    *counters.by.entry(key).or_default() += count;
                    if label("http_response_status_class") == Some("5xx") {
                        counters.errors += count;
                    }
                }
                "http_server_request_duration_seconds_bucket" => {
                    let bound = match label("le") {
                        Some("+Inf") => u64::MAX,
                        Some(bound) => bound.parse().map_or(u64::MAX, |seconds: f64| (seconds * 1e6) as u64),
                        None => continue,
                    };
                    *counters.buckets.entry(bound).or_default() += count;
                }
                "figspan_in_flight" => counters.in_flight = count,
                _ => {}
            }
        }
        counters
    }

    /// All requests.
    pub(crate) fn requests(&self) -> u64 {
        self.by.values().sum()
    }

    /// What came since an earlier look; `in_flight` stays that of now.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let less = |now: u64, before: Option<&u64>| now.saturating_sub(before.copied().unwrap_or(0));
        Self {
            by: self.by.iter().map(|(key, n)| (key.clone(), less(*n, before.by.get(key)))).collect(),
            errors: self.errors.saturating_sub(before.errors),
            in_flight: self.in_flight,
            buckets: self.buckets.iter().map(|(bound, n)| (*bound, less(*n, before.buckets.get(bound)))).collect(),
        }
    }

    /// The duration below which that part of the requests stayed, within the precision of the buckets.
    pub(crate) fn quantile(&self, part: f64) -> Option<Duration> {
        let all = *self.buckets.values().last()?;
        let rank = part * all as f64;
        let (mut below, mut from) = (0, 0);
        for (&bound, &count) in &self.buckets {
            if count as f64 >= rank && count > below {
                if bound == u64::MAX {
                    // Longer than the last bound; nothing more is known.
                    return Some(Duration::from_micros(from));
                }
                let into = (rank - below as f64) / (count - below) as f64;
                return Some(Duration::from_micros(from + ((bound - from) as f64 * into) as u64));
            }
            (below, from) = (count, bound);
        }
        None
    }
}

/// Asks the hub for its metrics.
pub(crate) async fn scrape(address: SocketAddr) -> anyhow::Result<Counters> {
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = http::Request::get("/metrics").header("host", address.to_string()).header("connection", "close");
        let request = request.body(Empty::<Bytes>::new())?;
        let drive = async {
            let _ = connection.await;
            std::future::pending::<std::convert::Infallible>().await
        };
        let read = async {
            let body = sender.send_request(request).await?.into_body();
            let text = Limited::new(body, MAX_TEXT).collect().await.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            anyhow::Ok(Counters::read(&String::from_utf8_lossy(&text)))
        };
        tokio::select! {
            biased;
            counters = read => counters,
            never = drive => match never {},
        }
    };
    let scraped = tokio::time::timeout(SCRAPE_TIME, exchange).await.context("no answer in time").and_then(|scraped| scraped);
    scraped.with_context(|| format!("cannot read the hub's metrics at {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(monolith: u64, slow: u64) -> String {
        let labels = |name: &str, class: &str| {
            format!(
                "http_route=\"all\",backend_kind=\"uplink\",backend=\"{name}\",http_request_method=\"GET\",http_response_status_class=\"{class}\""
            )
        };
        let (good, bad, all) = (labels("monolith", "2xx"), labels("orders", "5xx"), monolith + slow);
        format!(
            "# HELP figspan_requests HTTP requests answered.\n\
             figspan_requests_total{{{good}}} {monolith}\nfigspan_requests_total{{{bad}}} {slow}\nfigspan_in_flight 3\n\
             http_server_request_duration_seconds_bucket{{le=\"0.001\",{good}}} {monolith}\n\
             http_server_request_duration_seconds_bucket{{le=\"0.005\",{good}}} {all}\n\
             http_server_request_duration_seconds_bucket{{le=\"+Inf\",{good}}} {all}\n\
             something_else 7\nbroken\n# EOF\n"
        )
    }

    #[test]
    fn counts_are_told_by_backend_and_errors_apart() {
        let counters = Counters::read(&text(90, 10));
        assert_eq!(counters.by[&("uplink".to_owned(), "monolith".to_owned())], 90);
        assert_eq!((counters.requests(), counters.errors, counters.in_flight), (100, 10, 3));
        let delta = Counters::read(&text(190, 10)).since(&counters);
        assert_eq!((delta.requests(), delta.errors), (100, 0));
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let counters = Counters::read(&text(90, 10));
        let half = counters.quantile(0.5).unwrap();
        assert!(half < Duration::from_millis(1), "{half:?}");
        let slow = counters.quantile(0.95).unwrap();
        assert!(slow > Duration::from_millis(1) && slow <= Duration::from_millis(5), "{slow:?}");
        assert_eq!(Counters::default().quantile(0.5), None);
        let nothing_new = counters.since(&counters);
        assert_eq!(nothing_new.quantile(0.5), None);
    }

    #[test]
    fn a_text_that_is_no_metrics_reads_as_nothing() {
        assert_eq!(
            Counters::read("<html>{\"a\"= b}</html>\nfigspan_in_flight -3\nfigspan_requests_total{backend=\"} x"),
            Counters::default()
        );
    }
}
