//! Finds out what stands between this VM and its hubs or workloads, and says how to mend it.
//!
//! Works with and without a running agent and before a join, and changes nothing. One cause shows as one check: what rests on
//! a check that failed is skipped and says so. Each check ([`What`]) is a file's function that ends in PASS, WARN, FAIL or SKIP.

mod certificate;
mod check;
mod host;
mod path;
mod report;
mod running;
mod tunnel;
mod workload;

use std::net::SocketAddr;
use std::time::SystemTime;

use figspan_proto::join::Token;
use figspan_settings::Finding;
use figspan_tunnel::agent::Trust;
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::{Credentials, Roots};
use futures_util::StreamExt;
use futures_util::stream;

use crate::identity::files::Files;
use crate::settings::load::Loaded;
use crate::settings::{DEFAULT_HUB_PORT, Settings};
use crate::status::show::counted;
use path::Way;

pub use check::{Check, Mark, What};
pub use report::Report;

/// Addresses and workloads that are looked at side by side.
const AT_ONCE: usize = 8;

/// Makes all checks. With a token, the hubs that it names and its CA are looked at instead of those of an earlier join.
pub async fn examine(loaded: &Loaded, token: Option<&Token>) -> Report {
    let settings = &loaded.settings;
    let status = running::ask(settings).await;
    let mut checks = vec![own_settings(loaded)];
    checks.push(host::descriptors(status.as_ref().ok()));
    checks.extend(host::buffers());
    checks.extend(host::files(loaded));
    checks.push(host::disk(&settings.state_dir));
    let kept = Files::new(&settings.state_dir).read();
    let joined = matches!(kept, Ok(Some(_)));
    checks.push(certificate::identity(settings, &kept, token.is_some()));
    let kept = kept.ok().flatten().filter(|_| checks.last().is_some_and(|check| check.mark == Mark::Pass));

    let resolver = match Resolver::system() {
        Ok(resolver) => resolver,
        Err(error) => {
            checks.push(Check::fail(What::NameResolution, "system", error.to_string(), "correct /etc/resolv.conf"));
            return Report::new(SystemTime::now(), None, checks);
        }
    };
    let trust = match (token, &kept) {
        (Some(token), _) => Some(Trust::Pin(token.pin)),
        (None, Some(kept)) => Roots::from_der(kept.roots.to_der()).ok().map(|roots| Trust::Roots(roots.into())),
        (None, None) => None,
    };
    let hubs = token.map_or(&settings.hubs, |token| &token.hubs);
    let (named, addresses) = names(hubs, joined, &resolver).await;
    checks.extend(named);
    let mut ways: Vec<Way> = stream::iter(addresses)
        .map(|(hub, address)| path::look(hub, address, trust.clone(), settings.transport))
        .buffered(AT_ONCE)
        .collect()
        .await;
    path::forgive(&mut ways);
    for way in &mut ways {
        checks.append(&mut way.checks);
    }
    let agent = kept.as_ref().and_then(|kept| kept.identity.id().agent()).map(ToString::to_string);
    if let Some(kept) = kept {
        let skew_ms = ways.iter().find_map(|way| way.skew_ms);
        let certificate = certificate::life(kept.identity.not_before(), kept.identity.not_after(), SystemTime::now(), skew_ms);
        let usable = certificate.mark != Mark::Fail;
        checks.push(certificate);
        let credentials = Credentials::new(kept.identity, kept.roots);
        let tunnels: Vec<tunnel::Seen> =
            stream::iter(&ways).map(|way| tunnel::look(way, usable, &credentials, settings.transport)).buffered(AT_ONCE).collect().await;
        for (way, seen) in ways.iter().zip(tunnels) {
            seen.udp_arrives.into_iter().for_each(|arrives| path::direction(&mut checks, way.address, arrives));
            checks.extend(seen.checks);
        }
    }
    checks.extend(running::look(settings, status, joined, &checks));
    let workloads: Vec<Check> =
        stream::iter(&settings.uplinks).map(|uplink| workload::look(uplink, &resolver)).buffered(AT_ONCE).collect().await;
    checks.extend(workloads);
    Report::new(SystemTime::now(), agent, checks)
}

/// The report where the settings cannot be read: their mistakes, and nothing else.
pub fn unreadable(findings: &[Finding]) -> Report {
    let check = |finding: &Finding| {
        let place = format!("{}:{}:{}", finding.source, finding.line, finding.column);
        Check::fail(What::Settings, place, format!("{}: {}", finding.what, finding.why), &finding.mend)
    };
    Report::new(SystemTime::now(), None, findings.iter().map(check).collect())
}

fn own_settings(loaded: &Loaded) -> Check {
    let Settings { uplinks, hubs, file, .. } = &loaded.settings;
    let subject = file.display().to_string();
    let seen = format!("{}, {}", counted(uplinks.len(), "uplink"), counted(hubs.len(), "hub"));
    match loaded.warnings.first() {
        _ if uplinks.is_empty() => {
            Check::warn(What::Settings, subject, "no uplink is declared", "add [[uplink]] with name and address to agent.toml")
        }
        Some(warning) => Check::warn(What::Settings, subject, warning.to_string(), "see `figspan-agent check`"),
        None => Check::pass(What::Settings, subject, seen),
    }
}

/// Looks all hubs up: what came of it, and their addresses with the hub's name.
async fn names(hubs: &[String], joined: bool, resolver: &Resolver) -> (Vec<Check>, Vec<(String, SocketAddr)>) {
    let (mut checks, mut addresses) = (Vec::new(), Vec::new());
    if hubs.is_empty() {
        let (seen, mend) = ("no hub is named", "run `figspan-agent join`, or write hubs = [\"host:port\"] in agent.toml");
        let check = if joined { Check::fail } else { Check::skip };
        checks.push(check(What::NameResolution, "hubs", seen, mend));
    }
    for hub in hubs {
        checks.push(match resolver.lookup(hub, DEFAULT_HUB_PORT).await {
            Ok(answer) => {
                let texts: Vec<String> = answer.addresses.iter().map(ToString::to_string).collect();
                for address in answer.addresses {
                    if addresses.iter().all(|(_, known)| *known != address) {
                        addresses.push((hub.clone(), address));
                    }
                }
                Check::pass(What::NameResolution, hub, texts.join(", "))
            }
            Err(error) => {
                Check::fail(What::NameResolution, hub, error.to_string(), "correct hubs in agent.toml, /etc/resolv.conf, or the DNS zone")
            }
        });
    }
    (checks, addresses)
}

#[cfg(test)]
mod tests;
