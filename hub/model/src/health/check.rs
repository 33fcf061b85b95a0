//! What the hub's own checks say about an address of a service. Written by the one checker of a hub, read by all shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::gate::{Gate, Why};
use crate::moment::Moment;

const READY: u8 = 1;
const DOWN: u8 = 2;

/// The verdict of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checked {
    /// No check has ended yet.
    #[default]
    Unknown,
    /// It passed.
    Ready,
    /// It failed.
    Down,
}

/// An endpoint's long-lived verdict.
#[derive(Debug, Default)]
pub struct Check {
    verdict: AtomicU8,
    since: AtomicU64,
    /// For people; shards never read it.
    reason: ArcSwapOption<String>,
}

impl Check {
    /// The verdict now.
    pub fn verdict(&self) -> Checked {
        match self.verdict.load(Ordering::Acquire) {
            READY => Checked::Ready,
            DOWN => Checked::Down,
            _ => Checked::Unknown,
        }
    }

    /// Why it is down; empty otherwise.
    pub fn reason(&self) -> Arc<String> {
        self.reason.load_full().unwrap_or_default()
    }

    /// Since when the verdict holds.
    pub fn since(&self) -> Moment {
        Moment::from_millis(self.since.load(Ordering::Acquire))
    }

    /// Sets the verdict.
    pub fn set(&self, verdict: Checked, reason: String, now: Moment) {
        let changed = verdict != self.verdict();
        self.reason.store((!reason.is_empty()).then(|| Arc::new(reason)));
        if changed {
            self.since.store(now.millis(), Ordering::Release);
        }
        let word = match verdict {
            Checked::Unknown => 0,
            Checked::Ready => READY,
            Checked::Down => DOWN,
        };
        self.verdict.store(word, Ordering::Release);
    }

    /// Whether work may pass. An address that was not checked yet is better than none.
    pub fn gate(&self) -> Gate {
        match self.verdict() {
            Checked::Ready => Gate::Open,
            Checked::Unknown => Gate::LastResort(Why::Unchecked),
            Checked::Down => Gate::Shut(Why::Unready),
        }
    }
}
