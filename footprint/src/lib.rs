//! What a program keeps resident while it has little to do: pages of its file that only its start needed, and memory of its heap that
//! only a burst of work needed.
#![warn(missing_docs)]

mod heap;
mod program;

pub use heap::{Heap, keep_large_apart};
pub use program::give_back;
