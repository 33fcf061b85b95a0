//! Header maps that are used again, once per shard thread.
//!
//! A map allocates twice, for the heads of browsers beyond the sizes that the allocator has at hand; and each request needs two, for
//! as long as it takes. Those whose message is done are emptied and wait here for the next head.

use std::cell::RefCell;

use http::HeaderMap;

/// Most maps that wait, and the largest of them, in fields: 0.1 MB of a shard at the worst.
const MAPS: usize = 16;
const FIELDS: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for that many fields.
pub(crate) fn map(fields: usize) -> HeaderMap {
    match SPARE.with_borrow_mut(Vec::pop) {
        Some(mut map) => {
            map.reserve(fields);
            map
        }
        None => HeaderMap::with_capacity(fields),
    }
}

/// Takes back a map of a message that is done.
pub(crate) fn give(mut map: HeaderMap) {
    if !(1..=FIELDS).contains(&map.capacity()) {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < MAPS {
            map.clear();
            spare.push(map);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn of(fields: usize) -> HeaderMap {
        let field = |number| (HeaderName::try_from(format!("x-{number}")).unwrap(), HeaderValue::from_static("y"));
        (0..fields).map(field).collect()
    }

    fn waiting() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn a_map_comes_back_empty_with_the_room_that_it_had_and_grows_where_that_is_too_little() {
        give(of(20));
        let map = map(3);
        assert!(map.is_empty() && map.capacity() >= 20 && waiting() == 0);
        give(map);
        let larger = super::map(50);
        assert!(larger.is_empty() && larger.capacity() >= 50 && waiting() == 0);
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_size() {
        give(HeaderMap::new());
        give(of(FIELDS + 1));
        assert_eq!(waiting(), 0);
        (0..2 * MAPS).for_each(|_| give(of(2)));
        assert_eq!(waiting(), MAPS);
    }
}
