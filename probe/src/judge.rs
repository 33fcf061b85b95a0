//! Rise and fall: turns single checks into a verdict. Pure.

use figspan_proto::control::Health;

/// The state of one workload's checks.
#[derive(Debug)]
pub struct Judge {
    health: Health,
    rise: u32,
    fall: u32,
    /// Checks in a row that speak against `health`.
    against: u32,
}

impl Judge {
    /// A judge who knows what held so far; [`Health::Unknown`] before the first check.
    pub fn new(health: Health, rise: u32, fall: u32) -> Self {
        Self { health, rise, fall, against: 0 }
    }

    /// The verdict now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes one check's result; returns the verdict if it changed. The first of all decides alone.
    pub fn record(&mut self, passed: bool) -> Option<Health> {
        let (says, needed) = match (passed, self.health) {
            (true, Health::Unknown) => (Health::Ready, 1),
            (false, Health::Unknown) => (Health::Down, 1),
            (true, _) => (Health::Ready, self.rise),
            (false, _) => (Health::Down, self.fall),
        };
        if says == self.health {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.health = says;
        Some(says)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_check_decides_alone() {
        assert_eq!(Judge::new(Health::Unknown, 5, 5).record(true), Some(Health::Ready));
        assert_eq!(Judge::new(Health::Unknown, 5, 5).record(false), Some(Health::Down));
    }

    #[test]
    fn it_takes_fall_failures_in_a_row_to_fall_and_rise_successes_to_rise() {
        let mut judge = Judge::new(Health::Ready, 2, 3);
        assert_eq!([false, false, true, false, false].map(|passed| judge.record(passed)), [None; 5]);
        assert_eq!(judge.record(false), Some(Health::Down));
        assert_eq!([true, false, true].map(|passed| judge.record(passed)), [None; 3]);
        assert_eq!(judge.record(true), Some(Health::Ready));
        assert_eq!(judge.health(), Health::Ready);
    }
}
