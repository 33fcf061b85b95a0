use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use figspan_settings::reference;
use proptest::prelude::*;

use super::*;
use crate::routing::{BackendTlsRoots, ListenerProtocol, PathMatch, ServiceAddress, Target};
use crate::state::Book;

/// Samples that ship; a new one is counted here, so that none is shipped unread.
const SAMPLES: [&str; 4] = ["full.toml", "http-split.toml", "minimal.toml", "tcp-and-tls.toml"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sample(name: &str) -> String {
    std::fs::read_to_string(repository().join("packaging/samples/hub").join(name)).expect("a sample that ships")
}

/// A public key of a P-256 pair (RFC 7517, appendix A.1).
pub(super) const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"sig","kid":"1"}]}"#;

/// What is in any file that a settings file names.
fn content(path: &Path, _: Want) -> Result<Vec<u8>, String> {
    Ok(if path.extension().is_some_and(|kind| kind == "json") { JWKS.into() } else { vec![b'x'; 64] })
}

fn read(text: &str) -> Result<Loaded, Vec<Finding>> {
    parse_with(text, "/etc/figspan-hub/hub.toml", &content)
}

fn errors(text: &str) -> Vec<String> {
    let findings = read(text).expect_err("mistakes were planted");
    findings.iter().map(|finding| finding.to_string().trim_start_matches("/etc/figspan-hub/hub.toml:").to_owned()).collect()
}

/// A route to one uplink, behind some listeners.
fn around(text: &str) -> String {
    format!("{text}\n[[http_route]]\nname = 'r'\n[[http_route.rules]]\nbackend_refs = [{{ uplink = 'u' }}]\n")
}

#[test]
fn an_empty_file_is_all_defaults() {
    let loaded = read("").unwrap();
    assert_eq!(loaded.settings, HubSettings::default());
    assert_eq!(loaded.settings.tunnel.address.port(), 7443);
    assert_eq!(loaded.settings.metrics.address.unwrap().to_string(), "127.0.0.1:9464");
    assert!(loaded.settings.admin.tcp.is_none() && (1..=MAX_SHARDS).contains(&loaded.settings.hub.shards));
    assert!(loaded.warnings.is_empty() && loaded.routing.listeners.is_empty());
}

#[test]
fn a_ca_is_given_whole_and_fits_or_says_in_which_line_it_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let domain = "figspan.local".parse().unwrap();
    let now = std::time::SystemTime::now();
    let (ca, other) = (figspan_tunnel::ca::Ca::create(&domain, now).unwrap(), figspan_tunnel::ca::Ca::create(&domain, now).unwrap());
    std::fs::write(dir.path().join("ca.pem"), ca.certificate_pem()).unwrap();
    std::fs::write(dir.path().join("ca.key"), ca.key_pem()).unwrap();
    std::fs::write(dir.path().join("other.key"), other.key_pem()).unwrap();
    let file = dir.path().join("hub.toml").display().to_string();
    let read = |text: &str| parse(text, &file).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    let good = read("[ca]\ncertificate = 'ca.pem'\nkey = 'ca.key'\n").unwrap();
    assert_eq!(good.settings.ca.unwrap().key, dir.path().join("ca.key"));
    for (text, line, words) in [
        ("[ca]\ncertificate = 'ca.pem'\n", 1, "key"),
        ("[ca]\nkey = 'ca.key'\n", 1, "certificate"),
        ("[ca]\ncertificate = 'none.pem'\nkey = 'ca.key'\n", 2, "cannot be read"),
        ("[ca]\ncertificate = 'ca.pem'\nkey = 'other.key'\n", 3, "does not belong"),
        ("[ca]\ncertificate = 'ca.key'\nkey = 'ca.key'\n", 2, "holds no certificate"),
    ] {
        let wrong = read(text).unwrap_err();
        assert!(wrong.contains(&format!("hub.toml:{line}:")) && wrong.contains(words), "{text}{wrong}");
    }
}

