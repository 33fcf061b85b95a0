//! When connections want to be looked at again. One heap for an endpoint, so that a thousand idle connections cost one timer.
//!
//! A connection's deadline moves with nearly every packet, mostly to later. Only an earlier one is entered; an entry that comes
//! up too early is entered again with the deadline of then.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

/// Deadlines of connections, by their number.
#[derive(Debug, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<(Instant, usize)>>);

impl Timers {
    /// Enters a connection. `armed` is the connection's own note of its earliest entry.
    pub(crate) fn arm(&mut self, number: usize, deadline: Option<Instant>, armed: &mut Option<Instant>) {
        let Some(deadline) = deadline else { return };
        if armed.is_none_or(|armed| deadline < armed) {
            *armed = Some(deadline);
            self.0.push(Reverse((deadline, number)));
        }
    }

    /// The earliest entry.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes an entry that is due.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(Instant, usize)> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse(entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_earlier_deadlines_are_entered() {
        let (start, mut timers, mut armed) = (Instant::now(), Timers::default(), None);
        let at = |seconds| start + Duration::from_secs(seconds);
        timers.arm(1, Some(at(5)), &mut armed);
        timers.arm(1, Some(at(9)), &mut armed);
        timers.arm(1, None, &mut armed);
        assert_eq!((timers.0.len(), armed, timers.next()), (1, Some(at(5)), Some(at(5))));
        timers.arm(1, Some(at(3)), &mut armed);
        timers.arm(2, Some(at(4)), &mut None);
        assert_eq!(timers.due(at(2)), None);
        let due: Vec<_> = std::iter::from_fn(|| timers.due(at(5))).map(|(_, number)| number).collect();
        assert_eq!(due, [1, 2, 1]);
    }
}
