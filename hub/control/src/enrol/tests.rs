mod replicas;

use figspan_proto::admin::Revoke;
use figspan_proto::join::Token;
use figspan_tunnel::{KeyPair, agent, exchange};
use futures_util::future::join_all;

use super::*;
use crate::limiter::Pace;
use crate::testing::{Agent, Ahead, Hub, credentials, eventually, name, now_ms, uplink};

#[tokio::test]
async fn a_vm_joins_with_the_pasted_line_and_connects_with_what_it_got() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let token = hub.grant(Some("vm-1"), &["monolith"], 1).await;
    assert_eq!(token.hubs, ["hub.example:7443"]);

    let ask = async |token: &Token| {
        let key = KeyPair::generate().unwrap();
        let dial = agent::dial_join(hub.address(), token.pin).await.unwrap();
        let csr = key.csr().unwrap();
        let (grant, secret) = (token.grant.clone(), token.secret.clone());
        let request = IdentityRequest::Join { grant, secret, wanted_name: Some("ignored".into()), csr, time_ms: now_ms() };
        (exchange::ask(dial.stream, request).await.unwrap(), key)
    };
    let (issued, key) = ask(&token).await;
    let issued = issued.unwrap();
    assert_eq!(issued.spiffe_id.to_string(), "spiffe://figspan.local/agent/vm-1");
    assert_eq!(issued.uplinks.iter().map(ToString::to_string).collect::<Vec<_>>(), ["monolith"]);
    let agent = Agent::connect(&hub, &credentials(issued, &key), "i", 1).await;
    agent.list(vec![uplink("monolith")]).await;
    eventually("serves", async || hub.accepts("monolith", "vm-1")).await;

    assert_eq!(ask(&token).await.0.unwrap_err().reason, RefusedReason::Used);
    assert_eq!(hub.control.grants().await.unwrap()[0].state, "used");
    let joins = hub.control.events(0, 100).into_iter().filter(|event| event.kind == "join");
    assert_eq!(joins.map(|event| event.subject).collect::<Vec<_>>(), ["vm-1"]);
    hub.stop().await;
}

#[tokio::test]
async fn of_sixteen_that_race_for_a_grant_of_one_use_exactly_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let token = hub.grant(None, &["*"], 1).await;
    let names: Vec<String> = (0..16).map(|number| format!("vm-{number}")).collect();
    let results = join_all(names.iter().map(|name| hub.redeem(&token, Some(name), now_ms()))).await;
    let refused: Vec<_> = results.iter().filter_map(|(_, result)| result.as_ref().err().map(|refused| refused.reason)).collect();
    assert_eq!(refused, [RefusedReason::Used; 15]);
    assert_eq!(hub.control.grants().await.unwrap()[0].redeemed_by.len(), 1);
    hub.stop().await;

    // And none after a restart.
    let hub = Hub::start(dir.path());
    assert_eq!(hub.redeem(&token, Some("late"), now_ms()).await.1.unwrap_err().reason, RefusedReason::Used);
    hub.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_off_is_refused_by_name_and_the_grant_stays_good() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let token = hub.grant(Some("vm-1"), &["*"], 1).await;
    for (time_ms, words) in [(now_ms() - 400_000, "s behind the hub's"), (now_ms() + 400_000, "s ahead of the hub's")] {
        let refused = hub.redeem(&token, None, time_ms).await.1.unwrap_err();
        assert_eq!(refused.reason, RefusedReason::Clock);
        assert!(refused.message.contains(words) && refused.hub_time_ms > 0, "{}", refused.message);
    }
    assert!(hub.redeem(&token, None, now_ms() - 200_000).await.1.is_ok());
    hub.stop().await;
}

#[tokio::test]
async fn a_request_that_is_no_csr_uses_nothing_up_and_a_foreign_pin_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let token = hub.grant(Some("vm-1"), &["*"], 1).await;
    let refused = hub.control.redeem(&token.grant, &token.secret, None, b"not a request", now_ms()).await.unwrap_err();
    assert_eq!(refused.reason, RefusedReason::Csr);
    assert!(agent::dial_join(hub.address(), figspan_proto::join::Pin([1; 32])).await.is_err());
    assert!(hub.redeem(&token, None, now_ms()).await.1.is_ok());
    hub.stop().await;
}

