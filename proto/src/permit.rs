//! What a certificate says about the grant behind it, so that every hub of its CA may let the agent in.
//!
//! Pure. One line of text with one spelling: layout, when the grant was made, when it was redeemed (Unix microseconds), and the
//! names that it allows. Promises that whatever reads writes back as it was, and that what is too long is not looked into.
//! Another layout gets another extension beside this one, so that older hubs need not understand it.

use std::fmt;
use std::str::FromStr;

use crate::name::{NameError, NamePattern};

/// Most patterns of a grant.
pub const MAX_PATTERNS: usize = 64;
/// Longest permit in bytes: that many patterns of the longest kind, and the numbers before them.
pub const MAX_PERMIT: usize = 4352;
/// The end of the year 9999, beyond which times cannot be written.
const MAX_TIME: u64 = 253_402_207_200_000_000;
const LAYOUT: &str = "1";

/// What a grant allowed whom it let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    /// When the grant was made, Unix microseconds. A revocation after it takes the permit back.
    pub granted: u64,
    /// When it was redeemed, Unix microseconds. Of two permits of one agent the later one counts.
    pub joined: u64,
    /// Names that the agent may advertise; 1 to [`MAX_PATTERNS`].
    pub uplinks: Vec<NamePattern>,
}

/// Why a text is no permit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermitError {
    /// It is longer than any of ours.
    #[error("permit of {0} bytes; the limit is {MAX_PERMIT}")]
    Long(usize),
    /// It is not in the one spelling that permits have.
    #[error("not a permit of a hub")]
    Shape,
    /// A pattern is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LAYOUT} {} {} ", self.granted, self.joined)?;
        for (index, pattern) in self.uplinks.iter().enumerate() {
            write!(f, "{}{pattern}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Permit {
    type Err = PermitError;

    fn from_str(text: &str) -> Result<Self, PermitError> {
        if text.len() > MAX_PERMIT {
            return Err(PermitError::Long(text.len()));
        }
        let mut parts = text.split(' ');
        let (Some(LAYOUT), Some(granted), Some(joined), Some(uplinks), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PermitError::Shape);
        };
        let time = |text: &str| text.parse().ok().filter(|time| *time <= MAX_TIME).ok_or(PermitError::Shape);
        if uplinks.split(',').count() > MAX_PATTERNS {
            return Err(PermitError::Shape);
        }
        let uplinks = uplinks.split(',').map(str::parse).collect::<Result<_, NameError>>()?;
        let permit = Self { granted: time(granted)?, joined: time(joined)?, uplinks };
        // Numbers have other spellings: signs, zeros in front.
        if permit.to_string() == text { Ok(permit) } else { Err(PermitError::Shape) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_permit_reads_back_as_written() {
        let permit = Permit { granted: 1, joined: 2_000_000, uplinks: vec!["shop".parse().unwrap(), "orders-*".parse().unwrap()] };
        assert_eq!(permit.to_string(), "1 1 2000000 shop,orders-*");
        assert_eq!(permit.to_string().parse(), Ok(permit));
    }

    #[test]
    fn the_largest_permit_fits_and_one_more_pattern_does_not() {
        let pattern: NamePattern = format!("{}*", "a".repeat(62)).parse().unwrap();
        let permit = Permit { granted: MAX_TIME, joined: MAX_TIME, uplinks: vec![pattern.clone(); MAX_PATTERNS] };
        assert!(permit.to_string().len() <= MAX_PERMIT);
        assert_eq!(permit.to_string().parse(), Ok(permit.clone()));
        let more = Permit { uplinks: vec!["a".parse().unwrap(); MAX_PATTERNS + 1], ..permit };
        assert_eq!(more.to_string().parse::<Permit>(), Err(PermitError::Shape));
    }

    #[test]
    fn other_spellings_are_refused() {
        for bad in [
            "",
            "1 1 2",
            "1 1 2 ",
            "2 1 2 a",
            "1 01 2 a",
            "1 +1 2 a",
            "1 1 -2 a",
            "1  1 2 a",
            "1 1 2 a ",
            "1 1 2 a b",
            "1 1 2 a,",
            "1 1 2 ,a",
            "1 1 2 A",
            "1 1 2 a\n",
            "1 1 99999999999999999999 a",
            "1 1 253402207200000001 a",
        ] {
            assert!(bad.parse::<Permit>().is_err(), "{bad:?}");
        }
        assert_eq!("x".repeat(MAX_PERMIT + 1).parse::<Permit>(), Err(PermitError::Long(MAX_PERMIT + 1)));
    }

    proptest! {
        #[test]
        fn what_reads_writes_back_as_it_was(text in "1 [0-9+]{1,4} [0-9]{1,20} [a-z*,-]{0,40}|.{0,60}") {
            if let Ok(permit) = text.parse::<Permit>() {
                prop_assert_eq!(permit.to_string(), text);
            }
        }
    }
}
