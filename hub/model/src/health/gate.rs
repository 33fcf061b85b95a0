//! What a gate says: whether work may pass a backend's or an endpoint's breaker, ejection and checks.

use crate::moment::Moment;

/// Whether work may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// As one of the few that try whether it works again.
    Probe,
    /// Only where no endpoint of the backend is better.
    LastResort(Why),
    /// No.
    Shut(Why),
}

/// What stands in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No check has ended yet.
    Unchecked,
    /// The hub's checks fail.
    Unready,
    /// It failed several times in a row.
    Ejected {
        /// When it comes back.
        until: Moment,
    },
    /// Its breaker is open, or half-open with all its probes under way.
    Breaker {
        /// When that may change by itself.
        until: Moment,
    },
}

impl Gate {
    /// The stronger of two.
    pub const fn and(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }

    /// Whether work may pass without need.
    pub const fn is_free(self) -> bool {
        matches!(self, Self::Open | Self::Probe)
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Open => 0,
            Self::Probe => 1,
            Self::LastResort(_) => 2,
            Self::Shut(_) => 3,
        }
    }
}
