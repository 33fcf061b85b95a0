//! Sections about the cluster's side: `[[service]]`, and TLS towards backends.

use std::collections::HashMap;
use std::net::IpAddr;

use figspan_proto::control::Protocol;
use figspan_proto::name::{UplinkName, Zone};
use figspan_settings::{Item, Section};

use super::keys;
use super::values::{self, Files, Taken};
use crate::routing::{BackendTls, BackendTlsRoots, Service, ServiceAddress, ServiceName};

/// What routes ask of a service, also of one that is otherwise wrong: so that routes to it are not wrong too.
#[derive(Debug)]
pub(super) struct Known {
    /// `None` where the file's word for it is wrong.
    pub(super) protocol: Option<Protocol>,
}

pub(super) fn services(top: &Section<'_>, files: &Files<'_>) -> (Vec<Service>, HashMap<ServiceName, Known>) {
    let (mut services, mut known, mut names) = (Vec::new(), HashMap::new(), Taken::default());
    for section in top.sections("service", &keys::SERVICE) {
        let name_item = section.required("name");
        let name = name_item.as_ref().and_then(values::name);
        let fresh = match (&name_item, &name) {
            (Some(item), Some(name)) => names.take(item, "service", name),
            _ => false,
        };
        let words = [("http1", Protocol::Http1), ("h2c", Protocol::H2c), ("tcp", Protocol::Tcp)];
        let protocol = section.get("protocol").map_or(Some(Protocol::Http1), |item| item.choice(&words));
        let (addresses, zones) = section.required("addresses").map(|item| addresses(&item)).unwrap_or_default();
        let weight = section.get("weight").and_then(|item| values::weight(&item)).unwrap_or_default();
        let tls = section.section("tls", &keys::SERVICE_TLS).and_then(|section| backend_tls(&section, files));
        let (Some(name), true) = (name, fresh) else { continue };
        known.insert(name.clone(), Known { protocol });
        if let Some(protocol) = protocol {
            services.push(Service { name, protocol, addresses, zones, weight, tls: tls.map(Into::into) });
        }
    }
    (services, known)
}

fn addresses(list: &Item<'_>) -> (Vec<ServiceAddress>, Vec<Option<Zone>>) {
    let items = list.items();
    if list.is_empty_list() {
        list.wrong("is empty", "write at least one host:port");
    }
    let (mut addresses, mut zones) = (Vec::<ServiceAddress>::new(), Vec::new());
    for item in items {
        let table = if item.is_table() { item.section(&keys::SERVICE_ADDRESS) } else { None };
        let zone = table.as_ref().and_then(|table| table.get("zone")).and_then(|item| values::zone(&item));
        let Some(item) = table.map_or(Some(item), |table| table.required("address")) else { continue };
        let Some((host, port)) = values::host_port(&item) else { continue };
        let address = match host.parse::<IpAddr>() {
            Ok(ip) => ServiceAddress::Socket((ip, port).into()),
            Err(_) => ServiceAddress::Name { host, port },
        };
        if addresses.contains(&address) {
            item.wrong("is listed twice", "remove it; shares among addresses are equal");
        } else {
            addresses.push(address);
            zones.push(zone);
        }
    }
    if zones.iter().all(Option::is_none) {
        zones.clear();
    }
    (addresses, zones)
}

pub(super) fn uplink_tls(top: &Section<'_>, files: &Files<'_>) -> HashMap<UplinkName, BackendTls> {
    let (mut all, mut names) = (HashMap::new(), Taken::default());
    for section in top.sections("uplink_tls", &keys::UPLINK_TLS) {
        let item = section.required("uplink");
        let uplink = item.as_ref().and_then(values::typed_name::<UplinkName>);
        let tls = backend_tls(&section, files);
        if let (Some(item), Some(uplink)) = (item, uplink)
            && names.take(&item, "TLS of uplink", uplink.as_str())
            && let Some(tls) = tls
        {
            all.insert(uplink, tls);
        }
    }
    all
}

/// The part that `service.tls` and `uplink_tls` have in common.
fn backend_tls(section: &Section<'_>, files: &Files<'_>) -> Option<BackendTls> {
    let hostname = section.required("hostname").and_then(|item| values::host(&item));
    let file = section.get("ca_certificate");
    let system_item = section.get("system");
    let system = system_item.as_ref().and_then(|item| item.boolean()).unwrap_or(false);
    let roots = match (file, system) {
        (Some(item), false) => files.file(&item).map(BackendTlsRoots::File),
        (None, true) => Some(BackendTlsRoots::System),
        (Some(item), true) => {
            item.wrong("stands beside system = true", "keep one of the two");
            None
        }
        (None, false) => {
            section.wrong("says not whom to trust", "add ca_certificate = \"ca.pem\", or system = true");
            None
        }
    };
    Some(BackendTls { hostname: hostname?, roots: roots? })
}
