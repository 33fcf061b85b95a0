//! Tokens: what opens a route and what does not, fields of claims that are the hub's alone, keys that change, and hashes and
//! limits by claim.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use figspan_tests::architecture::{read, root};
use figspan_tests::bed::{Bed, http};
use figspan_tests::process::eventually;
use figspan_tests::tokens::{ISSUER, Signer, claims, claims_with, jwks, now, under_secret};
use figspan_tests::web::{Message, Workload, accept_websocket, ok};
use serde_json::{Value, json};

const PLAIN: &str = "health = { type = \"none\" }";

/// A provider whose keys are in that file.
fn provider(file: &Path) -> String {
    format!("[[jwt_provider]]\nname = \"office\"\nissuer = \"{ISSUER}\"\naudiences = [\"shop\"]\njwks_file = \"{}\"\n", file.display())
}

/// A workload that answers with what it was asked: first line, fields, trailers.
fn echo() -> Workload {
    Workload::http(|request| {
        if !request.field("sec-websocket-key").is_empty() {
            let told = format!("x-told: {}|{}\r\n\r\n", request.field("x-claim-sub"), request.field("x_claim_sub"));
            return accept_websocket(request).replacen("\r\n\r\n", &format!("\r\n{told}"), 1);
        }
        let fields = request.fields.iter().chain(&request.trailers).map(|(name, value)| format!("{name}: {value}\n"));
        ok(&format!("{}\n{}", request.first, fields.collect::<String>()))
    })
}

