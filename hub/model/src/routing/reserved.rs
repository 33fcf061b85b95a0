//! Fields that one configuration keeps for the claims of verified tokens: no client's own copy of one reaches a workload.
//!
//! They are taken from every request, whatever rule it matches, under every spelling, in head and trailers. The field of a
//! token itself stays, but not its aliases. Pure.

use http::HeaderName;

use super::fields::same;
use super::policy::RuleJwt;

/// The fields. Nearly always none, or a few.
#[derive(Debug, Clone, Default)]
pub struct Reserved {
    fields: Vec<Field>,
    /// A bit for each length of a name: most fields of a request are told apart by it alone.
    lengths: u64,
}

#[derive(Debug, Clone)]
struct Field {
    name: HeaderName,
    /// Clients may send it, spelt like that.
    of_token: bool,
}

impl Reserved {
    /// The fields of all rules.
    pub fn of<'j>(rules: impl IntoIterator<Item = &'j RuleJwt>) -> Self {
        let mut reserved = Self::default();
        for jwt in rules {
            jwt.headers.iter().for_each(|(_, name)| reserved.add(name, false));
            reserved.add(&jwt.provider.terms.header, true);
        }
        reserved
    }

    fn add(&mut self, name: &HeaderName, of_token: bool) {
        match self.fields.iter_mut().find(|field| field.name == *name) {
            // A claim's field is nobody's token.
            Some(field) => field.of_token &= of_token,
            None => self.fields.push(Field { name: name.clone(), of_token }),
        }
        self.lengths |= length(name.as_str().as_bytes());
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether no client may send this field in a head. `name` is lower case, as header maps keep it.
    pub fn in_head(&self, name: &[u8]) -> bool {
        self.find(name).is_some_and(|field| !(field.of_token && field.name.as_str().as_bytes() == name))
    }

    /// Whether no client may send this field in trailers.
    pub fn in_trailers(&self, name: &[u8]) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &[u8]) -> Option<&Field> {
        if self.lengths & length(name) == 0 {
            return None;
        }
        self.fields.iter().find(|field| same(name, field.name.as_str()))
    }
}

fn length(name: &[u8]) -> u64 {
    1 << (name.len() % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_claims_field_is_kept_and_of_a_tokens_field_every_alias() {
        let mut reserved = Reserved::default();
        assert!(reserved.is_empty() && !reserved.in_head(b"x-claim-sub"));
        reserved.add(&HeaderName::from_static("x-token"), true);
        reserved.add(&HeaderName::from_static("x-claim-sub"), false);
        for name in ["x-claim-sub", "x_claim_sub", "x-claim_sub", "x.claim.sub", "x_token"] {
            assert!(reserved.in_head(name.as_bytes()) && reserved.in_trailers(name.as_bytes()), "{name}");
        }
        assert!(!reserved.in_head(b"x-token") && reserved.in_trailers(b"x-token"));
        for name in ["x-claim-su", "x-claim-subs", "y-claim-sub", "xxclaimxsub", "x-claims-ub", ""] {
            assert!(!reserved.in_head(name.as_bytes()) && !reserved.in_trailers(name.as_bytes()), "{name}");
        }
        reserved.add(&HeaderName::from_static("x-token"), false);
        assert!(reserved.in_head(b"x-token"), "a claim of one rule is nobody's token");
    }
}
