//! Sections about the process: `[hub]`, `[tunnel]`, `[admin]`, `[metrics]`, `[log]`.

use std::net::SocketAddr;

use figspan_settings::{Item, Section};

use super::values::{self, Files};
use super::{Admin, AdminTcp, AdminTls, Hub, HubSettings, Log, LogFormat, MAX_SHARDS, Metrics, Tunnel, keys};

const LEVEL: &str = "use off, error, warn, info, debug or trace; or directives such as \"info,figspan_data=debug\"";

pub(super) fn settings(top: &Section<'_>, files: &Files<'_>) -> HubSettings {
    HubSettings {
        hub: top.section("hub", &keys::HUB).map(|section| hub(&section, files)).unwrap_or_default(),
        tunnel: top.section("tunnel", &keys::TUNNEL).map(|section| tunnel(&section)).unwrap_or_default(),
        admin: top.section("admin", &keys::ADMIN).map(|section| admin(&section, files)).unwrap_or_default(),
        metrics: top.section("metrics", &keys::METRICS).map(|section| metrics(&section)).unwrap_or_default(),
        log: top.section("log", &keys::LOG).map(|section| log(&section)).unwrap_or_default(),
    }
}

fn hub(section: &Section<'_>, files: &Files<'_>) -> Hub {
    let default = Hub::default();
    let shards = section.get("shards").and_then(|item| item.number(1..=MAX_SHARDS as u64));
    Hub {
        replica: section.get("replica").and_then(|item| values::typed_name(&item)).unwrap_or(default.replica),
        trust_domain: section.get("trust_domain").and_then(|item| values::typed_name(&item)).unwrap_or(default.trust_domain),
        state_dir: section.get("state_dir").and_then(|item| files.path(&item)).unwrap_or(default.state_dir),
        shards: shards.and_then(|shards| usize::try_from(shards).ok()).unwrap_or(default.shards),
        drain_timeout: section.get("drain_timeout").and_then(|item| item.duration()).unwrap_or(default.drain_timeout),
    }
}

fn tunnel(section: &Section<'_>) -> Tunnel {
    let address = section.get("address").and_then(|item| values::address(&item)).unwrap_or(Tunnel::default().address);
    let Some(list) = section.get("advertise") else {
        return Tunnel { address, advertise: vec![advertised(address)] };
    };
    let items = list.items();
    let advertise: Vec<String> = items.iter().filter_map(values::host_port).map(|(host, port)| join(&host, port)).collect();
    if items.is_empty() {
        list.wrong("is empty", "write at least one host:port that agents can reach, or remove the key");
    }
    Tunnel { address, advertise }
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