fn ask(bed: &Bed, target: &str, fields: &str) -> Message {
    bed.client().ask("GET", target, fields, b"").unwrap()
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// How often each came of a token.
fn outcomes(bed: &Bed) -> BTreeMap<String, u64> {
    let of = |line: &str| {
        let (outcome, count) = line.strip_prefix("figspan_tokens_total{outcome=\"")?.split_once("\"} ")?;
        Some((outcome.to_owned(), count.parse().expect("a count")))
    };
    bed.metrics().lines().filter_map(of).filter(|(_, count)| *count > 0).collect()
}

/// One request over HTTP/2, with trailers: status, `www-authenticate` and body.
async fn over_h2(bed: &Bed, fields: &[(&str, &str)], trailers: &[(&'static str, &'static str)]) -> (u16, String, String) {
    let tcp = tokio::net::TcpStream::connect(bed.web()).await.unwrap();
    let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
    let mut carried = tokio::task::JoinSet::new();
    carried.spawn(connection);
    let mut request = http::Request::post("http://shop.example/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (answer, mut stream) = sender.ready().await.unwrap().send_request(request.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::from_static(b"x"), false).unwrap();
    let trailers = trailers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    stream.send_trailers(trailers).unwrap();
    let answer = answer.await.unwrap();
    let told = answer.headers().get("www-authenticate").map(|told| told.to_str().unwrap().to_owned()).unwrap_or_default();
    let (status, mut body, mut text) = (answer.status().as_u16(), answer.into_body(), Vec::new());
    while let Some(Ok(data)) = body.data().await {
        text.extend_from_slice(&data);
    }
    (status, told, String::from_utf8(text).unwrap())
}

#[test]
fn only_a_token_of_the_provider_in_its_time_reaches_a_workload() {
    let folder = tempfile::tempdir().unwrap();
    let (ec, rsa, stranger) = (Signer::ec("ec"), Signer::rsa("rsa"), Signer::ec("ec"));
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks(&[&ec, &rsa])).unwrap();
    let workload = echo();
    let rules = "[[http_route.rules]]\njwt = { provider = \"office\" }\nin_flight = { per = \"client\", max = 1 }\nrate_limits = [{ per = \"client\", requests = 4, period = \"1h\" }]\nfilters = [{ type = \"CORS\", allow_origins = [\"https://app.example\"] }, { type = \"RequestMirror\", backend = { uplink = \"shop\" } }]\nbackend_refs = [{ uplink = \"shop\" }]\n";
    let bed = Bed::start(&(provider(&file) + &http(rules))).agent("vm-1", &workload.uplink("shop", PLAIN)).ready("shop", 1);

    let public = |jwk: &Value, part: &str| BASE64.decode(jwk[part].as_str().unwrap()).unwrap();
    let (ec_jwk, rsa_jwk) = (ec.jwk(), rsa.jwk());
    let unsigned = |algorithm: &str| {
        let head = BASE64.encode(json!({ "alg": algorithm, "kid": "ec" }).to_string());
        format!("{head}.{}.", BASE64.encode(claims("ann").to_string()))
    };
    let with = |name: &str, value: Value| ec.sign(&claims_with(name, value));
    let bad = [
        ("expired", with("exp", json!(now() - 61))),
        ("not-yet", with("nbf", json!(now() + 120))),
        ("audience", with("aud", json!("office"))),
        ("audience", with("aud", Value::Null)),
        ("issuer", with("iss", json!("https://evil.example/"))),
        ("malformed", with("exp", Value::Null)),
        ("signature", stranger.token("ann")),
        ("unknown-key", Signer::ec("other").token("ann")),
        ("algorithm", unsigned("none")),
        ("algorithm", unsigned("NONE")),
        ("algorithm", under_secret("rsa", &public(&rsa_jwk, "n"))),
        ("algorithm", under_secret("rsa", rsa_jwk.to_string().as_bytes())),
        ("algorithm", under_secret("ec", &public(&ec_jwk, "x"))),
        ("malformed", "a.b.c".to_owned()),
        ("too-large", "x".repeat(8193)),
    ];
    let mut wanted: BTreeMap<String, u64> = [("missing".to_owned(), 2)].into();
    for (outcome, token) in &bad {
        let answer = ask(&bed, "/", &format!("origin: https://app.example\r\n{}", bearer(token)));
        assert_eq!((answer.status(), answer.field("figspan-reason")), (401, "bad-token"), "{outcome}");
        let told = answer.field("www-authenticate");
        assert!(told.starts_with("Bearer error=\"invalid_token\", error_description=\"the token "), "{outcome}: {told}");
        assert!(!format!("{answer:?}").contains("office"), "{outcome}: {answer:?}");
        assert_eq!(answer.field("access-control-allow-origin"), "https://app.example", "the browser may read why");
        *wanted.entry((*outcome).to_owned()).or_default() += 1;
    }
    let answer = ask(&bed, "/", "");
    assert_eq!((answer.status(), answer.field("www-authenticate")), (401, "Bearer realm=\"figspan\""));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (status, told, _) = runtime.block_on(over_h2(&bed, &[("content-type", "application/grpc")], &[]));
    assert_eq!((status, told.as_str()), (401, "Bearer realm=\"figspan\""));
    let preflight = "origin: https://app.example\r\naccess-control-request-method: POST\r\n";
    assert_eq!(bed.client().ask("OPTIONS", "/", preflight, b"").unwrap().status(), 204, "browsers send no token with it");
    assert_eq!((outcomes(&bed), workload.seen()), (wanted.clone(), 0), "nobody was asked, no mirror either");

    // Four may pass in an hour: what was refused has used up none of them.
    for (signer, name) in [(&ec, "ann"), (&rsa, "bob"), (&ec, "ann")] {
        let answer = ask(&bed, "/", &bearer(&signer.token(name)));
        assert!(answer.status() == 200 && answer.text().contains("authorization: Bearer ey"), "{answer:?}");
    }
    let authorization = bearer(&ec.token("ann"));
    let authorization = authorization.trim_end().split_once(": ").unwrap().1;
    let (status, ..) = runtime.block_on(over_h2(&bed, &[("authorization", authorization)], &[]));
    assert_eq!(status, 200);
    assert_eq!(ask(&bed, "/", &bearer(&ec.token("ann"))).status(), 429);
    let good: u64 = ["verified", "remembered"].iter().filter_map(|word| outcomes(&bed).get(*word).copied()).sum();
    assert_eq!(good, 5);
    let explained = bed.hub.json(&["explain", "GET", "http://shop.example/", "-H", &format!("authorization: Bearer {}", bad[0].1)]);
    assert!(explained["status"] == 401 && explained["why"].to_string().contains("has expired (exp)"), "{explained}");
}

#[test]
fn the_field_of_a_claim_is_the_hubs_alone_on_every_route() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::ec("ec");
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks(&[&signer])).unwrap();
    let (workload, copies) = (echo(), std::sync::Arc::new(std::sync::Mutex::new(Vec::new())));
    let seen = std::sync::Arc::clone(&copies);
    let mirror = Workload::http(move |request| {
        seen.lock().unwrap().push((request.field("x-claim-sub").to_owned(), request.field("x-token").to_owned()));
        ok("")
    });
    let rules = r#"
