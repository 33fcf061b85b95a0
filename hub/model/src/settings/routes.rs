//! `[[http_route]]`, `[[tcp_route]]`, `[[tls_route]]`, and the routing as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use figspan_proto::control::Protocol;
use figspan_proto::name::{UplinkName, Zone};
use figspan_proto::weight::Weight;
use figspan_settings::{Item, Place, Section, Source, Table};

use super::listeners::{self, Kind};
use super::values::{self, Files, Taken};
use super::{HubSettings, jwt, keys, matches, policy, services};
use crate::health::TIERS;
use crate::routing::draft::{BackendDraft, HttpRouteDraft, HttpRuleDraft, RoutingDraft, StreamRouteDraft};
use crate::routing::{BackendPolicy, ListenerName, RouteMatch, RouteName, ServiceName, Target, Timeouts};

/// Entries of one list of a route: hosts, rules, matches, backends. A rule's choice looks at each backend.
const MAX_ENTRIES: usize = 128;

/// Highest tier of a backend: more levels of fallback than anybody can reason about.
const MAX_TIER: u64 = TIERS as u64 - 1;

pub(super) fn routing(top: &Section<'_>, files: &Files<'_>, settings: &HubSettings) -> RoutingDraft {
    let proxies = listeners::proxies(top);
    let (listeners, known_listeners) = listeners::listeners(top, files, settings, &proxies);
    let (services, known_services) = services::services(top, files);
    let providers = jwt::providers(top, files);
    let mut reader = Reader {
        files,
        providers,
        listeners: known_listeners,
        services: known_services,
        names: Taken::default(),
        taken: HashMap::new(),
        matches: HashMap::new(),
    };
    let http_routes = top.sections("http_route", &keys::HTTP_ROUTE).iter().filter_map(|section| reader.http_route(section)).collect();
    let tcp = top.sections("tcp_route", &keys::TCP_ROUTE);
    let tls = top.sections("tls_route", &keys::TLS_ROUTE);
    let mut stream_routes: Vec<StreamRouteDraft> = tcp.iter().filter_map(|section| reader.stream_route(section, Kind::Tcp)).collect();
    stream_routes.extend(tls.iter().filter_map(|section| reader.stream_route(section, Kind::Tls)));
    let backend_policies = reader.backend_policies(top, settings.hub.zone.as_ref());
    reader.unused(top.source());
    let (uplink_tls, limits) = (services::uplink_tls(top, files), listeners::limits(top));
    RoutingDraft {
        zone: settings.hub.zone.clone(),
        jwt_providers: reader.providers.into_all(),
        listeners,
        http_routes,
        stream_routes,
        services,
        backend_policies,
        uplink_tls,
        limits,
        proxies,
    }
}

struct Reader<'f> {
    files: &'f Files<'f>,
    providers: jwt::Providers,
    listeners: Vec<listeners::Known>,
    services: HashMap<ServiceName, services::Known>,
    /// Of all routes: their state is keyed by name.
    names: Taken,
    /// What stream routes have taken: a listener alone, or with a server name.
    taken: HashMap<(ListenerName, Option<String>), Place>,
    /// What HTTP routes match, in words, with listeners and host; for a warning about a match that another one hides.
    matches: HashMap<String, Place>,
}

