//! (to be written)
/// x
pub struct Metrics;
