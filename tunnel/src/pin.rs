//! Header pins: a client's signed wish to reach one backend, with an end. The hub verifies what `figspanctl pin` signs.
//!
//! `service/orders;expires=1793000000;mac=...`: the target, the end as Unix time in seconds, and HMAC-SHA-256 over both in
//! base64url. A pin says nothing secret; whoever holds it may use it until its end, for the rules that hold its key. Pure: time
//! is an argument.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Shortest key in bytes.
pub const MIN_KEY: usize = 32;

/// Longest key file in bytes.
pub const MAX_KEY: usize = 1024;

/// Longest pin in bytes.
const MAX_PIN: usize = 256;

/// A key that signs pins. Never printed.
#[derive(Clone)]
pub struct PinKey(Arc<Key>);

struct Key {
    bytes: Box<[u8]>,
    key: hmac::Key,
}

/// Why a pin is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unbelieved {
    /// It is none.
    Malformed,
    /// It is for another target.
    Elsewhere,
    /// The key has not signed it.
    Forged,
    /// Its end has passed.
    Expired,
}

impl PinKey {
    /// A key from a file's content, blanks at both ends aside. `None` where it has less than [`MIN_KEY`] or more than
    /// [`MAX_KEY`] bytes.
    pub fn read(content: &[u8]) -> Option<Self> {
        let bytes = content.trim_ascii();
        let key = || hmac::Key::new(hmac::HMAC_SHA256, bytes);
        (MIN_KEY..=MAX_KEY).contains(&bytes.len()).then(|| Self(Arc::new(Key { bytes: bytes.into(), key: key() })))
    }

    /// A pin to a target (`uplink/<name>` or `service/<name>`) that ends at a Unix time in seconds.
    pub fn sign(&self, target: &str, expires: u64) -> String {
        let said = format!("{target};expires={expires}");
        let mac = BASE64_URL_SAFE_NO_PAD.encode(hmac::sign(&self.0.key, &signed(&said)));
        format!("{said};mac={mac}")
    }

    /// Whether a pin is this key's, for that target, and `now` (Unix time in seconds) is before its end.
    pub fn verify(&self, pin: &[u8], target: &str, now: u64) -> Result<(), Unbelieved> {
        let (said, named, expires, mac) = parts(pin).ok_or(Unbelieved::Malformed)?;
        if named != target {
            return Err(Unbelieved::Elsewhere);
        }
        hmac::verify(&self.0.key, &signed(said), &mac).map_err(|_| Unbelieved::Forged)?;
        if now < expires { Ok(()) } else { Err(Unbelieved::Expired) }
    }
}

/// What is signed: nothing that is signed elsewhere begins like that.
fn signed(said: &str) -> Vec<u8> {
    [b"figspan pin 1\0", said.as_bytes()].concat()
}

/// What was said, the target, the end, and the signature.
fn parts(pin: &[u8]) -> Option<(&str, &str, u64, Vec<u8>)> {
    let pin = std::str::from_utf8(pin).ok().filter(|pin| pin.len() <= MAX_PIN)?;
    let (said, mac) = pin.rsplit_once(";mac=")?;
    let (target, expires) = said.split_once(";expires=")?;
    let digits = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
    Some((said, target, expires.parse().ok().filter(|_| digits)?, BASE64_URL_SAFE_NO_PAD.decode(mac).ok()?))
}

impl PartialEq for PinKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.bytes == other.0.bytes
    }
}

impl fmt::Debug for PinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> PinKey {
        PinKey::read(&[byte; MIN_KEY]).unwrap()
    }

    #[test]
    fn a_pin_holds_for_its_target_and_its_time() {
        let pin = key(b'a').sign("service/orders", 100);
        let verify = |pin: &str, target, now| key(b'a').verify(pin.as_bytes(), target, now);
        assert_eq!(verify(&pin, "service/orders", 99), Ok(()));
        assert_eq!(verify(&pin, "service/orders", 100), Err(Unbelieved::Expired));
        assert_eq!(verify(&pin, "uplink/orders", 99), Err(Unbelieved::Elsewhere));
        assert_eq!(verify(&pin.replace("=100", "=101"), "service/orders", 99), Err(Unbelieved::Forged));
        assert_eq!(key(b'b').verify(pin.as_bytes(), "service/orders", 99), Err(Unbelieved::Forged));
        for bad in
            ["", "service/orders", "service/orders;expires=100", "service/orders;expires=+1;mac=AA", "service/orders;expires=1;mac=!"]
        {
            assert_eq!(verify(bad, "service/orders", 99), Err(Unbelieved::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_key_is_long_enough_and_never_shown() {
        assert!(PinKey::read(&[b'a'; MIN_KEY - 1]).is_none() && PinKey::read(&[b'a'; MAX_KEY + 1]).is_none());
        assert_eq!(PinKey::read(format!("{}\n", "a".repeat(MIN_KEY)).as_bytes()), Some(key(b'a')));
        assert_eq!(format!("{:?}", key(b'a')), "PinKey(..)");
    }

    proptest! {
        #[test]
        fn no_other_text_is_believed(pin in proptest::collection::vec(any::<u8>(), 0..80), flip in 0usize..90) {
            prop_assert!(key(b'a').verify(&pin, "service/orders", 0).is_err());
            let mut changed = key(b'a').sign("service/orders", 100).into_bytes();
            let at = flip % changed.len();
            changed[at] ^= 1;
            prop_assert!(key(b'a').verify(&changed, "service/orders", 0).is_err());
        }
    }
}