#[test]
fn certificates_live_ten_seconds_to_thirty_days_and_short_lives_are_warned_of() {
    let lifetime = |text: &str| read(&format!("[hub]\ncertificate_lifetime = '{text}'\n"));
    assert_eq!(lifetime("12h").unwrap().settings.hub.certificate_lifetime, Duration::from_secs(12 * 3600));
    assert!(lifetime("12h").unwrap().warnings.is_empty());
    assert_eq!(lifetime("10s").unwrap().warnings.len(), 1);
    assert!(errors("[hub]\ncertificate_lifetime = '9s'\n")[0].starts_with("2:"));
    assert!(lifetime("31d").is_err());
}

#[test]
fn rules_of_a_route_have_names_of_their_own() {
    let rules = |first: &str, second: &str| {
        format!(
            "[[http_route]]\nname = 'r'\nrules = [\n{{ name = '{first}', backend_refs = [{{ uplink = 'u' }}] }},\n{{ name = '{second}', matches = [{{ path = {{ value = '/a' }} }}], backend_refs = [{{ uplink = 'u' }}] }},\n]\n"
        )
    };
    let listener = "[[listener]]\nname = 'web'\naddress = '127.0.0.1:80'\nprotocol = 'HTTP'\n";
    let loaded = read(&format!("{listener}{}", rules("orders", "cart"))).unwrap();
    let names: Vec<_> = loaded.routing.http_routes[0].rules.iter().map(|rule| rule.name.as_deref()).collect();
    assert_eq!(names, [Some("orders"), Some("cart")]);
    assert!(errors(&format!("{listener}{}", rules("cart", "cart")))[0].contains("rule cart is taken by line"));
    assert!(errors(&format!("{listener}{}", rules("#1", "cart")))[0].contains("is not a name"));
}

#[test]
fn every_sample_that_ships_is_read_without_a_warning() {
    let folder = std::fs::read_dir(repository().join("packaging/samples/hub")).unwrap();
    let mut found: Vec<String> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, SAMPLES);
    for name in SAMPLES {
        let loaded = parse_with(&sample(name), name, &content).unwrap_or_else(|errors| panic!("{name}: {errors:#?}"));
        assert_eq!(loaded.warnings, [], "{name}");
        assert!(!loaded.routing.listeners.is_empty(), "{name}");
    }
}

#[test]
fn the_full_sample_means_what_it_says() {
    let loaded = read(&sample("full.toml")).unwrap();
    let (settings, routing) = (loaded.settings, loaded.routing);
    assert_eq!((settings.hub.replica.as_str(), settings.hub.shards), ("hub-0", 2));
    assert_eq!(settings.tunnel.advertise, ["hub.example:7443", "192.0.2.7:7443"]);
    let tcp = settings.admin.tcp.unwrap();
    assert_eq!(tcp.token_file.unwrap(), Path::new("/etc/figspan-hub/admin-token"));
    assert_eq!(tcp.tls.unwrap().client_ca.unwrap(), Path::new("/etc/figspan-hub/tls/operators.pem"), "relative to the file");
    assert_eq!(routing.limits, crate::routing::Limits::default(), "the sample shows the defaults");
    assert_eq!((routing.listeners.len(), routing.services.len(), routing.uplink_tls.len()), (4, 3, 2));
    let ListenerProtocol::Https { certificates } = &routing.listeners[1].protocol else { panic!("not HTTPS") };
    assert_eq!(certificates.len(), 2);
    assert_eq!(routing.services[0].addresses[0], ServiceAddress::Name { host: "orders.shop.svc.cluster.local".into(), port: 80 });
    assert_eq!(routing.services[0].addresses[1], ServiceAddress::Socket("10.1.2.3:8080".parse().unwrap()));
    assert_eq!((settings.hub.zone, routing.zone), (Some("europe-west1-b".parse().unwrap()), Some("europe-west1-b".parse().unwrap())));
    assert_eq!((routing.services[0].zone(1), routing.services[0].zone(2)), (None, Some(&"europe-west1-c".parse().unwrap())));
    assert_eq!(routing.services[2].zones, [], "none of its addresses has any");
    assert_eq!(routing.services[2].tls.as_ref().unwrap().roots, BackendTlsRoots::System);
    let rule = &routing.http_routes[0].rules[0];
    assert_eq!(rule.timeouts, crate::routing::Timeouts::default());
    assert_eq!(rule.backends[1].target, Target::Service("orders".into()));
    assert_eq!(rule.backends[1].weight.map(figspan_proto::weight::Weight::get), Some(10));
    assert!(
        matches!(&rule.matches[2].path, Some(PathMatch::Regex(regex)) if regex.is_match("/v2/orders/7") && !regex.is_match("/x/v2/orders/7"))
    );
    assert_eq!(routing.http_routes[0].rules[3].backends[0].weight, None);
    assert_eq!(routing.stream_routes[0].timeouts.idle, None);
    assert_eq!(routing.proxies.trusted.len(), 2);
}

