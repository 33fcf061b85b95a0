//! Sections about the process: `[hub]`, `[ca]`, `[tunnel]`, `[admin]`, `[metrics]`, `[log]`.

use std::net::SocketAddr;
use std::time::Duration;

use figspan_proto::name::{NameError, TrustDomain, Zone};
use figspan_settings::{Item, Section};
use figspan_tunnel::ca::MAX_LEAF_LIFETIME;

use super::values::{self, Files};
use super::{Admin, AdminTcp, AdminTls, Ca, Hub, HubSettings, Log, LogFormat, MAX_SHARDS, Metrics, Tunnel, ZONE_VARIABLE, keys};

/// Shortest life of a certificate: what hub and agent still renew in good time.
const MIN_LIFETIME: Duration = Duration::from_secs(10);
/// What a load balancer needs to leave a hub out that says 503 on `/readyz`: two looks at it, two seconds apart, as kubelets
/// and most balancers are set up, and a second for the news to reach every node. Twice that would only delay every restart.
pub(super) const LAME_DUCK: Duration = Duration::from_secs(5);
/// Below this an outage at night is longer than a certificate lives.
const SHORT_LIFETIME: Duration = Duration::from_secs(3600);
const LEVEL: &str = "use off, error, warn, info, debug or trace; or directives such as \"info,figspan_data=debug\"";

pub(super) fn settings(top: &Section<'_>, files: &Files<'_>) -> HubSettings {
    let section = top.section("hub", &keys::HUB);
    let zone = zone(top, section.as_ref(), zone_around());
    let hub = Hub { zone, ..section.map(|section| hub(&section, files)).unwrap_or_default() };
    HubSettings {
        ca: top.section("ca", &keys::CA).and_then(|section| ca(&section, files, &hub.trust_domain)),
        hub,
        tunnel: top.section("tunnel", &keys::TUNNEL).map(|section| tunnel(&section)).unwrap_or_default(),
        admin: top.section("admin", &keys::ADMIN).map(|section| admin(&section, files)).unwrap_or_default(),
        metrics: top.section("metrics", &keys::METRICS).map(|section| metrics(&section)).unwrap_or_default(),
        log: top.section("log", &keys::LOG).map(|section| log(&section)).unwrap_or_default(),
    }
}

/// What the environment says of the hub's zone; an orchestrator that does not know it leaves it empty.
fn zone_around() -> Option<String> {
    std::env::var(ZONE_VARIABLE).ok().filter(|zone| !zone.is_empty())
}

/// The hub's zone: that of the file, else that of the environment.
fn zone(top: &Section<'_>, section: Option<&Section<'_>>, around: Option<String>) -> Option<Zone> {
    if let Some(item) = section.and_then(|section| section.get("zone")) {
        return values::zone(&item);
    }
    let zone = around?.parse();
    let wrong = |error: &NameError| {
        top.wrong(format!("{ZONE_VARIABLE} in the environment: {error}"), format!("correct or unset {ZONE_VARIABLE}, or write hub.zone"));
    };
    zone.inspect_err(wrong).ok()
}

fn hub(section: &Section<'_>, files: &Files<'_>) -> Hub {
    let default = Hub::default();
    let shards = section.get("shards").and_then(|item| item.number(1..=MAX_SHARDS as u64));
    Hub {
        replica: section.get("replica").and_then(|item| values::typed_name(&item)).unwrap_or(default.replica),
        trust_domain: section.get("trust_domain").and_then(|item| values::typed_name(&item)).unwrap_or(default.trust_domain),
        zone: None,
        state_dir: section.get("state_dir").and_then(|item| files.path(&item)).unwrap_or(default.state_dir),
        session_key_file: section.get("session_key_file").and_then(|item| files.path(&item)),
        shards: shards.and_then(|shards| usize::try_from(shards).ok()).unwrap_or(default.shards),
        lame_duck: section.get("lame_duck").and_then(|item| item.duration_or_off()).map_or(default.lame_duck, Option::unwrap_or_default),
        drain_timeout: section.get("drain_timeout").and_then(|item| item.duration()).unwrap_or(default.drain_timeout),
        certificate_lifetime: section.get("certificate_lifetime").and_then(|item| lifetime(&item)).unwrap_or(default.certificate_lifetime),
    }
}

fn lifetime(item: &Item<'_>) -> Option<Duration> {
    let lifetime = item.duration()?;
    if !(MIN_LIFETIME..=MAX_LEAF_LIFETIME).contains(&lifetime) {
        item.wrong("is out of range", "use 10s to 30d; a day suits most");
        return None;
    }
    if lifetime < SHORT_LIFETIME {
        let why = "makes agents join again after an outage of that time, and clocks must agree to a tenth of it";
        item.warn(why, "use it for trials alone; a day suits most");
    }
    // Certificates count whole seconds.
    Some(Duration::from_secs(lifetime.as_secs()))
}

