//! Checks of the way to the hubs: names, handshake, clock, path MTU, certificate, coverage.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use figspan_proto::control::{FromHub, HubHello};
use figspan_proto::reset::Close;
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::{Credentials, Tunnel, agent, grpc};
use futures_util::StreamExt;
use tokio::sync::oneshot;

use super::Check;
use crate::advertise::unix_ms;
use crate::identity::Kept;
use crate::identity::schedule::Schedule;
use crate::settings::{DEFAULT_HUB_PORT, Settings};
use crate::status::ask;

/// Clocks that differ more are worth a word; certificates bear 5 minutes.
const SKEW_WARN: u64 = 30_000;
const SKEW_FAIL: u64 = 300_000;
/// How long the hub's hello may take.
const HELLO: Duration = Duration::from_secs(5);
/// Path MTU below which something on the way eats large packets.
const SMALL_MTU: u16 = 1400;

pub(super) async fn examine(settings: &Settings, kept: Option<Kept>, resolver: &Resolver) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    if settings.hubs.is_empty() {
        checks.push(Check::fail("hubs", "no hub is named", "run `figspan-agent join`, or write hubs = [\"host:port\"] in agent.toml"));
    }
    for hub in &settings.hubs {
        let what = format!("name {hub}");
        checks.push(match resolver.lookup(hub, DEFAULT_HUB_PORT).await {
            Ok(answer) if !answer.addresses.is_empty() => {
                let texts: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
                addresses.extend(answer.addresses);
                Check::pass(what, texts.join(", "))
            }
            Ok(_) => Check::fail(what, "has no address", "correct hubs in agent.toml, or the DNS zone"),
            Err(error) => Check::fail(what, error.to_string(), "correct hubs in agent.toml, /etc/resolv.conf, or the DNS zone"),
        });
    }
    let Some(kept) = kept else {
        checks.push(Check::skip(
            "certificate",
            "this VM has not joined, or this user may not see it",
            "run `figspan-agent join`, or doctor as root",
        ));
        return checks;
    };
    let (not_before, not_after) = (kept.identity.not_before(), kept.identity.not_after());
    checks.push(certificate(not_before, not_after, SystemTime::now()));
    if let Some(wanted) = settings.trust_domain.as_ref().filter(|wanted| **wanted != kept.identity.id().trust_domain) {
        let seen = format!("settings insist on {wanted}, the certificate is {}", kept.identity.id());
        checks.push(Check::fail("trust domain", seen, "correct trust_domain in agent.toml, or join a hub of that domain"));
    }
    let credentials = Credentials::new(kept.identity, kept.roots);
    for address in addresses {
        checks.extend(dial(address, &credentials).await);
    }
    checks.push(coverage(settings).await);
    checks
}

