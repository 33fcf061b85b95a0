//! Hop receive -> **forward** -> workload: one connection for one stream, and bytes both ways.
//!
//! A failed connection is "not delivered", so that the hub may try elsewhere whatever the method. After that the splice
//! alone knows how much reached the workload, and says so in the stream's reset.

mod proxy;

use std::sync::atomic::Ordering;
use std::time::Duration;

use figspan_proto::preamble::Preamble;
use figspan_proto::reset::{Reason, Reset};
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::splice::{SpliceSettings, splice_workload};
use figspan_tunnel::stream::Stream;
use tokio::io::AsyncWriteExt;

use crate::connect;
use crate::uplinks::Uplink;

/// Connects the stream with the uplink's workload and carries bytes until both sides have ended.
pub async fn forward(uplink: &Uplink, preamble: &Preamble, mut stream: Stream, resolver: &Resolver) {
    let (settings, counts) = (&uplink.settings, &uplink.counts);
    let mut tcp = match connect::connect(&settings.address, settings.connect_timeout, resolver).await {
        Ok(tcp) => tcp,
        Err(error) => {
            counts.fail(error.reason());
            tracing::debug!(uplink = %settings.name, address = %settings.address, %error, "stream not delivered");
            stream.reset(Reset::not_delivered(error.reason()));
            return;
        }
    };
    if settings.proxy_protocol {
        let header = proxy::header(preamble.client, preamble.server);
        let written = tokio::time::timeout(PROXY_WRITE, tcp.write_all(&header)).await;
        if !matches!(written, Ok(Ok(()))) {
            counts.fail(Reason::WorkloadReset);
            stream.reset(Reset::not_delivered(Reason::WorkloadReset));
            return;
        }
    }
    let how = SpliceSettings { idle: settings.idle_timeout, kind: preamble.kind };
    let spliced = splice_workload(tcp, stream, &how).await;
    counts.to_workload.fetch_add(spliced.to_tcp, Ordering::Relaxed);
    counts.from_workload.fetch_add(spliced.from_tcp, Ordering::Relaxed);
    if let Err(reset) = spliced.end {
        counts.fail(reset.reason);
        tracing::debug!(uplink = %settings.name, reason = reset.reason.as_str(), delivered = reset.delivered, "stream ended early");
    }
}

/// The header fits any socket buffer, so this is only reached when the kernel is out of memory.
const PROXY_WRITE: Duration = Duration::from_secs(1);
