//! The access log: one event per request, with what the request was and how it went.

use std::fmt;
use std::sync::{Arc, Mutex};

use figspan_proto::reset::Reason;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::harness::{Agent, Hub, post, run, text};

/// Keeps the fields of events of one target.
struct Keeper(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl tracing::Subscriber for Keeper {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "figspan::access"
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn every_request_leaves_one_line_that_says_how_it_went() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    // With just one dispatcher alive, a callsite that another test's thread meets first would be cached as never enabled.
    let _other = tracing::Dispatch::new(Keeper(Arc::default()));
    let _guard = tracing::subscriber::set_default(Keeper(Arc::clone(&lines)));
    run(|| async {
        let hub = Hub::new();
        let agent = Agent::join("vm-1", &hub.book).await;
        agent.script(|mut taken| async move {
            taken.request().await;
            taken.say("HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok").await;
            taken.request().await;
            let read = taken.read;
            taken.reset(Reason::WorkloadReset, read);
        });
        hub.publish(&[&agent]);
        text(hub.send(post("order"))).await;
        text(hub.send(post("order"))).await;
    });
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let has = |line: &str, fields: &[&str]| fields.iter().all(|field| line.contains(field));
    let common = [
        "client=\"10.0.0.9:4321\"",
        "method=\"POST\"",
        "host=\"shop.example\"",
        "path=\"/cart\"",
        "route=\"shop\"",
        "backend=\"monolith\"",
    ];
    assert!(lines.iter().all(|line| has(line, &common)), "{lines:?}");
    assert!(has(&lines[0], &["status=201", "endpoint=\"vm-1\"", "attempts=1", "received=5", "sent=2", "reason=\"\""]), "{}", lines[0]);
    assert!(has(&lines[1], &["status=502", "side=\"workload\"", "reason=\"workload-reset\""]), "{}", lines[1]);
}
