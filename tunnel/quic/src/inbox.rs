//! Room for what one system call receives, and how that reaches connections.
//!
//! Small receptions are copied out, so that who keeps one keeps no more than came. While much comes at once, receptions are handed on
//! as they lie: each in a room of its own, which is used again when everybody has let go of it. When less comes again, rooms are given back.

use std::collections::VecDeque;
use std::io::IoSliceMut;

use bytes::BytesMut;

use crate::socket::BATCH;

/// Receptions of this size and more are handed on without a copy: half a room. Smaller ones would hold a whole one for little.
const LARGE: usize = 32 * 1024;

/// Rooms that may come back: what a tunnel may hold unread. More are forgotten, and freed by whoever has them.
const LENT: usize = 128;

/// Of those, how many are looked at for one that is free: a reader who is slow must not hide those of the others.
const LOOKS: usize = 4;

/// Rounds without a large reception after which rooms are given back.
const PATIENCE: u8 = 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Bytes of one reception, at most.
    each: usize,
    /// Where receptions are copied from; pages that nothing arrives in are never touched.
    common: Vec<u8>,
    /// Rooms to be handed on, empty where there is none now.
    rooms: [BytesMut; BATCH],
    /// What is left of rooms that were handed on: the way back to each.
    lent: VecDeque<BytesMut>,
    /// Rounds for which rooms are kept yet; none are used at 0.
    patience: u8,
    /// Whether the last call wrote into rooms.
    in_rooms: bool,
}

impl Inbox {
    /// For receptions of up to `each` bytes.
    pub(crate) fn new(each: usize) -> Self {
        Self { each, common: vec![0; each * BATCH], rooms: Default::default(), lent: VecDeque::new(), patience: 0, in_rooms: false }
    }

    /// Where a system call may write.
    pub(crate) fn buffers(&mut self) -> [IoSliceMut<'_>; BATCH] {
        self.in_rooms = self.patience > 0;
        if self.in_rooms {
            for room in self.rooms.iter_mut().filter(|room| room.is_empty()) {
                *room = another(&mut self.lent, self.each);
            }
            return self.rooms.each_mut().map(|room| IoSliceMut::new(room));
        }
        let mut chunks = self.common.chunks_mut(self.each);
        std::array::from_fn(|_| IoSliceMut::new(chunks.next().expect("there is room for a batch")))
    }

    /// What the last call wrote into the buffer of that number: `length` bytes.
    pub(crate) fn take(&mut self, number: usize, length: usize) -> BytesMut {
        let large = length >= LARGE;
        if large {
            self.patience = PATIENCE;
        }
        if !self.in_rooms {
            return BytesMut::from(&self.common[number * self.each..][..length]);
        }
        if !large {
            return BytesMut::from(&self.rooms[number][..length]);
        }
        let mut room = std::mem::take(&mut self.rooms[number]);
        let mut way_back = room.split_off(length);
        way_back.clear();
        if self.lent.len() == LENT {
            self.lent.pop_front();
        }
        self.lent.push_back(way_back);
        room
    }

    /// After all that a round received.
    pub(crate) fn settle(&mut self) {
        if self.patience > 0 {
            self.patience -= 1;
            if self.patience == 0 {
                self.rooms = Default::default();
                self.lent = VecDeque::new();
            }
        }
    }
}

/// A room of `each` bytes: one that came back, or a new one.
fn another(lent: &mut VecDeque<BytesMut>, each: usize) -> BytesMut {
    for _ in 0..LOOKS.min(lent.len()) {
        let Some(mut room) = lent.pop_front() else { break };
        if room.try_reclaim(each) {
            initialised(&mut room, each);
            return room;
        }
        lent.push_back(room);
    }
    BytesMut::zeroed(each)
}

