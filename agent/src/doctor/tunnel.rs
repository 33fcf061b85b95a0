//! Checks with the agent's own certificate: a tunnel to one address, the hub's first word on it, and its version.

use std::sync::Arc;
use std::time::Duration;

use figspan_proto::VERSIONS;
use figspan_proto::control::{FromHub, HubHello, negotiate};
use figspan_proto::reset::Close;
use figspan_tunnel::agent::DialOptions;
use figspan_tunnel::carrier::{Preference, Transport};
use figspan_tunnel::{Closed, Credentials, Tunnel, TunnelError, agent, grpc};
use futures_util::StreamExt;
use tokio::sync::oneshot;

use super::path::{Way, now_ms};
use super::{Check, What};

/// How long the hub's hello may take.
const HELLO: Duration = Duration::from_secs(5);
/// How long the last word may take to get out.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a tunnel showed.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) checks: Vec<Check>,
    /// Whether the hub hears what is sent to it over UDP, where nothing comes back.
    pub(super) udp_arrives: Option<bool>,
}

impl From<Vec<Check>> for Seen {
    fn from(checks: Vec<Check>) -> Self {
        Self { checks, udp_arrives: None }
    }
}

/// Opens a tunnel to the address, hears the hub's hello and closes it. Where an earlier check failed, nothing is tried.
pub(super) async fn look(way: &Way, certificate: bool, credentials: &Arc<Credentials>, preference: Preference) -> Seen {
    let subject = way.address.to_string();
    if let Some(cause) = way.blocked.or((!certificate).then_some(What::Certificate)) {
        return vec![Check::after(What::Tunnel, subject, cause)].into();
    }
    let options = DialOptions { preference, ..DialOptions::default() };
    let tunnel = match agent::dial_with(way.address, 0, credentials, &options).await {
        Ok(tunnel) => tunnel,
        Err(error) => return vec![refused(subject, &error)].into(),
    };
    let udp = async {
        // A hub from before the question does not say; then it stays open which way is cut.
        match way.one_way && tunnel.carried().transport == Transport::Tcp {
            true => agent::udp_arrives(&tunnel, way.address, credentials).await.ok(),
            false => None,
        }
    };
    let mut udp_arrives = None;
    let checks = match hello(&tunnel, udp).await {
        Some((hello, own_ms, arrives)) => {
            udp_arrives = arrives;
            let over = tunnel.carried().transport;
            let seen = format!("{} answers over {over} in {:.1} ms", tunnel.peer(), tunnel.rtt().as_secs_f64() * 1e3);
            let mut checks = Vec::new();
            if way.skew_ms.is_none() {
                let mut late = Way::new(String::new(), way.address);
                late.clock(own_ms, hello.time_ms);
                checks.append(&mut late.checks);
            }
            checks.push(Check::pass(What::Tunnel, &subject, seen));
            checks.push(version_skew(&hello));
            checks
        }
        None if tunnel.is_closed() => vec![ended(subject, &tunnel.closed().await)],
        None => vec![Check::fail(What::Tunnel, subject, "the hub said no hello", "see the hub's log")],
    };
    tunnel.close(Close::Done);
    let _ = tokio::time::timeout(GOODBYE, tunnel.wait_idle()).await;
    Seen { checks, udp_arrives }
}

/// The hub's first word on its control stream and our clock at that moment, and what came of `more`, which goes on behind it: a
/// tunnel ends with its control stream.
async fn hello<T>(tunnel: &Tunnel, more: impl Future<Output = T>) -> Option<(HubHello, u64, T)> {
    let stream = tokio::time::timeout(HELLO, tunnel.accept()).await.ok()?.ok()?;
    let (tell, told) = oneshot::channel();
    let serving = grpc::serve(stream, move |hub| {
        let _ = tell.send(hub);
        futures_util::stream::pending().boxed()
    });
    let first = async {
        let mut hub = told.await.ok()?;
        match FromHub::check(hub.next().await?.ok()?).ok()?? {
            FromHub::Hello(hello) => Some((hello, now_ms(), hub)),
            _ => None,
        }
    };
    let talk = async {
        let (hello, own_ms, _hub) = tokio::time::timeout(HELLO, first).await.ok()??;
        Some((hello, own_ms, more.await))
    };
    tokio::select! {
        talked = talk => talked,
        _ = serving => None,
    }
}

