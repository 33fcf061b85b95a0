//! The admin API and metrics of a hub that runs.

use figspan_proto::admin::Status;
use serde_json::json;

use crate::agent::TestAgent;
use crate::client::{admin, admin_text, get};
use crate::{TestHub, WEB, eventually};

#[tokio::test]
async fn status_tells_what_is_bound_and_in_force() {
    let hub = TestHub::start(WEB);
    let (code, status) = admin(hub.running.admin_socket(), "GET", "/v1/status", None).await;
    assert_eq!(code, 200, "{status}");
    let status: Status = serde_json::from_value(status).unwrap();
    assert_eq!((status.replica.as_str(), status.shards), ("hub-0", 2));
    assert_eq!(status.listeners[0].address, hub.running.listener("web").unwrap().to_string());
    assert_eq!(status.tunnel_address, hub.running.tunnel_address().to_string());
    assert_eq!(status.config.file, hub.file().display().to_string());
    assert!(status.config.errors.is_empty() && !status.config.loaded.is_empty() && status.generation >= 1);
    assert!(status.roots[0].starts_with("sha256:"), "{:?}", status.roots);
}

#[tokio::test]
async fn every_operation_of_the_document_is_served() {
    let hub = TestHub::start(WEB);
    let socket = hub.running.admin_socket();
    let (_, document) = admin(socket, "GET", "/openapi.json", None).await;
    let mut seen = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "monolith").replace("{id}", "g-1");
        for (method, operation) in operations.as_object().unwrap() {
            let (code, answer) = admin(socket, &method.to_uppercase(), &path, None).await;
            let title = answer["title"].as_str().unwrap_or_default();
            assert!(!["no such path", "no such operation"].contains(&title), "{method} {path}: {code} {answer}");
            assert!(code < 500, "{method} {path}: {code} {answer}");
            if operation.get("requestBody").is_some() && path != "/v1/check" {
                assert_eq!(code, 400, "{method} {path} takes a body");
            }
            seen += 1;
        }
    }
    assert!(seen >= 19, "{seen}");
    let (code, answer) = admin(socket, "GET", "/v2", None).await;
    assert_eq!((code, answer["status"].as_u64()), (404, Some(404)));
    assert_eq!(admin(socket, "PATCH", "/v1/status", None).await.0, 405);
}

#[tokio::test]
async fn a_weight_of_zero_drains_and_the_verdict_proves_it() {
    let hub = TestHub::start(WEB);
    let (web, socket) = (hub.running.listener("web").unwrap(), hub.running.admin_socket());
    let _agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    let change = json!({ "weight": 0, "reason": "moving out" });
    let (code, answer) = admin(socket, "PUT", "/v1/uplinks/monolith/weight", Some(change)).await;
    assert_eq!((code, answer["old"].as_u64(), answer["new"].as_u64()), (200, Some(100), Some(0)), "{answer}");
    assert_eq!(answer["confirmed"], json!(["hub-0"]));
    assert_eq!(get(web, "/").await.0, 503, "no new work once the change is confirmed");
    eventually("drained", || async { admin(socket, "GET", "/v1/uplinks/monolith/drain", None).await.1["drained"] == true }).await;
    let (_, uplink) = admin(socket, "GET", "/v1/uplinks/monolith", None).await;
    assert!(uplink["weight_override"]["who"].as_str().unwrap().starts_with("ann@laptop (uid "), "{uplink}");
    let (_, events) = admin(socket, "GET", "/v1/events?since=0", None).await;
    assert!(
        events.as_array().unwrap().iter().any(|e| e["kind"] == "weight" && e["message"].as_str().unwrap().contains("moving out")),
        "{events}"
    );
    let reset = json!({ "reason": "back" });
    assert_eq!(admin(socket, "DELETE", "/v1/uplinks/monolith/weight", Some(reset)).await.0, 200);
    assert_eq!(get(web, "/").await.0, 200);
}

