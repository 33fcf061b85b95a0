//! What carries a tunnel's datagrams: UDP, or, where a network lets no UDP pass, one TLS connection over TCP.
//!
//! QUIC stays the multiplexer either way, so identities, streams, reset codes and flow control are the same, and a live tunnel
//! may change its carrier as it may change its address (RFC 9000, section 9): with its streams intact. A `link` is one TLS
//! connection that carries datagrams in frames ([`frame`]); a `socket` is what an endpoint takes for its UDP socket; `probe` finds
//! out whether UDP passes. On a hub, datagrams of a link have an `address` of their own kind.
//!
//! Promises that nothing waits unbounded: a link that is full is not writable, one that stands still loses datagrams, as
//! networks do. Must never let one link hold up another, or UDP.

pub(crate) mod address;
pub mod frame;
pub(crate) mod link;
pub(crate) mod probe;
pub(crate) mod socket;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::transport::HANDSHAKE_TIMEOUT;

/// What carries a tunnel's datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// UDP.
    Quic,
    /// TLS 1.3 over TCP.
    Tcp,
}

impl Transport {
    /// Both, in the order of preference.
    pub const ALL: [Self; 2] = [Self::Quic, Self::Tcp];

    /// Its word in settings, status and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which transports an agent may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// UDP where it passes, else TCP.
    #[default]
    Auto,
    /// UDP only.
    Quic,
    /// TCP only.
    Tcp,
}

/// Why a tunnel is on its transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Why {
    /// UDP answered the dial.
    Answered,
    /// The settings ask for it.
    Settings,
    /// UDP did not answer the dial, TCP did.
    Blocked,
    /// UDP fell silent while the tunnel lived, TCP answered.
    Silent,
    /// UDP answers again.
    Again,
    /// UDP had answered, but did not carry the tunnel.
    Relapse,
    /// The TCP connection was lost, and another one answered first.
    Relinked,
}

impl Why {
    /// All of them.
    pub const ALL: [Self; 7] = [Self::Answered, Self::Settings, Self::Blocked, Self::Silent, Self::Again, Self::Relapse, Self::Relinked];

    /// Its word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Settings => "settings",
            Self::Blocked => "blocked",
            Self::Silent => "silent",
            Self::Again => "again",
            Self::Relapse => "relapse",
            Self::Relinked => "relinked",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answered => "UDP answers",
            Self::Settings => "the settings ask for it",
            Self::Blocked => "UDP did not answer the dial; a firewall seems to drop it",
            Self::Silent => "UDP fell silent while the tunnel lived; a firewall seems to drop it",
            Self::Again => "UDP answers again",
            Self::Relapse => "UDP answered probes but did not carry the tunnel",
            Self::Relinked => "the TCP connection was lost and made anew, and UDP does not answer",
        })
    }
}

/// A tunnel's transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Which.
    pub transport: Transport,
    /// Why it is this one.
    pub why: Why,
    /// Since when.
    pub since: SystemTime,
}

impl Carried {
    pub(crate) fn now(transport: Transport, why: Why) -> Self {
        Self { transport, why, since: SystemTime::now() }
    }
}

/// How often the tunnels of an agent came to be on a transport, by reason. Shared by all of them.
#[derive(Debug, Default)]
pub struct Moves([AtomicU64; Why::ALL.len()]);

impl Moves {
    pub(crate) fn count(&self, why: Why) {
        if let Some(index) = Why::ALL.iter().position(|each| *each == why) {
            self.0[index].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often for that reason: dials that were so answered, and moves of live tunnels.
    pub fn of(&self, why: Why) -> u64 {
        Why::ALL.iter().position(|each| *each == why).map_or(0, |index| self.0[index].load(Ordering::Relaxed))
    }
}

/// How often the tunnels of an endpoint of the hub have moved to a transport while they lived.
#[derive(Debug, Default)]
pub struct MovedTo([AtomicU64; Transport::ALL.len()]);

impl MovedTo {
    pub(crate) fn count(&self, to: Transport) {
        self.0[to as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often to that one.
    pub fn of(&self, to: Transport) -> u64 {
        self.0[to as usize].load(Ordering::Relaxed)
    }
}

impl Preference {
    /// Its word in settings.
    pub fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }

    /// The preference of that word.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Auto, Self::Quic, Self::Tcp].into_iter().find(|each| each.word() == word)
    }
}

/// The longest that a TCP connection and its TLS handshake may take.
pub(crate) const LINK_TIMEOUT: std::time::Duration = HANDSHAKE_TIMEOUT;
