//! The hub's file under chaos: routes in any order, backends of any weight and tier, and policies of every kind, drawn anew for
//! each reload.
//!
//! Bounds are drawn so that a whole hub keeps within them: limits above what the load has under way, breakers and ejection that
//! leave who never fails alone, times far above what an answer takes, attempts above what is killed or crashes under one
//! request. What a policy may cost is then nothing, and the ledger can say so. A hash never goes by the client's address, which
//! all requests share. One place is always open: shop-3 and orders-2 are never touched, and `orders` always has a weight.

use std::net::SocketAddr;

use figspan_ledger::Workload;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Zones of the agents, in their order, and of the services' addresses.
pub(super) const ZONES: [&str; 3] = ["eu-1a", "eu-1b", "eu-1b"];

/// A file: more keys of `[hub]`, and all that comes behind.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) hub: String,
    pub(crate) rest: String,
}

/// Where the services of a configuration are.
#[derive(Debug)]
pub(super) struct Services<'s> {
    /// The addresses of `orders`.
    pub(super) orders: &'s [Workload],
    /// The address of `copies`, which mirrors write to.
    pub(super) copies: SocketAddr,
}

fn one_of<'t>(random: &mut StdRng, texts: &[&'t str]) -> &'t str {
    texts.choose(random).expect("a list with something in it")
}

/// What each of these makes of the dice, in their order.
fn some(random: &mut StdRng, chance: f64, texts: &[fn(&mut StdRng) -> String]) -> String {
    let drawn: Vec<_> = texts.iter().filter(|_| random.random_bool(chance)).collect();
    drawn.into_iter().map(|text| text(random)).collect()
}

impl Config {
    /// The rule that gets the load, but for its filters, in one line.
    pub(super) fn rule(&self) -> String {
        let of_rule = self.rest.lines().skip_while(|line| *line != "name = \"main\"").skip(1).take_while(|line| !line.is_empty());
        of_rule.filter(|line| !line.starts_with("filters")).collect::<Vec<_>>().join("; ")
    }

    /// Draws one.
    pub(super) fn draw(random: &mut StdRng, services: &Services<'_>) -> Self {
        let zones = ZONES.iter().zip(services.orders);
        let addresses = zones.map(|(zone, workload)| format!("{{ address = \"{}\", zone = \"{zone}\" }}", workload.address));
        let copies = services.copies;
        let services = format!(
            "[[service]]\nname = \"orders\"\nprotocol = \"h2c\"\naddresses = [{}]\n\n[[service]]\nname = \"copies\"\naddresses = [\"{copies}\"]\n\n",
            addresses.collect::<Vec<_>>().join(", ")
        );
        let others: String = (0..random.random_range(0..4))
            .map(|at| {
                let matches = format!("matches = [{{ path = {{ value = \"/other/{at}\" }} }}]");
                format!("[[http_route.rules]]\n{matches}\nbackend_refs = [{{ uplink = \"shop\" }}]\n\n")
            })
            .collect();
        let main = format!("[[http_route.rules]]\nname = \"main\"\n{}{}{}\n", backends(random), filters(random), some(random, 0.4, RULE));
        let rules = if random.random() { others + &main } else { main + &others };
        let policies = policy(random, "uplink = \"shop\"", "") + &policy(random, "service = \"orders\"", CHECK);
        let hub = one_of(random, &["", "zone = \"eu-1a\"\n", "zone = \"eu-1b\"\n"]).to_owned();
        Self { hub, rest: services + &crate::bed::http(&rules) + &policies }
    }
}

/// The backends of the rule that gets the load, and how it leaves a tier of them. `orders` has no override, and so always takes
/// something or is the fallback.
fn backends(random: &mut StdRng) -> String {
    let shop = one_of(random, &["", ", weight = 0", ", weight = 1", ", weight = 50", ", weight = 100"]);
    let order = random.random_range(1..100);
    let (backends, tiers) = match random.random_range(0..4) {
        0 => (format!("{{ uplink = \"shop\"{shop} }}, {{ service = \"orders\", weight = {order}, fallback = 1 }}"), true),
        1 => (format!("{{ service = \"orders\", weight = {order} }}, {{ uplink = \"shop\"{shop}, fallback = 2 }}"), true),
        _ => (format!("{{ uplink = \"shop\"{shop} }}, {{ service = \"orders\", weight = {order} }}"), false),
    };
    let failover = if tiers && random.random() {
        let (failures, failback) = (one_of(random, &["1", "5"]), one_of(random, &["0s", "500ms", "3s"]));
        let when = "on_status = [\"500-599\"], latency = \"1s\"";
        format!("failover = {{ {when}, failures = {failures}, hold = \"300ms\", failback = \"{failback}\" }}\n")
    } else {
        String::new()
    };
    format!("backend_refs = [{backends}]\n{failover}")
}

