//! The chains that are compared. Each file sets up one kind of peer as its own documentation advises for this work: keep-alive to the
//! workload, mutual TLS between the two ends where it has that, no access log, two workers.

pub mod figspan;
mod haproxy;
mod nginx;
mod rathole;
mod rusnel;
mod traefik;

use crate::bed::Bed;
use crate::chain::{Chain, Fronts, Kind};
use crate::origin::Addresses;

/// What came of starting a chain.
pub enum Started {
    /// It runs.
    Running(Chain),
    /// Its program is not installed, or does not work here: why.
    Absent(&'static str, String),
}

type Start = fn(&Bed, Addresses) -> anyhow::Result<Option<Chain>>;

/// Every chain, in the order of the table: name, and how it starts (`None`: its program is not installed).
const ALL: &[(&str, Start)] = &[
    ("direct", |_, origin| Ok(Some(direct(origin)))),
    ("figspan", figspan::start),
    ("nginx pair, mTLS", nginx::start),
    ("HAProxy pair, mTLS", haproxy::start),
    ("Traefik pair, mTLS", traefik::start),
    ("Traefik pair, mTLS, fast proxy", traefik::start_fast),
    ("rathole, TLS", rathole::start_tls),
    ("rathole, Noise", rathole::start_noise),
    ("rusnel, QUIC", rusnel::start),
];

/// Peers that no registry serves, so that nothing here could try a set-up of them: who asks for them hears why they are missing.
const UNSERVED: &[(&str, &str)] = &[("frp, QUIC", "the Go module proxy refuses its module; rusnel stands for tunnels over QUIC")];

/// Starts those whose name contains one of `only` (all when it is empty; direct always).
pub fn start(bed: &Bed, origin: Addresses, only: &[String]) -> Vec<Started> {
    let wanted =
        |name: &str| only.is_empty() || name == "direct" || only.iter().any(|part| name.to_lowercase().contains(&part.to_lowercase()));
    let started = ALL.iter().filter(|(name, _)| wanted(name)).map(|(name, start)| match start(bed, origin) {
        Ok(Some(chain)) => Started::Running(chain),
        Ok(None) => Started::Absent(name, "not installed".into()),
        Err(error) => Started::Absent(name, format!("{error:#}")),
    });
    let unserved = UNSERVED.iter().filter(|(name, _)| wanted(name)).map(|(name, why)| Started::Absent(name, (*why).to_owned()));
    started.chain(unserved).collect()
}

fn direct(origin: Addresses) -> Chain {
    let fronts = Fronts {
        http: origin.http,
        https: None,
        h2: None,
        websocket: Some(origin.websocket),
        grpc: Some(origin.grpc),
        tcp: Some(origin.tcp),
    };
    Chain::of("direct", Kind::Direct, fronts, Vec::new())
}
