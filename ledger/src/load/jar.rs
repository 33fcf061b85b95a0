//! Cookies of the load's users, as far as a session needs them: name and value, kept until another value comes.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// Cookies kept for a user.
const MOST: usize = 16;

/// Cookies by user.
#[derive(Debug, Default)]
pub(super) struct Jar(RefCell<HashMap<u64, BTreeMap<String, String>>>);

impl Jar {
    /// Keeps what an answer sets.
    pub(super) fn keep(&self, user: u64, headers: &HeaderMap) {
        for set in headers.get_all(SET_COOKIE).iter().filter_map(|set| set.to_str().ok()) {
            let pair = set.split(';').next().and_then(|pair| pair.split_once('='));
            let Some((name, value)) = pair else { continue };
            let mut jar = self.0.borrow_mut();
            let cookies = jar.entry(user).or_default();
            if cookies.len() < MOST || cookies.contains_key(name) {
                cookies.insert(name.trim().to_owned(), value.trim().to_owned());
            }
        }
    }

    /// Adds what a user has to a request.
    pub(super) fn add_to(&self, user: u64, headers: &mut HeaderMap) {
        let jar = self.0.borrow();
        let own = std::iter::once(format!("user={user}"));
        let kept = jar.get(&user).into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
        let all: Vec<String> = own.chain(kept).collect();
        if let Ok(value) = HeaderValue::try_from(all.join("; ")) {
            headers.insert(COOKIE, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_sends_what_it_was_given_last_and_nobody_elses() {
        let jar = Jar::default();
        let set = |user, text: &'static str| jar.keep(user, &HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static(text))]));
        set(1, "s=one; Path=/; HttpOnly");
        set(2, "s=two");
        set(1, "t=x");
        set(1, "s=three; Max-Age=1");
        let sent = |user| {
            let mut headers = HeaderMap::new();
            jar.add_to(user, &mut headers);
            headers[COOKIE].to_str().unwrap().to_owned()
        };
        assert_eq!((sent(1), sent(2), sent(3)), ("user=1; s=three; t=x".into(), "user=2; s=two".into(), "user=3".into()));
    }
}
