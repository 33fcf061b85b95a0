//! A figure: what is measured, in which unit, which way is better; and the values of a run.

use std::collections::BTreeMap;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Figure {
    SmallRate,
    SmallCpu,
    SmallP99,
    PostRate,
    PostCpu,
    HttpsRate,
    HttpsCpu,
    FreshRate,
    FreshCpu,
    TlsRate,
    TlsCpu,
    ResumedRate,
    ResumedCpu,
    PacedP50,
    PacedP99,
    PacedP999,
    PacedCpu,
    H2Rate,
    H2Cpu,
    GrpcRate,
    GrpcCpu,
    MessageRate,
    MessageCpu,
    TcpRate,
    TcpCpu,
    MediumCpu,
    BulkSpeed,
    BulkCpu,
    ManySpeed,
    ManyCpu,
    FarSpeed,
    FarCpu,
    FarRate,
    FarP50,
    FarP99,
    IdleMemory,
    BusyMemory,
    Descriptors,
}

impl Figure {
    /// All, in the order of the table.
    pub const ALL: [Self; 38] = {
        use Figure::*;
        [
            SmallRate,
            SmallCpu,
            SmallP99,
            PostRate,
            PostCpu,
            HttpsRate,
            HttpsCpu,
            FreshRate,
            FreshCpu,
            TlsRate,
            TlsCpu,
            ResumedRate,
            ResumedCpu,
            PacedP50,
            PacedP99,
            PacedP999,
            PacedCpu,
            H2Rate,
            H2Cpu,
            GrpcRate,
            GrpcCpu,
            MessageRate,
            MessageCpu,
            TcpRate,
            TcpCpu,
            MediumCpu,
            BulkSpeed,
            BulkCpu,
            ManySpeed,
            ManyCpu,
            FarSpeed,
            FarCpu,
            FarRate,
            FarP50,
            FarP99,
            IdleMemory,
            BusyMemory,
            Descriptors,
        ]
    };

    /// What the table calls it: words and unit.
    pub fn label(self) -> &'static str {
        match self {
            Self::SmallRate => "200 B, 32 connections: requests/s",
            Self::SmallCpu => "200 B, 32 connections: CPU us per request",
            Self::SmallP99 => "200 B, 32 connections: p99 ms",
            Self::PostRate => "POST of 1 KiB: requests/s",
            Self::PostCpu => "POST of 1 KiB: CPU us per request",
            Self::HttpsRate => "HTTPS, 32 connections: requests/s",
            Self::HttpsCpu => "HTTPS, 32 connections: CPU us per request",
            Self::FreshRate => "a connection for each request: requests/s",
            Self::FreshCpu => "a connection for each request: CPU us",
            Self::TlsRate => "a TLS handshake for each request: requests/s",
            Self::TlsCpu => "a TLS handshake for each request: CPU us",
            Self::ResumedRate => "a resumed TLS session for each request: requests/s",
            Self::ResumedCpu => "a resumed TLS session for each request: CPU us",
            Self::PacedP50 => "open loop: p50 ms",
            Self::PacedP99 => "open loop: p99 ms",
            Self::PacedP999 => "open loop: p99.9 ms",
            Self::PacedCpu => "open loop: CPU us per request",
            Self::H2Rate => "HTTP/2: requests/s",
            Self::H2Cpu => "HTTP/2: CPU us per request",
            Self::GrpcRate => "gRPC: calls/s",
            Self::GrpcCpu => "gRPC: CPU us per call",
            Self::MessageRate => "WebSocket: round trips/s",
            Self::MessageCpu => "WebSocket: CPU us per round trip",
            Self::TcpRate => "TCP: round trips/s",
            Self::TcpCpu => "TCP: CPU us per round trip",
            Self::MediumCpu => "100 KiB bodies: CPU s per GB",
            Self::BulkSpeed => "one stream of 1 GiB: Gbit/s",
            Self::BulkCpu => "one stream of 1 GiB: CPU s per GB",
            Self::ManySpeed => "16 streams: Gbit/s",
            Self::ManyCpu => "16 streams: CPU s per GB",
            Self::FarSpeed => "one stream of 8 MiB: Mbit/s",
            Self::FarCpu => "one stream of 8 MiB: CPU s per GB",
            Self::FarRate => "100 KiB, 16 at a time: requests/s",
            Self::FarP50 => "100 KiB, 16 at a time: p50 ms",
            Self::FarP99 => "100 KiB, 16 at a time: p99 ms",
            Self::IdleMemory => "idle: MiB of both ends",
            Self::BusyMemory => "after the load: MiB of both ends",
            Self::Descriptors => "after the load: descriptors",
        }
    }

    /// Whether more is better.
    pub fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::SmallRate
                | Self::PostRate
                | Self::HttpsRate
                | Self::FreshRate
                | Self::TlsRate
                | Self::ResumedRate
                | Self::H2Rate
                | Self::GrpcRate
                | Self::MessageRate
                | Self::TcpRate
                | Self::BulkSpeed
                | Self::ManySpeed
                | Self::FarSpeed
                | Self::FarRate
        )
    }

    /// Digits behind the point.
    pub fn digits(self) -> usize {
        match self {
            Self::SmallRate
            | Self::PostRate
            | Self::HttpsRate
            | Self::FreshRate
            | Self::TlsRate
            | Self::ResumedRate
            | Self::H2Rate
            | Self::GrpcRate
            | Self::MessageRate
            | Self::TcpRate
            | Self::Descriptors => 0,
            Self::SmallCpu
            | Self::PostCpu
            | Self::HttpsCpu
            | Self::FreshCpu
            | Self::TlsCpu
            | Self::ResumedCpu
            | Self::PacedCpu
            | Self::H2Cpu
            | Self::GrpcCpu
            | Self::MessageCpu
            | Self::TcpCpu
            | Self::FarSpeed
            | Self::FarRate
            | Self::FarP50
            | Self::FarP99
            | Self::IdleMemory
            | Self::BusyMemory => 1,
            Self::MediumCpu | Self::BulkSpeed | Self::BulkCpu | Self::ManySpeed | Self::ManyCpu | Self::FarCpu => 2,
            Self::SmallP99 | Self::PacedP50 | Self::PacedP99 | Self::PacedP999 => 3,
        }
    }
}