#[tokio::test]
async fn explain_tells_rule_backend_and_reason_without_counting() {
    let hub = TestHub::start(WEB);
    let (web, socket) = (hub.running.listener("web").unwrap(), hub.running.admin_socket());
    let asked = json!({ "method": "GET", "url": "http://shop.example/a/../b?c=1" });
    let (code, told) = admin(socket, "POST", "/v1/explain", Some(asked.clone())).await;
    assert_eq!((code, told["route"].as_str(), told["status"].as_u64()), (200, Some("everything"), Some(503)), "{told}");
    let _agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    let (_, before) = admin(socket, "GET", "/v1/uplinks/monolith", None).await;
    let (_, told) = admin(socket, "POST", "/v1/explain", Some(asked)).await;
    assert_eq!(told["next"], "uplink monolith on agent vm-1", "{told}");
    assert_eq!(told["backends"][0]["share_wanted"], 1.0);
    let (_, after) = admin(socket, "GET", "/v1/uplinks/monolith", None).await;
    assert_eq!(before["picked"], after["picked"]);
    for (method, url) in [("CONNECT", "http://x/"), ("GET", "http://x/%zz"), ("GET", "http://x y/")] {
        let (code, told) = admin(socket, "POST", "/v1/explain", Some(json!({ "method": method, "url": url }))).await;
        assert!(code == 200 && told["refused"].is_string() && told["status"].as_u64() >= Some(400), "{method} {url}: {told}");
    }
    let smuggled = json!({ "method": "GET", "url": "http://x/", "headers": [["a", "b\r\nc: d"]] });
    assert_eq!(admin(socket, "POST", "/v1/explain", Some(smuggled)).await.0, 400);
}

#[tokio::test]
async fn check_finds_mistakes_and_loads_nothing() {
    let hub = TestHub::start(WEB);
    let socket = hub.running.admin_socket();
    let (_, before) = admin(socket, "GET", "/v1/status", None).await;
    let (code, found) = admin_text(socket, "POST", "/v1/check", "[hub]\nshard = 2\n").await;
    assert_eq!(code, 200);
    assert!(found["errors"][0].as_str().unwrap().contains("shards"), "{found}");
    let (_, after) = admin(socket, "GET", "/v1/status", None).await;
    assert_eq!(before["generation"], after["generation"]);
    assert!(after["config"]["errors"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn bodies_that_are_too_large_or_malformed_are_refused() {
    let hub = TestHub::start(WEB);
    let socket = hub.running.admin_socket();
    let (code, answer) = admin_text(socket, "POST", "/v1/check", &"#".repeat(300 * 1024)).await;
    assert_eq!(code, 413, "{answer}");
    let (code, answer) = admin_text(socket, "POST", "/v1/grants", "{\"uplinks\": 7}").await;
    assert!(code == 400 && answer["detail"].as_str().unwrap().contains("/openapi.json"), "{answer}");
    let (code, _) = admin(socket, "GET", "/v1/uplinks/Not%20a%20name", None).await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn metrics_readiness_and_liveness_are_told() {
    let hub = TestHub::start(WEB);
    let (web, metrics) = (hub.running.listener("web").unwrap(), hub.running.metrics_address().unwrap());
    let _agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    eventually("ready", || async { get(metrics, "/readyz").await == (200, "ready\n".to_owned()) }).await;
    assert_eq!(get(metrics, "/livez").await, (200, "alive\n".to_owned()));
    let (code, text) = get(metrics, "/metrics").await;
    assert_eq!(code, 200);
    for line in [
        "figspan_config_last_reload_successful 1",
        "figspan_uplink_weight{uplink=\"monolith\"} 100",
        "figspan_uplink_ready{uplink=\"monolith\"} 1",
        "figspan_agents_connected 1",
        "figspan_tunnels 2",
        "figspan_endpoint_accepts{uplink=\"monolith\",agent=\"vm-1\"} 1",
        "figspan_shards 2",
        "process_resident_memory_bytes ",
        "figspan_requests_total{",
        "# EOF",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}
