//! Sections about clients: `[[listener]]`, `[proxies]`, `[limits]`.

use std::cell::Cell;
use std::net::SocketAddr;

use figspan_settings::{Item, Place, Section};
use ipnet::IpNet;

use super::values::{self, Files, Taken};
use super::{HubSettings, keys};
use crate::routing::{Certificate, ForwardedHeaders, Limits, Listener, ListenerName, ListenerProtocol, Proxies};

/// Kinds of listeners, by which routes find theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Https,
    Tcp,
    Tls,
}

/// A listener's name and kind, also of one that is otherwise wrong: so that routes to it are not wrong too.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: ListenerName,
    /// `None` where the file's word for it is wrong.
    pub(super) kind: Option<Kind>,
    /// Where its name stands, for a warning that no route uses it.
    pub(super) place: Place,
    pub(super) used: Cell<bool>,
}

pub(super) fn listeners(top: &Section<'_>, files: &Files<'_>, settings: &HubSettings, proxies: &Proxies) -> (Vec<Listener>, Vec<Known>) {
    let (mut listeners, mut known) = (Vec::new(), Vec::new());
    let (mut names, mut addresses) = (Taken::default(), vec![]);
    addresses.extend(settings.metrics.address.map(|address| (address, Err("metrics.address"))));
    addresses.extend(settings.admin.tcp.as_ref().map(|tcp| (tcp.address, Err("admin.address"))));
    for section in top.sections("listener", &keys::LISTENER) {
        let name_item = section.required("name");
        let name = name_item.as_ref().and_then(values::name);
        let fresh = match (&name_item, &name) {
            (Some(item), Some(name)) => names.take(item, "listener", name),
            _ => false,
        };
        let address = section.required("address").and_then(|item| {
            let address = values::address(&item)?;
            free(&item, address, &mut addresses).then_some(address)
        });
        let kinds = [("HTTP", Kind::Http), ("HTTPS", Kind::Https), ("TCP", Kind::Tcp), ("TLS", Kind::Tls)];
        let kind = section.required("protocol").and_then(|item| item.choice(&kinds));
        let protocol = kind.and_then(|kind| protocol(&section, kind, files));
        let proxy_item = section.get("accept_proxy_protocol");
        let accept_proxy_protocol = proxy_item.as_ref().and_then(|item| item.boolean()).unwrap_or(false);
        if let (Some(item), true, true) = (&proxy_item, accept_proxy_protocol, proxies.trusted.is_empty() && top.get("proxies").is_none()) {
            item.wrong("would refuse every connection, because nobody is trusted", "add the load balancer's network to proxies.trusted");
        }
        let (Some(name), Some(item), true) = (name, name_item, fresh) else { continue };
        known.push(Known { name: name.clone(), kind, place: item.place(), used: Cell::new(false) });
        if let (Some(address), Some(protocol)) = (address, protocol) {
            listeners.push(Listener { name, address, protocol, accept_proxy_protocol });
        }
    }
    (listeners, known)
}

/// Two sockets cannot share an address, unless the kernel chooses the ports. Addresses are taken by a listener at a place, or
/// by another section.
fn free(item: &Item<'_>, address: SocketAddr, taken: &mut Vec<(SocketAddr, Result<Place, &'static str>)>) -> bool {
    if address.port() == 0 {
        return true;
    }
    if let Some((_, by)) = taken.iter().find(|(other, _)| *other == address) {
        let by = by.map_or_else(str::to_owned, |place| format!("line {}", item.source().line(place)));
        item.wrong(format!("{address} is taken by {by}"), "use another port or address");
        return false;
    }
    taken.push((address, Ok(item.place())));
    true
}

fn protocol(section: &Section<'_>, kind: Kind, files: &Files<'_>) -> Option<ListenerProtocol> {
    let list = section.get("certificates");
    let Kind::Https = kind else {
        if let Some(list) = list {
            list.wrong("make sense for HTTPS only", "write protocol = \"HTTPS\", or remove them");
        }
        return Some(match kind {
            Kind::Http | Kind::Https => ListenerProtocol::Http,
            Kind::Tcp => ListenerProtocol::Tcp,
            Kind::Tls => ListenerProtocol::TlsPassthrough,
        });
    };
    let sections = section.sections("certificates", &keys::CERTIFICATE);
    if list.is_none_or(|list| list.is_empty_list()) {
        section.wrong("HTTPS needs a certificate", "add certificates = [{ certificate = \"chain.pem\", key = \"key.pem\" }]");
    }
    let certificate = |section: &Section<'_>| {
        let certificate = section.required("certificate").and_then(|item| files.file(&item));
        let key = section.required("key").and_then(|item| files.file(&item));
        Some(Certificate { certificate: certificate?, key: key? })
    };
    let certificates: Vec<_> = sections.iter().filter_map(certificate).collect();
    (!certificates.is_empty()).then_some(ListenerProtocol::Https { certificates })
}

pub(super) fn proxies(top: &Section<'_>) -> Proxies {
    let Some(section) = top.section("proxies", &keys::PROXIES) else {
        return Proxies::default();
    };
    let words =
        [("x-forwarded", ForwardedHeaders::XForwarded), ("forwarded", ForwardedHeaders::Forwarded), ("both", ForwardedHeaders::Both)];
    let trusted = section.get("trusted").map(|item| item.items()).unwrap_or_default();
    Proxies {
        trusted: trusted.iter().filter_map(network).collect(),
        forwarded: section.get("forwarded").and_then(|item| item.choice(&words)).unwrap_or_default(),
    }
}

fn network(item: &Item<'_>) -> Option<IpNet> {
    let text = item.text()?;
    let alone = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let parsed = text.parse::<IpNet>().ok().or_else(alone);
    if parsed.is_none() {
        item.wrong(format!("`{}` is not a network", text.escape_debug()), "write CIDR, as in \"10.0.0.0/8\", or one address");
    }
    parsed.map(|network| network.trunc())
}

pub(super) fn limits(top: &Section<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(section) = top.section("limits", &keys::LIMITS) else {
        return limits;
    };
    macro_rules! read {
        ($($key:ident: $how:ident($($bounds:expr)?);)*) => {
            $(if let Some(value) = section.get(stringify!($key)).and_then(|item| item.$how($($bounds)?)) {
                // Every bound fits its type; a value that did not would leave the default.
                limits.$key = value.try_into().unwrap_or(limits.$key);
            })*
        };
    }
    read! {
        header_bytes: size(1024..=1 << 20);
        header_count: number(1..=1000);
        header_time: duration();
        keep_alive: duration();
        h2_streams: number(1..=10_000);
        h2_resets: number(1..=100_000);
        connections: number(1..=1_000_000);
        pending: number(1..=1_000_000);
        idle_streams: number(0..=10_000);
        idle_stream_time: duration();
        replay_bytes: size(0..=16 << 20);
        retry_percent: number(0..=100);
        retry_floor: number(0..=1000);
    }
    limits
}
