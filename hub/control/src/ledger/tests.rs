use super::*;

const SECRET: Secret = Secret([7; 32]);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn ask(agent: Option<&str>, uses: u32) -> CreateGrant {
    CreateGrant {
        agent: agent.map(|name| name.parse().unwrap()),
        name_template: None,
        uplinks: vec!["orders-*".parse().unwrap()],
        services: Vec::new(),
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
        let ticket = ledger.redeemable("g", &SECRET, Some(name), None, at(1)).unwrap();
        assert_eq!(ticket.name.as_str(), name);
        ledger.redeem(&ticket, at(1));
    }
    assert_eq!(reason(ledger.redeemable("g", &SECRET, Some("c"), None, at(1))), RefusedReason::Used);
    assert_eq!(ledger.view(at(1))[0].state, "used");
    assert_eq!(ledger.renewable(&"a".parse().unwrap()).unwrap().uplinks, ask(None, 1).uplinks);
}

#[test]
fn an_unknown_grant_and_a_wrong_secret_get_one_answer() {
    let ledger = ledger(Some("vm"), 1);
    let wrong = ledger.redeemable("g", &Secret([8; 32]), None, None, at(1));
    assert_eq!(wrong, ledger.redeemable("h", &SECRET, None, None, at(1)));
    assert_eq!(reason(wrong), RefusedReason::UnknownGrant);
}

#[test]
fn an_ended_or_revoked_grant_gives_nothing() {
    let mut ledger = ledger(Some("vm"), 1);
    assert!(ledger.redeemable("g", &SECRET, None, None, at(899)).is_ok());
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, None, at(900))), RefusedReason::Expired);
    assert!(ledger.revoke_grant("g") && !ledger.revoke_grant("x"));
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, None, at(1))), RefusedReason::Revoked);
}

#[test]
fn a_fixed_name_beats_the_wanted_one_and_an_open_grant_takes_nobodys_place() {
    let mut ledger = ledger(Some("vm-1"), 1);
    let ticket = ledger.redeemable("g", &SECRET, Some("other"), None, at(1)).unwrap();
    assert_eq!(ticket.name.as_str(), "vm-1");
    ledger.redeem(&ticket, at(1));

    ledger.create("open".into(), &ask(None, 9), &SECRET, "ann", at(1));
    for wanted in [None, Some("vm-1"), Some("No Name"), Some("")] {
        assert_eq!(reason(ledger.redeemable("open", &SECRET, wanted, None, at(2))), RefusedReason::Name, "{wanted:?}");
    }
    ledger.revoke_agent(&"gone".parse().unwrap(), "ann", "stolen", at(2));
    assert_eq!(reason(ledger.redeemable("open", &SECRET, Some("gone"), None, at(3))), RefusedReason::Name);
}

#[test]
fn a_revocation_is_lifted_by_a_later_grant_for_the_name_and_old_certificates_stay_refused() {
    let name: AgentName = "vm-1".parse().unwrap();
    let mut ledger = ledger(Some("vm-1"), 1);
    ledger.revoke_agent(&name, "ann", "stolen", at(10));
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, None, at(11))), RefusedReason::Revoked);
    assert_eq!(ledger.renewable(&name).unwrap_err().0, RefusedReason::Revoked);
    assert!(ledger.revoked[&name].refuses(at(1000)));

    ledger.create("later".into(), &ask(Some("vm-1"), 1), &SECRET, "ann", at(20));
    let ticket = ledger.redeemable("later", &SECRET, None, None, at(21)).unwrap();
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
        CreateGrant { name_template: Some("vm-{n}".parse().unwrap()), ..ask(Some("vm"), 1) },
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

#[test]
fn whoever_lost_the_answer_asks_again_with_the_same_key_and_nobody_else_does() {
    let mut ledger = ledger(Some("vm-1"), 1);
    let (key, other) = (Some(Pin([1; 32])), Some(Pin([2; 32])));
    let ticket = ledger.redeemable("g", &SECRET, None, key, at(1)).unwrap();
    assert!(!ticket.again);
    ledger.redeem(&ticket, at(1));
    let kept = (ledger.view(at(2))[0].redeemed_by.clone(), ledger.agents["vm-1"].at);
    for stranger in [other, None] {
        assert_eq!(reason(ledger.redeemable("g", &SECRET, None, stranger, at(2))), RefusedReason::Used);
    }
    let again = ledger.redeemable("g", &SECRET, Some("x"), key, at(2)).unwrap();
    assert!(again.again && again.name.as_str() == "vm-1");
    ledger.redeem(&again, at(2));
    assert_eq!((ledger.view(at(2))[0].redeemed_by.clone(), ledger.agents["vm-1"].at), kept, "nothing is used up by it");
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, key, at(900))), RefusedReason::Expired);

    // A later grant has taken its place.
    ledger.create("later".into(), &ask(Some("vm-1"), 1), &SECRET, "ann", at(3));
    let later = ledger.redeemable("later", &SECRET, None, other, at(4)).unwrap();
    ledger.redeem(&later, at(4));
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, key, at(5))), RefusedReason::Used);
}

#[test]
fn an_open_grant_gives_the_same_key_the_same_name_again() {
    let mut ledger = ledger(None, 2);
    let key = Some(Pin([1; 32]));
    let ticket = ledger.redeemable("g", &SECRET, Some("a"), key, at(1)).unwrap();
    ledger.redeem(&ticket, at(1));
    assert_eq!(ledger.redeemable("g", &SECRET, Some("a"), key, at(2)).unwrap().name.as_str(), "a");
    assert_eq!(ledger.view(at(2))[0].redeemed_by.len(), 1);
}