[[http_route.rules]]
jwt = { provider = "office", required = false, claims_to_headers = [{ claim = "sub", header = "x-claim-sub" }, { claim = "no", header = "x-claim-no" }] }
filters = [
  { type = "RequestMirror", backend = { uplink = "copy" }, unsafe_methods = "a test" },
  { type = "RequestHeaderModifier", add = [{ name = "x-claim-sub", value = "filter" }] },
]
backend_refs = [{ uplink = "shop" }]

[[http_route.rules]]
matches = [{ path = { value = "/open" } }]
backend_refs = [{ uplink = "shop" }]
"#;
    let provider = provider(&file) + "header = \"x-token\"\nforward = false\n";
    let bed = Bed::start(&(provider + &http(rules)))
        .agent("vm-1", &(workload.uplink("shop", PLAIN) + &mirror.uplink("copy", PLAIN)))
        .ready("shop", 1)
        .ready("copy", 1);
    let token = signer.token("ann");
    let spoofs = "x-claim-sub: EVIL\r\nX-Claim-Sub: EVIL\r\nX_Claim_Sub: EVIL\r\nx.claim-sub: EVIL\r\nx-claim_no: EVIL\r\nx-claim-no: EVIL\r\nx_token: EVIL\r\n";
    let chunked = "transfer-encoding: chunked\r\ntrailer: x-claim-sub\r\n";
    let body = "1\r\nx\r\n0\r\nx-claim-sub: EVIL\r\nx_claim_sub: EVIL\r\nx-token: EVIL\r\nx-good: yes\r\n\r\n";
    let upload = |target: &str, fields: &str| {
        let mut client = bed.client();
        client.send(&format!(
            "POST {target} HTTP/1.1\r\nhost: shop.example\r\n{fields}{spoofs}{chunked}connection: x-claim-sub\r\n\r\n{body}"
        ));
        client.answer(true).unwrap().text()
    };
    let with_token = upload("/", &format!("x-token: {token}\r\n"));
    assert!(with_token.contains("x-claim-sub: ann\n") && with_token.contains("x-good: yes\n"), "{with_token}");
    let without = upload("/", "");
    assert!(without.contains("x-claim-sub: filter\n"), "without a token a filter may say what it likes: {without}");
    let open = upload("/open", "x-token: mine\r\n");
    assert!(open.contains("x-token: mine\n") && !open.contains("x-claim-sub:"), "a rule without tokens: {open}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fields = [("x-token", token.as_str()), ("x-claim-sub", "EVIL"), ("x_claim_sub", "EVIL"), ("x-claim-no", "EVIL")];
    let (status, _, h2) = runtime.block_on(over_h2(&bed, &fields, &[("x-claim-sub", "EVIL"), ("x_claim_sub", "EVIL"), ("x-good", "yes")]));
    assert!(status == 200 && h2.contains("x-claim-sub: ann\n") && h2.contains("x-good: yes\n"), "{status} {h2}");
    for text in [&with_token, &without, &open, &h2] {
        assert!(!text.contains("EVIL") && !text.contains("x-claim-no") && !text.contains(&token), "{text}");
    }
    let upgrade =
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut client = bed.client();
    client.send(&format!("GET / HTTP/1.1\r\nhost: shop.example\r\nx-token: {token}\r\n{spoofs}{upgrade}\r\n"));
    let switched = client.answer(false).unwrap();
    assert_eq!((switched.status(), switched.field("x-told")), (101, "ann|"));
    // Copies are what the workload got; the WebSocket is not copied.
    eventually("three copies", Duration::from_secs(5), || copies.lock().unwrap().len() == 3);
    let mut copies = copies.lock().unwrap().clone();
    copies.sort();
    let copy = |sub: &str| (sub.to_owned(), String::new());
    assert_eq!(copies, [copy("ann"), copy("ann"), copy("filter")]);
}

