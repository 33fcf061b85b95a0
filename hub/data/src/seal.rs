//! What a session cookie holds, and how it is sealed: nobody but the hub reads it, and what anybody changed is refused.
//!
//! The cookie's name is bound in (`figspan_tunnel::seal`), so that the cookie of one rule is not taken for another's.
//! Pure but for the nonce.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
pub use figspan_tunnel::seal::KEY;
use figspan_tunnel::seal::{NONCE, SealKey, TAG};

/// Keys that open cookies, the first of which seals.
pub const MAX_KEYS: usize = 4;

const VERSION: u8 = 1;
const PLAIN: usize = 33;
const SEALED: usize = NONCE + PLAIN + TAG;

/// Length of a cookie's value: base64 without padding.
const VALUE: usize = (SEALED * 4).div_ceil(3);

/// A session: where a client belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Identity of the backend.
    pub backend: u64,
    /// Identity of the endpoint.
    pub endpoint: u64,
    /// A random number of its own.
    pub id: u64,
    /// Unix time in seconds of its begin.
    pub born: u32,
    /// Unix time in seconds of its end, unless it is renewed.
    pub ends: u32,
}

/// Seals and opens sessions. Shared by all shards; holds no state but keys.
#[derive(Debug)]
pub struct Sealer(Vec<SealKey>);

impl Sealer {
    /// The first key seals, each opens; at most [`MAX_KEYS`] are used.
    pub fn new(keys: &[[u8; KEY]]) -> Self {
        Self(keys.iter().take(MAX_KEYS).map(SealKey::new).collect())
    }

    /// The value of the cookie of that name. `None` where there is no key.
    pub fn seal(&self, name: &str, session: &Session) -> Option<String> {
        let mut plain = Vec::with_capacity(PLAIN + TAG);
        plain.push(VERSION);
        for number in [session.backend, session.endpoint, session.id] {
            plain.extend_from_slice(&number.to_be_bytes());
        }
        plain.extend_from_slice(&session.born.to_be_bytes());
        plain.extend_from_slice(&session.ends.to_be_bytes());
        let nonce = self.0.first()?.seal(name.as_bytes(), &mut plain)?;
        let mut sealed = nonce.to_vec();
        sealed.append(&mut plain);
        Some(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// What a cookie of that name holds; `None` where this hub has not made it.
    pub fn open(&self, name: &str, value: &[u8]) -> Option<Session> {
        if value.len() != VALUE {
            return None;
        }
        let mut sealed = [0; SEALED];
        if BASE64_URL_SAFE_NO_PAD.decode_slice(value, &mut sealed).ok()? != SEALED {
            return None;
        }
        let (nonce, bytes) = sealed.split_first_chunk::<NONCE>()?;
        self.0.iter().find_map(|key| {
            let mut bytes = <[u8; PLAIN + TAG]>::try_from(bytes).ok()?;
            read(key.open(name.as_bytes(), *nonce, &mut bytes)?)
        })
    }
}

fn read(plain: &[u8]) -> Option<Session> {
    let (&version, rest) = plain.split_first()?;
    let (backend, rest) = rest.split_first_chunk()?;
    let (endpoint, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (born, rest) = rest.split_first_chunk()?;
    let number = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
    (version == VERSION).then_some(())?;
    Some(Session {
        backend: number(backend),
        endpoint: number(endpoint),
        id: number(id),
        born: u32::from_be_bytes(*born),
        ends: u32::from_be_bytes(rest.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SESSION: Session = Session { backend: 1, endpoint: u64::MAX, id: 3, born: 4, ends: u32::MAX };

    #[test]
    fn what_is_sealed_opens_with_any_of_the_keys_and_under_its_own_name_only() {
        let (old, new) = (Sealer::new(&[[1; KEY]]), Sealer::new(&[[2; KEY], [1; KEY]]));
        let value = old.seal("a", &SESSION).unwrap();
        assert_eq!((old.open("a", value.as_bytes()), new.open("a", value.as_bytes())), (Some(SESSION), Some(SESSION)));
        assert_eq!(old.open("b", value.as_bytes()), None);
        let value = new.seal("a", &SESSION).unwrap();
        assert_eq!((old.open("a", value.as_bytes()), new.open("a", value.as_bytes())), (None, Some(SESSION)));
        assert_eq!(Sealer::new(&[]).seal("a", &SESSION), None);
    }

    #[test]
    fn two_cookies_of_one_place_have_nothing_in_common() {
        let sealer = Sealer::new(&[[1; KEY]]);
        let (one, two) = (sealer.seal("a", &SESSION).unwrap(), sealer.seal("a", &SESSION).unwrap());
        let same = one.bytes().zip(two.bytes()).filter(|(one, two)| one == two).count();
        assert!(same < 20, "{same} characters of {} agree", one.len());
    }

    proptest! {
        #[test]
        fn a_changed_cookie_is_refused(at in 0..VALUE, to: u8, cut in 0..VALUE) {
            let sealer = Sealer::new(&[[1; KEY]]);
            let mut value = sealer.seal("a", &SESSION).unwrap().into_bytes();
            prop_assert_eq!(value.len(), VALUE);
            prop_assert_eq!(sealer.open("a", &value[..cut]), None);
            let before = std::mem::replace(&mut value[at], to);
            prop_assert_eq!(sealer.open("a", &value).is_some(), before == to);
        }

        #[test]
        fn no_value_makes_it_panic(value: Vec<u8>) {
            prop_assert_eq!(Sealer::new(&[[1; KEY]]).open("a", &value), None);
        }
    }
}
