use super::*;

const SECRET: Secret = Secret([7; 32]);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn ask(agent: Option<&str>, uses: u32) -> CreateGrant {
    CreateGrant {
        agent: agent.map(|name| name.parse().unwrap()),
        uplinks: vec!["orders-*".parse().unwrap()],
        ttl_seconds: 900,
        uses,
        hubs: Vec::new(),
        dry_run: false,
    }
}

fn ledger(agent: Option<&str>, uses: u32) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.create("g".into(), &ask(agent, uses), &SECRET, "ann", at(0));
    ledger
}

fn reason(result: Result<Ticket, Denial>) -> RefusedReason {
    result.unwrap_err().0
}

#[test]
fn a_grant_is_good_for_as_many_agents_as_it_says() {
    let mut ledger = ledger(None, 2);
    for name in ["a", "b"] {
        let ticket = ledger.redeemable("g", &SECRET, Some(name), at(1)).unwrap();
        assert_eq!(ticket.name.as_str(), name);
        ledger.redeem(&ticket, at(1));
    }
    assert_eq!(reason(ledger.redeemable("g", &SECRET, Some("c"), at(1))), RefusedReason::Used);
    assert_eq!(ledger.view(at(1))[0].state, "used");
    assert_eq!(ledger.renewable(&"a".parse().unwrap()).unwrap(), ask(None, 1).uplinks);
}

#[test]
fn an_unknown_grant_and_a_wrong_secret_get_one_answer() {
    let ledger = ledger(Some("vm"), 1);
    let wrong = ledger.redeemable("g", &Secret([8; 32]), None, at(1));
    assert_eq!(wrong, ledger.redeemable("h", &SECRET, None, at(1)));
    assert_eq!(reason(wrong), RefusedReason::UnknownGrant);
}

#[test]
fn an_ended_or_revoked_grant_gives_nothing() {
    let mut ledger = ledger(Some("vm"), 1);
    assert!(ledger.redeemable("g", &SECRET, None, at(899)).is_ok());
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, at(900))), RefusedReason::Expired);
    assert!(ledger.revoke_grant("g") && !ledger.revoke_grant("x"));
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, at(1))), RefusedReason::Revoked);
}

#[test]
fn a_fixed_name_beats_the_wanted_one_and_an_open_grant_takes_nobodys_place() {
    let mut ledger = ledger(Some("vm-1"), 1);
    let ticket = ledger.redeemable("g", &SECRET, Some("other"), at(1)).unwrap();
    assert_eq!(ticket.name.as_str(), "vm-1");
    ledger.redeem(&ticket, at(1));

    ledger.create("open".into(), &ask(None, 9), &SECRET, "ann", at(1));
    for wanted in [None, Some("vm-1"), Some("No Name"), Some("")] {
        assert_eq!(reason(ledger.redeemable("open", &SECRET, wanted, at(2))), RefusedReason::Name, "{wanted:?}");
    }
    ledger.revoke_agent(&"gone".parse().unwrap(), "ann", "stolen", at(2));
    assert_eq!(reason(ledger.redeemable("open", &SECRET, Some("gone"), at(3))), RefusedReason::Name);
}

#[test]
fn a_revocation_is_lifted_by_a_later_grant_for_the_name_and_old_certificates_stay_refused() {
    let name: AgentName = "vm-1".parse().unwrap();
    let mut ledger = ledger(Some("vm-1"), 1);
    ledger.revoke_agent(&name, "ann", "stolen", at(10));
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, at(11))), RefusedReason::Revoked);
    assert_eq!(ledger.renewable(&name).unwrap_err().0, RefusedReason::Revoked);
    assert!(ledger.revoked[&name].refuses(at(1000)));

    ledger.create("later".into(), &ask(Some("vm-1"), 1), &SECRET, "ann", at(20));
    let ticket = ledger.redeemable("later", &SECRET, None, at(21)).unwrap();
    assert!(ledger.redeem(&ticket, at(21)));
    assert!(ledger.renewable(&name).is_ok());
    assert!(ledger.revoked[&name].refuses(at(5)), "issued before the new grant was redeemed");
    assert!(!ledger.revoked[&name].refuses(at(21)), "issued with it");
}

#[test]
fn what_a_grant_may_say_is_bounded() {
    let ledger = Ledger::default();
    assert!(ledger.check(&ask(Some("vm"), 1), at(0)).is_ok());
    for bad in [
        CreateGrant { uplinks: Vec::new(), ..ask(None, 1) },
        CreateGrant { ttl_seconds: 0, ..ask(None, 1) },
        CreateGrant { ttl_seconds: MAX_TTL + 1, ..ask(None, 1) },
        CreateGrant { uses: 0, ..ask(None, 1) },
        CreateGrant { uses: MAX_USES + 1, ..ask(None, 1) },
        ask(Some("vm"), 2),
    ] {
        assert!(ledger.check(&bad, at(0)).is_err(), "{bad:?}");
    }
}

#[test]
fn the_secret_is_nowhere_in_what_is_kept() {
    let kept = serde_json::to_string(&ledger(None, 1).grants).unwrap();
    assert!(!kept.contains(&URL_SAFE_NO_PAD.encode(SECRET.0)) && !kept.contains("7,7"));
}

#[test]
fn ended_grants_are_forgotten_after_a_week() {
    let mut ledger = ledger(None, 1);
    ledger.create("h".into(), &ask(None, 1), &SECRET, "ann", at(900 + 8 * 24 * 3600));
    assert_eq!(ledger.grants.keys().collect::<Vec<_>>(), ["h"]);
}
