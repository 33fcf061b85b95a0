//! Which rule a request gets: host, path, method, header and query, with the precedence of Gateway API.

use figspan_tests::bed::Bed;
use figspan_tests::web::{Message, Workload, ok};

/// Every rule leads to the same workload under another uplink's name, and the workload is told which one by its address.
const RULES: &[(&str, &str)] = &[
    ("any", ""),
    ("exact", "matches = [{ path = { type = \"Exact\", value = \"/a/b\" } }]"),
    ("prefix", "matches = [{ path = { type = \"PathPrefix\", value = \"/a\" } }]"),
    ("longer", "matches = [{ path = { type = \"PathPrefix\", value = \"/a/long\" } }]"),
    ("regex", "matches = [{ path = { type = \"RegularExpression\", value = \"/r/[0-9]+\" } }]"),
    ("method", "matches = [{ path = { type = \"PathPrefix\", value = \"/a\" }, method = \"PUT\" }]"),
    ("header", "matches = [{ path = { type = \"PathPrefix\", value = \"/a\" }, headers = [{ name = \"x-beta\", value = \"yes\" }] }]"),
    ("query", "matches = [{ path = { type = \"PathPrefix\", value = \"/a\" }, query_params = [{ name = \"v\", value = \"2\" }] }]"),
];

/// What is asked, and which rule of which host answers.
const ASKED: &[(&str, &str)] = &[
    ("GET / shop.example", "any"),
    ("GET /a/b shop.example", "exact"),
    ("PUT /a/b shop.example", "exact"),
    ("GET /a/b/ shop.example", "prefix"),
    ("GET /a shop.example", "prefix"),
    ("GET /ab shop.example", "any"),
    ("GET /a/long/er shop.example", "longer"),
    ("PUT /a/long shop.example", "longer"),
    ("GET /r/12 shop.example", "regex"),
    ("GET /r/x shop.example", "any"),
    ("PUT /a/c shop.example", "method"),
    ("GET /a/c shop.example x-beta: yes", "header"),
    ("PUT /a/c shop.example x-beta: yes", "method"),
    ("GET /a/c shop.example x-beta: no", "prefix"),
    ("GET /a/c?v=2 shop.example", "query"),
    ("GET /a/c?v=2 shop.example x-beta: yes", "header"),
    ("GET /a/c?v=1&v=2 shop.example", "prefix"),
    ("GET /a/./x/../b SHOP.example:80", "exact"),
    ("GET / one.wild.example", "wild"),
    ("GET / two.one.wild.example", "wild"),
    ("GET / exact.wild.example", "below"),
    ("GET / wild.example", "404"),
    ("GET / nobody.example", "404"),
];

#[test]
fn the_most_specific_rule_answers() {
    let mut config = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"HTTP\"\n\n".to_owned();
    let mut route = |name: &str, host: &str, rules: &str| {
        config += &format!("[[http_route]]\nname = \"{name}\"\nlisteners = [\"web\"]\nhostnames = [\"{host}\"]\n\n{rules}\n");
    };
    let rule = |name: &str, matches: &str| format!("[[http_route.rules]]\n{matches}\nbackend_refs = [{{ uplink = \"{name}\" }}]\n\n");
    route("shop", "shop.example", &RULES.iter().map(|(name, matches)| rule(name, matches)).collect::<String>());
    route("wild", "*.wild.example", &rule("wild", ""));
    route("below", "exact.wild.example", &rule("below", ""));
    let names: Vec<&'static str> = RULES.iter().map(|(name, _)| *name).chain(["wild", "below"]).collect();
    let workloads: Vec<_> = names.iter().map(|name| (*name, Workload::named(name))).collect();
    let uplinks: String = workloads.iter().map(|(name, workload)| workload.uplink(name, "health = { type = \"none\" }")).collect();
    let mut bed = Bed::start(&config).agent("vm-1", &uplinks);
    for name in names {
        bed = bed.ready(name, 1);
    }
    for (asked, wanted) in ASKED {
        let mut words = asked.splitn(4, ' ');
        let (method, target, host) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let field = words.next().map(|field| format!("{field}\r\n")).unwrap_or_default();
        let mut client = bed.client();
        client.send(&format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{field}\r\n"));
        let answer = client.answer(true).unwrap();
        let said = if answer.status() == 200 { answer.text() } else { answer.status().to_string() };
        assert_eq!(said, *wanted, "{asked}");
    }
}

/// A workload that says what the hub told it of its client.
fn told(field: &'static str) -> Workload {
    Workload::http(move |request: &Message| ok(request.field(field)))
}

fn proxied(field: &'static str, more: &str) -> (Workload, Bed) {
    let workload = told(field);
    let config = format!("{more}\n\n{}", figspan_tests::bed::http(&figspan_tests::bed::rule("{ uplink = \"shop\" }")));
    let bed = Bed::start(&config).agent("vm-1", &workload.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1);
    (workload, bed)
}

fn asked_with(bed: &Bed, fields: &str) -> String {
    let mut client = bed.client();
    client.send(&format!("GET / HTTP/1.1\r\nhost: shop.example\r\n{fields}\r\n"));
    client.answer(true).unwrap().text()
}

#[test]
fn a_trusted_proxys_word_about_the_client_is_passed_on_and_nobody_elses() {
    let (_workload, bed) = proxied("x-forwarded-for", "[proxies]\ntrusted = [\"127.0.0.0/8\"]");
    // Read from the right: the first address that is no trusted proxy is the client, and what it claims to stand for is not believed.
    assert_eq!(asked_with(&bed, "x-forwarded-for: 6.6.6.6, 203.0.113.9, 127.0.0.5\r\n"), "203.0.113.9, 127.0.0.5, 127.0.0.1");
    assert_eq!(asked_with(&bed, ""), "127.0.0.1");
    let (_workload, bed) = proxied("x-forwarded-for", "[proxies]\ntrusted = [\"10.0.0.0/8\"]");
    assert_eq!(asked_with(&bed, "x-forwarded-for: 203.0.113.9\r\n"), "127.0.0.1");
}

#[test]
fn forwarded_is_written_where_it_is_asked_for() {
    let (_workload, bed) = proxied("forwarded", "[proxies]\nforwarded = \"both\"");
    let said = asked_with(&bed, "forwarded: for=6.6.6.6\r\n").to_ascii_lowercase();
    assert!(said.contains("for=127.0.0.1") && said.contains("proto=http") && said.contains("host=shop.example"), "{said}");
    assert!(!said.contains("6.6.6.6"), "{said}");
    let both = |request: &Message| ok(&format!("{}|{}", request.field("forwarded"), request.field("x-forwarded-for")));
    let workload = Workload::http(both);
    let config =
        format!("[proxies]\nforwarded = \"forwarded\"\n\n{}", figspan_tests::bed::http(&figspan_tests::bed::rule("{ uplink = \"shop\" }")));
    let bed = Bed::start(&config).agent("vm-1", &workload.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1);
    // Alone means alone: what a client says under the other name does not pass either.
    let said = asked_with(&bed, "forwarded: for=6.6.6.6\r\nx-forwarded-for: 6.6.6.6\r\n").to_ascii_lowercase();
    assert!(said.contains("for=127.0.0.1") && said.ends_with('|') && !said.contains("6.6.6.6"), "{said}");
    let (_workload, bed) = proxied("forwarded", "");
    assert_eq!(asked_with(&bed, "forwarded: for=6.6.6.6\r\n"), "");
}