impl Reader<'_> {
    fn http_route(&mut self, section: &Section<'_>) -> Option<HttpRouteDraft> {
        let name = self.name(section);
        let listeners = match section.get("listeners") {
            Some(list) => self.attach(&list, &[Kind::Http, Kind::Https], "HTTP"),
            None => {
                let http = self.listeners.iter().filter(|known| matches!(known.kind, Some(Kind::Http | Kind::Https)));
                http.for_each(|known| known.used.set(true));
                Vec::new()
            }
        };
        let hostnames = hostnames(section);
        let rules = bounded(section, "rules", &keys::HTTP_RULE);
        let mut names = Taken::default();
        let rules = rules
            .iter()
            .map(|section| {
                let rule = self.http_rule(section, &mut names);
                self.seen(section, &rule.matches, &listeners, &hostnames);
                rule
            })
            .collect();
        Some(HttpRouteDraft { name: name?, listeners, hostnames, rules })
    }

    fn http_rule(&self, section: &Section<'_>, names: &mut Taken) -> HttpRuleDraft {
        let name = section.get("name").and_then(|item| values::name(&item).filter(|name| names.take(&item, "rule", name)));
        let list = section.sections("matches", &keys::MATCH);
        if let (Some(item), true) = (section.get("matches"), list.len() > MAX_ENTRIES) {
            item.wrong(format!("has {} entries", list.len()), format!("use at most {MAX_ENTRIES}"));
        }
        let matches: Vec<RouteMatch> = list.iter().map(matches::route_match).collect();
        let filters = policy::filters(section, &matches, self.files, &|section| self.target(section, true));
        let backends = match (filters.redirects, section.get("backend_refs")) {
            (false, _) => self.backends(section, true),
            (true, None) => Vec::new(),
            (true, Some(item)) => {
                item.wrong("stands beside a RequestRedirect, so nothing would ever go there", "remove it, or remove the filter");
                Vec::new()
            }
        };
        let pins = policy::pins(section, &backends, self.files, &|section| self.target(section, true));
        let policy = policy::rule(section, filters, pins, &backends, &self.providers);
        HttpRuleDraft { name, matches, backends, timeouts: timeouts(section), policy }
    }

    /// Warns of matches that can never be reached, because the same ones stand before them.
    fn seen(&mut self, rule: &Section<'_>, matches: &[RouteMatch], listeners: &[ListenerName], hostnames: &[String]) {
        let everything = [RouteMatch::default()];
        let any_host = [String::new()];
        for parts in if matches.is_empty() { &everything } else { matches } {
            for host in if hostnames.is_empty() { &any_host } else { hostnames } {
                // `/` as a prefix is what no path means.
                let words = format!("{listeners:?} {host} {parts}").replace("any path", "path below /");
                match self.matches.get(&words) {
                    Some(place) => {
                        let line = rule.source().line(*place);
                        let why = format!("a match ({parts}) is the same as one of the rule of line {line}, which goes first");
                        rule.warn(why, "remove it, or make it more specific");
                    }
                    None => drop(self.matches.insert(words, rule.place())),
                }
            }
        }
    }

    fn stream_route(&mut self, section: &Section<'_>, kind: Kind) -> Option<StreamRouteDraft> {
        let name = self.name(section);
        let list = section.required("listeners");
        let listeners =
            list.as_ref().map(|list| self.attach(list, &[kind], if kind == Kind::Tcp { "TCP" } else { "TLS" })).unwrap_or_default();
        if let Some(list) = list.as_ref().filter(|list| list.is_empty_list()) {
            list.wrong("is empty", "name at least one listener");
        }
        let hostnames = if kind == Kind::Tls { hostnames(section) } else { Vec::new() };
        if let Some(item) = &list {
            self.claim(item, &listeners, &hostnames);
        }
        let backends = self.backends(section, false);
        let (timeouts, failover) = (timeouts(section), policy::failover(section, &backends, false));
        Some(StreamRouteDraft { name: name?, listeners, hostnames, backends, timeouts, failover })
    }

    fn name(&mut self, section: &Section<'_>) -> Option<RouteName> {
        let item = section.required("name")?;
        let name = values::name(&item)?;
        self.names.take(&item, "route", &name).then_some(name)
    }

    /// The listeners that a route names, each of a kind that fits.
    fn attach(&self, list: &Item<'_>, kinds: &[Kind], word: &str) -> Vec<ListenerName> {
        let mut attached: Vec<ListenerName> = Vec::new();
        for item in list.items() {
            let Some(text) = item.text() else { continue };
            let Some(known) = self.listeners.iter().find(|known| &*known.name == text) else {
                let names = self.listeners.iter().map(|known| &*known.name);
                item.wrong(format!("listener {} does not exist", text.escape_debug()), mend_name(text, names, "[[listener]]"));
                continue;
            };
            known.used.set(true);
            if known.kind.is_some_and(|kind| !kinds.contains(&kind)) {
                item.wrong(
                    format!("listener {text} is not {word}"),
                    format!("use a listener whose protocol is {word}, or another kind of route"),
                );
            } else if attached.contains(&known.name) {
                item.wrong(format!("listener {text} is named twice"), "remove one");
            } else {
                attached.push(known.name.clone());
            }
        }
        attached
    }

    /// One TCP route per listener, one TLS route per listener and server name.
    fn claim(&mut self, item: &Item<'_>, listeners: &[ListenerName], hostnames: &[String]) {
        let hosts: Vec<Option<String>> = if hostnames.is_empty() { vec![None] } else { hostnames.iter().cloned().map(Some).collect() };
        for listener in listeners {
            for host in &hosts {
                if let Some(place) = self.taken.get(&(listener.clone(), host.clone())) {
                    let line = item.source().line(*place);
                    let what = host.as_deref().map(|host| format!(" for {host}")).unwrap_or_default();
                    item.wrong(
                        format!("listener {listener}{what} is taken by the route of line {line}"),
                        "use another listener, or merge the routes",
                    );
                } else {
                    self.taken.insert((listener.clone(), host.clone()), item.place());
                }
            }
        }
    }

    fn backends(&self, section: &Section<'_>, http: bool) -> Vec<BackendDraft> {
        let sections = bounded(section, "backend_refs", &keys::BACKEND);
        let backends: Vec<BackendDraft> = sections.iter().filter_map(|section| self.backend(section, http)).collect();
        let zero = |backend: &BackendDraft| backend.weight.is_some_and(Weight::is_zero);
        if let (Some(item), true, false) = (section.get("backend_refs"), backends.iter().all(zero), backends.is_empty()) {
            item.warn("all weights are 0: whatever comes here is refused", "give one backend a weight");
        }
        backends
    }

    fn backend(&self, section: &Section<'_>, http: bool) -> Option<BackendDraft> {
        let weight = section.get("weight").map(|item| values::weight(&item));
        let target = self.target(section, http);
        let fallback = section.get("fallback").map_or(Some(0), |item| item.number(0..=MAX_TIER));
        let fallback = fallback.and_then(|tier| u8::try_from(tier).ok());
        match weight {
            Some(weight) => Some(BackendDraft { target: target?, weight: Some(weight?), fallback: fallback? }),
            None => Some(BackendDraft { target: target?, weight: None, fallback: fallback? }),
        }
    }

    /// Where a backend or a mirror points.
    fn target(&self, section: &Section<'_>, http: bool) -> Option<Target> {
        match (section.get("uplink"), section.get("service")) {
            (Some(item), None) => values::typed_name(&item).map(Target::Uplink),
            (None, Some(item)) => self.service(&item, http),
            (Some(_), Some(item)) => {
                item.wrong("stands beside uplink", "write two backends, each with a weight");
                None
            }
            (None, None) => {
                section.wrong("points nowhere", "add uplink = \"...\" or service = \"...\"");
                None
            }
        }
    }

    fn service(&self, item: &Item<'_>, http: bool) -> Option<Target> {
        let text = item.text()?;
        let Some((name, known)) = self.services.get_key_value(text) else {
            let names = self.services.keys().map(|name| &**name);
            item.wrong(format!("service {} does not exist", text.escape_debug()), mend_name(text, names, "[[service]]"));
            return None;
        };
        if http && known.protocol == Some(Protocol::Tcp) {
            item.wrong(
                format!("service {text} speaks tcp, which an HTTP route cannot use"),
                "give the service protocol = \"http1\" or \"h2c\"",
            );
            return None;
        }
        Some(Target::Service(name.clone()))
    }

    fn backend_policies(&self, top: &Section<'_>, zone: Option<&Zone>) -> HashMap<Target, Arc<BackendPolicy>> {
        let (mut policies, mut taken) = (HashMap::new(), Taken::default());
        for section in top.sections("backend_policy", &keys::BACKEND_POLICY) {
            let (uplink, service) = (section.get("uplink"), section.get("service"));
            let target = match (&uplink, &service) {
                (Some(item), None) => values::typed_name::<UplinkName>(item).map(Target::Uplink),
                (None, Some(item)) => self.service(item, false),
                _ => {
                    section.wrong("names not exactly one backend", "write either uplink or service");
                    None
                }
            };
            let policy = policy::backend(&section, target.as_ref(), zone);
            let (Some(item), Some(target)) = (uplink.or(service), target) else { continue };
            if taken.take(&item, "policy of", &target.key()) {
                policies.insert(target, Arc::new(policy));
            }
        }
        policies
    }

    fn unused(&self, source: &Source<'_>) {
        let warn =
            |place, what: &str, name: &str| source.warning(place, what, format!("{name} is used by no route"), "add a route, or remove it");
        self.listeners.iter().filter(|known| !known.used.get()).for_each(|known| warn(known.place, "listener", &known.name));
        self.providers.unused().for_each(|(name, place)| warn(place, "jwt_provider", name));
    }
}

