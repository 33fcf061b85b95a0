use figspan_data::seal::Sealer;
use figspan_model::settings::parse_with;
use figspan_model::snapshot::Snapshot;
use figspan_model::state::Book;

use super::*;

const CONFIG: &str = r#"
[proxies]
trusted = ["10.9.0.0/16"]

[[listener]]
name = "db"
address = "127.0.0.1:0"
protocol = "TCP"

[[listener]]
name = "behind"
address = "127.0.0.1:0"
protocol = "TCP"
accept_proxy_protocol = true

[[listener]]
name = "tls"
address = "127.0.0.1:0"
protocol = "TLS"

[[listener]]
name = "web"
address = "127.0.0.1:0"
protocol = "HTTP"

[[service]]
name = "rows"
addresses = ["127.0.0.1:5432", "127.0.0.1:5433"]

[[service]]
name = "spare"
addresses = ["127.0.0.1:5434"]

[[tcp_route]]
name = "database"
listeners = ["db", "behind"]
timeouts = { connect = "2s", idle = "1h" }
failover = { hold = "5s" }
backend_refs = [{ service = "rows" }, { service = "spare", fallback = 1 }]

[[tls_route]]
name = "shop"
listeners = ["tls"]
hostnames = ["*.shop.example"]
backend_refs = [{ uplink = "monolith" }]

[[backend_policy]]
service = "rows"
limits = { connections = 10 }
"#;

fn asked(listener: &str, server_name: Option<&str>, client: Option<&str>) -> Result<Explanation, Refusal> {
    let loaded = parse_with(CONFIG, "hub.toml", &|_, _| Ok(Vec::new())).unwrap_or_else(|findings| panic!("{findings:#?}"));
    let book = Book::new(1);
    let snapshot = Snapshot { routing: loaded.routing.build(&book), ..Snapshot::default() };
    let sessions = Sealer::new(&[[7; 32]]);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let asked = ExplainConnection { listener: listener.to_owned(), server_name: owned(server_name), client: owned(client) };
    explain(&World { snapshot: &snapshot, book: &book, sessions: &sessions }, &asked)
}

fn told(listener: &str, server_name: Option<&str>, client: Option<&str>) -> Explanation {
    asked(listener, server_name, client).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

#[test]
fn a_connection_is_told_its_route_endpoints_tiers_limits_and_client() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&told("db", None, Some("10.1.2.3"))).unwrap());
}

#[test]
fn a_server_name_finds_its_route_and_one_that_no_route_takes_ends_with_an_alert() {
    let found = told("tls", Some("a.shop.example"), None);
    assert_eq!((found.route.as_deref(), found.target.as_str()), (Some("shop"), "tls tls for a.shop.example"));
    assert!(found.why.contains(&"host a.shop.example: covered by *.shop.example".to_owned()), "{:?}", found.why);
    assert_eq!(found.refused.as_deref(), Some("nobody can take it: the connection is reset"), "no agent offers the uplink");
    assert!(found.why.last().unwrap().contains("does an agent advertise it?"), "{:?}", found.why);
    for name in [None, Some("elsewhere.example"), Some("")] {
        let lost = told("tls", name, None);
        assert!(lost.refused.unwrap().ends_with("with the alert unrecognized_name") && lost.route.is_none(), "{name:?}");
    }
}

#[test]
fn a_listener_behind_proxies_takes_connections_of_trusted_ones_only() {
    let says = |client| told("behind", None, client);
    assert_eq!((says(None).refused, says(Some("10.9.0.1")).refused), (None, None));
    let stranger = says(Some("10.8.0.1"));
    assert!(stranger.refused.unwrap().contains("trusted proxies only") && stranger.attempts.is_empty());
    assert_eq!(stranger.decisions[0].says, ["10.8.0.1 is no trusted proxy; see proxies.trusted"]);
}

#[test]
fn a_question_without_sense_is_refused() {
    for (listener, name, client) in
        [("web", None, None), ("none", None, None), ("db", Some("a.example"), None), ("db", None, Some("localhost"))]
    {
        assert!(asked(listener, name, client).is_err(), "{listener} {name:?} {client:?}");
    }
}
