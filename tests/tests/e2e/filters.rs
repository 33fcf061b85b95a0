//! What a rule changes of requests and answers, as clients and workloads of both HTTP versions see it.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::{BrotliDecoder, DecodeV2, GzipDecoder, ZstdDecoder};
use figspan_tests::bed::{Bed, http};
use figspan_tests::web::{Message, Workload};

/// A workload that says what it was asked: request line, then each field in a line.
fn mirror() -> Workload {
    Workload::http(|request: &Message| {
        let fields: String = request.fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let said = format!("{}\n{fields}", request.first);
        format!("HTTP/1.1 200 OK\r\nserver: old\r\nx-gone: 1\r\ncontent-length: {}\r\n\r\n{said}", said.len())
    })
}

fn bed(workload: &Workload, rules: &str) -> Bed {
    Bed::start(&http(rules)).agent("vm-1", &workload.uplink("shop", "health = { type = \"none\" }")).ready("shop", 1)
}

const EDITED: &str = r#"
[[http_route.rules]]
matches = [{ path = { value = "/old" } }, { path = { value = "/older/still" } }]
filters = [
  { type = "RequestHeaderModifier", set = [{ name = "x-env", value = "prod" }], add = [{ name = "x-tag", value = "b" }], remove = ["x-debug"] },
  { type = "ResponseHeaderModifier", set = [{ name = "server", value = "shop" }], add = [{ name = "x-new", value = "1" }], remove = ["x-gone"] },
  { type = "URLRewrite", hostname = "legacy.internal", path = { type = "ReplacePrefixMatch", value = "/v2" } },
]
backend_refs = [{ uplink = "shop" }]

[[http_route.rules]]
matches = [{ path = { value = "/nobody" } }]
filters = [{ type = "ResponseHeaderModifier", set = [{ name = "x-new", value = "1" }] }]
backend_refs = [{ uplink = "nobody" }]

[[http_route.rules]]
matches = [{ path = { value = "/go" } }]
filters = [{ type = "RequestRedirect", scheme = "https", path = { type = "ReplacePrefixMatch", value = "/" }, status_code = 308 }]
"#;

#[test]
fn a_rule_edits_heads_rewrites_targets_and_redirects() {
    let workload = mirror();
    let bed = bed(&workload, EDITED);
    let mut client = bed.client();
    client.send("GET /old/./cart%2d1?q=%2e%2F HTTP/1.1\r\nhost: Shop.example:8080\r\nx-debug: 1\r\nx-env: test\r\nx-tag: a\r\n\r\n");
    let answer = client.answer(true).unwrap();
    let said = answer.text();
    assert!(said.starts_with("GET /v2/cart-1?q=%2e%2F HTTP/1.1\n"), "{said}");
    for line in ["host: legacy.internal\n", "x-env: prod\n", "x-tag: a, b\n", "x-forwarded-host: shop.example:8080\n"] {
        assert!(said.contains(line), "{line} of {said}");
    }
    assert!(!said.contains("x-debug") && !said.contains("test"), "{said}");
    assert_eq!((answer.field("server"), answer.field("x-new"), answer.field("x-gone")), ("shop", "1", ""));
    assert!(client.get("/older/still").text().starts_with("GET /v2 HTTP/1.1\n"), "the prefix of the match that applied");

    let refused = client.get("/nobody");
    assert_eq!((refused.status(), refused.field("x-new"), refused.field("figspan-reason")), (503, "1", "nobody-ready"));

    for (asked, wanted) in [
        ("/go/a?b=c", "https://shop.example/a?b=c"),
        ("/go", "https://shop.example/"),
        ("/go//evil.example", "https://shop.example/evil.example"),
    ] {
        let answer = client.get(asked);
        assert_eq!((answer.status(), answer.field("location"), answer.text().as_str()), (308, wanted, ""), "{asked}");
    }
    // The body of a redirected upload is not taken for the next request.
    client.send("POST /go HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\n\r\nabc");
    assert_eq!(client.answer(true).unwrap().status(), 308);
}

const PLAIN: &str = "health = { type = \"none\" }";

