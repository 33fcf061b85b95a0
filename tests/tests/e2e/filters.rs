//! What a rule changes of requests and answers, as clients and workloads of both HTTP versions see it.

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