#[test]
fn twelve_planted_mistakes_are_twelve_findings() {
    let text = "\
[hub]
shards = 300
drain_timeout = 30
[tunnle]
[[listener]]
name = 'web'
address = '0.0.0.0:8080'
protocol = 'HTTP'
[[listener]]
name = 'web'
address = '0.0.0.0:8080'
protocol = 'TCP'
[[listener]]
name = 'db'
address = '0.0.0.0:5432'
protocol = 'TCP'
[[service]]
name = 'orders'
addresses = ['orders']
[[http_route]]
name = 'shop'
listeners = ['wbe', 'db']
[[http_route.rules]]
matches = [{ path = { value = 'orders' }, method = 'get' }]
backend_refs = [{ service = 'ordres' }, { uplink = 'monolith', weight = 1000001 }]
";
    assert_eq!(
        errors(text),
        [
            "2:10: hub.shards: 300 is out of range; use 1 to 128",
            "3:17: hub.drain_timeout: is a whole number; write a duration such as \"5s\"",
            "4:2: tunnle: is not a key here; write tunnel",
            "10:8: listener[1].name: listener web is taken by line 6; use another one, or merge the two",
            "11:11: listener[1].address: 0.0.0.0:8080 is taken by line 7; use another port or address",
            "19:14: service[0].addresses[0]: `orders` is not a host and port; write host:port, as in \"orders.shop.svc:80\" or \"10.0.0.7:80\"",
            "22:14: http_route[0].listeners[0]: listener wbe does not exist; write \"web\"",
            "22:21: http_route[0].listeners[1]: listener db is not HTTP; use a listener whose protocol is HTTP, or another kind of route",
            "24:31: http_route[0].rules[0].matches[0].path.value: path `orders` does not begin with /; write it from the root, as in \"/orders\"",
            "24:52: http_route[0].rules[0].matches[0].method: method `get` is not in capitals; write \"GET\"",
            "25:29: http_route[0].rules[0].backend_refs[0].service: service ordres does not exist; write \"orders\"",
            "25:73: http_route[0].rules[0].backend_refs[1].weight: 1000001 is out of range; use 0 to 1000000",
        ]
    );
}

