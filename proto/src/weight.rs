//! Weights: what an operator asks for. What comes of it is called a share.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A share asked for, relative to its neighbours. Zero means *drain*. Bounds are those of Gateway API's `weight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

/// A weight above the largest that Gateway API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("weight {0} is out of range; use 0 (drain) to 1000000")]
pub struct WeightError(u64);

impl Weight {
    /// Drain: no new request and no new session.
    pub const ZERO: Self = Self(0);
    /// What an uplink or service has when nobody says otherwise.
    pub const DEFAULT: Self = Self(100);
    /// The largest weight.
    pub const MAX: Self = Self(1_000_000);

    /// The weight as a number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether the weight asks for a drain.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl TryFrom<u32> for Weight {
    type Error = WeightError;
    fn try_from(weight: u32) -> Result<Self, WeightError> {
        if weight <= Self::MAX.0 { Ok(Self(weight)) } else { Err(WeightError(weight.into())) }
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> u32 {
        weight.0
    }
}

impl FromStr for Weight {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number: u32 = text.parse().map_err(|_| format!("`{text}` is not a weight; use a whole number from 0 (drain) to 1000000"))?;
        Self::try_from(number).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
