//! How many sessions are bound to an endpoint: an honest count in bounded memory.
//!
//! A session falls into one of a fixed number of slots, by its random number; a slot keeps the latest end of its sessions. How
//! many slots have not ended tells how many sessions live, as in linear counting: exactly while they are few, to a percent
//! at a thousand, "at least" beyond thirty thousand. Whatever the number, it is 0 only if no session that was bound lives.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Slots: 16 KiB for an endpoint that ever had a session, nothing for others.
const SLOTS: usize = 4096;

/// Sessions by their end.
#[derive(Debug, Default)]
pub struct Sessions(OnceLock<Box<[AtomicU32]>>);

/// How many sessions live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// About so many; 0 is exact.
    pub sessions: u64,
    /// There may be many more: all slots are taken.
    pub at_least: bool,
}

impl Sessions {
    /// A session was bound here, or seen, and ends at that Unix time in seconds unless it is renewed.
    pub fn bind(&self, session: u64, ends: u32) {
        let slots = self.0.get_or_init(|| (0..SLOTS).map(|_| AtomicU32::new(0)).collect());
        let slot = &slots[session as usize % SLOTS];
        // Looked at first: most requests belong to a session that is known, and then nothing is written.
        if slot.load(Ordering::Relaxed) < ends {
            slot.fetch_max(ends, Ordering::AcqRel);
        }
    }

    /// How many live at that Unix time in seconds.
    pub fn left(&self, now: u32) -> Left {
        let taken = self.0.get().map_or(0, |slots| slots.iter().filter(|slot| slot.load(Ordering::Acquire) > now).count());
        // With every slot taken the estimate would be infinite: half a free slot bounds it.
        let free = (SLOTS - taken) as f64;
        let sessions = (SLOTS as f64 * (SLOTS as f64 / free.max(0.5)).ln()).round() as u64;
        Left { sessions: sessions.max(taken as u64), at_least: taken == SLOTS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as random as those of sessions.
    fn id(n: u64) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes())
    }

    #[test]
    fn it_counts_nearly_exactly_and_falls_to_zero_only_when_all_have_ended() {
        let sessions = Sessions::default();
        assert_eq!(sessions.left(0), Left::default());
        for n in 0..1000 {
            sessions.bind(id(n), 100 + n as u32);
        }
        assert!((970..1030).contains(&sessions.left(50).sessions), "{:?}", sessions.left(50));
        assert!((470..530).contains(&sessions.left(599).sessions), "{:?}", sessions.left(599));
        assert_eq!((sessions.left(1098).sessions, sessions.left(1099).sessions), (1, 0));
    }

    #[test]
    fn a_renewed_session_counts_once_and_an_older_end_changes_nothing() {
        let sessions = Sessions::default();
        for ends in [10, 30, 20] {
            sessions.bind(7, ends);
        }
        assert_eq!((sessions.left(29).sessions, sessions.left(30).sessions), (1, 0));
    }

    #[test]
    fn too_many_to_count_are_said_to_be_so() {
        let sessions = Sessions::default();
        (0..100_000).for_each(|n| sessions.bind(id(n), 10));
        let left = sessions.left(0);
        assert!(left.at_least && left.sessions > 30_000, "{left:?}");
    }
}
