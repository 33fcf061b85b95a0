//! When a certificate begins, and what its times tell: the arithmetic that signing and reading share. Pure.

use std::time::{Duration, SystemTime};

/// How far before now a certificate begins, unless it lives very short: clocks that are this much behind still accept it.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How far before now a certificate of that lifetime begins: [`CLOCK_TOLERANCE`], or a tenth of the lifetime where that is
/// less, because renewal is reckoned from the whole time of validity. Whole seconds, as certificates count.
pub fn clock_tolerance(lifetime: Duration) -> Duration {
    CLOCK_TOLERANCE.min(Duration::from_secs(lifetime.as_secs() / 10))
}

/// When a leaf that [`crate::ca::Ca::issue`] signed was signed, from its own times. For one that its CA's end cut short, earlier.
pub(crate) fn issued_at(not_before: SystemTime, not_after: SystemTime) -> SystemTime {
    let whole = not_after.duration_since(not_before).unwrap_or_default().as_secs();
    let lifetime = (whole.saturating_sub(CLOCK_TOLERANCE.as_secs())).max((whole * 10).div_ceil(11));
    not_after.checked_sub(Duration::from_secs(lifetime)).unwrap_or(SystemTime::UNIX_EPOCH)
}