fn policies(folder: &std::path::Path) -> String {
    let page = folder.join("soon.html");
    std::fs::write(&page, "<h1>Soon</h1>").unwrap();
    format!(
        r#"
[[http_route.rules]]
filters = [
  {{ type = "CORS", allow_origins = ["https://app.example"], allow_methods = ["PUT"], expose_headers = ["x-total"], allow_credentials = true }},
  {{ type = "ErrorAnswer", statuses = "502-504", body_file = "{}" }},
  {{ type = "ErrorAnswer", statuses = "418", body = "{{}}", content_type = "application/json", workloads = true }},
]
backend_refs = [{{ uplink = "shop" }}]

[[http_route.rules]]
matches = [{{ path = {{ value = "/dead" }} }}]
filters = [{{ type = "ErrorAnswer", statuses = "500-599", body_file = "{}" }}]
backend_refs = [{{ uplink = "nobody" }}]
"#,
        page.display(),
        page.display()
    )
}

#[test]
fn preflights_are_answered_by_the_hub_and_errors_get_the_rules_page() {
    let folder = tempfile::tempdir().unwrap();
    let workload = Workload::http(|request: &Message| match request.target() {
        "/503" => "HTTP/1.1 503 No\r\nretry-after: 7\r\netag: \"a\"\r\ncontent-length: 3\r\n\r\nown".to_owned(),
        "/418" => {
            "HTTP/1.1 418 No\r\nretry-after: 7\r\netag: \"a\"\r\ncontent-encoding: br\r\ntransfer-encoding: chunked\r\n\r\n3\r\nown\r\n"
                .to_owned()
        }
        _ => format!(
            "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\nvary: accept\r\ncontent-length: {}\r\n\r\n{}",
            request.method().len(),
            request.method()
        ),
    });
    let bed = bed(&workload, &policies(folder.path()));
    let mut client = bed.client();
    let mut ask = |method: &str, target: &str, fields: &str| {
        client.send(&format!("{method} {target} HTTP/1.1\r\nhost: shop.example\r\n{fields}\r\n"));
        client.answer(method != "HEAD").unwrap()
    };
    let preflight = ask("OPTIONS", "/", "origin: https://app.example\r\naccess-control-request-method: PUT\r\n");
    assert_eq!((preflight.status(), preflight.field("access-control-allow-origin")), (204, "https://app.example"));
    assert_eq!((preflight.field("access-control-allow-methods"), preflight.field("access-control-allow-credentials")), ("PUT", "true"));
    let stranger = ask("OPTIONS", "/", "origin: https://evil.example\r\naccess-control-request-method: PUT\r\n");
    assert_eq!((stranger.status(), stranger.field("access-control-allow-origin"), stranger.field("vary")), (204, "", "origin"));
    assert_eq!(workload.seen(), 0, "no preflight reaches the workload");
    assert_eq!(ask("OPTIONS", "/", "origin: https://app.example\r\n").text(), "OPTIONS", "an OPTIONS that is none does");
    let answer = ask("GET", "/", "origin: https://app.example\r\n");
    assert_eq!(
        (answer.field("access-control-allow-origin"), answer.field("access-control-expose-headers")),
        ("https://app.example", "x-total")
    );
    assert_eq!(answer.field("vary"), "accept, origin");
    let answer = ask("GET", "/", "");
    assert_eq!((answer.field("access-control-allow-origin"), answer.field("vary")), ("", "accept, origin"), "caches tell them apart");

    let dead = ask("GET", "/dead", "");
    assert_eq!((dead.status(), dead.text().as_str(), dead.field("content-type")), (503, "<h1>Soon</h1>", "text/html; charset=utf-8"));
    assert_eq!((dead.field("retry-after"), dead.field("figspan-reason")), ("1", "nobody-ready"));
    assert!(dead.field("proxy-status").contains("destination_unavailable"));
    assert_eq!(ask("HEAD", "/dead", "").status(), 503);
    assert_eq!(
        ask("POST", "/dead", "content-type: application/grpc\r\ncontent-length: 0\r\n").field("content-type"),
        "text/plain; charset=utf-8"
    );
    let own = ask("GET", "/503", "");
    assert_eq!((own.status(), own.text().as_str(), own.field("etag")), (503, "own", "\"a\""), "the workload's errors are its own");
    // Unless the rule says otherwise; here the workload never even ends its body.
    let replaced = ask("GET", "/418", "");
    assert_eq!((replaced.status(), replaced.text().as_str(), replaced.field("content-type")), (418, "{}", "application/json"));
    assert_eq!((replaced.field("retry-after"), replaced.field("etag"), replaced.field("content-encoding")), ("7", "", ""));
}