/// Least, median and greatest of the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Of all rounds.
    pub least: f64,
    /// The middle one.
    pub median: f64,
    /// Of all rounds.
    pub greatest: f64,
}

/// Values by chain and figure.
#[derive(Debug, Default)]
pub struct Results(BTreeMap<(&'static str, Figure), Vec<f64>>);

impl Results {
    /// Adds a value of a round.
    pub fn note(&mut self, chain: &'static str, figure: Figure, value: f64) {
        self.0.entry((chain, figure)).or_default().push(value);
    }

    /// What the rounds gave.
    pub fn spread(&self, chain: &str, figure: Figure) -> Option<Spread> {
        let mut values = self.0.iter().find(|((name, of), _)| *name == chain && *of == figure)?.1.clone();
        values.sort_by(f64::total_cmp);
        Some(Spread { least: *values.first()?, median: values[values.len() / 2], greatest: *values.last()? })
    }

    /// The best of some chains: its name and median.
    pub fn best<'a>(&self, chains: impl IntoIterator<Item = &'a str>, figure: Figure) -> Option<(&'a str, f64)> {
        let medians = chains.into_iter().filter_map(|name| Some((name, self.spread(name, figure)?.median)));
        if figure.more_is_better() { medians.max_by(|a, b| a.1.total_cmp(&b.1)) } else { medians.min_by(|a, b| a.1.total_cmp(&b.1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_greatest_rate_and_the_least_cost() {
        let mut results = Results::default();
        for (chain, rate, cost) in [("a", 10.0, 3.0), ("b", 20.0, 2.0), ("c", 15.0, 1.0)] {
            results.note(chain, Figure::SmallRate, rate);
            results.note(chain, Figure::SmallCpu, cost);
        }
        assert_eq!(results.best(["a", "b", "c"], Figure::SmallRate), Some(("b", 20.0)));
        assert_eq!(results.best(["a", "b", "c"], Figure::SmallCpu), Some(("c", 1.0)));
        assert_eq!(results.best(["a"], Figure::BulkCpu), None);
    }

    #[test]
    fn a_spread_is_of_all_rounds() {
        let mut results = Results::default();
        [3.0, 1.0, 2.0].into_iter().for_each(|value| results.note("a", Figure::BulkCpu, value));
        assert_eq!(results.spread("a", Figure::BulkCpu), Some(Spread { least: 1.0, median: 2.0, greatest: 3.0 }));
    }

    #[test]
    fn every_figure_is_in_the_table_once() {
        let labels: std::collections::BTreeSet<&str> = Figure::ALL.iter().map(|figure| figure.label()).collect();
        assert_eq!(labels.len(), Figure::ALL.len(), "{labels:?}");
    }
}
