//! Hop `listen` | `call` -> **door** -> `inbound`: what a connection needs of its shard, whichever way it came.

use std::ops::Deref;
use std::rc::Rc;

use figspan_model::routing::Routing;
use figspan_tunnel::drain::Drain;

use crate::admission::Reject;
use crate::client::Client;
use crate::exchange::{Inbound, Outbound};
use crate::forward;
use crate::inbound::Serve;
use crate::metrics::{Limit, access};
use crate::shard::{Held, ShardRef};

/// A shard, for the connections that `drain` owns.
pub(crate) struct Door {
    pub(crate) shard: ShardRef,
    pub(crate) drain: Drain,
}

impl Door {
    pub(crate) fn new(shard: &ShardRef, drain: &Drain) -> Rc<Self> {
        Rc::new(Self { shard: Rc::clone(shard), drain: drain.clone() })
    }
}

impl Serve for Door {
    fn routing(&self) -> impl Deref<Target = Routing> {
        Newest(self.shard.snapshot())
    }

    fn drain(&self) -> &Drain {
        &self.drain
    }

    fn refused(&self, client: &Client, reject: Reject) {
        access::refused(client, reject);
        self.shard.metrics.refusal(reject);
        let limit = match reject {
            Reject::HeadTooLarge | Reject::TargetTooLong => Limit::HeaderBytes,
            Reject::TooManyFields => Limit::HeaderCount,
            Reject::HeadTimeout => Limit::HeaderTime,
            _ => return,
        };
        self.limited(limit);
    }

    fn limited(&self, limit: Limit) {
        self.shard.metrics.limit_hit(limit);
    }

    // Not an `async fn`, which would only hold the request once more.
    fn serve(&self, inbound: Inbound) -> impl Future<Output = Outbound> {
        forward::serve(&self.shard, inbound)
    }
}

/// The routing of a snapshot.
struct Newest(Rc<Held>);

impl Deref for Newest {
    type Target = Routing;

    fn deref(&self) -> &Routing {
        &self.0.routing
    }
}

/// A connection, as long as it counts.
pub(crate) struct Counted(ShardRef);

impl Counted {
    pub(crate) fn new(shard: &ShardRef) -> Self {
        shard.metrics.connections.add(1);
        shard.metrics.connections_total.add(1);
        Self(Rc::clone(shard))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.connections.sub(1);
    }
}
