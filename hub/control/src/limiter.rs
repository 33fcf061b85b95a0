//! How much somebody may do, by key: at once, and per second afterwards. Bounded in memory, whoever comes.

use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// Keys that a limiter remembers. Above it those are forgotten that have their whole burst again; if none has, all is refused.
const KEYS: usize = 20_000;

/// How much an agent may say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Entries at once. Eight shards times 256 uplinks, four times: two processes that reconnect twice.
    pub(crate) burst: u32,
    /// Entries per second afterwards.
    pub(crate) per_second: u32,
    /// How long a tunnel may be over its pace, held back all the while, before it is closed.
    pub(crate) patience: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { burst: 8192, per_second: 1024, patience: Duration::from_secs(5) }
    }
}

/// A rate limit for each of many keys, bounded in memory.
#[derive(Debug)]
pub(crate) struct Limiter<K: Hash + Eq + Clone>(RateLimiter<K, HashMapStateStore<K>, DefaultClock>);

impl<K: Hash + Eq + Clone> Limiter<K> {
    /// So many at once, and so many a second afterwards.
    pub(crate) fn new(burst: u32, per_second: u32) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self(RateLimiter::hashmap(Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst))))
    }

    /// Whether so many are allowed now; else how long to wait. More than the whole burst are taken for the whole burst.
    pub(crate) fn check(&self, key: &K, count: u32) -> Result<(), Duration> {
        if self.0.len() >= KEYS {
            self.0.retain_recent();
            if self.0.len() >= KEYS {
                return Err(Duration::from_secs(1));
            }
        }
        let count = NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        match self.0.check_key_n(key, count) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(later)) => Err(later.wait_time_from(DefaultClock::default().now())),
            Err(capacity) => match self.0.check_key_n(key, NonZeroU32::new(capacity.0).unwrap_or(NonZeroU32::MIN)) {
                Ok(Err(later)) => Err(later.wait_time_from(DefaultClock::default().now())),
                _ => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_a_burst_of_its_own_and_is_told_how_long_to_wait() {
        let limiter = Limiter::new(10, 1);
        assert!(limiter.check(&"a", 10).is_ok());
        let wait = limiter.check(&"a", 1).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
        assert!(limiter.check(&"b", 1000).is_ok(), "more than the burst counts as the burst");
        assert!(limiter.check(&"b", 1).is_err());
    }

    #[test]
    fn more_keys_than_it_remembers_are_refused_not_kept() {
        let limiter = Limiter::new(1, 1);
        let allowed = (0..KEYS + 100).filter(|key| limiter.check(key, 1).is_ok()).count();
        assert!(allowed < KEYS + 100 && limiter.0.len() <= KEYS);
    }
}
