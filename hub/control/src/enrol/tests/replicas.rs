//! Two hubs of one CA, each with a state directory of its own.

use figspan_proto::admin::Revoke;
use figspan_proto::control::FromHub;
use figspan_proto::name::AgentName;
use figspan_proto::reset::Close;
use figspan_tunnel::{KeyPair, exchange};

use super::*;
use crate::CaFiles;
use crate::testing::{Agent, Hub, eventually, name, now_ms, turned_away, uplink};

struct Two {
    dir: tempfile::TempDir,
    a: Hub,
    b: Hub,
}

fn files(dir: &tempfile::TempDir) -> CaFiles {
    CaFiles { certificate: dir.path().join("ca.pem"), key: dir.path().join("ca.key") }
}

fn two() -> Two {
    let dir = tempfile::tempdir().unwrap();
    let ca = figspan_tunnel::ca::Ca::create(&"figspan.local".parse().unwrap(), std::time::SystemTime::now()).unwrap();
    let files = files(&dir);
    std::fs::write(&files.certificate, ca.certificate_pem()).unwrap();
    std::fs::write(&files.key, ca.key_pem()).unwrap();
    let (a, b) = (Hub::of_ca(&dir.path().join("a"), &files), Hub::of_ca(&dir.path().join("b"), &files));
    Two { dir, a, b }
}

fn revoke() -> Revoke {
    Revoke { reason: "stolen".into(), dry_run: false }
}

