//! Whole explanations, as snapshots: a decision that is told otherwise shows here. `INSTA_UPDATE=always` writes them anew.

use figspan_data::seal::Session;
use figspan_model::settings::parse_with;
use figspan_tunnel::pin::PinKey;

use super::*;

const KEY: [u8; 64] = [b'k'; 64];

const CONFIG: &str = r#"
[proxies]
trusted = ["10.9.0.0/16"]

[[listener]]
name = "web"
address = "127.0.0.1:0"
protocol = "HTTP"

[[service]]
name = "orders"
addresses = ["127.0.0.1:9001", "127.0.0.1:9002"]

[[service]]
name = "canary"
addresses = ["127.0.0.1:9003"]

[[service]]
name = "static"
addresses = ["static.shop.svc:80"]

[[http_route]]
name = "shop"

[[http_route.rules]]
name = "orders"
matches = [{ path = { value = "/orders" } }]
filters = [
  { type = "RequestHeaderModifier", set = [{ name = "x-env", value = "secret" }], remove = ["x-debug"] },
  { type = "ResponseHeaderModifier", remove = ["server"] },
  { type = "URLRewrite", hostname = "legacy.internal", path = { type = "ReplacePrefixMatch", value = "/v2" } },
  { type = "CORS", allow_origins = ["https://app.example"] },
  { type = "Compression" },
  { type = "ErrorAnswer", statuses = "502-504", body = "sorry" },
  { type = "RequestMirror", backend = { service = "canary" }, percent = 10 },
]
pins = [
  { backend = { service = "canary" }, key_file = "pin.key" },
  { backend = { service = "static" }, trusted = ["10.1.0.0/16"], always = true },
]
session_persistence = { name = "stay", ttl = "1h" }
hash = { on = "header:x-user" }
rate_limits = [{ per = "client", requests = 1, period = "1h" }, { per = "header:x-key", requests = 100, period = "1s", burst = 200 }]
in_flight = { per = "client", max = 2 }
retry = { attempts = 1, codes = [503], grpc_codes = ["unavailable"], idempotent = "orders carry an id", hedge = "1s" }
timeouts = { request = "15s", backend_request = "5s" }
backend_refs = [{ service = "orders" }, { service = "canary", weight = 0 }, { service = "static", fallback = 1 }]

[[http_route.rules]]
matches = [{ path = { value = "/go" } }]
filters = [{ type = "RequestRedirect", scheme = "https" }]

[[http_route.rules]]
name = "rest"
backend_refs = [{ service = "static" }]

[[backend_policy]]
service = "orders"
load_balancing = { method = "LeastLoad" }
circuit_breaker = { error_ratio = 0.5 }
limits = { requests = 100 }
"#;

struct Hub {
    snapshot: Snapshot,
    book: Arc<Book>,
    sessions: Sealer,
}

impl Hub {
    fn new() -> Self {
        let loaded = parse_with(CONFIG, "hub.toml", &|_, _| Ok(KEY.to_vec())).unwrap_or_else(|findings| panic!("{findings:#?}"));
        let book = Book::new(1);
        let snapshot = Snapshot { routing: loaded.routing.build(&book), ..Snapshot::default() };
        Self { snapshot, book, sessions: Sealer::new(&[[7; 32]]) }
    }

    fn asked(&self, method: &str, path: &str, fields: &[(&str, &str)], client: Option<&str>) -> Explanation {
        let headers = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = format!("http://shop.example{path}");
        let asked = ExplainRequest { listener: None, method: method.to_owned(), url, headers, client: client.map(str::to_owned) };
        let world = World { snapshot: &self.snapshot, book: &self.book, sessions: &self.sessions };
        explain(&world, &asked).unwrap_or_else(|refusal| panic!("{refusal:?}"))
    }

    fn says(&self, step: &str, fields: &[(&str, &str)], client: Option<&str>) -> Vec<String> {
        let told = self.asked("GET", "/orders", fields, client);
        told.decisions.into_iter().find(|decision| decision.step == step).map(|decision| decision.says).unwrap_or_default()
    }
}

#[test]
fn every_decision_about_a_request_is_told() {
    let hub = Hub::new();
    let fields = [("x-env", "test"), ("x-debug", "1"), ("accept-encoding", "gzip"), ("x-user", "ann")];
    insta::assert_snapshot!(serde_json::to_string_pretty(&hub.asked("GET", "/orders/7", &fields, None)).unwrap());
    let last = hub.asked("POST", "/orders/7", &[], None);
    assert!(
        last.decisions
            .iter()
            .any(|decision| decision.step == "mirrors" && decision.says[0].ends_with("not of a POST, which may change something"))
    );
}

