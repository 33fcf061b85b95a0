//! What control is started with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use figspan_model::routing::Routing;
use figspan_model::snapshot::Publisher;
use figspan_model::state::{Board, Book};
use figspan_proto::name::{ReplicaId, TrustDomain};
use jiff::Timestamp;

/// What control is started with.
#[derive(Debug)]
pub struct ControlConfig {
    /// The domain within which identities are trusted.
    pub trust_domain: TrustDomain,
    /// This replica's id.
    pub replica: ReplicaId,
    /// Directory for what must outlive the process; made with mode 0700 when missing.
    pub state_dir: PathBuf,
    /// A CA given as files; `None` keeps one in the state directory.
    pub ca: Option<CaFiles>,
    /// How long certificates of the hub and of agents live.
    pub certificate_lifetime: Duration,
    /// Where agents shall dial, as grants tell them: `host:port` each.
    pub advertise: Vec<String>,
    /// Addresses that reach this replica and no other; often none.
    pub direct: Vec<SocketAddr>,
    /// Name and version of the software, for people.
    pub software: String,
    /// The routing of the first snapshot.
    pub routing: Arc<Routing>,
    /// Counters and cursors shared with the data path; also says how many shards there are (1 to 128).
    pub book: Arc<Book>,
    /// The writing end of the snapshot. Control is its only user.
    pub publisher: Publisher,
    /// Where shards say which snapshot they work with.
    pub board: Arc<Board>,
    /// The wall clock.
    pub clock: Clock,
}

/// Files of a CA that somebody else looks after (a mounted Secret, cert-manager).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaFiles {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the private key.
    pub key: PathBuf,
}

/// The wall clock, replaceable in tests.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Arc::new(SystemTime::now))
    }

    /// Any other.
    pub fn new(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time.
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }

    /// The time as control reckons with it. A clock outside the years that can be written is taken for the epoch.
    pub(crate) fn stamp(&self) -> Timestamp {
        stamp(self.now())
    }

    /// The time as RFC 3339, to the millisecond.
    pub(crate) fn text(&self) -> String {
        text(self.stamp())
    }
}

/// The same moment in control's type.
pub(crate) fn stamp(at: SystemTime) -> Timestamp {
    Timestamp::try_from(at).unwrap_or_default()
}

/// RFC 3339, to the millisecond.
pub(crate) fn text(at: Timestamp) -> String {
    format!("{at:.3}")
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock(..)")
    }
}
