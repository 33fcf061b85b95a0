//! A chain: client, gateway, tunnel, workload. What each kind of it offers at its front, and what its programs cost.

use std::net::SocketAddr;

use crate::bed::Part;
use crate::procs::{Cost, cost};

/// What a chain is, so that like is compared with like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No proxy at all.
    Direct,
    /// Reads HTTP, chooses a backend.
    Gateway,
    /// Carries bytes of a port and knows no HTTP.
    Bytes,
}

impl Kind {
    /// A word for the table.
    pub fn word(self) -> &'static str {
        match self {
            Self::Direct => "-",
            Self::Gateway => "gateway",
            Self::Bytes => "bytes only",
        }
    }
}

/// Where clients go; what a chain cannot carry, or cannot carry as a gateway, is `None`.
#[derive(Debug, Clone, Copy)]
pub struct Fronts {
    /// HTTP/1.1.
    pub http: SocketAddr,
    /// HTTP/1.1 inside TLS, by a certificate of the run's server key.
    pub https: Option<SocketAddr>,
    /// HTTP/2 with prior knowledge, towards the same HTTP/1.1 workload.
    pub h2: Option<SocketAddr>,
    /// WebSocket.
    pub websocket: Option<SocketAddr>,
    /// gRPC.
    pub grpc: Option<SocketAddr>,
    /// TCP.
    pub tcp: Option<SocketAddr>,
}

/// A running chain; its programs end with it.
pub struct Chain {
    /// As in the table.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Where clients go.
    pub fronts: Fronts,
    programs: Programs,
}

/// The programs of a chain, whoever started them: near the client first, near the workload last.
enum Programs {
    Ours(Box<crate::chains::figspan::Pair>),
    Theirs(Vec<Part>),
}

impl Chain {
    /// A chain of programs that this run started.
    pub fn of(name: &'static str, kind: Kind, fronts: Fronts, parts: Vec<Part>) -> Self {
        Self { name, kind, fronts, programs: Programs::Theirs(parts) }
    }

    /// The chain of hub and agent.
    pub fn ours(name: &'static str, fronts: Fronts, pair: crate::chains::figspan::Pair) -> Self {
        Self { name, kind: Kind::Gateway, fronts, programs: Programs::Ours(Box::new(pair)) }
    }

    /// Ends its programs, ours in good order; whether those did.
    pub fn end(self) -> bool {
        match self.programs {
            Programs::Ours(pair) => pair.end(),
            Programs::Theirs(_) => true,
        }
    }

    /// The process id of each program, near the client first.
    pub fn ids(&self) -> Vec<u32> {
        match &self.programs {
            Programs::Ours(pair) => pair.ids().to_vec(),
            Programs::Theirs(parts) => parts.iter().map(Part::id).collect(),
        }
    }

    /// What each program has cost so far, near the client first.
    pub fn costs(&self) -> Vec<Cost> {
        self.ids().into_iter().map(cost).collect()
    }

    /// What all of them have cost together.
    pub fn cost(&self) -> Cost {
        self.costs().into_iter().fold(Cost::default(), |sum, one| sum + one)
    }
}