#[test]
fn what_the_hub_answers_itself_is_told_with_its_reason() {
    let hub = Hub::new();
    insta::assert_snapshot!(serde_json::to_string_pretty(&hub.asked("GET", "/go/7?x=1", &[], None)).unwrap());
    let preflight = hub.asked("OPTIONS", "/orders", &[("origin", "https://app.example"), ("access-control-request-method", "PUT")], None);
    assert_eq!((preflight.status, preflight.attempts.len()), (Some(204), 0));
    assert_eq!(preflight.why.last().unwrap(), "the rule answers preflights; no backend is asked");
}

#[test]
fn a_pin_that_holds_leads_there_and_one_that_does_not_says_why() {
    let hub = Hub::new();
    let pin = PinKey::read(&KEY).unwrap().sign("service/canary", u64::from(u32::MAX));
    let pinned = hub.asked("GET", "/orders", &[("x-figspan-pin", &pin)], None);
    assert_eq!(pinned.attempts, ["service canary at 127.0.0.1:9003"]);
    assert!(
        pinned.decisions.iter().all(|decision| decision.step != "mirrors" && decision.says.iter().all(|said| !said.contains("session"))),
        "{:#?}",
        pinned.decisions
    );
    let said = |wish: &str| hub.says("pins", &[("x-figspan-pin", wish)], None)[0].split(": ").nth(1).unwrap().to_owned();
    assert_eq!(said(&pin), "holds");
    assert_eq!(said("nonsense"), "what the request shows is no pin");
    assert_eq!(said(&pin.replace("expires=4", "expires=3")), "the key has not signed what the request shows");
    assert_eq!(said(&PinKey::read(&KEY).unwrap().sign("service/canary", 1)), "what the request shows has ended");
    assert_eq!(said(&PinKey::read(&KEY).unwrap().sign("service/static", 1)), "the request names another backend");
    let trusted = hub.asked("GET", "/orders", &[], Some("10.1.2.3"));
    assert_eq!(trusted.attempts, ["service static"], "the client's address counts");
    let through = hub.asked("GET", "/orders", &[("x-forwarded-for", "10.1.2.3")], Some("10.9.0.1"));
    assert_eq!(through.attempts, ["service static"], "and so does what a trusted proxy says");
}

#[test]
fn a_used_up_rate_is_told_and_explaining_uses_nothing_up() {
    let hub = Hub::new();
    let rates = || hub.says("limits", &[], None);
    assert_eq!(rates(), rates(), "a look counts nothing");
    assert_eq!(rates()[0], "at most 2 under way per client: 0 now");
    assert!(rates()[1].ends_with("per client, burst 1: passes"), "{:?}", rates());
    let rule = Arc::clone(&hub.snapshot.routing.http_routes[0].rules[0]);
    let peer = "127.0.0.1:1".parse().unwrap();
    let client = Client::connected("web".into(), peer, peer, None);
    let metrics = figspan_data::metrics::Metrics::new();
    let policy = rule.policy.as_deref().unwrap();
    let _under_way =
        figspan_data::limit::source::admit(&rule, policy, &client, &Default::default(), &Default::default(), &metrics).unwrap();
    assert_eq!(rates()[0], "at most 2 under way per client: 1 now");
    let told = hub.asked("GET", "/orders", &[], None);
    assert_eq!((told.status, told.why.last().unwrap().as_str()), (Some(429), "its source has used up a rate limit"));
    assert!(rates()[1].contains("used up, passes again in 3"), "{:?}", rates());
    assert_eq!(hub.asked("GET", "/orders", &[], Some("10.2.0.1")).status, None, "another client passes");
}

#[test]
fn a_session_is_read_and_leads_where_it_belongs() {
    let hub = Hub::new();
    let orders = &hub.snapshot.routing.http_routes[0].rules[0].backends[0];
    let second = hub.book.endpoint("service/orders/127.0.0.1:9002");
    let session = Session { backend: orders.state.id, endpoint: second.id, id: 1, born: session_now(), ends: u32::MAX };
    let cookie = format!("stay={}", hub.sessions.seal("stay", &session).unwrap());
    for _ in 0..3 {
        let told = hub.asked("GET", "/orders", &[("cookie", &cookie)], None);
        assert_eq!(told.next.as_deref(), Some("service orders at 127.0.0.1:9002"));
    }
    let said = |cookie: &str| hub.says("affinity", &[("cookie", cookie)], None)[0].clone();
    assert!(said(&cookie).ends_with("its session belongs to service orders"), "{}", said(&cookie));
    assert!(said("stay=forged").contains("not made by this hub's key") && said("x=y").contains("no session yet"));
}

fn session_now() -> u32 {
    figspan_data::affinity::session::unix_now()
}

#[test]
fn asking_leaves_nothing_behind() {
    let hub = Hub::new();
    hub.asked("GET", "/", &[], None);
    assert!(hub.book.endpoints_of("service/static/").is_empty(), "an address that nobody resolved is no endpoint of the hub");
    let before: Vec<_> = (0..4).map(|_| hub.asked("GET", "/orders", &[("x-user", "bob")], None).next).collect();
    assert!(before.windows(2).all(|pair| pair[0] == pair[1]), "{before:?}");
}