fn permit(granted: i64, joined: i64) -> Permit {
    let micros = |second| u64::try_from(at(second).as_microsecond()).unwrap();
    Permit { granted: micros(granted), joined: micros(joined), uplinks: vec![format!("shop-{joined}").parse().unwrap()], services: vec![] }
}

#[test]
fn of_what_two_hubs_say_of_an_agent_the_later_redemption_counts() {
    let name: AgentName = "vm-1".parse().unwrap();
    let mut ledger = Ledger::default();
    assert_eq!(ledger.learn(&name, &permit(0, 5), at(9)), Some(false));
    for known in [permit(0, 5), permit(4, 4)] {
        assert_eq!(ledger.learn(&name, &known, at(9)), None);
    }
    assert_eq!(ledger.renewable(&name).unwrap(), permit(0, 5));
    assert_eq!(ledger.learn(&name, &permit(3, 6), at(9)), Some(false));
    assert_eq!(ledger.renewable(&name).unwrap(), permit(3, 6));

    ledger.create("g".into(), &ask(Some("vm-1"), 1), &SECRET, "ann", at(10));
    let ticket = ledger.redeemable("g", &SECRET, None, None, at(11)).unwrap();
    ledger.redeem(&ticket, at(11));
    assert_eq!(ledger.learn(&name, &permit(7, 8), at(12)), None);
    assert_eq!(ledger.renewable(&name).unwrap(), Permit { uplinks: ask(None, 1).uplinks, ..permit(10, 11) });
}

#[test]
fn a_revocation_holds_against_grants_of_other_hubs_from_before_it_and_a_later_one_lifts_it() {
    let name: AgentName = "vm-1".parse().unwrap();
    let mut ledger = Ledger::default();
    ledger.learn(&name, &permit(0, 1), at(1));
    ledger.revoke_agent(&name, "ann", "stolen", at(10));
    // Redeemed afterwards, but made before: whoever holds it may be the thief.
    for old in [permit(0, 1), permit(9, 20), permit(10, 20)] {
        assert!(ledger.revoked[&name].takes_back(&old));
        assert_eq!(ledger.learn(&name, &old, at(21)), None);
    }
    assert_eq!(ledger.renewable(&name).unwrap_err().0, RefusedReason::Revoked);
    assert_eq!(ledger.learn(&name, &permit(11, 20), at(21)), Some(true));
    assert!(ledger.renewable(&name).is_ok() && !ledger.revoked[&name].takes_back(&permit(11, 20)));
}

fn templated(template: &str, uses: u32) -> Ledger {
    let mut ledger = Ledger::default();
    let ask = CreateGrant { name_template: Some(template.parse().unwrap()), ..ask(None, uses) };
    ledger.check(&ask, at(0)).unwrap();
    ledger.create("g".into(), &ask, &SECRET, "ann", at(0));
    ledger
}

#[test]
fn a_template_numbers_machines_and_gives_no_number_twice() {
    let mut ledger = templated("vm-{n}", 3);
    ledger.revoke_agent(&"vm-2".parse().unwrap(), "ann", "gone", at(1));
    let mut names = Vec::new();
    for key in 1..=3 {
        // Whatever the machine would like to be called.
        let ticket = ledger.redeemable("g", &SECRET, Some("vm-1"), Some(Pin([key; 32])), at(2)).unwrap();
        ledger.redeem(&ticket, at(2));
        names.push(ticket.name.to_string());
    }
    assert_eq!(names, ["vm-1", "vm-3", "vm-4"], "a name that was taken back is not given again");
    // An answer that was lost is given again, with the same number; a fourth machine is refused.
    let again = ledger.redeemable("g", &SECRET, None, Some(Pin([2; 32])), at(3)).unwrap();
    assert!(again.again && again.name.as_str() == "vm-3");
    assert_eq!(reason(ledger.redeemable("g", &SECRET, None, Some(Pin([9; 32])), at(3))), RefusedReason::Used);
}

#[test]
fn a_template_keeps_host_names_within_its_frame_and_refuses_one_that_is_taken() {
    let mut ledger = templated("web-{hostname}", 9);
    let mut join = |wanted: Option<&str>| {
        let ticket = ledger.redeemable("g", &SECRET, wanted, None, at(1))?;
        ledger.redeem(&ticket, at(1));
        Ok(ticket.name.to_string())
    };
    assert_eq!(join(Some("a7")).as_deref(), Ok("web-a7"));
    assert_eq!(join(Some("web-a8")).as_deref(), Ok("web-a8"));
    assert_eq!(join(Some("hub-admin")).as_deref(), Ok("web-hub-admin"));
    // Two machines of one name: the second hears it, and takes nobody's place.
    for wanted in [Some("a7"), Some("web-a7"), Some("A7"), Some("../a"), None] {
        let Denial(reason, why) = join(wanted).unwrap_err();
        assert!(reason == RefusedReason::Name && !why.is_empty(), "{wanted:?}: {why}");
    }
}

#[test]
fn what_is_kept_of_a_grant_without_a_template_reads_as_before() {
    let kept = serde_json::to_value(&ledger(None, 1).grants).unwrap();
    assert!(kept["g"].get("template").is_none(), "{kept}");
    let kept = serde_json::to_string(&templated("vm-{n}", 2).grants).unwrap();
    let back: BTreeMap<String, Grant> = serde_json::from_str(&kept).unwrap();
    assert_eq!(back["g"].template.as_ref().unwrap().to_string(), "vm-{n}");
}
