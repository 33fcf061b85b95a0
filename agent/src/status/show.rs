//! Shows a status to people: one line for systemd, a page for a terminal. Pure.

use std::fmt::Write;
use std::time::Duration;

use figspan_proto::control::Health;
use figspan_tunnel::Transport;

use super::{Service, Status, Uplink};

/// One line: `3/3 replicas · 2 uplinks ready · 31 in flight · certificate 19 h`.
pub fn line(status: &Status) -> String {
    let (reached, known) = replicas(status);
    let (tunnels, wanted) = (status.tunnels.len(), wanted_tunnels(status));
    let ready = status.uplinks.iter().filter(|uplink| uplink.health == Health::Ready && uplink.refused.is_none()).count();
    let offered = status.uplinks.len();
    let mut line = if status.draining { "draining · ".to_owned() } else { String::new() };
    let _ = write!(line, "{reached}/{known} replicas");
    if status.tunnels.iter().any(|tunnel| tunnel.transport == Transport::Tcp.word()) {
        line.push_str(" over TCP");
    }
    if reached > 0 && tunnels < wanted {
        let _ = write!(line, " ({tunnels}/{wanted} tunnels)");
    }
    // All of them is what is normal, and short.
    let ready = if ready == offered { counted(ready, "uplink") } else { format!("{ready} of {}", counted(offered, "uplink")) };
    let _ = write!(line, " · {ready} ready · {} in flight · certificate ", status.streams);
    // The largest unit alone: a line that changes every second is news every second.
    match u64::try_from(status.certificate.seconds_left) {
        Ok(left) => line.push_str(&coarse(left)),
        Err(_) => _ = write!(line, "over for {}", coarse(status.certificate.seconds_left.unsigned_abs())),
    }
    let shut = status.services.iter().filter(|service| !service.listening || service.refused.is_some()).count();
    if shut > 0 {
        let _ = write!(line, " · {} of {} cannot be called", shut, counted(status.services.len(), "service"));
    }
    if status.reload.error.is_some() {
        line.push_str(" · last reload refused");
    }
    line
}

/// A count with its word: `1 uplink`, `2 uplinks`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Replicas that a tunnel leads to, and how many are known: these, and the addresses that do not answer; at least one.
fn replicas(status: &Status) -> (usize, usize) {
    let mut reached: Vec<&str> = status.tunnels.iter().map(|tunnel| tunnel.replica.as_str()).collect();
    reached.sort_unstable();
    reached.dedup();
    let silent = status.unreachable.iter().filter(|silent| status.tunnels.iter().all(|tunnel| tunnel.address != silent.address)).count();
    (reached.len(), (reached.len() + silent).max(1))
}

