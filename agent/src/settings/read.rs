//! Reads texts into [`Settings`]; notes all mistakes at once, each with its place and its mend. Pure.
//!
//! Several texts may be read one after the other into one reader: single values of a later text win, uplinks add up, and
//! a name that two texts give is a mistake at the second place, unless the first was told to give way.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use figspan_proto::control::{MAX_UPLINKS, Protocol};
use figspan_proto::name::UplinkName;
use figspan_proto::weight::Weight;
use figspan_settings::{Finding, Item, Section, Source};
use figspan_telemetry::Format;
use figspan_tunnel::Preference;

use super::keys;
use super::{Check, Health, Listen, Settings, Uplink, is_host, service};

/// Most hubs that a file may name.
const MAX_HUBS: usize = 16;

/// Reads one text after the other.
#[derive(Debug, Default)]
pub struct Reader {
    settings: Settings,
    named: HashMap<UplinkName, String>,
    giving_way: HashSet<UplinkName>,
    /// Where services are called, and which file says so.
    places: Vec<(Listen, String)>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Reader {
    /// Reads one text; `name` is what findings call it.
    pub fn read(&mut self, name: &str, text: &str) {
        let source = Source::new(name, text);
        if let Some(document) = source.parse() {
            self.top(&document.section(&keys::TOP), name);
        }
        let (errors, warnings) = source.findings();
        self.errors.extend(errors);
        self.warnings.extend(warnings);
    }

    /// Lets uplinks of later texts take the place of those read so far, without a mistake.
    pub fn give_way(&mut self) {
        self.giving_way = self.named.keys().cloned().collect();
    }

    /// Notes a mistake about a file as a whole.
    pub fn note(&mut self, finding: Finding) {
        self.errors.push(finding);
    }

    /// The settings read so far, whether or not there were mistakes.
    pub fn so_far(&self) -> &Settings {
        &self.settings
    }

    /// The settings and warnings, or all mistakes.
    pub fn finish(self) -> Result<(Settings, Vec<Finding>), Vec<Finding>> {
        if self.errors.is_empty() { Ok((self.settings, self.warnings)) } else { Err(self.errors) }
    }

    fn top(&mut self, top: &Section<'_>, file: &str) {
        let settings = &mut self.settings;
        if let Some(name) = top.get("name").and_then(|item| item.parsed("choose another name")) {
            settings.name = Some(name);
        }
        if let Some(item) = top.get("hubs") {
            settings.hubs = hubs(&item);
        }
        if let Some(zone) = top.get("zone").and_then(|item| item.parsed("write it as Kubernetes has it, as in \"europe-west1-b\"")) {
            settings.zone = Some(zone);
        }
        if let Some(domain) = top.get("trust_domain").and_then(|item| item.parsed("use a name such as figspan.local")) {
            settings.trust_domain = Some(domain);
        }
        if let Some(dir) = top.get("state_dir").and_then(|item| absolute(&item)) {
            settings.state_dir = dir;
        }
        set(&mut settings.workers, top.get("workers").and_then(|item| item.number(1..=64)).map(|n| n as usize));
        set(&mut settings.drain_timeout, top.get("drain_timeout").and_then(|item| item.duration()));
        set(&mut settings.tunnels_per_hub, top.get("tunnels_per_hub").and_then(|item| item.number(1..=128)).map(|n| n as usize));
        let transports = [("auto", Preference::Auto), ("quic", Preference::Quic), ("tcp", Preference::Tcp)];
        set(&mut settings.transport, top.get("transport").and_then(|item| item.choice(&transports)));
        set(&mut settings.max_streams, top.get("max_streams").and_then(|item| item.number(1..=1_000_000)));
        if let Some(item) = top.section("status", &keys::STATUS).and_then(|status| status.get("socket")) {
            match item.any_text() {
                Some("") => settings.status_socket = None,
                Some(_) => settings.status_socket = absolute(&item).or(settings.status_socket.take()),
                None => {}
            }
        }
        if let Some(item) = top.section("metrics", &keys::METRICS).and_then(|metrics| metrics.required("address")) {
            settings.metrics = item.parsed("write an address and a port, as in \"127.0.0.1:9465\"");
        }
        if let Some(log) = top.section("log", &keys::LOG) {
            let formats = [("auto", Format::Auto), ("journald", Format::Journald), ("text", Format::Text), ("json", Format::Json)];
            set(&mut settings.log.format, log.get("format").and_then(|item| item.choice(&formats)));
            set(&mut settings.log.level, log.get("level").and_then(|item| level(&item)));
        }
        for section in top.sections("uplink", &keys::UPLINK) {
            self.uplink(&section, file);
        }
        service::read_all(top, file, &mut self.settings.services, &mut self.places);
    }

    fn uplink(&mut self, section: &Section<'_>, file: &str) {
        let name_item = section.required("name");
        let name: Option<UplinkName> = name_item.as_ref().and_then(|item| item.parsed("choose another name"));
        let address =
            section.required("address").and_then(|item| item.parsed("write where the workload listens, as in \"127.0.0.1:8080\""));
        let protocols = [("http1", Protocol::Http1), ("h2c", Protocol::H2c), ("tcp", Protocol::Tcp)];
        let protocol = section.get("protocol").map_or(Some(Protocol::Http1), |item| item.choice(&protocols));
        let weight = section.get("weight").and_then(|item| item.number(0..=Weight::MAX.get().into()));
        let health = section.section("health", &keys::HEALTH).map(|health| read_health(&health));
        let proxy = section.get("proxy_protocol");
        let proxy_protocol = proxy.as_ref().and_then(|item| item.boolean());
        let max_connections = section.get("max_connections").and_then(|item| item.number(1..=1_000_000));
        let connect_timeout = section.get("connect_timeout").and_then(|item| item.duration());
        let idle_timeout = section.get("idle_timeout").and_then(|item| item.duration_or_off());

        // One connection carries requests of many clients as soon as the hub reuses streams, but has only one header.
        if let (Some(true), Some(item)) = (proxy_protocol, &proxy)
            && protocol != Some(Protocol::Tcp)
        {
            item.wrong(
                "a connection that carries HTTP serves many clients, but has one header",
                "use protocol = \"tcp\", or remove it and read X-Forwarded-For in the workload",
            );
        }
        if let (Some(name), Some(item)) = (&name, &name_item) {
            if self.giving_way.remove(name) {
                self.settings.uplinks.retain(|uplink| uplink.name != *name);
                self.named.remove(name);
            }
            if let Some(first) = self.named.get(name) {
                item.wrong(format!("uplink {name} is already declared in {first}"), "rename or remove one of the two");
            } else if self.named.len() == MAX_UPLINKS {
                item.wrong(format!("this is uplink number {}", MAX_UPLINKS + 1), format!("an agent offers {MAX_UPLINKS} at the most"));
            }
            self.named.entry(name.clone()).or_insert_with(|| file.to_owned());
        }
        let (Some(name), Some(address), Some(protocol)) = (name, address, protocol) else { return };
        let mut uplink = Uplink::new(name, address, protocol);
        if let Some(weight) = weight.and_then(|weight| u32::try_from(weight).ok()).and_then(|weight| Weight::try_from(weight).ok()) {
            uplink.weight = weight;
        }
        set(&mut uplink.health, health);
        set(&mut uplink.proxy_protocol, proxy_protocol);
        set(&mut uplink.max_connections, max_connections);
        set(&mut uplink.connect_timeout, connect_timeout);
        set(&mut uplink.idle_timeout, idle_timeout);
        self.settings.uplinks.push(uplink);
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn absolute(item: &Item<'_>) -> Option<std::path::PathBuf> {
    let path = std::path::PathBuf::from(item.text()?);
    if path.is_absolute() {
        return Some(path);
    }
    item.wrong("is not an absolute path", "write it from the root, beginning with /");
    None
}

fn hubs(item: &Item<'_>) -> Vec<String> {
    let items = item.items();
    if items.len() > MAX_HUBS {
        item.wrong(format!("names {} hubs", items.len()), format!("name {MAX_HUBS} at the most; one name may have many addresses"));
    }
    let good = |item: &Item<'_>| {
        let text = item.text()?;
        if is_hub(text) {
            return Some(text.to_owned());
        }
        item.wrong("is not a hub's address", "write host:port, ip:port, or a host that has SRV records");
        None
    };
    items.iter().take(MAX_HUBS).filter_map(good).collect()
}

/// Whether a text can name a hub: `ip:port`, `host:port` or `host`.
pub fn is_hub(text: &str) -> bool {
    if let Ok(address) = text.parse::<std::net::SocketAddr>() {
        return address.port() != 0;
    }
    match text.rsplit_once(':') {
        Some((host, port)) => is_host(host) && port.parse::<u16>().is_ok_and(|port| port != 0),
        None => is_host(text) || text.parse::<std::net::IpAddr>().is_ok(),
    }
}

fn level(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if tracing_subscriber::EnvFilter::try_new(text).is_ok() {
        return Some(text.to_owned());
    }
    item.wrong("is not a log level", "use error, warn, info, debug or trace, or a filter such as \"info,figspan_agent=debug\"");
    None
}

fn read_health(section: &Section<'_>) -> Health {
    let mut health = Health::default();
    let kinds = [("tcp", "tcp"), ("http", "http"), ("grpc", "grpc"), ("none", "none")];
    let kind = section.get("type").map_or(Some("tcp"), |item| item.choice(&kinds));
    let path = section.get("path");
    let status = section.get("status");
    let host = section.get("host");
    let service = section.get("service");
    for (item, needs) in [(&path, "http"), (&status, "http"), (&host, "http"), (&service, "grpc")] {
        if let (Some(item), Some(kind)) = (item, kind)
            && kind != needs
        {
            item.wrong(format!("belongs to type = \"{needs}\""), format!("write type = \"{needs}\", or remove it"));
        }
    }
    health.check = match kind {
        Some("http") => Check::Http {
            path: path.and_then(|item| read_path(&item)).unwrap_or_else(|| "/".to_owned()),
            host: host.and_then(|item| read_host(&item)),
            status: status.and_then(|item| read_statuses(&item)).unwrap_or_else(|| vec![200..=399]),
        },
        Some("grpc") => Check::Grpc { service: service.and_then(|item| item.any_text()).unwrap_or_default().to_owned() },
        Some("none") => Check::None,
        _ => Check::Tcp,
    };
    set(&mut health.interval, section.get("interval").and_then(|item| item.duration()));
    set(&mut health.timeout, section.get("timeout").and_then(|item| item.duration()));
    set(&mut health.rise, section.get("rise").and_then(|item| item.number(1..=100)).map(|n| n as u32));
    set(&mut health.fall, section.get("fall").and_then(|item| item.number(1..=100)).map(|n| n as u32));
    health
}

fn read_path(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok() {
        return Some(text.to_owned());
    }
    item.wrong("is not a path", "begin it with /, and write spaces and the like as %20");
    None
}

fn read_host(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.parse::<http::uri::Authority>().is_ok() && !text.contains('@') {
        return Some(text.to_owned());
    }
    item.wrong("is not a host", "write a host, with its port where it is not 80");
    None
}

fn read_statuses(item: &Item<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let text = item.text()?;
    let one = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
        (first >= 100 && first <= last && last <= 599).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(one).collect();
    if ranges.is_none() {
        item.wrong("is not a list of statuses", "write statuses from 100 to 599, as in \"200-399\" or \"200,204,401\"");
    }
    ranges
}

#[cfg(test)]
mod tests;
