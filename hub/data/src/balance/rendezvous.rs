//! Weighted rendezvous hashing: each candidate draws a number from the key and its own identity; the best for its weight wins.
//!
//! A change of one weight moves only keys to or from that candidate: raising it from 10 to 25 % moves the added share. The
//! draw is `-ln(u) / weight` and the least wins (an exponential race), which gives each its share exactly. The logarithm is
//! our own, in basic operations that IEEE 754 defines to the bit, so that all machines and versions agree; golden vectors in
//! the tests hold it in place.

use std::f64::consts::{LN_2, SQRT_2};

/// Spreads a number over all bits (the finalizer of SplitMix64); one to one.
pub const fn mix(x: u64) -> u64 {
    let x = all_but_last_step(x);
    x ^ (x >> LAST_SHIFT)
}

const LAST_SHIFT: u32 = 31;

const fn all_but_last_step(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
}

/// Bits of a draw: with the half that keeps it from 0 and 1 they fit an `f64` exactly.
const BITS: u32 = 52;

/// Which of the candidates, each with identity and weight, wins a key. `takes` is asked only of those that would win.
pub(super) fn highest(key: u64, candidates: impl Iterator<Item = (u64, u64)>, takes: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut best, mut winner) = (f64::INFINITY, None);
    // -ln(u) is at least 1 - u: a candidate whose `1 - u` is too large for its weight has lost already, without a logarithm and
    // without a fraction. The last step of the mix moves no more than the low bits, so that this look can do without it too.
    let mut reach = u64::MAX;
    for (at, (id, weight)) in candidates.enumerate() {
        let almost = all_but_last_step(key ^ id);
        if !almost > reach.saturating_mul(weight) || weight == 0 {
            continue;
        }
        let drawn = (almost ^ (almost >> LAST_SHIFT)) >> (64 - BITS);
        let time = -ln(drawn) / weight as f64;
        if time < best && takes(at) {
            (best, winner) = (time, Some(at));
            reach = ((best * UNIT) as u64).saturating_add(SLACK);
        }
    }
    winner
}

/// What 1 is in units of 2^-64.
const UNIT: f64 = 18_446_744_073_709_551_616.0;

/// Covers what the last step of the mix moves (less than 2^33), the bits below a draw, and rounding: so nobody is left out who
/// could win.
const SLACK: u64 = 1 << 34;

/// Coefficients of artanh, the last first.
const SERIES: [f64; 11] =
    [1.0 / 21.0, 1.0 / 19.0, 1.0 / 17.0, 1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0];

/// Natural logarithm of `(drawn + 1/2) / 2^52`; below 0. Precise to a few units in the last place.
fn ln(drawn: u64) -> f64 {
    let u = (drawn as f64 + 0.5) / (1u64 << BITS) as f64;
    let bits = u.to_bits();
    let (mut exponent, mut mantissa) = ((bits >> 52) as i32 - 1023, f64::from_bits(bits & ((1 << 52) - 1) | (1023 << 52)));
    if mantissa > SQRT_2 {
        (exponent, mantissa) = (exponent + 1, mantissa / 2.0);
    }
    // ln m = 2 artanh((m - 1) / (m + 1)), whose argument is at most 0.172 here.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = SERIES.iter().fold(0.0, |sum, term| sum * square + term);
    f64::from(exponent) * LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests;