#[tokio::test]
async fn guesses_from_one_address_are_slowed_down_and_all_answered_alike() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let right = hub.grant(Some("vm-1"), &["*"], 1).await;
    let mut reasons = Vec::new();
    for number in 0..200u8 {
        let mut guess = right.clone();
        guess.secret = Secret([number; 32]);
        if number % 2 == 0 {
            guess.grant = "g-other".into();
        }
        reasons.push(hub.redeem(&guess, None, now_ms()).await.1.unwrap_err());
    }
    assert!(reasons[..100].iter().all(|refused| refused.reason == RefusedReason::UnknownGrant && refused.message == reasons[0].message));
    assert!(reasons.iter().filter(|refused| refused.reason == RefusedReason::Busy).count() >= 10);
    assert_eq!(network("2001:db8:1:2:3:4:5:6".parse().unwrap()), network("2001:db8:1:2::1".parse().unwrap()));
    assert_ne!(network("192.0.2.1".parse().unwrap()), network("192.0.2.2".parse().unwrap()));
    hub.stop().await;
}

#[tokio::test]
async fn an_identity_is_renewed_over_its_tunnel_and_only_there() {
    let dir = tempfile::tempdir().unwrap();
    let ahead = Ahead::default();
    let hub = Hub::start_with(dir.path(), Pace::default(), &ahead);
    let agent = hub.agent("vm-1", &["a", "b-*"]).await;
    agent.list(vec![uplink("a")]).await;
    eventually("serves", async || hub.accepts("a", "vm-1")).await;
    let ends = async || hub.control.agent(&name("vm-1")).await.unwrap().certificate_ends.unwrap();
    let before = ends().await;

    ahead.set(Duration::from_secs(480));
    let key = KeyPair::generate().unwrap();
    let ask = async |time_ms| {
        let request = IdentityRequest::Renew { csr: key.csr().unwrap(), time_ms };
        exchange::ask(agent.tunnel.open().await.unwrap(), request).await.unwrap()
    };
    let issued = ask(now_ms()).await.unwrap();
    assert_eq!(issued.spiffe_id.to_string(), "spiffe://figspan.local/agent/vm-1");
    assert_eq!(issued.uplinks.len(), 2);
    assert!(ends().await > before && !agent.tunnel.is_closed());
    assert_eq!(ask(now_ms() - 300_000).await.unwrap_err().reason, RefusedReason::Clock, "13 min off");

    let token = hub.grant(None, &["*"], 1).await;
    let join = IdentityRequest::Join {
        grant: token.grant.clone(),
        secret: token.secret.clone(),
        wanted_name: Some("other".into()),
        csr: key.csr().unwrap(),
        time_ms: now_ms(),
    };
    let refused = exchange::ask(agent.tunnel.open().await.unwrap(), join).await.unwrap().unwrap_err();
    assert_eq!(refused.reason, RefusedReason::Other);
    hub.stop().await;
}

#[tokio::test]
async fn a_revoked_grant_lets_nobody_in_and_is_audited() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let token = hub.grant(None, &["*"], 5).await;
    assert!(hub.redeem(&token, Some("vm-1"), now_ms()).await.1.is_ok());
    let revoke = |dry_run| Revoke { reason: "leaked".into(), dry_run };
    assert!(hub.control.revoke_grant(&token.grant, revoke(true), "ann").await.unwrap().dry_run);
    assert!(hub.redeem(&token, Some("vm-2"), now_ms()).await.1.is_ok());
    hub.control.revoke_grant(&token.grant, revoke(false), "ann").await.unwrap();
    assert_eq!(hub.redeem(&token, Some("vm-3"), now_ms()).await.1.unwrap_err().reason, RefusedReason::Revoked);
    let event = hub.control.events(0, 100).into_iter().rfind(|event| event.kind == "grant").unwrap();
    assert_eq!((event.who.as_str(), event.old.as_deref(), event.new.as_deref()), ("ann", Some("open"), Some("revoked")));
    assert!(event.message.contains("leaked"));
    let kept = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    assert!(kept.contains("leaked"));
    hub.stop().await;
}
