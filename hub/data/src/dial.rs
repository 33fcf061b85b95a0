//! (to be written)
/// x
pub struct Dialer;