#[test]
fn each_of_these_is_refused_for_its_own_reason() {
    let listener = |rest: &str| around(&format!("[[listener]]\nname = 'web'\naddress = '127.0.0.1:8080'\n{rest}"));
    let rule = |rest: &str| {
        format!("[[listener]]\nname='web'\naddress='127.0.0.1:1'\nprotocol='HTTP'\n[[http_route]]\nname='r'\n[[http_route.rules]]\n{rest}")
    };
    let matching = |part: &str| rule(&format!("matches = [{{ {part} }}]\nbackend_refs = [{{ uplink = 'u' }}]"));
    let cases = [
        ("[hub]\nreplica = 'Hub 0'".to_owned(), "is not a name"),
        ("[hub]\nshards = 0".to_owned(), "use 1 to 128"),
        ("[hub]\nzone = 'eu 1'".to_owned(), "zone `eu 1` has a character that is not allowed"),
        ("[hub]\ndrain_timeout = '0s'".to_owned(), "is zero"),
        ("[tunnel]\naddress = 'localhost:7443'".to_owned(), "is not an address"),
        ("[tunnel]\nadvertise = []".to_owned(), "is empty"),
        ("[admin]\naddress = '127.0.0.1:1'".to_owned(), "would let everybody in"),
        ("[admin]\naddress = '127.0.0.1:1'\ntls = { certificate = 'a', key = 'b' }".to_owned(), "would let everybody in"),
        ("[log]\nlevel = 'loud'".to_owned(), "is not a level"),
        ("[log]\nformat = 'jsno'".to_owned(), "write \"json\""),
        ("[proxies]\ntrusted = ['10.0.0.0/33']".to_owned(), "is not a network"),
        ("[limits]\nheader_bytes = '64 apples'".to_owned(), "unit `apples`"),
        ("[limits]\nheader_bytes = 1".to_owned(), "use 1024 to 1048576"),
        ("[metrics]\naddress = '127.0.0.1:8080'\n".to_owned() + &listener("protocol = 'HTTP'"), "is taken by metrics.address"),
        (listener("protocol = 'HTTPS'"), "HTTPS needs a certificate"),
        (listener("protocol = 'HTTPS'\ncertificates = []"), "HTTPS needs a certificate"),
        (listener("protocol = 'HTTP'\ncertificates = [{ certificate = 'a', key = 'b' }]"), "make sense for HTTPS only"),
        (listener("protocol = 'HTTPS'\ncertificates = [{ certificate = 'a' }]"), "key: is missing"),
        (listener("protocol = 'HTTP'\naccept_proxy_protocol = true"), "nobody is trusted"),
        (listener("protocol = 'http'"), "write \"HTTP\""),
        ("[[uplink_tls]]\nuplink = 'u'\nhostname = 'h'".to_owned(), "says not whom to trust"),
        ("[[uplink_tls]]\nuplink = 'u'\nhostname = 'h'\nsystem = true\nca_certificate = 'x'".to_owned(), "keep one of the two"),
        ("[[uplink_tls]]\nuplink = 'U'\nhostname = 'h'\nsystem = true".to_owned(), "is not a name"),
        ("[[service]]\nname = 's'\naddresses = ['10.0.0.1:1', '10.0.0.1:1']".to_owned(), "is listed twice"),
        ("[[service]]\nname = 's'\naddresses = ['10.0.0.1:0']".to_owned(), "is not a host and port"),
        ("[[service]]\nname = 's'\naddresses = ['10.0.0.1:1', { address = '10.0.0.1:1' }]".to_owned(), "is listed twice"),
        ("[[service]]\nname = 's'\naddresses = [{ zone = 'a' }]".to_owned(), "addresses[0].address: is missing"),
        ("[[service]]\nname = 's'\naddresses = [{ address = '10.0.0.1:1', zone = '-a' }]".to_owned(), "begins or ends with"),
        ("[[service]]\nname = 's'\naddresses = [{ address = '10.0.0.1:1', zoen = 'a' }]".to_owned(), "write zone"),
        ("[[backend_policy]]\nuplink = 'u'\nload_balancing = { zone = 'prefered' }".to_owned(), "write \"prefer\""),
        (rule("backend_refs = []"), "write at least one entry"),
        (rule("backend_refs = [{ weight = 1 }]"), "points nowhere"),
        (rule("backend_refs = [{ uplink = 'u', service = 's' }]"), "write two backends"),
        (rule("backend_refs = [{ uplink = 'u', weight = -1 }]"), "use 0 to 1000000"),
        (rule("timeouts = { connect = '0s' }\nbackend_refs = [{ uplink = 'u' }]"), "is zero"),
        (
            rule("backend_refs = [{ service = 's' }]\n[[service]]\nname = 's'\nprotocol = 'tcp'\naddresses = ['10.0.0.1:1']"),
            "which an HTTP route cannot use",
        ),
        (matching("path = { value = '/a/../b' }"), "has a dot segment"),
        (matching("path = { value = '/a//b' }"), "has an empty element"),
        (matching("path = { value = '/a?b' }"), "query_params"),
        (matching("path = { value = '/a%2Fb' }"), "hidden separator"),
        (matching("path = { value = '/ä' }"), "percent-encode"),
        (matching("path = { type = 'Prefix', value = '/a' }"), "`Prefix` is unknown"),
        (matching("path = { type = 'RegularExpression', value = '/(a' }"), "unclosed group"),
        (matching("path = { type = 'RegularExpression', value = 'a)|(b' }"), "unopened group"),
        (matching(r"path = { type = 'RegularExpression', value = '(\w{99}){99}' }"), "too large an expression"),
        (matching("headers = [{ name = 'x y', value = '1' }]"), "is not a header name"),
        (matching("headers = [{ name = 'x' }]"), "value: is missing"),
        (matching("method = 'CONNECT'"), "is refused by the hub"),
        (matching("method = 'G T'"), "is not a method"),
        (rule("backend_refs = [{ uplink = 'u' }]").replace("name='r'", "name='r'\nhostnames = ['*']"), "leave hostnames out"),
        (rule("backend_refs = [{ uplink = 'u' }]").replace("name='r'", "name='r'\nhostnames = ['http://x']"), "without scheme"),
        (rule("backend_refs = [{ uplink = 'u' }]").replace("name='r'", "name='r'\nhostnames = ['a.b', 'A.b']"), "is listed twice"),
    ];
    for (text, expected) in cases {
        let found = errors(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}\n--- gives {found:#?}\n--- instead of {expected}");
    }
}

#[test]
fn who_prefers_a_zone_that_nobody_told_is_warned() {
    let policy = "[[backend_policy]]\nuplink = 'u'\nload_balancing = { zone = 'prefer' }\n";
    let warnings = |text: &str| read(text).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let told = warnings(policy);
    assert!(told.iter().any(|told| told.contains("load_balancing.zone") && told.contains("hub.zone")), "{told:?}");
    assert!(!warnings(&format!("[hub]\nzone = 'eu-1a'\n{policy}")).iter().any(|told| told.contains("hub.zone")));
}

#[test]
fn stream_listeners_are_taken_once() {
    let listeners =
        "[[listener]]\nname='db'\naddress='127.0.0.1:0'\nprotocol='TCP'\n[[listener]]\nname='tls'\naddress='127.0.0.1:0'\nprotocol='TLS'\n";
    let route = |kind: &str, name: &str, rest: &str| format!("[[{kind}]]\nname='{name}'\n{rest}\nbackend_refs=[{{ uplink='u' }}]\n");
    let two = listeners.to_owned() + &route("tcp_route", "a", "listeners=['db']") + &route("tcp_route", "b", "listeners=['db']");
    assert_eq!(
        errors(&two),
        ["15:11: tcp_route[1].listeners: listener db is taken by the route of line 11; use another listener, or merge the routes"]
    );
    let host = |name: &str, host: &str| route("tls_route", name, &format!("listeners=['tls']\nhostnames=['{host}']"));
    assert!(read(&(listeners.to_owned() + &host("a", "x.y") + &host("b", "*.y"))).is_ok());
    let same = errors(&(listeners.to_owned() + &host("a", "x.y") + &host("b", "x.y")));
    assert!(same.len() == 1 && same[0].contains("listener tls for x.y is taken"), "{same:?}");
    let wrong = errors(&(listeners.to_owned() + &route("tcp_route", "a", "listeners=['tls']")));
    assert!(wrong.len() == 1 && wrong[0].contains("is not TCP"), "{wrong:?}");
    let name = errors(&(listeners.to_owned() + &route("tcp_route", "a", "listeners=['db']") + &host("a", "x")));
    assert!(name.len() == 1 && name[0].contains("route a is taken by line 10"), "{name:?}");
}

#[test]
fn what_works_but_hardly_as_meant_is_a_warning() {
    let text = around(
        "[[listener]]\nname='web'\naddress='127.0.0.1:0'\nprotocol='HTTP'\n[[listener]]\nname='idle'\naddress='127.0.0.1:0'\nprotocol='TCP'\n[[service]]\nname='s'\naddresses=['10.0.0.1:1']",
    );
    let warnings = |text: &str| read(text).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let found = warnings(&text);
    // A service that no route names may still be there for agents to call.
    assert!(found.len() == 1 && found[0].contains("idle is used by no route"), "{found:?}");
    let zero = warnings(&text.replace("uplink = 'u'", "uplink = 'u', weight = 0"));
    assert!(zero.iter().any(|warning| warning.contains("all weights are 0")), "{zero:?}");
    let hidden = text.replace(
        "[[http_route.rules]]",
        "[[http_route.rules]]\nmatches = [{ path = { value = '/' } }]\nbackend_refs = [{ uplink = 'v' }]\n[[http_route.rules]]",
    );
    let hidden = warnings(&hidden);
    let expected = "http_route[0].rules[1]: a match (any path) is the same as one of the rule of line 14, which goes first";
    assert!(hidden.iter().any(|warning| warning.contains(expected)), "{hidden:?}");
    let clear = warnings("[admin]\naddress = '10.0.0.1:1'\ntoken_file = 'x'");
    assert!(clear.len() == 1 && clear[0].contains("clear text"), "{clear:?}");
    assert_eq!(warnings("[admin]\ntoken_file = 'x'").len(), 1);
}

#[test]
fn files_must_be_there_and_are_sought_beside_the_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.toml");
    let text = around(
        "[[listener]]\nname='web'\naddress='127.0.0.1:0'\nprotocol='HTTPS'\ncertificates=[{ certificate='web.pem', key='/nowhere/web.key' }]",
    );
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.path().join("web.pem"), "PEM").unwrap();
    let found = load(&file).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].line, found[0].column), (5, 44));
    assert!(found[0].why.starts_with("/nowhere/web.key cannot be read: No such file"), "{found:?}");
    let missing = load(&folder.path().join("other.toml")).unwrap_err();
    assert!(missing[0].to_string().contains("other.toml: settings: cannot be read: No such file"), "{missing:?}");
}