/// The largest unit alone: `19 h`.
fn coarse(seconds: u64) -> String {
    match seconds {
        172_800.. => format!("{} d", seconds / 86_400),
        3600.. => format!("{} h", seconds / 3600),
        60.. => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

/// How many tunnels there would be if each replica that answers had one per shard.
fn wanted_tunnels(status: &Status) -> usize {
    let mut replicas: Vec<(&str, u8)> = status.tunnels.iter().map(|tunnel| (tunnel.replica.as_str(), tunnel.shards)).collect();
    replicas.sort_unstable();
    replicas.dedup();
    replicas.iter().map(|(_, shards)| usize::from(*shards)).sum()
}

/// A page for a terminal; `now_ms` is the reader's clock.
pub fn page(status: &Status, now_ms: u64) -> String {
    let mut out = String::new();
    let ago = |ms: u64| duration(now_ms.saturating_sub(ms) / 1000);
    let _ = writeln!(
        out,
        "agent        {} ({}, up {}{})",
        status.agent,
        status.software,
        ago(status.started_ms),
        if status.draining { ", draining" } else { "" }
    );
    let _ = write!(out, "certificate  {}, {} left", status.certificate.id, left(status.certificate.seconds_left));
    match &status.certificate.error {
        Some(error) => _ = writeln!(out, "; renewal fails: {error}"),
        None => _ = writeln!(out),
    }
    let _ = writeln!(out, "streams      {} open, {} refused", status.streams, status.streams_refused);
    if let Some(error) = &status.reload.error {
        let _ = writeln!(
            out,
            "settings     the last change was refused and the old settings hold:\n             {}",
            error.trim_end().replace('\n', "\n             ")
        );
    }
    for hub in &status.hubs {
        let what = hub.error.as_ref().map_or_else(|| hub.addresses.join(", "), |error| format!("cannot be resolved: {error}"));
        let _ = writeln!(out, "hub          {} ({what})", hub.name);
    }
    let rows = status.tunnels.iter().map(|tunnel| {
        vec![
            tunnel.replica.clone(),
            format!("{}/{}", u16::from(tunnel.shard) + 1, tunnel.shards),
            tunnel.address.clone(),
            tunnel.transport.clone(),
            format!("{:.1} ms", tunnel.rtt_us as f64 / 1000.0),
            tunnel.mtu.to_string(),
            ago(tunnel.since_ms),
            if tunnel.leaving { "leaving".to_owned() } else { "up".to_owned() },
        ]
    });
    table(&mut out, &["TUNNEL TO", "SHARD", "ADDRESS", "TRANSPORT", "RTT", "MTU", "SINCE", "STATE"], rows.collect());
    for tunnel in status.tunnels.iter().filter(|tunnel| tunnel.transport == Transport::Tcp.word()) {
        let (shard, since) = (u16::from(tunnel.shard) + 1, ago(tunnel.transport_since_ms));
        let _ = writeln!(out, "{} shard {shard} is reached over TCP for {since}: {}", tunnel.replica, tunnel.transport_why);
    }
    for address in &status.unreachable {
        let _ = writeln!(out, "no tunnel to {}: {}", address.address, address.error);
    }
    let rows = status.uplinks.iter().map(|uplink| {
        vec![
            uplink.name.clone(),
            uplink.address.clone(),
            uplink.protocol.as_str().to_owned(),
            uplink.weight_in_force.map_or_else(|| uplink.weight.to_string(), |weight| weight.to_string()),
            state(uplink),
            uplink.open.to_string(),
            uplink.streams.to_string(),
            uplink.failed.iter().map(|(_, count)| count).sum::<u64>().to_string(),
        ]
    });
    table(&mut out, &["UPLINK", "ADDRESS", "PROTOCOL", "WEIGHT", "STATE", "OPEN", "STREAMS", "FAILED"], rows.collect());
    for uplink in &status.uplinks {
        if let Some(refused) = &uplink.refused {
            let _ = writeln!(out, "{} is refused by {refused}", uplink.name);
        }
        if !uplink.reason.is_empty() {
            let _ = writeln!(out, "{} is down: {}", uplink.name, uplink.reason);
        }
    }
    services(&mut out, &status.services);
    out
}

/// Where services are called; nothing where none are.
fn services(out: &mut String, services: &[Service]) {
    if services.is_empty() {
        return;
    }
    let rows = services.iter().map(|service| {
        let state = match (service.listening, &service.refused) {
            (false, _) => "not listening",
            (true, Some(_)) => "refused",
            (true, None) => "listening",
        };
        vec![
            service.name.clone(),
            service.listen.clone(),
            service.protocol.clone(),
            state.to_owned(),
            service.open.to_string(),
            service.taken.to_string(),
            service.failed.iter().map(|(_, count)| count).sum::<u64>().to_string(),
        ]
    });
    table(out, &["SERVICE", "LISTEN", "PROTOCOL", "STATE", "OPEN", "CALLS", "FAILED"], rows.collect());
    for service in services {
        for told in service.error.iter().chain(&service.refused) {
            let _ = writeln!(out, "{} at {}: {told}", service.name, service.listen);
        }
    }
}

fn state(uplink: &Uplink) -> String {
    let health = match uplink.health {
        Health::Unknown => "unknown",
        Health::Ready => "ready",
        Health::Down => "down",
    };
    let drains = uplink.weight_in_force.unwrap_or(uplink.weight).is_zero();
    match (&uplink.refused, drains) {
        (Some(_), _) => "refused".to_owned(),
        (None, true) => format!("{health}, draining"),
        (None, false) => health.to_owned(),
    }
}

fn table(out: &mut String, head: &[&str], rows: Vec<Vec<String>>) {
    out.push('\n');
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).chain([head[column].len()]).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut line = |cells: Vec<&str>| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(head.to_vec());
    rows.iter().for_each(|row| line(row.iter().map(String::as_str).collect()));
}

fn left(seconds: i64) -> String {
    match u64::try_from(seconds) {
        Ok(seconds) => duration(seconds),
        Err(_) => format!("over for {}", duration(seconds.unsigned_abs())),
    }
}

/// The two largest units at most: `19h 3m`.
fn duration(seconds: u64) -> String {
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Certificate, Reload, Tunnel, Unreachable};
    use figspan_proto::control::Protocol;
    use figspan_tunnel::Why;

    fn status() -> Status {
        let tunnel = |shard| Tunnel {
            replica: "hub-0".into(),
            shard,
            shards: 2,
            address: "192.0.2.1:7443".into(),
            transport: if shard == 0 { "quic" } else { "tcp" }.into(),
            transport_why: Why::Silent.to_string(),
            transport_since_ms: 1_900_000,
            software: "figspan-hub/0.1.0".into(),
            since_ms: 1_000_000,
            rtt_us: 1234,
            mtu: 1452,
            skew_ms: 0,
            leaving: false,
            statistics: figspan_tunnel::tunnel::Statistics::default(),
        };
        let uplink = |name: &str, health, reason: &str, weight: u32| Uplink {
            name: name.into(),
            address: "127.0.0.1:8080".into(),
            protocol: Protocol::Http1,
            weight: weight.try_into().unwrap(),
            weight_in_force: None,
            health,
            reason: reason.into(),
            refused: None,
            open: 3,
            streams: 17,
            bytes_to_workload: 0,
            bytes_from_workload: 0,
            failed: vec![("connect-refused".into(), 2)],
        };
        Status {
            agent: "vm-1".into(),
            software: "figspan-agent/0.1.0".into(),
            instance: "i".into(),
            started_ms: 0,
            process: crate::status::Process::default(),
            draining: false,
            streams: 3,
            streams_refused: 0,
            certificate: Certificate {
                id: "spiffe://figspan.local/agent/vm-1".into(),
                not_after_ms: 0,
                seconds_left: 68_590,
                renewal_ms: 0,
                renewed: 0,
                error: None,
            },
            hubs: vec![],
            tunnels: vec![tunnel(0), tunnel(1)],
            transport_moves: vec![],
            unreachable: vec![],
            uplinks: vec![uplink("monolith", Health::Ready, "", 0), uplink("orders", Health::Down, "connection refused", 100)],
            services: vec![],
            reload: Reload::default(),
        }
    }

    fn service(name: &str, listening: bool, refused: Option<&str>) -> Service {
        Service {
            name: name.into(),
            listen: "unix:/run/figspan-agent/orders.sock".into(),
            protocol: "http".into(),
            listening,
            error: (!listening).then(|| "cannot listen".into()),
            refused: refused.map(Into::into),
            open: 1,
            taken: 12,
            bytes_to_service: 0,
            bytes_from_service: 0,
            failed: vec![("service-denied".into(), 3)],
        }
    }

    #[test]
    fn services_have_a_row_each_and_say_why_they_cannot_be_called() {
        let services =
            vec![service("orders", true, None), service("mail", true, Some("hub hub-0 does not allow it")), service("db", false, None)];
        let status = Status { services, ..status() };
        assert!(line(&status).ends_with(" · 2 of 3 services cannot be called"), "{}", line(&status));
        let page = page(&status, 2_000_000);
        for shown in [
            "SERVICE",
            "orders   unix:/run/figspan-agent/orders.sock  http      listening",
            "mail at unix:/run/figspan-agent/orders.sock: hub hub-0 does not allow it",
            "not listening",
        ] {
            assert!(page.contains(shown), "{shown} is not in\n{page}");
        }
    }

    #[test]
    fn the_line_counts_what_an_operator_looks_for() {
        assert_eq!(line(&status()), "1/1 replicas over TCP · 1 of 2 uplinks ready · 3 in flight · certificate 19 h");
        let mut one_shard = status();
        one_shard.tunnels.pop();
        one_shard.uplinks.pop();
        one_shard.unreachable.push(Unreachable { address: "192.0.2.2:7443".into(), error: "no answer".into() });
        assert_eq!(line(&one_shard), "1/2 replicas (1/2 tunnels) · 1 uplink ready · 3 in flight · certificate 19 h");
        let mut alone = status();
        alone.tunnels.clear();
        alone.draining = true;
        alone.certificate.seconds_left = -61;
        assert_eq!(line(&alone), "draining · 0/1 replicas · 1 of 2 uplinks ready · 3 in flight · certificate over for 1 min");
    }

    #[test]
    fn the_page_has_a_row_for_each_tunnel_and_uplink_and_says_why_one_is_down() {
        let page = page(&status(), 2_000_000);
        insta::assert_snapshot!(page);
    }
}