#[tokio::test]
async fn an_agent_that_joined_one_hub_serves_the_other_within_its_grant_and_after_a_restart() {
    let Two { dir, a, b } = two();
    let credentials = a.joined("vm-1", &["shop-*"]).await;
    let mut agent = Agent::connect(&b, &credentials, "i", 1).await;
    agent.list(vec![uplink("shop-1"), uplink("bank")]).await;
    eventually("serves", async || b.accepts("shop-1", "vm-1")).await;
    let refused = agent.verdicts().await.into_iter().find(|verdict| verdict.uplink.as_str() == "bank").unwrap();
    assert!(refused.refused.unwrap().contains("the agent's grant allows shop-*"));

    // Any hub renews, and what the certificate says stays.
    let key = KeyPair::generate().unwrap();
    let request = IdentityRequest::Renew { csr: key.csr().unwrap(), time_ms: now_ms() };
    let issued = exchange::ask(agent.tunnel.open().await.unwrap(), request).await.unwrap().unwrap();
    assert_eq!(Leaf::read(&issued.chain[0]).unwrap().permit, credentials.identity().leaf().permit);
    b.stop().await;

    // It knows whom to wait for.
    let b = Hub::of_ca(&dir.path().join("b"), &files(&dir));
    assert!(b.control.ready().waiting_for[0].contains("vm-1"), "{:?}", b.control.ready());
    let again = Agent::connect(&b, &crate::testing::credentials(issued, &key), "j", 1).await;
    again.list(vec![uplink("shop-1")]).await;
    eventually("serves again", async || b.accepts("shop-1", "vm-1")).await;
    assert!(b.control.ready().ready);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_revocation_is_each_hubs_own_and_a_later_grant_of_any_lifts_it() {
    let Two { dir: _dir, a, b } = two();
    let credentials = a.joined("vm-1", &["*"]).await;
    let unused = a.grant(Some("vm-1"), &["*"], 1).await;
    let agent = Agent::connect(&b, &credentials, "i", 1).await;
    agent.list(vec![uplink("shop")]).await;
    eventually("serves", async || b.accepts("shop", "vm-1")).await;
    b.control.revoke_agent(&name("vm-1"), revoke(), "ann").await.unwrap();
    assert_eq!(agent.closed().await, Some(Close::Revoked));
    assert_eq!(turned_away(&b, &credentials).await, Some(Close::Revoked));
    let at_a = Agent::connect(&a, &credentials, "i", 1).await;
    at_a.list(vec![uplink("shop")]).await;
    eventually("the other hub was not told", async || a.accepts("shop", "vm-1")).await;

    // A grant from before the revocation helps nobody, wherever it is redeemed.
    let (key, old) = a.redeem(&unused, None, now_ms()).await;
    assert_eq!(turned_away(&b, &crate::testing::credentials(old.unwrap(), &key)).await, Some(Close::Revoked));
    let fresh = a.joined("vm-1", &["*"]).await;
    let back = Agent::connect(&b, &fresh, "j", 1).await;
    back.list(vec![uplink("shop")]).await;
    eventually("serves again", async || b.accepts("shop", "vm-1")).await;
    assert_eq!(turned_away(&b, &credentials).await, Some(Close::Revoked), "what was stolen stays of no use");
    assert!(!b.control.agent(&name("vm-1")).await.unwrap().revoked);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_later_grant_at_one_hub_counts_at_the_other_once_its_certificate_is_shown() {
    let Two { dir: _dir, a, b } = two();
    let old = b.joined("vm-1", &["shop"]).await;
    let first = Agent::connect(&b, &old, "i", 1).await;
    first.list(vec![uplink("shop"), uplink("bank")]).await;
    eventually("serves", async || b.accepts("shop", "vm-1")).await;
    let wider = a.joined("vm-1", &["shop", "bank"]).await;
    let second = Agent::connect(&b, &wider, "j", 1).await;
    second.list(vec![uplink("shop"), uplink("bank")]).await;
    eventually("serves both", async || b.accepts("bank", "vm-1")).await;
    // The older certificate takes nothing back.
    let third = Agent::connect(&b, &old, "k", 1).await;
    third.list(vec![uplink("shop")]).await;
    eventually("it is there", async || b.control.agent(&name("vm-1")).await.unwrap().tunnels.len() == 3).await;
    assert!(b.accepts("bank", "vm-1"));
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_lost_answer_to_a_join_is_given_again_to_the_same_key_alone() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::start(dir.path());
    let token = hub.grant(Some("vm-1"), &["shop"], 1).await;
    let key = KeyPair::generate().unwrap();
    let ask = async || hub.control.redeem(&token.grant, &token.secret, None, &key.csr().unwrap(), now_ms()).await;
    let first = ask().await.unwrap();
    assert_eq!(hub.redeem(&token, None, now_ms()).await.1.unwrap_err().reason, RefusedReason::Used);
    let again = ask().await.unwrap();
    assert_eq!((&again.spiffe_id, &again.uplinks, &again.roots), (&first.spiffe_id, &first.uplinks, &first.roots));
    assert_eq!(Leaf::read(&again.chain[0]).unwrap().permit, Leaf::read(&first.chain[0]).unwrap().permit);
    assert_eq!(hub.control.grants().await.unwrap()[0].redeemed_by.len(), 1);
    hub.stop().await;

    // Over a restart too; and no longer once the identity was taken back.
    let hub = Hub::start(dir.path());
    let ask = async || hub.control.redeem(&token.grant, &token.secret, None, &key.csr().unwrap(), now_ms()).await;
    assert!(ask().await.is_ok());
    hub.control.revoke_agent(&name("vm-1"), revoke(), "ann").await.unwrap();
    assert_eq!(ask().await.unwrap_err().reason, RefusedReason::Revoked);
    hub.stop().await;
}

#[tokio::test]
async fn what_an_agent_may_call_is_in_its_certificate_and_in_force_at_every_hub_before_its_hello() {
    let Two { dir, a, b } = two();
    let token = a.grant_calling("vm-1", &["shop-*"], &["orders", "mail-*"]).await;
    let (key, issued) = a.redeem(&token, None, now_ms()).await;
    let issued = issued.unwrap();
    assert_eq!(issued.services.iter().map(ToString::to_string).collect::<Vec<_>>(), ["orders", "mail-*"]);
    let credentials = credentials(issued, &key);
    let (vm, other): (AgentName, AgentName) = (name("vm-1"), name("vm-2"));
    let may = |hub: &Hub, service: &str| hub.reader.load().callers.get(&vm).is_some_and(|caller| caller.may_call(service));
    assert!(may(&a, "orders") && may(&a, "mail-eu") && !may(&a, "bank") && !may(&b, "orders"));
    let mut agent = Agent::connect(&b, &credentials, "i", 1).await;
    assert!(matches!(agent.hear().await, FromHub::Hello(hello) if hello.calls));
    assert!(may(&b, "orders") && b.reader.load().callers.get(&other).is_none(), "before the hello, after which it may call");
    agent.list(vec![]).await;

    // Any hub renews, and what the certificate says of calls stays; so it does over a restart.
    let key = KeyPair::generate().unwrap();
    let request = IdentityRequest::Renew { csr: key.csr().unwrap(), time_ms: now_ms() };
    let renewed = exchange::ask(agent.tunnel.open().await.unwrap(), request).await.unwrap().unwrap();
    assert_eq!(Leaf::read(&renewed.chain[0]).unwrap().permit, credentials.identity().leaf().permit);
    a.stop().await;
    let a = Hub::of_ca(&dir.path().join("a"), &files(&dir));
    assert!(may(&a, "orders"));

    // Another grant takes the place of the first.
    let token = a.grant_calling("vm-1", &["shop-*"], &[]).await;
    a.redeem(&token, None, now_ms()).await.1.unwrap();
    assert!(!may(&a, "orders") && a.reader.load().callers.get(&vm).is_none());
    a.stop().await;
    b.stop().await;
}