fn decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut decoder: Box<dyn DecodeV2> = match coding {
        "zstd" => Box::new(ZstdDecoder::new()),
        "br" => Box::new(BrotliDecoder::new()),
        "gzip" => Box::new(GzipDecoder::new()),
        _ => return bytes.to_vec(),
    };
    let (mut out, mut input) = (Vec::new(), PartialBuffer::new(bytes));
    loop {
        let mut room = vec![0; 64 * 1024];
        let mut room = WriteBuffer::new_initialized(&mut room);
        let ended = decoder.decode(&mut input, &mut room).unwrap();
        out.extend_from_slice(room.written());
        if ended || (input.unwritten().is_empty() && !room.has_no_spare_space()) {
            return out;
        }
    }
}

const COMPRESSED: &str = r#"
[[http_route.rules]]
filters = [{ type = "Compression" }]
backend_refs = [{ uplink = "shop" }]
"#;

#[test]
fn answers_are_compressed_as_the_client_likes_and_others_left_alone() {
    let large = "0123456789 abcdef ".repeat(20_000);
    let page = large.clone();
    let workload = Workload::http(move |request: &Message| {
        let (kind, more, body) = match request.target() {
            "/page" => ("text/html", "etag: \"v1\"\r\n", &page[..5000]),
            "/large" => ("application/json", "", &page[..]),
            "/tiny" => ("text/html", "", "tiny"),
            "/coded" => ("text/html", "content-encoding: br\r\n", &page[..5000]),
            "/signed" => ("text/html", "cache-control: no-transform\r\n", &page[..5000]),
            "/events" => ("text/event-stream", "", &page[..5000]),
            "/image" => ("image/png", "", &page[..5000]),
            _ => {
                return format!(
                    "HTTP/1.1 206 Partial\r\ncontent-type: text/html\r\ncontent-range: bytes 0-4999/9999\r\ncontent-length: 5000\r\n\r\n{}",
                    &page[..5000]
                );
            }
        };
        format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}content-length: {}\r\n\r\n{body}", body.len())
    });
    let bed = bed(&workload, COMPRESSED);
    let mut client = bed.client();
    let mut get = |target: &str, accept: &str| {
        client.send(&format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\naccept-encoding: {accept}\r\n\r\n"));
        client.answer(true).unwrap()
    };
    for (accept, coding) in [("gzip, br;q=0.9", "gzip"), ("br", "br"), ("gzip, br, zstd", "zstd"), ("identity", ""), ("gzip;q=0", "")] {
        for (target, length) in [("/page", 5000), ("/large", large.len())] {
            let answer = get(target, accept);
            assert_eq!((answer.field("content-encoding"), answer.field("vary")), (coding, "accept-encoding"), "{target} {accept}");
            assert!(coding.is_empty() || answer.body.len() < length / 10, "{target} {accept}: {} bytes", answer.body.len());
            assert_eq!(decoded(coding, &answer.body), large.as_bytes()[..length], "{target} {accept}");
            let tag = match (target, coding) {
                ("/large", _) => "",
                (_, "") => "\"v1\"",
                _ => "W/\"v1\"",
            };
            assert_eq!(answer.field("etag"), tag, "{target} {accept}");
        }
    }
    for target in ["/tiny", "/coded", "/signed", "/events", "/image", "/range"] {
        let answer = get(target, "gzip, br, zstd");
        let own = if target == "/coded" { "br" } else { "" };
        assert_eq!((answer.field("content-encoding"), answer.field("vary")), (own, ""), "{target}");
        assert!(answer.text() == "tiny" || answer.body.len() == 5000, "{target}");
    }
    client.send("HEAD /page HTTP/1.1\r\nhost: shop.example\r\naccept-encoding: gzip\r\n\r\n");
    assert_eq!(client.answer(false).unwrap().field("content-encoding"), "");
    let metrics = bed.metrics();
    assert!(metrics.contains("figspan_compression_input_bytes_total{coding=\"br\"} 365000"), "{metrics}");
    assert!(metrics.contains("figspan_compressions 0"), "{metrics}");
}

