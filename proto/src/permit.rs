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
    /// Services that it may call; at most [`MAX_PATTERNS`], mostly none. They have a text of their own: see [`Permit::calls`].
    pub services: Vec<NamePattern>,
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

impl Permit {
    /// The text of the services, `None` where there are none: beside the permit, so that hubs which know nothing of calls read
    /// the permit as ever.
    pub fn calls(&self) -> Option<String> {
        (!self.services.is_empty()).then(|| format!("{LAYOUT} {}", listed(&self.services)))
    }

    /// The same permit with the services of that text.
    pub fn with_calls(self, text: &str) -> Result<Self, PermitError> {
        if text.len() > MAX_PERMIT {
            return Err(PermitError::Long(text.len()));
        }
        let list = text.strip_prefix(LAYOUT).and_then(|rest| rest.strip_prefix(' ')).ok_or(PermitError::Shape)?;
        Ok(Self { services: patterns(list)?, ..self })
    }
}

impl fmt::Display for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LAYOUT} {} {} {}", self.granted, self.joined, listed(&self.uplinks))
    }
}

fn listed(patterns: &[NamePattern]) -> String {
    let mut list = String::new();
    for pattern in patterns {
        let separator = if list.is_empty() { "" } else { "," };
        list.push_str(&format!("{separator}{pattern}"));
    }
    list
}

fn patterns(list: &str) -> Result<Vec<NamePattern>, PermitError> {
    if list.split(',').count() > MAX_PATTERNS {
        return Err(PermitError::Shape);
    }
    Ok(list.split(',').map(str::parse).collect::<Result<_, NameError>>()?)
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
        let permit = Self { granted: time(granted)?, joined: time(joined)?, uplinks: patterns(uplinks)?, services: Vec::new() };
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
        let permit =
            Permit { granted: 1, joined: 2_000_000, uplinks: vec!["shop".parse().unwrap(), "orders-*".parse().unwrap()], services: vec![] };
        assert_eq!(permit.to_string(), "1 1 2000000 shop,orders-*");
        assert_eq!((permit.to_string().parse(), permit.calls()), (Ok(permit.clone()), None));
        let calling = Permit { services: vec!["billing".parse().unwrap(), "mail-*".parse().unwrap()], ..permit.clone() };
        assert_eq!((calling.to_string(), calling.calls().unwrap().as_str()), (permit.to_string(), "1 billing,mail-*"));
        assert_eq!(permit.with_calls("1 billing,mail-*"), Ok(calling));
    }

    #[test]
    fn services_that_are_none_are_refused() {
        let permit: Permit = "1 1 2 a".parse().unwrap();
        let many = format!("1 {}", vec!["a"; MAX_PATTERNS + 1].join(","));
        for bad in ["", "1", "1 ", "2 a", "1 a,", "1  a", "1 a b", "1 A", &many, &"x".repeat(MAX_PERMIT + 1)] {
            assert!(permit.clone().with_calls(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_largest_permit_fits_and_one_more_pattern_does_not() {
        let pattern: NamePattern = format!("{}*", "a".repeat(62)).parse().unwrap();
        let permit = Permit {
            granted: MAX_TIME,
            joined: MAX_TIME,
            uplinks: vec![pattern.clone(); MAX_PATTERNS],
            services: vec![pattern; MAX_PATTERNS],
        };
        let calls = permit.calls().unwrap();
        assert!(calls.len() <= MAX_PERMIT);
        assert_eq!(Permit { services: vec![], ..permit.clone() }.with_calls(&calls), Ok(permit.clone()));
        let permit = Permit { services: vec![], ..permit };
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
