//! Paths into JSON that say what a comparison leaves out: `$.updated_at`, `$.items[*].id`, `$.links.*`.

use std::str::FromStr;

/// Longest path, in steps.
const MAX_STEPS: usize = 32;

/// A path from the top of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPath(pub Vec<Step>);

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A field of an object.
    Field(String),
    /// Any field of an object.
    AnyField,
    /// An element of a list, from 0.
    Element(usize),
    /// Any element of a list.
    AnyElement,
}

/// Why a text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It begins with something else.
    #[error("it does not begin with $")]
    NoRoot,
    /// It is `$` alone.
    #[error("it names the whole document")]
    Everything,
    /// A step is none.
    #[error("a step is neither .name, .*, [n] nor [*]")]
    BadStep,
    /// It is too long.
    #[error("it has more than 32 steps")]
    TooLong,
}

impl FromStr for JsonPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        let mut rest = text.strip_prefix('$').ok_or(BadPath::NoRoot)?;
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, behind) = if let Some(inner) = rest.strip_prefix('[') {
                let (inner, behind) = inner.split_once(']').ok_or(BadPath::BadStep)?;
                let element = || inner.parse().map(Step::Element).map_err(|_| BadPath::BadStep);
                (if inner == "*" { Step::AnyElement } else { element()? }, behind)
            } else {
                let name = rest.strip_prefix('.').ok_or(BadPath::BadStep)?;
                let (name, behind) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
                match name {
                    "" => return Err(BadPath::BadStep),
                    "*" => (Step::AnyField, behind),
                    name => (Step::Field(name.to_owned()), behind),
                }
            };
            if steps.len() == MAX_STEPS {
                return Err(BadPath::TooLong);
            }
            steps.push(step);
            rest = behind;
        }
        if steps.is_empty() { Err(BadPath::Everything) } else { Ok(Self(steps)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_read_as_people_write_them_and_errors_say_why() {
        let path: JsonPath = "$.items[*].links.*[3]".parse().unwrap();
        let field = |name: &str| Step::Field(name.to_owned());
        assert_eq!(path.0, [field("items"), Step::AnyElement, field("links"), Step::AnyField, Step::Element(3)]);
        for (text, error) in [
            ("items", BadPath::NoRoot),
            ("$", BadPath::Everything),
            ("$items", BadPath::BadStep),
            ("$.", BadPath::BadStep),
            ("$[x]", BadPath::BadStep),
            ("$[1", BadPath::BadStep),
        ] {
            assert_eq!(text.parse::<JsonPath>(), Err(error), "{text}");
        }
        assert_eq!(format!("${}", ".a".repeat(33)).parse::<JsonPath>(), Err(BadPath::TooLong));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\$?[.\\[\\]*a-z0-9\u{e9}]{0,60}") {
            let _ = text.parse::<JsonPath>();
        }
    }
}
