//! What only the hub may say: a client's own copy of a forwarded, claim or pin field never reaches a workload, however it is
//! spelt, as a header or as a trailer, over HTTP/1.1 and HTTP/2 on either side.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use figspan_tests::bed::{Bed, http};
use figspan_tests::h2::{self, H2Workload, Said};
use figspan_tests::web::{Workload, ok};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

/// Names that are the hub's, and spellings that workloads may take for them.
const OURS: [&str; 16] = [
    "x-forwarded-for",
    "x_forwarded_for",
    "x-forwarded_for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-anything",
    "x.forwarded.client.cert",
    "forwarded",
    "x-real-ip",
    "x_real_ip",
    "x-figspan-claim-sub",
    "x_figspan_claim_sub",
    "x-figspan-pin",
    "x_figspan_pin",
    "figspan-reason",
    "figspan_user",
];

/// What no trailer may say beside: a workload that merges trailers into headers would believe it.
const NEVER_TRAILING: [&str; 5] = ["authorization", "cookie", "x-forwarded-for", "x_figspan_claim_sub", "host"];

const FORGED: &str = "forged";

const RULES: &str = r#"
[[http_route.rules]]
matches = [{ path = { value = "/one" } }]
backend_refs = [{ uplink = "one" }]

[[http_route.rules]]
matches = [{ path = { value = "/two" } }]
backend_refs = [{ uplink = "two" }]
"#;

/// A workload of each HTTP version; each keeps what it last saw, a field in a line, trailers behind a `;`.
struct Both {
    _one: Workload,
    bed: Bed,
    seen: Arc<Mutex<String>>,
}

impl Both {
    fn start() -> Self {
        let seen = Arc::new(Mutex::new(String::new()));
        let (of_one, of_two) = (Arc::clone(&seen), Arc::clone(&seen));
        let one = Workload::http(move |request| {
            let list = |fields: &std::collections::BTreeMap<String, String>| {
                fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>()
            };
            *of_one.lock().unwrap() = format!("{};{}", list(&request.fields), list(&request.trailers));
            ok("one")
        });
        let two = H2Workload::start(move |request| {
            let list = |fields: &HeaderMap| {
                fields.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect::<String>()
            };
            *of_two.lock().unwrap() = format!("{};{}", list(&request.head.headers), list(&request.trailers));
            Said { head: Response::new(()), rest: Some((Bytes::from_static(b"two"), HeaderMap::new())) }
        });
        let uplinks = one.uplink("one", "health = { type = \"none\" }") + &two.uplink("two");
        let bed = Bed::start(&http(RULES)).agent("vm-1", &uplinks).ready("one", 1).ready("two", 1);
        Self { _one: one, bed, seen }
    }

    /// What a workload saw, which nobody has seen before.
    fn saw(&self) -> String {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Nothing forged came through, but the client's own business did, in both places.
fn is_clean(saw: &str, how: &str) {
    let (fields, trailers) = saw.split_once(';').unwrap_or_else(|| panic!("{how}: nothing came"));
    assert!(!saw.contains(FORGED), "{how}: {saw}");
    assert!(fields.contains("x-own: mine\n") && trailers.contains("x-sum: 42\n"), "{how}: {saw}");
    assert!(fields.contains("x-forwarded-for: 127.0.0.1\n"), "{how}: the hub's own word: {saw}");
}

#[test]
fn a_clients_copy_of_a_field_of_the_hub_reaches_no_workload_over_http_1() {
    let both = Both::start();
    let fields: String = OURS.iter().map(|name| format!("{name}: {FORGED}\r\n")).collect();
    let shouted = fields.to_ascii_uppercase().replace(&FORGED.to_ascii_uppercase(), FORGED);
    let trailers: String = OURS.iter().chain(&NEVER_TRAILING).map(|name| format!("{name}: {FORGED}\r\n")).collect();
    let mut client = both.bed.client();
    for path in ["/one", "/two"] {
        for fields in [&fields, &shouted] {
            client.send(&format!(
                "POST {path} HTTP/1.1\r\nhost: shop.example\r\n{fields}x-own: mine\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}x-sum: 42\r\n\r\n"
            ));
            assert_eq!(client.answer(true).unwrap().status(), 200, "{path}");
            is_clean(&both.saw(), path);
        }
    }
}

#[test]
fn a_clients_copy_of_a_field_of_the_hub_reaches_no_workload_over_http_2() {
    let both = Both::start();
    let named = |names: &mut dyn Iterator<Item = &&str>| -> HeaderMap {
        names.map(|name| (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static(FORGED))).collect()
    };
    for path in ["/one", "/two"] {
        let mut request = Request::post(format!("http://shop.example{path}")).header("x-own", "mine").body(Bytes::from("hi")).unwrap();
        request.headers_mut().extend(named(&mut OURS.iter()));
        let mut trailers = named(&mut OURS.iter().chain(&NEVER_TRAILING));
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let answer = h2::ask(both.bed.web(), request, trailers);
        assert_eq!(answer.head.status, 200, "{path}");
        is_clean(&both.saw(), path);
    }
}

#[test]
fn a_trusted_proxy_may_say_where_a_client_is_and_neither_aliases_nor_claims_nor_pins() {
    let shop = Workload::http(|request| ok(&format!("{:?}", request.fields)));
    let config = "[proxies]\ntrusted = [\"127.0.0.0/8\"]\n\n".to_owned() + &http(&figspan_tests::bed::rule("{ uplink = \"shop\" }"));
    let bed = Bed::start(&config).agent("vm-1", &shop.uplink("shop", "")).ready("shop", 1);
    let own = "x-forwarded-for: 10.9.8.7\r\nx-forwarded-proto: https\r\n";
    let forged: String =
        OURS.iter().filter(|name| name.contains('_') || name.contains("figspan")).map(|name| format!("{name}: {FORGED}\r\n")).collect();
    let said = bed.client().ask("GET", "/", &format!("{own}{forged}"), b"").unwrap().text();
    assert!(said.contains("10.9.8.7, 127.0.0.1") && said.contains(r#""x-forwarded-proto": "https""#), "{said}");
    assert!(!said.contains(FORGED), "{said}");
}
