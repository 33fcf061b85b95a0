//! Drives [`quinn_proto`]: sockets, clocks and tasks around its state machines, made for figspan's shards.
//!
//! quinn-proto is the protocol; this is what quinn is to it, in another shape. One task owns an endpoint's socket and serves all
//! its connections: it takes what came, lets the tasks that were woken say what they have to say, and then sends it all, so
//! that answers, acknowledgements and credit of many streams leave in few datagrams and few system calls. There is no task and
//! no channel per connection, one send buffer per endpoint, and one timer.
//!
//! Handles are `Send + Sync`: a connection has a lock of its own that is free whenever only its shard uses it.
#![warn(missing_docs)]

mod connection;
mod driver;
mod endpoint;
mod inbox;
mod last_word;
mod recv;
mod send;
mod shared;
mod socket;
mod state;
mod timers;
mod window;

pub use connection::Connection;
pub use driver::Driver;
pub use endpoint::{Endpoint, Incoming};
pub use last_word::LastWord;
pub use quinn_udp::RecvMeta;
pub use recv::{ReadError, RecvStream};
pub use send::{SendStream, StoppedError, WriteError};
pub use socket::{Socket, Udp, prepare};
pub use window::SEND_WINDOW;

/// Maps of streams: keys are numbers that the peer can choose only in order.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
