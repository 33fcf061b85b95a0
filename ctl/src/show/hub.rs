//! The hub itself: status, configuration, events.

use figspan_proto::admin::{CheckResult, ConfigStatus, Event, LogLevel, Revoked, Status};
use figspan_proto::control::plain;

use crate::table::{fields, indent, list, table};

/// The hub at a glance.
pub(crate) fn status(status: &Status) -> String {
    let ready = if status.ready { "yes".to_owned() } else { format!("no, waits for {}", list(&status.waiting_for)) };
    let generation = if status.generation == status.oldest_generation {
        status.generation.to_string()
    } else {
        format!("{} (a shard still works with {})", status.generation, status.oldest_generation)
    };
    let about = fields([
        ("Replica", status.replica.clone()),
        ("Ready", ready),
        ("Version", status.version.clone()),
        ("Started", status.started.clone()),
        ("Trust domain", status.trust_domain.clone()),
        ("Shards", status.shards.to_string()),
        ("Generation", generation),
        ("Agents", format!("{} on {} tunnel{}", status.agents, status.tunnels, if status.tunnels == 1 { "" } else { "s" })),
        ("Uplinks", status.uplinks.to_string()),
        ("In flight", status.in_flight.to_string()),
        ("Tunnel address", status.tunnel_address.clone()),
        ("Metrics", status.metrics_address.clone().unwrap_or_default()),
        ("Certificate ends", status.certificate_ends.clone()),
        ("Root pins", list(&status.roots)),
    ]);
    let listeners = status.listeners.iter().map(|listener| [listener.name.clone(), listener.protocol.clone(), listener.address.clone()]);
    let listeners = table("none", ["NAME", "PROTOCOL", "ADDRESS"], listeners);
    format!("{about}\nListeners:\n{}\n{}", indent(&listeners), config(&status.config))
}

/// The configuration in force, and what is wrong with the newest.
pub(crate) fn config(config: &ConfigStatus) -> String {
    let mut lines = vec![format!("Configuration: {}, loaded {}", plain(&config.file), plain(&config.loaded))];
    if !config.errors.is_empty() {
        lines.push("  NOT IN FORCE is the newest file; the last good one still is:".to_owned());
    }
    lines.extend(findings(&config.errors, &config.warnings));
    lines.join("\n")
}

/// What a check found.
pub(crate) fn check(result: &CheckResult) -> String {
    let lines = findings(&result.errors, &result.warnings);
    if lines.is_empty() { "no errors, no warnings".to_owned() } else { lines.join("\n") }
}

/// What was revoked, or would be.
pub(crate) fn revoked(revoked: &Revoked) -> String {
    let tunnels = match revoked.tunnels_closed {
        0 => String::new(),
        1 => ", 1 tunnel cut".to_owned(),
        n => format!(", {n} tunnels cut"),
    };
    let dry = if revoked.dry_run { " (dry run: nothing was changed)" } else { "" };
    format!("{}: revoked{tunnels}{dry}", plain(&revoked.subject))
}

/// Events, a line each.
pub(crate) fn events(events: &[Event]) -> String {
    if events.is_empty() { "no events".to_owned() } else { events.iter().map(event).collect::<Vec<_>>().join("\n") }
}

/// One event. The message names the subject and the change, and often who did it.
pub(crate) fn event(event: &Event) -> String {
    let who = if event.message.contains(&event.who) { String::new() } else { format!("  ({})", event.who) };
    plain(&format!("{:>5}  {}  {:<10}  {}{who}", event.number, event.at, event.kind, event.message))
}

fn findings(errors: &[String], warnings: &[String]) -> Vec<String> {
    let error = errors.iter().map(|text| format!("  error: {}", plain(text)));
    error.chain(warnings.iter().map(|text| format!("  warning: {}", plain(text)))).collect()
}

/// The log level, and until when.
pub(crate) fn log_level(level: &LogLevel) -> String {
    match &level.raised {
        None => format!("{}, as configured", level.configured),
        Some(raised) => {
            let target = raised.target.as_ref().map(|target| format!(" for {target}")).unwrap_or_default();
            format!("{}{target} until {}, then {} as configured", raised.level, raised.until, level.configured)
        }
    }
}