fn certificate(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> Check {
    let what = "certificate";
    if now < not_before {
        return Check::fail(what, "begins in the future", "set this VM's clock right (timedatectl set-ntp true)");
    }
    let Ok(left) = not_after.duration_since(now) else {
        let seen = "has expired; an agent that runs renews it, but an expired one cannot";
        return Check::fail(what, seen, "look at the clock; then `figspanctl grant create` and `figspan-agent join --again`");
    };
    let seen = format!("{} left", humantime::format_duration(Duration::from_secs(left.as_secs() / 60 * 60)));
    if now >= Schedule::of(not_before, not_after, 0.5).warn {
        return Check::warn(
            what,
            format!("{seen}, and it should have been renewed"),
            "start the agent, or see its log for why it cannot renew",
        );
    }
    Check::pass(what, seen)
}

async fn dial(address: SocketAddr, credentials: &Arc<Credentials>) -> Vec<Check> {
    let what = format!("tunnel to {address}");
    let tunnel = match agent::dial(address, 0, credentials).await {
        Ok(tunnel) => tunnel,
        Err(error) => {
            return vec![Check::fail(what, error.to_string(), "let UDP to that port pass both ways; see the hub's log for its side")];
        }
    };
    let mut checks = vec![Check::pass(what, format!("{} answers in {:.1} ms", tunnel.peer(), tunnel.rtt().as_secs_f64() * 1e3))];
    let what = format!("clock of {address}");
    match tokio::time::timeout(HELLO, hello(&tunnel)).await.ok().flatten() {
        Some(hello) => {
            checks.push(clock(what, unix_ms(SystemTime::now()), hello.time_ms));
            checks.push(Check::pass(format!("hub {address}"), format!("{} ({}), {} shards", hello.replica, hello.software, hello.shards)));
        }
        None => checks.push(Check::skip(what, "the hub said no hello", "see the hub's log")),
    }
    checks.push(mtu(&tunnel, address).await);
    tunnel.close(Close::Done);
    let _ = tokio::time::timeout(Duration::from_secs(1), tunnel.wait_idle()).await;
    checks
}

fn clock(what: String, own_ms: u64, hub_ms: u64) -> Check {
    let apart = own_ms.abs_diff(hub_ms);
    let side = if own_ms > hub_ms { "ahead of" } else { "behind" };
    let seen = format!("this clock is {:.1} s {side} the hub's", apart as f64 / 1e3);
    let mend = "set the wrong one right (timedatectl set-ntp true)";
    match apart {
        SKEW_FAIL.. => Check::fail(what, seen, mend),
        SKEW_WARN.. => Check::warn(what, seen, mend),
        _ => Check::pass(what, seen),
    }
}

/// The hub's first word on its control stream.
async fn hello(tunnel: &Tunnel) -> Option<HubHello> {
    let stream = tunnel.accept().await.ok()?;
    let (tell, told) = oneshot::channel();
    let serving = grpc::serve(stream, move |hub| {
        let _ = tell.send(hub);
        futures_util::stream::pending().boxed()
    });
    let first = async { FromHub::check(told.await.ok()?.next().await?.ok()?).ok()? };
    tokio::select! {
        first = first => match first? {
            FromHub::Hello(hello) => Some(hello),
            _ => None,
        },
        _ = serving => None,
    }
}

/// Waits until discovery has settled.
async fn mtu(tunnel: &Tunnel, address: SocketAddr) -> Check {
    let mut best = 0;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        best = best.max(tunnel.mtu());
    }
    let what = format!("path MTU to {address}");
    let seen = format!("{best} bytes of UDP payload");
    if best < SMALL_MTU {
        return Check::warn(
            what,
            seen,
            "something on the path eats larger packets: traffic works, but costs more; look for a VPN or a wrong MTU",
        );
    }
    Check::pass(what, seen)
}

/// What the running agent has.
async fn coverage(settings: &Settings) -> Check {
    let what = "tunnels of the running agent";
    let Some(socket) = &settings.status_socket else {
        return Check::skip(what, "it has no status socket", "set status.socket in agent.toml");
    };
    match ask::ask(socket).await {
        Err(error) => Check::skip(what, error.to_string(), "start the agent, or run doctor as root"),
        Ok(status) => {
            let mut replicas: Vec<(&str, u8)> = status.tunnels.iter().map(|tunnel| (tunnel.replica.as_str(), tunnel.shards)).collect();
            replicas.sort_unstable();
            replicas.dedup();
            let wanted: usize = replicas.iter().map(|(_, shards)| usize::from(*shards).min(settings.tunnels_per_hub)).sum();
            let seen = format!("{} of {wanted} wanted, to {} replicas", status.tunnels.len(), replicas.len());
            match status.tunnels.len() {
                0 => Check::fail(what, seen, "see the checks above, and the agent's log"),
                up if up < wanted => Check::warn(what, seen, "traffic flows; see the agent's log for why some cannot be opened"),
                _ => Check::pass(what, seen),
            }
        }
    }
}