fn mend_name<'n>(wrong: &str, names: impl Iterator<Item = &'n str>, table: &str) -> String {
    match figspan_settings::nearest(wrong, names) {
        Some(near) => format!("write \"{near}\""),
        None => format!("add it as {table}, or correct the name"),
    }
}

/// A list of tables that must be there, with 1 to [`MAX_ENTRIES`] entries.
fn bounded<'d>(section: &Section<'d>, key: &str, table: &'static Table) -> Vec<Section<'d>> {
    let Some(item) = section.required(key) else {
        return Vec::new();
    };
    if item.is_empty_list() {
        item.wrong("is empty", "write at least one entry");
    }
    let list = section.sections(key, table);
    if list.len() > MAX_ENTRIES {
        item.wrong(format!("has {} entries", list.len()), format!("use at most {MAX_ENTRIES}"));
    }
    list
}

fn hostnames(section: &Section<'_>) -> Vec<String> {
    let Some(list) = section.get("hostnames") else {
        return Vec::new();
    };
    if list.is_empty_list() {
        list.wrong("is empty", "leave hostnames out to match all hosts");
    }
    let items = list.items();
    if items.len() > MAX_ENTRIES {
        list.wrong(format!("has {} entries", items.len()), format!("use at most {MAX_ENTRIES}; write more routes, or a wildcard"));
    }
    let mut hosts: Vec<String> = Vec::new();
    for item in &items {
        let Some(host) = values::host_pattern(item) else { continue };
        if hosts.contains(&host) {
            item.wrong(format!("host {host} is listed twice"), "remove one");
        } else {
            hosts.push(host);
        }
    }
    hosts
}

fn timeouts(section: &Section<'_>) -> Timeouts {
    let default = Timeouts::default();
    let Some(section) = section.section("timeouts", &keys::TIMEOUTS) else {
        return default;
    };
    let optional = |key: &str, default| section.get(key).and_then(|item| item.duration_or_off()).unwrap_or(default);
    let timeouts = Timeouts {
        connect: section.get("connect").and_then(|item| item.duration()).unwrap_or(default.connect),
        first_byte: optional("first_byte", default.first_byte),
        idle: optional("idle", default.idle),
        request: optional("request", default.request),
        backend_request: optional("backend_request", default.backend_request),
    };
    if let (Some(request), Some(try_time), Some(item)) = (timeouts.request, timeouts.backend_request, section.get("backend_request"))
        && try_time > request
    {
        item.wrong("is longer than request, which would end each try first", "make it shorter, or request longer");
    }
    timeouts
}