#[test]
fn keys_change_with_their_file_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Signer::ec("old"), Signer::rsa("new"));
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks(&[&old])).unwrap();
    let workload = Workload::named("shop");
    let rules = "[[http_route.rules]]\njwt = { provider = \"office\" }\nbackend_refs = [{ uplink = \"shop\" }]\n";
    // Each tunnel is published; the last must be there before the generations are compared.
    let bed = Bed::start(&(provider(&file) + &http(rules))).agent("vm-1", &workload.uplink("shop", PLAIN)).ready("shop", 1).covered("vm-1");
    let (mut client, tokens) = (bed.client(), [old.token("ann"), new.token("ann")]);
    let mut statuses = || tokens.each_ref().map(|token| client.ask("GET", "/", &bearer(token), b"").unwrap().status());
    let replace = |content: &str| {
        let fresh = folder.path().join("jwks.json.new");
        std::fs::write(&fresh, content).unwrap();
        std::fs::rename(&fresh, &file).unwrap();
    };
    let loads = || bed.hub.log("hub").matches("configuration loaded").count();
    let (generation, loaded) = (bed.hub.json(&["status"])["generation"].clone(), loads());
    assert_eq!(statuses(), [200, 401]);
    replace(&jwks(&[&old, &new]));
    eventually("both keys count", Duration::from_secs(5), || statuses() == [200, 200]);
    replace("{\"keys\":[");
    eventually("the mistake is an event", Duration::from_secs(5), || bed.hub.json(&["events"]).to_string().contains("keys not replaced: "));
    assert_eq!(statuses(), [200, 200], "those before stay in use");
    replace(&jwks(&[&new]));
    eventually("the old key counts no more, remembered tokens neither", Duration::from_secs(5), || statuses() == [401, 200]);
    assert_eq!((&bed.hub.json(&["status"])["generation"], loads()), (&generation, loaded), "nothing was loaded, nothing published");
    assert_eq!(bed.hub.json(&["events"]).to_string().matches("\"keys replaced\"").count(), 2);
}

#[test]
fn the_pages_example_keeps_people_at_their_backend_and_counts_them_apart() {
    let folder = tempfile::tempdir().unwrap();
    let signer = Signer::ec("ec");
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks(&[&signer])).unwrap();
    let page = read(&root().join("docs/06-operate.md"));
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the page has an example");
    assert!(example.contains("jwt = { provider = \"office\""), "{example}");
    let example = example.replace("/etc/figspan-hub/office-jwks.json", &file.display().to_string());
    let example = example.replace("requests = 100, period = \"1s\"", "requests = 20, period = \"1h\"");
    let (one, two) = (Workload::named("monolith"), Workload::named("account"));
    let listener = "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"HTTP\"\n";
    let bed = Bed::start(&(listener.to_owned() + &example))
        .agent("vm-1", &(one.uplink("monolith", PLAIN) + &two.uplink("account", PLAIN)))
        .ready("monolith", 1)
        .ready("account", 1);
    let mut client = bed.client();
    let mut get = |token: &str| client.ask("GET", "/account", &bearer(token), b"").unwrap();
    let mut places = BTreeMap::new();
    for person in 0..60 {
        let name = format!("person-{person}");
        let place = get(&signer.token(&name)).text();
        // Another token of the same person, with another end.
        assert_eq!(get(&signer.sign(&json!({ "iss": ISSUER, "aud": "shop", "sub": name, "exp": now() + 60 }))).text(), place, "{name}");
        *places.entry(place).or_insert(0) += 1;
    }
    assert!(places.len() == 2 && (1..=15).contains(&places["account"]), "about a tenth: {places:?}");
    // Twenty in an hour each, whatever token; whoever has no such claim is one source.
    let statuses = |get: &mut dyn FnMut() -> u16| (0..21).map(|_| get()).filter(|status| *status == 200).count();
    for person in ["ann", "bob"] {
        let passed = statuses(&mut || get(&signer.token(person)).status());
        assert_eq!((passed, get(&signer.token(person)).status()), (20, 429), "{person}");
    }
    let nobody = signer.sign(&claims_with("sub", Value::Null));
    let nobody_else = signer.sign(&claims_with("sub", json!(" padded")));
    let passed = statuses(&mut || get(&nobody).status());
    assert_eq!((passed, get(&nobody_else).status()), (20, 429));
    let answer = get(&signer.token("ann"));
    assert_eq!(answer.field("ratelimit-policy"), "\"claim:sub-3600s\";q=20;w=3600");
}
