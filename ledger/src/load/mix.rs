//! Which request each number is. Pure: the same number is always the same request but for its id.

use bytes::Bytes;

use crate::chunks::Chunks;
use crate::join::sum;
use crate::verb::Verb;

/// Largest body that every hub keeps for another try (its default is 64 KiB; the head does not count).
const KEPT: usize = 60 * 1024;

/// Users of the mix of everything. Each brings its name and the cookies that it was given.
const USERS: u64 = 64;

/// What a load is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// GETs and, every third, a POST of an order; HTTP/1.1.
    Orders,
    /// Every method; HTTP/1.1 and HTTP/2 in turn; bodies from nothing to 300 KiB, with and without a length; users with cookies.
    Everything,
}

/// One request.
pub(super) struct Ask {
    pub(super) id: u64,
    /// Whose it is, where it is anybody's.
    pub(super) user: Option<u64>,
    pub(super) verb: Verb,
    /// Over HTTP/2.
    pub(super) h2: bool,
    pub(super) body: Bytes,
    /// Its length is not announced.
    pub(super) parts: bool,
}

impl Ask {
    pub(super) fn chunks(&self) -> Chunks {
        if self.parts { Chunks::parts(self.body.clone()) } else { Chunks::whole(self.body.clone()) }
    }

    pub(super) fn replayable(&self) -> bool {
        self.body.len() <= KEPT
    }
}

/// The request of that number.
pub(super) fn ask(mix: Option<Mix>, id: u64, number: u64) -> Ask {
    let plain = |verb, body| Ask { id, user: None, verb, h2: false, body, parts: false };
    match mix {
        None => plain(Verb::Get, Bytes::new()),
        Some(Mix::Orders) if number % 3 == 1 => {
            plain(Verb::Post, format!("order {id:016x} ").repeat(1 + usize::try_from(id % 40).unwrap_or(0)).into())
        }
        Some(Mix::Orders) => plain(Verb::Get, Bytes::new()),
        Some(Mix::Everything) => {
            let dice = sum(&number.to_be_bytes());
            let verb = match dice % 100 {
                0..40 => Verb::Get,
                40..45 => Verb::Head,
                45..75 => Verb::Post,
                75..85 => Verb::Put,
                85..93 => Verb::Delete,
                _ => Verb::Patch,
            };
            let length = match (verb.has_body(), (dice >> 8) % 100) {
                (false, _) => 0,
                (true, 0..80) => (dice >> 16) % 4096,
                (true, 80..95) => (dice >> 16) % (40 * 1024),
                // More than a hub keeps for another try.
                (true, _) => 100 * 1024 + (dice >> 16) % (200 * 1024),
            };
            let body = (0..length).map(|at| (id.wrapping_mul(17).wrapping_add(at.wrapping_mul(13)) % 253) as u8).collect();
            let user = Some((dice >> 48) % USERS);
            Ask { id, user, verb, h2: (dice >> 40).is_multiple_of(2), body, parts: verb.has_body() && (dice >> 41).is_multiple_of(3) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mix_has_everything_in_it_and_never_changes() {
        let asks: Vec<Ask> = (0..2000).map(|number| ask(Some(Mix::Everything), number, number)).collect();
        for verb in Verb::ALL {
            for h2 in [false, true] {
                assert!(asks.iter().any(|ask| ask.verb == verb && ask.h2 == h2), "{verb:?} {h2}");
            }
            assert_eq!(asks.iter().any(|ask| ask.verb == verb && ask.parts), verb.has_body(), "{verb:?}");
        }
        assert!(asks.iter().any(|ask| ask.verb == Verb::Put && !ask.replayable()));
        let again = ask(Some(Mix::Everything), 7, 7);
        assert_eq!((again.verb, again.body.clone()), (asks[7].verb, asks[7].body.clone()));
    }
}