#[test]
fn a_chunked_answer_is_compressed_without_being_held_back_and_never_ends_early() {
    let (more, wait) = mpsc::channel::<&'static str>();
    let wait = Mutex::new(wait);
    let workload = Workload::raw(move |mut connection| {
        while let Ok(Some(_)) = connection.message() {
            let _ = connection.write.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n");
            while let Ok(text) = wait.lock().unwrap().recv() {
                match text {
                    "break" => return,
                    "end" => {
                        let _ = connection.write.write_all(b"0\r\nx-sum: 1\r\n\r\n");
                        break;
                    }
                    text => drop(connection.write.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())),
                }
            }
        }
    });
    let bed = bed(&workload, COMPRESSED);
    let mut client = bed.client();
    for ending in ["end", "break"] {
        client.send("GET / HTTP/1.1\r\nhost: shop.example\r\naccept-encoding: gzip\r\n\r\n");
        let head = client.head().unwrap().unwrap();
        assert_eq!((head.field("content-encoding"), head.field("transfer-encoding")), ("gzip", "chunked"));
        let mut seen = Vec::new();
        for (text, all) in [("one ", "one "), ("two ", "one two "), ("three", "one two three")] {
            more.send(text).unwrap();
            while decoded("gzip", &seen) != all.as_bytes() {
                let size = client.chunk().unwrap();
                assert!(!size.is_empty(), "ended before {text}");
                seen.extend(size);
            }
        }
        more.send(ending).unwrap();
        let mut last = client.chunk();
        while let Ok(bytes) = &last
            && !bytes.is_empty()
        {
            last = client.chunk();
        }
        assert_eq!(last.is_ok(), ending == "end", "a body that broke off looks whole");
    }
}

/// An HTTP/2 workload: a JSON text at `/json`, else gRPC-like messages with trailers; says in a field what host and path it was asked.
fn h2c() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut tasks = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                tasks.spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let json = request.uri().path().ends_with("/json");
                        let kind = if json { "application/json" } else { "application/grpc" };
                        let answer = http::Response::builder().header("content-type", kind).header("x-asked", request.uri().to_string());
                        let env = request.headers().get("x-env").cloned().unwrap_or(http::HeaderValue::from_static("none"));
                        let mut say = respond.send_response(answer.header("x-env", env).body(()).unwrap(), false).unwrap();
                        let _ = say.send_data(Bytes::from("[1,2,3] ".repeat(1000)), false);
                        let _ = say.send_trailers([("grpc-status".parse().unwrap(), "0".parse().unwrap())].into_iter().collect());
                    }
                });
            }
        });
    });
    address
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One request over HTTP/2: head, body and trailers of its answer.
async fn h2_get(web: SocketAddr, path: &str) -> (http::response::Parts, Vec<u8>, Option<http::HeaderMap>) {
    let tcp = tokio::net::TcpStream::connect(web).await.unwrap();
    let (sender, connection) = h2::client::handshake(tcp).await.unwrap();
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(async move {
        let _ = connection.await;
    });
    let request = http::Request::get(format!("http://shop.example{path}")).header("accept-encoding", "br").body(()).unwrap();
    let (answer, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    let (parts, mut body) = answer.await.unwrap().into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend(data);
    }
    (parts, bytes, body.trailers().await.unwrap())
}

#[test]
fn over_http_2_on_both_sides_filters_mean_the_same_and_grpc_is_never_coded() {
    let rules = r#"
[[http_route.rules]]
matches = [{ path = { value = "/old" } }]
filters = [
  { type = "Compression" },
  { type = "RequestHeaderModifier", set = [{ name = "x-env", value = "prod" }] },
  { type = "URLRewrite", hostname = "legacy.internal", path = { type = "ReplacePrefixMatch", value = "/v2" } },
]
backend_refs = [{ uplink = "shop" }]

[[http_route.rules]]
matches = [{ path = { value = "/go" } }]
filters = [{ type = "RequestRedirect", hostname = "new.example" }]
"#;
    let uplink = format!("[[uplink]]\nname = \"shop\"\naddress = \"{}\"\nprotocol = \"h2c\"\n{PLAIN}\n", h2c());
    let bed = Bed::start(&http(rules)).agent("vm-1", &uplink).ready("shop", 1);
    let text = "[1,2,3] ".repeat(1000).into_bytes();
    runtime().block_on(async {
        let (head, body, trailers) = h2_get(bed.web(), "/old/json?a=b").await;
        assert_eq!(
            (&head.headers["content-encoding"], &head.headers["x-asked"]),
            (&"br".parse().unwrap(), &"http://legacy.internal/v2/json?a=b".parse().unwrap())
        );
        assert_eq!(head.headers["x-env"], "prod");
        assert_eq!((decoded("br", &body) == text, body.len() < 800), (true, true));
        assert_eq!(trailers.unwrap()["grpc-status"], "0", "trailers follow what is coded");
        let (head, body, trailers) = h2_get(bed.web(), "/old/call").await;
        assert!(!head.headers.contains_key("content-encoding") && body == text && trailers.is_some());
        let (head, body, _) = h2_get(bed.web(), "/go/x?y").await;
        assert_eq!((head.status.as_u16(), &head.headers["location"], body.len()), (302, &"http://new.example/go/x?y".parse().unwrap(), 0));
    });
}
