//! How many copies of requests one shard sends to mirrors at once. Lives on the shard's thread; what finds no room is dropped.

use std::cell::Cell;
use std::rc::Rc;

/// Most copies under way per shard, over all rules.
pub const MAX_COPIES: usize = 64;

/// The copies that a shard has under way.
#[derive(Debug, Default)]
pub struct Room(Rc<Cell<usize>>);

impl Room {
    /// How many.
    pub fn count(&self) -> usize {
        self.0.get()
    }

    /// Room for one more, until the slot is dropped. `None` where [`MAX_COPIES`] are under way.
    pub fn take(&self) -> Option<Slot> {
        (self.0.get() < MAX_COPIES).then(|| {
            self.0.set(self.0.get() + 1);
            Slot(Rc::clone(&self.0))
        })
    }
}

/// Room for one copy.
#[derive(Debug)]
pub struct Slot(Rc<Cell<usize>>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_when_a_copy_ends_and_never_exceeds_its_bound() {
        let copies = Room::default();
        let mut slots: Vec<Slot> = std::iter::from_fn(|| copies.take()).collect();
        assert_eq!((slots.len(), copies.count()), (MAX_COPIES, MAX_COPIES));
        slots.pop();
        assert!(copies.take().is_some() && copies.count() == MAX_COPIES - 1);
    }
}