/// Filters, each with a chance of its own. None changes what the ledger compares.
fn filters(random: &mut StdRng) -> String {
    let all: [fn(&mut StdRng) -> String; 6] = [
        |_| "{ type = \"RequestHeaderModifier\", set = [{ name = \"x-env\", value = \"chaos\" }], remove = [\"x-debug\"] }, ".into(),
        |_| {
            "{ type = \"ResponseHeaderModifier\", add = [{ name = \"x-served-by\", value = \"figspan\" }], remove = [\"server\"] }, ".into()
        },
        |random| {
            let path =
                one_of(random, &["type = \"ReplaceFullPath\", value = \"/v2/orders\"", "type = \"ReplacePrefixMatch\", value = \"/v2\""]);
            format!("{{ type = \"URLRewrite\", hostname = \"legacy.example\", path = {{ {path} }} }}, ")
        },
        |_| "{ type = \"Compression\", algorithms = [\"zstd\", \"gzip\"], min_bytes = \"1KiB\", content_types = [\"text/*\"] }, ".into(),
        |_| "{ type = \"CORS\", allow_origins = [\"https://shop.example\"], allow_methods = [\"GET\"] }, ".into(),
        |random| {
            let percent = one_of(random, &["1", "10", "25"]);
            let unsafe_methods = one_of(random, &["", ", unsafe_methods = \"copies write to a book of their own\""]);
            let compare = one_of(random, &["", ", compare = { sample_percent = 50, body = \"hash\" }"]);
            let rest = format!("percent = {percent}, max_body = \"64KiB\", timeout = \"2s\"{unsafe_methods}{compare}");
            format!("{{ type = \"RequestMirror\", backend = {{ service = \"copies\" }}, {rest} }}, ")
        },
    ];
    format!("filters = [{}]\n", some(random, 0.4, &all))
}

/// What else a rule may ask for.
const RULE: &[fn(&mut StdRng) -> String] = &[
    |_| "timeouts = { request = \"25s\", backend_request = \"12s\" }\n".into(),
    |random| {
        let codes = one_of(random, &["", ", codes = [502, 503]", ", codes = [500, 502, 503, 504]"]);
        let hedge = one_of(random, &["", ", hedge = \"50ms\"", ", hedge = \"400ms\""]);
        format!("retry = {{ attempts = {}, backoff = \"5ms\"{codes}{hedge} }}\n", random.random_range(4..=7))
    },
    |random| format!("session_persistence = {{ type = \"Cookie\", ttl = \"{}\" }}\n", one_of(random, &["2s", "1m"])),
    |random| format!("hash = {{ on = \"{}\" }}\n", one_of(random, &["header:x-user", "cookie:user"])),
    |_| "rate_limits = [{ per = \"client\", requests = 100000, period = \"1s\", burst = 200000 }]\n".into(),
    |_| "in_flight = { per = \"client\", max = 10000 }\n".into(),
];

const CHECK: &str = "health_check = { type = \"http\", path = \"/healthz\", interval = \"100ms\", timeout = \"2s\", rise = 1, fall = 1 }\n";

/// What a backend may ask for.
const BACKEND: &[fn(&mut StdRng) -> String] = &[
    |random| {
        let method = one_of(random, &["RoundRobin", "LeastLoad"]);
        let (slow, zone) = (one_of(random, &["0s", "500ms", "2s"]), one_of(random, &["any", "prefer"]));
        format!("load_balancing = {{ method = \"{method}\", slow_start = \"{slow}\", zone = \"{zone}\" }}\n")
    },
    |random| {
        let (window, open) = (one_of(random, &["1s", "5s"]), one_of(random, &["200ms", "1s"]));
        format!("circuit_breaker = {{ error_ratio = 0.4, window = \"{window}\", min_requests = 10, open = \"{open}\", probes = 2 }}\n")
    },
    |random| {
        let base = one_of(random, &["200ms", "1s"]);
        let tail = "interval = \"200ms\", max = \"2s\", max_percent = 50";
        format!("outlier_ejection = {{ consecutive_5xx = 3, consecutive_gateway_errors = 3, base = \"{base}\", {tail} }}\n")
    },
    |_| "limits = { connections = 4000, pending = 4000, requests = 6000, wait = \"5s\" }\n".into(),
];

/// The policy of a backend; `check` is one that only some may have.
fn policy(random: &mut StdRng, target: &str, check: &str) -> String {
    let check = if random.random() { check } else { "" };
    format!("\n[[backend_policy]]\n{target}\n{check}{}", some(random, 0.5, BACKEND))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use figspan_ledger::Ledger;
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn whatever_is_drawn_is_a_configuration_and_over_time_everything_is_drawn() {
        let ledger = Arc::new(Ledger::default());
        let orders = ["orders-1", "orders-2"].map(|name| Workload::start(name, name, Arc::clone(&ledger)).unwrap());
        let services = Services { orders: &orders, copies: ([127, 0, 0, 1], 9).into() };
        let mut random = StdRng::seed_from_u64(7);
        let mut seen = String::new();
        for _ in 0..300 {
            let Config { hub, rest } = Config::draw(&mut random, &services);
            let text = format!("[hub]\n{hub}{rest}");
            let read = figspan_model::settings::parse(&text, "hub.toml");
            assert!(read.is_ok(), "{text}\n{:#?}", read.err());
            seen += &text;
        }
        for word in
            ["fallback", "failover", "RequestMirror", "URLRewrite", "hedge", "hash", "session_persistence", "rate_limits", "in_flight"]
        {
            assert!(seen.contains(word), "{word}");
        }
        for word in [
            "timeouts",
            "circuit_breaker",
            "outlier_ejection",
            "limits = {",
            "health_check",
            "LeastLoad",
            "\"prefer\"",
            "zone = \"eu-1a\"\n",
        ] {
            assert!(seen.contains(word), "{word}");
        }
    }
}
