//! What agents open on their tunnels: a question about an identity goes to control, a call of a service to the shard's data path.
//!
//! Runs on the shard whose tunnel it is, so that a call waits for control in nothing. A stream that does not say in time what it
//! is for, or says what nobody understands, is reset, and nothing else of the tunnel is touched.

use std::rc::Rc;

use figspan_control::Control;
use figspan_data::call::Calls;
use figspan_data::metrics::CallEvent;
use figspan_data::shard::ShardRef;
use figspan_proto::preamble::call::Opening;
use figspan_proto::reset::{Reason, Reset};
use figspan_tunnel::call::{HeaderError, Opened, read_header};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::{Stream, Tunnel};

/// Serves the streams of a tunnel until it ends. `tasks` owns those whose purpose is still to be read.
pub(crate) async fn serve(shard: ShardRef, control: Control, tunnel: Tunnel, tasks: Drain) {
    let Some(calls) = Calls::new(&shard, &tunnel) else { return };
    let mut allowed = false;
    loop {
        // Streams cost the hub memory, so only those agents may have many that may call at all.
        if !allowed && calls.any() {
            tunnel.allow_calls();
            allowed = true;
        }
        let Ok(stream) = tunnel.accept().await else { return };
        let way = Way { shard: Rc::clone(&shard), control: control.clone(), tunnel: tunnel.clone(), calls: Rc::clone(&calls) };
        tasks.spawn_local(way.open(stream));
    }
}

/// Where a stream may lead.
struct Way {
    shard: ShardRef,
    control: Control,
    tunnel: Tunnel,
    calls: Rc<Calls>,
}

impl Way {
    async fn open(self, mut stream: Stream) {
        match read_header(&mut stream).await {
            Ok(Opened::Identity) => self.control.question(&self.tunnel, stream).await,
            Ok(Opened::Header(Opening::Call(call))) => {
                let (agent, service) = (self.tunnel.peer().agent().cloned(), call.service.clone());
                self.calls.serve(stream, call, |reason| {
                    if let Some(agent) = agent {
                        self.control.refused_call(&agent, &service, reason);
                    }
                });
            }
            Ok(Opened::Header(Opening::Leaving)) => {
                self.calls.leave();
                stream.finish();
            }
            Err(HeaderError::Malformed(error)) => self.refuse(&mut stream, &error),
            Err(error @ HeaderError::Late) => self.refuse(&mut stream, &error),
            // The agent gave the stream up, or its tunnel ended.
            Err(HeaderError::Stream(_)) => {}
        }
    }

    fn refuse(&self, stream: &mut Stream, error: &dyn std::error::Error) {
        self.shard.metrics.call(CallEvent::Malformed);
        tracing::debug!(peer = %self.tunnel.peer(), %error, "a stream of an agent is refused");
        stream.reset(Reset::not_delivered(Reason::BadPreamble));
    }
}