fn refused(subject: String, error: &TunnelError) -> Check {
    let mend = match (error, error.close()) {
        (_, Some(close)) => mend(Some(close)),
        (TunnelError::Identity(_), None) => "a new grant, and `figspan-agent join --again`",
        _ => "see the hub's log for its side",
    };
    Check::fail(What::Tunnel, subject, error.to_string(), mend)
}

fn ended(subject: String, closed: &Closed) -> Check {
    Check::fail(What::Tunnel, subject, &closed.detail, mend(closed.close))
}

fn mend(close: Option<Close>) -> &'static str {
    match close {
        Some(Close::Revoked) => "ask the operator of the hub; then `figspanctl grant create` and `figspan-agent join --again`",
        Some(Close::Limit) => "raise the hub's limit of tunnels, or lower tunnels_per_hub in agent.toml",
        Some(Close::Leaving) => "the hub ends; see whether it comes back",
        Some(Close::Version) => "upgrade the older of hub and agent",
        _ => "see the hub's log for its side",
    }
}

fn version_skew(hub: &HubHello) -> Check {
    let (what, subject) = (What::VersionSkew, hub.replica.to_string());
    let own = env!("CARGO_PKG_VERSION");
    let seen = format!("{} and agent {own}", hub.software);
    if negotiate(&VERSIONS, &hub.versions).is_none() {
        return Check::fail(what, subject, format!("{seen} have no version of the protocol in common"), "upgrade the older of the two");
    }
    match apart(own, hub.software.rsplit(['/', ' ']).next().unwrap_or_default()) {
        None => Check::skip(what, subject, seen, ""),
        Some(0 | 1) => Check::pass(what, subject, seen),
        Some(_) => Check::warn(
            what,
            subject,
            format!("{seen} are more than one minor version apart"),
            "upgrade the older of the two, the hub first",
        ),
    }
}

/// Minor versions between two versions; another major version is far away.
fn apart(a: &str, b: &str) -> Option<u64> {
    let parts = |text: &str| {
        let mut numbers = text.split('.').map(|part| part.parse::<u64>().ok());
        Some((numbers.next()??, numbers.next()??))
    };
    let ((major_a, minor_a), (major_b, minor_b)) = (parts(a)?, parts(b)?);
    Some(if major_a == major_b { minor_a.abs_diff(minor_b) } else { u64::MAX })
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn one_minor_version_apart_is_fine_and_more_is_not() {
        assert_eq!(apart("0.1.0", "0.2.7"), Some(1));
        assert_eq!(apart("0.4.0", "0.1.0-rc1"), Some(3));
        assert_eq!(apart("0.9.0", "1.0.0"), Some(u64::MAX));
        assert_eq!(apart("0.1.0", ""), None);
        let hub = |software: &str, versions| HubHello {
            versions,
            replica: "hub-0".parse().unwrap(),
            shard: 0,
            shards: 1,
            software: software.into(),
            calls: true,
            time_ms: 0,
        };
        assert_eq!(version_skew(&hub("figspan-hub 0.1.9", VERSIONS)).mark, Mark::Pass);
        assert_eq!(version_skew(&hub("figspan-hub/0.9.0", VERSIONS)).mark, Mark::Warn);
        assert_eq!(version_skew(&hub("figspan-hub/0.1.0", 90..=91)).mark, Mark::Fail);
        assert_eq!(version_skew(&hub("something else", VERSIONS)).mark, Mark::Skip);
    }
}
