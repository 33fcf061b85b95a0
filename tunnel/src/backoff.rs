//! Pure: how long to wait before the next attempt.
use std::time::Duration;
/// Exponential with full jitter between `floor` and a growing cap.
#[derive(Debug, Clone)]
pub struct Backoff;
impl Backoff {
    /// x
    pub const fn new(floor: Duration, ceiling: Duration) -> Self { todo!() }
    /// Next wait; `random` in 0..1 is given by the caller.
    pub fn next(&mut self, random: f64) -> Duration { todo!() }
    /// After success.
    pub fn reset(&mut self) { todo!() }
}