#[test]
fn a_reload_finds_the_cursors_that_were_there() {
    let (text, book) = (sample("http-split.toml"), Book::new(2));
    let build = || read(&text).unwrap().routing.build(&book);
    let (before, after) = (build(), build());
    for (old, new) in before.http_routes[0].rules.iter().zip(&after.http_routes[0].rules) {
        assert!(Arc::ptr_eq(&old.state, &new.state));
    }
    assert!(!Arc::ptr_eq(&before.http_routes[0].rules[0].state, &before.http_routes[0].rules[1].state));
    assert!(Arc::ptr_eq(&before.service_states["orders"], &after.service_states["orders"]));
}

/// All (table, key) pairs of a file; the tables of stream routes' backends and timeouts are those of HTTP routes.
fn mentioned(value: &toml::Value, path: &str, found: &mut BTreeSet<(String, String)>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let home = match path {
                    "tcp_route" | "tls_route" if key == "backend_refs" || key == "timeouts" => "http_route.rules",
                    other => other,
                };
                found.insert((path.to_owned(), key.clone()));
                mentioned(value, format!("{home}.{key}").trim_start_matches('.'), found);
            }
        }
        toml::Value::Array(list) => list.iter().for_each(|value| mentioned(value, path, found)),
        _ => {}
    }
}