fn ca(section: &Section<'_>, files: &Files<'_>, domain: &TrustDomain) -> Option<Ca> {
    let (certificate, key) = (section.required("certificate"), section.required("key"));
    // Each is judged by itself first, so that all that is wrong is said at once.
    let paths = [&certificate, &key].map(|item| item.as_ref().and_then(|item| files.file(item)));
    let ([Some(certificate_file), Some(key_file)], Some(certificate), Some(key)) = (paths, certificate, key) else { return None };
    let ca = Ca { certificate: certificate_file, key: key_file };
    // What can be opened may still be unreadable here, for those who check a file for another machine.
    if let (Ok(pem), Ok(key_pem)) = (std::fs::read_to_string(&ca.certificate), std::fs::read_to_string(&ca.key)) {
        let wrong = |item: &Item<'_>, why: String| {
            item.wrong(why, "give one CA certificate in PEM, and its own key");
            None
        };
        if let Err(error) = figspan_tunnel::Roots::from_pem(&pem) {
            return wrong(&certificate, format!("{}: {error}", ca.certificate.display()));
        }
        if let Err(error) = figspan_tunnel::ca::Ca::from_pem(domain, &pem, &key_pem) {
            return wrong(&key, format!("{} and {} are no pair: {error}", ca.certificate.display(), ca.key.display()));
        }
    }
    Some(ca)
}

fn tunnel(section: &Section<'_>) -> Tunnel {
    let address = section.get("address").and_then(|item| values::address(&item)).unwrap_or(Tunnel::default().address);
    let tcp = section.get("tcp").and_then(|item| item.boolean()).unwrap_or(Tunnel::default().tcp);
    let Some(list) = section.get("advertise") else {
        return Tunnel { address, advertise: vec![advertised(address)], tcp };
    };
    let items = list.items();
    let advertise: Vec<String> = items.iter().filter_map(values::host_port).map(|(host, port)| join(&host, port)).collect();
    if items.is_empty() {
        list.wrong("is empty", "write at least one host:port that agents can reach, or remove the key");
    }
    Tunnel { address, advertise, tcp }
}

/// What grants tell agents where the file does not say: the address, with the host's name in place of "all addresses".
pub(super) fn advertised(address: SocketAddr) -> String {
    if address.ip().is_unspecified() { join(&values::host_name(), address.port()) } else { address.to_string() }
}

fn join(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn admin(section: &Section<'_>, files: &Files<'_>) -> Admin {
    let socket = section.get("socket").and_then(|item| files.path(&item)).unwrap_or(Admin::default().socket);
    let token = section.get("token_file");
    let token_file = token.as_ref().and_then(|item| files.file(item));
    let tls = section.section("tls", &keys::ADMIN_TLS);
    let client_certificates = tls.as_ref().is_some_and(|tls| tls.get("client_ca").is_some());
    let tls_read = tls.as_ref().and_then(|tls| admin_tls(tls, files));
    let Some(item) = section.get("address") else {
        for unused in [token, section.get("tls")].into_iter().flatten() {
            unused.warn("has no effect without admin.address", "add admin.address, or remove it");
        }
        return Admin { socket, tcp: None };
    };
    if token.is_none() && !client_certificates {
        item.wrong("would let everybody in", "add admin.token_file, or admin.tls with client_ca; or use the socket alone");
    }
    let address = values::address(&item);
    if tls.is_none() && address.is_some_and(|address| !address.ip().is_loopback()) {
        item.warn("sends the token in clear text over the network", "add admin.tls, or listen on 127.0.0.1");
    }
    Admin { socket, tcp: address.map(|address| AdminTcp { address, token_file, tls: tls_read }) }
}

fn admin_tls(section: &Section<'_>, files: &Files<'_>) -> Option<AdminTls> {
    let certificate = section.required("certificate").and_then(|item| files.file(&item));
    let key = section.required("key").and_then(|item| files.file(&item));
    let client_ca = section.get("client_ca").and_then(|item| files.file(&item));
    Some(AdminTls { certificate: certificate?, key: key?, client_ca })
}

fn metrics(section: &Section<'_>) -> Metrics {
    let Some(item) = section.get("address") else {
        return Metrics::default();
    };
    match item.text() {
        Some("off") | None => Metrics { address: None },
        Some(_) => Metrics { address: values::address(&item) },
    }
}

fn log(section: &Section<'_>) -> Log {
    let formats = [("auto", LogFormat::Auto), ("journald", LogFormat::Journald), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let default = Log::default();
    Log {
        format: section.get("format").and_then(|item| item.choice(&formats)).unwrap_or(default.format),
        level: section.get("level").and_then(|item| level(&item)).unwrap_or(default.level),
        access: section.get("access").and_then(|item| item.boolean()).unwrap_or(default.access),
    }
}

fn level(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    let is_level = |word: &str| ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    let is_target = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte));
    let is_directive = |part: &str| match part.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(part),
    };
    if text.split(',').all(|part| is_directive(part.trim())) {
        return Some(text.to_owned());
    }
    item.wrong(format!("`{}` is not a level", text.escape_debug()), LEVEL);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use figspan_settings::Source;

    fn read(text: &str, around: &str) -> (Option<Zone>, Vec<String>) {
        let source = Source::new("hub.toml", text);
        let document = source.parse().unwrap();
        let top = document.section(&keys::TOP);
        let zone = zone(&top, top.section("hub", &keys::HUB).as_ref(), Some(around.to_owned()).filter(|zone| !zone.is_empty()));
        (zone, source.findings().0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_file_says_the_zone_else_the_environment() {
        let zone = |name: &str| Some(name.parse().unwrap());
        assert_eq!(read("", ""), (None, Vec::new()));
        assert_eq!(read("[hub]\nshards = 1", "eu-1b"), (zone("eu-1b"), Vec::new()));
        assert_eq!(read("[hub]\nzone = 'eu-1a'", "not a zone"), (zone("eu-1a"), Vec::new()));
        let (none, wrong) = read("", "eu 1b");
        assert!(none.is_none() && wrong.len() == 1 && wrong[0].contains("FIGSPAN_ZONE") && wrong[0].contains("eu 1b"), "{wrong:?}");
    }
}
