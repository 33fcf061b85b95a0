//! Streams that an agent opens, as a hub sees them: hostile ones are refused one by one, and cost nobody else anything.

use std::time::Duration;

use figspan_proto::preamble::Kind;
use figspan_proto::preamble::call::Call;
use figspan_proto::reset::Reason;
use figspan_tunnel::call::{CallError, call};
use figspan_tunnel::transport::STREAMS_FROM_AGENT;
use figspan_tunnel::{StreamError, Tunnel};

use crate::agent::TestAgent;
use crate::client::get;
use crate::{TestHub, WEB, eventually};

const SERVICES: &str = "[[service]]\nname = \"orders\"\naddresses = [\"127.0.0.1:9\"]\n";

fn orders() -> Call {
    Call { kind: Kind::Http, service: "orders".parse().unwrap(), client: None }
}

async fn answer_to(tunnel: &Tunnel, bytes: &'static [u8]) -> Option<Reason> {
    let mut stream = tunnel.open().await.unwrap();
    // The hub may refuse before all is sent.
    let _ = stream.write_chunk(bytes.into()).await;
    match stream.read_chunk(1).await {
        Err(StreamError::Reset(reset)) => {
            assert!(!reset.may_have_seen(0) || reset.reason == Reason::Cancelled, "{reset:?}");
            Some(reset.reason)
        }
        other => panic!("{bytes:?} got {other:?}"),
    }
}

#[tokio::test]
async fn hostile_headers_are_refused_one_by_one_and_the_tunnel_goes_on() {
    let hub = TestHub::start(&format!("{SERVICES}{WEB}"));
    let agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    let (web, metrics) = (hub.running.listener("web").unwrap(), hub.running.metrics_address().unwrap());
    eventually("the uplink is routable", || async { get(web, "/").await.0 == 200 }).await;
    for tunnel in &agent.tunnels {
        for bytes in [
            &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
            b"\xff\xff\x01\x03",
            b"\x00\x04\x02\x03\x00\x00",
            b"\x00\x05\x01\x03\x00\x01/",
            b"\x00\x04\x01\x03\xfe\x00",
            b"\x00\x02\x01\x01",
        ] {
            assert_eq!(answer_to(tunnel, bytes).await, Some(Reason::BadPreamble), "{bytes:?}");
        }
        // An identity exchange that is none is the other kind of stream, and ends alone too.
        assert_eq!(answer_to(tunnel, b"\x00\x00\x00\x04abcd").await, Some(Reason::Cancelled));
        assert!(matches!(call(tunnel, orders()).await, Err(CallError::Refused(Reason::ServiceDenied))), "no grant, no call");
        assert!(!tunnel.is_closed());
    }
    assert_eq!(get(web, "/").await.0, 200);
    let text = get(metrics, "/metrics").await.1;
    assert!(text.contains("figspan_calls_total{outcome=\"malformed\"} 12"), "{text}");
    assert!(text.contains("figspan_calls_total{outcome=\"denied\"} 2"), "{text}");
}

#[tokio::test]
async fn an_agent_that_may_call_nothing_has_few_streams_and_silent_ones_are_given_up() {
    let hub = TestHub::start(&format!("{SERVICES}{WEB}"));
    let agent = TestAgent::join(&hub.running, "vm-1", "hello").await;
    let tunnel = &agent.tunnels[0];
    let mut silent = Vec::new();
    for _ in 0..STREAMS_FROM_AGENT {
        let mut stream = tunnel.open().await.unwrap();
        stream.write_chunk((&b"\x00"[..]).into()).await.unwrap();
        silent.push(stream);
    }
    let more = tokio::time::timeout(Duration::from_millis(200), tunnel.open()).await;
    assert!(more.is_err(), "no more than {STREAMS_FROM_AGENT} at once");
    // After their time they are refused, and there is room again.
    let ended = tokio::time::timeout(Duration::from_secs(8), silent[0].read_chunk(1)).await.unwrap();
    assert!(matches!(ended, Err(StreamError::Reset(reset)) if reset.reason == Reason::BadPreamble), "{ended:?}");
    drop(silent);
    assert!(matches!(call(tunnel, orders()).await, Err(CallError::Refused(Reason::ServiceDenied))));
}