#[test]
fn the_full_sample_mentions_every_key() {
    let mut found = BTreeSet::new();
    mentioned(&toml::Value::Table(sample("full.toml").parse().unwrap()), "", &mut found);
    let known: BTreeSet<_> =
        TABLES.iter().flat_map(|table| table.keys.iter().map(|key| (table.path.to_owned(), key.name.to_owned()))).collect();
    assert_eq!(known.difference(&found).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
}

/// A filter's type with which a key goes; nothing for other tables.
fn kind_of_filter(path: &str, key: &str) -> String {
    let below = path.strip_prefix("http_route.rules.filters").unwrap_or_default().trim_start_matches('.');
    let key = if below.is_empty() { key } else { below };
    let kind = keys::FILTER_KINDS.iter().find(|(_, keys)| keys.contains(&key)).map(|(kind, _)| *kind);
    kind.filter(|_| path.starts_with("http_route.rules.filters")).map(|kind| format!("type = '{kind}', ")).unwrap_or_default()
}

#[test]
fn every_key_is_read() {
    // A date is no setting's value: whoever reads the key must complain about it.
    for table in TABLES {
        for key in table.keys {
            let extra = if table.path.starts_with("listener") { "protocol = 'HTTPS'," } else { "" };
            let extra = if key.name == "protocol" { "" } else { extra };
            let filter = kind_of_filter(table.path, key.name);
            let extra = if table.path == "http_route.rules.filters" { &filter } else { extra };
            let mut value = format!("{{ {extra} {} = 1979-05-27 }}", key.name);
            if table.path == "listener.certificates" {
                value = format!("{{ {} = 1979-05-27 }}", key.name);
            }
            let steps: Vec<&str> = table.path.split('.').filter(|step| !step.is_empty()).collect();
            for (depth, step) in steps.iter().enumerate().rev() {
                let parent = TABLES.iter().find(|table| table.path == steps[..depth].join(".")).unwrap();
                let kind = parent.keys.iter().find(|key| key.name == *step).unwrap().kind;
                value = if kind.starts_with("list") && kind.ends_with("tables") { format!("[{value}]") } else { value };
                let beside = if depth == 1 && steps[0] == "listener" { "protocol = 'HTTPS', " } else { "" };
                let beside = if steps[..depth] == ["http_route", "rules", "filters"] { &filter } else { beside };
                value = if depth == 0 { format!("{step} = {value}") } else { format!("{{ {beside}{step} = {value} }}") };
            }
            let text = if steps.is_empty() { format!("{} = 1979-05-27", key.name) } else { value };
            let found = errors(&text);
            let complaint = found.iter().any(|finding| finding.contains(&format!("{}: is a date", key.name)));
            assert!(complaint, "{}.{} is not read: {text}\n{found:#?}", table.path, key.name);
        }
    }
}

#[test]
fn ten_thousand_routes_are_read_in_one_go() {
    let mut text = "[[listener]]\nname='web'\naddress='127.0.0.1:0'\nprotocol='HTTP'\n".to_owned();
    for n in 0..10_000 {
        text +=
            &format!("[[http_route]]\nname='r{n}'\nhostnames=['h{n}.example']\n[[http_route.rules]]\nbackend_refs=[{{uplink='u{n}'}}]\n");
    }
    let routing = read(&text).unwrap().routing.build(&Book::new(1));
    let headers = http::HeaderMap::new();
    let found = routing.matcher().http("web", "h9999.example", &http::Method::GET, "/", None, &headers).unwrap();
    assert_eq!(&*found.route.name, "r9999");
}

#[test]
fn the_reference_is_up_to_date() {
    let file = repository().join("docs/reference/hub-toml.md");
    let intro = "# hub.toml\n\nEvery key of the hub's file, `/etc/figspan-hub/hub.toml`. Made from the reader's own table; `figspan-hub check` says what is\nwrong with a file. Samples are in `packaging/samples/hub`. After a change of the table, make this page again with\n`FIGSPAN_WRITE=1 cargo test -p figspan-model reference`.\n";
    let wanted = format!("{intro}{}", reference(TABLES));
    if std::env::var_os("FIGSPAN_WRITE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{} is not what the reader knows: FIGSPAN_WRITE=1 cargo test -p figspan-model reference", file.display());
}

proptest! {
    #[test]
    fn no_mangled_file_makes_the_reader_panic(line in 0usize..200, cut in 0usize..60, junk in "\\PC{0,8}|[\\[\\]{}=\"'.,\n\r\t#-]{0,8}") {
        let text = sample("full.toml");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let line = line % lines.len();
        let cut = lines[line].floor_char_boundary(cut);
        lines[line].insert_str(cut, &junk);
        let _ = read(&lines.join("\n"));
        lines.remove(line);
        let _ = read(&lines.join("\n"));
    }

    #[test]
    fn no_value_makes_the_reader_panic(key in 0usize..200, value in "\\PC{0,40}") {
        let text = sample("full.toml");
        let assignments: Vec<(usize, &str)> = text.match_indices("= \"").collect();
        let (at, _) = assignments[key % assignments.len()];
        let end = at + 3 + text[at + 3..].find('"').unwrap();
        let value = value.replace(['"', '\\'], "");
        let _ = read(&format!("{}{value}{}", &text[..at + 3], &text[end..]));
    }
}
