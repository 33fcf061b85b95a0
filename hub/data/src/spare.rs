//! Header maps and buffers of heads that are used again, once per shard thread.
//!
//! A map allocates twice, for the heads of browsers beyond the sizes that the allocator has at hand; and each request needs two, for
//! as long as it takes. So does the buffer that a head lies in, whose fields share it. Those whose message is done are emptied and wait
//! here for the next head.

use std::cell::RefCell;

use bytes::BytesMut;
use http::HeaderMap;

/// Most maps that wait, and the largest of them, in fields: 0.1 MB of a shard at the worst.
const MAPS: usize = 16;
const FIELDS: usize = 64;

/// Most buffers that wait, and the room of each: that of most heads, 64 KiB of a shard.
const BUFFERS: usize = 32;
pub(crate) const ROOM: usize = 2 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
    static EMPTY: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// An empty map; one that is made for it has room for that many fields. Those that wait have grown to the heads of this shard.
pub(crate) fn map(fields: impl FnOnce() -> usize) -> HeaderMap {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| HeaderMap::with_capacity(fields()))
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

/// An empty buffer with room for most heads.
pub(crate) fn buffer() -> BytesMut {
    EMPTY.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(ROOM))
}

/// Takes back an empty buffer. Where something in it is still shared, or it has grown, it is not kept.
pub(crate) fn give_buffer(mut buffer: BytesMut) {
    if (buffer.capacity() >= ROOM || buffer.try_reclaim(ROOM)) && buffer.capacity() < 2 * ROOM {
        EMPTY.with_borrow_mut(|empty| {
            if empty.len() < BUFFERS {
                empty.push(buffer);
            }
        });
    }
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
    fn a_map_comes_back_empty_with_the_room_that_it_had() {
        give(of(20));
        let again = map(|| panic!("there is one, so nobody counts"));
        assert!(again.is_empty() && again.capacity() >= 20 && waiting() == 0);
        let fresh = map(|| 50);
        assert!(fresh.is_empty() && fresh.capacity() >= 50);
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_size() {
        give(HeaderMap::new());
        give(of(FIELDS + 1));
        assert_eq!(waiting(), 0);
        (0..2 * MAPS).for_each(|_| give(of(2)));
        assert_eq!(waiting(), MAPS);
    }

    #[test]
    fn a_buffer_comes_back_with_its_room_once_nothing_shares_it() {
        let empty = || EMPTY.with_borrow(Vec::len);
        let mut held = buffer();
        held.extend_from_slice(b"GET / HTTP/1.1");
        let at = held.as_ptr();
        let head = held.split().freeze();
        give_buffer(held.split());
        assert_eq!(empty(), 0, "the head is still there");
        drop(head);
        give_buffer(held);
        let again = buffer();
        assert_eq!((again.as_ptr(), again.capacity(), empty()), (at, ROOM, 0));
        give_buffer(BytesMut::with_capacity(16 * ROOM));
        give_buffer(BytesMut::new());
        assert_eq!(empty(), 0, "too large, too small");
        (0..2 * BUFFERS).for_each(|_| give_buffer(BytesMut::with_capacity(ROOM)));
        assert_eq!(empty(), BUFFERS);
    }
}
