//! Hop `jwt`: tokens whose signatures a shard has checked, so that a client's next request costs a hash in place of a check.
//!
//! Known by a hash over the token, the keys that verified it and the claims that were read of it: other keys, or another rule's
//! claims, are another hash, and a reload that changes neither forgets nothing. Tokens themselves are not kept. Only what
//! verified is remembered, so that nobody can push others out with tokens of their own making; what is used least lately gives
//! way. Belongs to one shard: no lock.

use std::cell::RefCell;
use std::rc::Rc;

use figspan_model::jwt::{Claims, Keys};
use figspan_model::routing::policy::RuleJwt;
use figspan_tunnel::digest::sha256;

/// Places of a set, which is what one look-up reads.
const WAYS: usize = 8;

/// Sets; with [`WAYS`], the tokens that a shard remembers: those of four thousand people at once. With small claims that is about
/// a MiB, taken as tokens come.
const SETS: usize = 512;

/// Bytes of claims that are remembered of a token; one with more is checked each time. Bounds the whole at 10 MiB.
const MAX_CLAIMS: usize = 2048;

/// The tokens of a shard.
#[derive(Debug, Default)]
pub struct Remembered(RefCell<Table>);

#[derive(Debug, Default)]
struct Table {
    /// Empty until the first token.
    sets: Vec<Vec<Entry>>,
    looks: u64,
}

#[derive(Debug)]
struct Entry {
    mark: [u8; 32],
    claims: Rc<Claims>,
    used: u64,
}

/// What a token is known by. `keys` are those that verify it.
pub fn mark(keys: &Keys, jwt: &RuleJwt, token: &str) -> [u8; 32] {
    sha256(&[&keys.identity()[..], &jwt.digest()[..], token.as_bytes()].concat())
}

impl Remembered {
    /// What the token of that mark claims, where it was verified before.
    pub fn find(&self, mark: &[u8; 32]) -> Option<Rc<Claims>> {
        let mut table = self.0.borrow_mut();
        table.looks += 1;
        let looks = table.looks;
        let entry = table.sets.get_mut(set(mark))?.iter_mut().find(|entry| entry.mark == *mark)?;
        entry.used = looks;
        Some(Rc::clone(&entry.claims))
    }

    /// Remembers what a verified token claims.
    pub fn keep(&self, mark: [u8; 32], claims: Claims) -> Rc<Claims> {
        let claims = Rc::new(claims);
        if claims.size() > MAX_CLAIMS {
            return claims;
        }
        let mut table = self.0.borrow_mut();
        if table.sets.is_empty() {
            table.sets.resize_with(SETS, Vec::new);
        }
        let entry = Entry { mark, claims: Rc::clone(&claims), used: table.looks };
        let set = &mut table.sets[set(&mark)];
        match set.iter().enumerate().min_by_key(|(_, entry)| entry.used) {
            Some((oldest, _)) if set.len() == WAYS => set[oldest] = entry,
            _ => set.push(entry),
        }
        claims
    }
}

fn set(mark: &[u8; 32]) -> usize {
    usize::from(u16::from_be_bytes([mark[0], mark[1]])) % SETS
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(sub: &str) -> Claims {
        Claims::of(json!({ "exp": 1, "sub": sub }).as_object().unwrap(), &["sub".to_owned()]).unwrap()
    }

    fn numbered(n: u32) -> [u8; 32] {
        sha256(&n.to_be_bytes())
    }

    #[test]
    fn as_many_as_there_are_places_are_remembered_however_many_come() {
        let remembered = Remembered::default();
        assert_eq!(remembered.find(&numbered(0)), None);
        for n in 0..20_000 {
            remembered.keep(numbered(n), claims("a"));
        }
        let table = remembered.0.borrow();
        assert!(table.sets.len() == SETS && table.sets.iter().all(|set| set.len() == WAYS));
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_gives_way() {
        let remembered = Remembered::default();
        // All of one set.
        let mark = |n: u8| std::array::from_fn(|at| if at == 31 { n } else { 0 });
        for n in 0..WAYS as u8 {
            remembered.keep(mark(n), claims(&n.to_string()));
        }
        for n in 100..200 {
            assert_eq!(remembered.find(&mark(3)).unwrap().text(0).unwrap(), "3", "used all the time");
            remembered.keep(mark(n), claims("x"));
            assert!(remembered.find(&mark(n)).is_some());
        }
        assert_eq!(remembered.find(&mark(0)), None);
    }

    #[test]
    fn large_claims_are_not_remembered() {
        let remembered = Remembered::default();
        remembered.keep(numbered(1), claims(&"x".repeat(MAX_CLAIMS)));
        remembered.keep(numbered(2), claims(&"x".repeat(MAX_CLAIMS + 1)));
        assert!(remembered.find(&numbered(1)).is_some() && remembered.find(&numbered(2)).is_none());
    }
}