/// Gives a room that came back its length again; to write zeros would cost what handing it on has saved.
#[allow(unsafe_code, reason = "BytesMut forgets that what lies behind its end was written before")]
fn initialised(room: &mut BytesMut, each: usize) {
    assert!(room.capacity() >= each, "it was reclaimed for as much");
    // SAFETY: the capacity was asserted. The bytes are initialised: what `try_reclaim` gives back is the whole allocation that this
    // handle is the only one of, it never makes another, and that was made by `BytesMut::zeroed(each)`, here above. Since then it
    // was only written to: nobody who had a part of it can have made its bytes uninitialised again.
    unsafe { room.set_len(each) };
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: usize = 64 * 1024;

    /// One call that receives these lengths, each filled with its own byte.
    fn receive(inbox: &mut Inbox, lengths: &[usize]) -> Vec<BytesMut> {
        let mut buffers = inbox.buffers();
        for (number, length) in lengths.iter().enumerate() {
            assert_eq!(buffers[number].len(), EACH);
            buffers[number][..*length].fill(number as u8 + 1);
        }
        let taken: Vec<BytesMut> = lengths.iter().enumerate().map(|(number, length)| inbox.take(number, *length)).collect();
        inbox.settle();
        for (number, (bytes, length)) in taken.iter().zip(lengths).enumerate() {
            assert_eq!(bytes.len(), *length);
            assert!(bytes.iter().all(|byte| usize::from(*byte) == number + 1));
        }
        taken
    }

    #[test]
    fn large_receptions_are_handed_on_and_their_room_is_used_again_once_it_is_free() {
        let mut inbox = Inbox::new(EACH);
        receive(&mut inbox, &[EACH]);
        let first = receive(&mut inbox, &[EACH, LARGE]);
        let at = [first[0].as_ptr(), first[1].as_ptr()];
        let second = receive(&mut inbox, &[LARGE, EACH]);
        assert!(second.iter().all(|room| !at.contains(&room.as_ptr())), "nobody writes where somebody reads");
        assert!(first.iter().zip(1..).all(|(bytes, filled)| bytes.iter().all(|byte| *byte == filled)));
        drop(first);
        let third = receive(&mut inbox, &[EACH, EACH]);
        let fourth = receive(&mut inbox, &[EACH, EACH]);
        let again = third.iter().chain(&fourth).filter(|room| at.contains(&room.as_ptr())).count();
        assert_eq!(again, 2);
    }

    #[test]
    fn a_slow_reader_does_not_hide_the_rooms_of_the_others() {
        let mut inbox = Inbox::new(EACH);
        receive(&mut inbox, &[EACH]);
        let slow = receive(&mut inbox, &[EACH]);
        let rooms: std::collections::HashSet<_> = (0..200).map(|_| receive(&mut inbox, &[EACH])[0].as_ptr()).collect();
        assert!(rooms.len() <= BATCH + 2 && !rooms.contains(&slow[0].as_ptr()), "{}", rooms.len());
    }

    #[test]
    fn small_receptions_hold_no_room_and_few_rooms_are_waited_for() {
        let mut inbox = Inbox::new(EACH);
        receive(&mut inbox, &[EACH]);
        let small = receive(&mut inbox, &[LARGE - 1]);
        assert!(small[0].capacity() < LARGE + 64);
        let held: Vec<_> = (0..LENT + 50).map(|_| receive(&mut inbox, &[EACH])).collect();
        assert_eq!(inbox.lent.len(), LENT);
        drop(held);
    }

    #[test]
    fn rooms_are_given_back_when_little_comes() {
        let mut inbox = Inbox::new(EACH);
        receive(&mut inbox, &[EACH]);
        receive(&mut inbox, &[EACH]);
        for _ in 0..PATIENCE {
            receive(&mut inbox, &[100]);
        }
        assert!(inbox.lent.is_empty() && inbox.rooms.iter().all(|room| room.capacity() == 0));
        receive(&mut inbox, &[100, EACH, 3]);
        receive(&mut inbox, &[100, EACH, 3]);
    }
}
