use super::*;

fn echo(id: u64) -> Echo {
    Echo { id, received: 7, wrote: (100, 9), read: (100, 9) }
}

fn sent(id: u64, verb: Verb, outcome: Outcome) -> Sent {
    Sent { id, verb, replayable: true, time: Default::default(), body: 7, outcome, why: None }
}

fn row(verb: Verb, count: u32) -> Row {
    Row { verb, count, body: 7, cut: false }
}

fn found(sent: Sent, row: Option<Row>) -> Findings {
    let rows = row.map(|row| (sent.id, row)).into_iter().collect();
    join(&[sent], Some(&rows), |_, _| false)
}

fn total(findings: &Findings) -> u64 {
    findings.faults().iter().map(|(_, n)| n).sum()
}

#[test]
fn a_request_that_arrived_once_and_was_answered_is_no_finding() {
    for verb in [Verb::Get, Verb::Post] {
        let findings = found(sent(1, verb, Outcome::Answered(echo(1))), Some(row(verb, 1)));
        assert_eq!(findings, Findings { requests: 1, answered: 1, ..Findings::default() });
    }
}

#[test]
fn an_answer_that_no_workload_knows_of_is_lost() {
    assert_eq!(found(sent(1, Verb::Post, Outcome::Answered(echo(1))), None).lost, 1);
}

#[test]
fn without_a_ledger_nothing_can_be_called_lost() {
    let findings = join(&[sent(1, Verb::Get, Outcome::Foreign { status: 200 })], None, |_, _| false);
    assert_eq!((findings.answered, total(&findings)), (1, 0));
    let findings = join(&[sent(1, Verb::Get, Outcome::Foreign { status: 500 })], None, |_, _| false);
    assert_eq!((findings.answered, findings.failed_idempotent, findings.unexplained), (0, 1, 0));
}

#[test]
fn what_was_said_not_to_arrive_and_did_is_a_phantom() {
    let refused = |untouched| Outcome::Refused { status: 503, explained: true, untouched };
    assert_eq!(found(sent(1, Verb::Post, refused(true)), Some(row(Verb::Post, 1))).phantom, 1);
    assert_eq!(found(sent(1, Verb::Post, refused(false)), Some(row(Verb::Post, 1))).phantom, 0);
    assert_eq!(found(sent(1, Verb::Post, refused(true)), None).phantom, 0);
    assert_eq!(found(sent(1, Verb::Get, Outcome::Broken { untouched: true, begun: false }), Some(row(Verb::Get, 1))).phantom, 1);
}

#[test]
fn a_row_that_nobody_sent_is_a_phantom() {
    assert_eq!(join(&[], Some(&HashMap::from([(5, row(Verb::Get, 1))])), |_, _| false).phantom, 1);
}

#[test]
fn only_what_must_not_be_repeated_counts_as_duplicate() {
    assert_eq!(found(sent(1, Verb::Post, Outcome::Answered(echo(1))), Some(row(Verb::Post, 2))).duplicate, 1);
    assert_eq!(found(sent(1, Verb::Get, Outcome::Answered(echo(1))), Some(row(Verb::Get, 2))).duplicate, 0);
    let failed = Outcome::Refused { status: 502, explained: true, untouched: false };
    assert_eq!(found(sent(1, Verb::Post, failed), Some(row(Verb::Post, 2))).duplicate, 1);
}

#[test]
fn a_body_that_changed_on_the_way_is_corrupt_once() {
    let there = found(sent(1, Verb::Post, Outcome::Answered(Echo { received: 8, ..echo(1) })), Some(Row { body: 8, ..row(Verb::Post, 1) }));
    assert_eq!((there.corrupt, total(&there)), (1, 1));
    let back = found(sent(1, Verb::Post, Outcome::Answered(Echo { read: (100, 8), ..echo(1) })), Some(row(Verb::Post, 1)));
    assert_eq!((back.corrupt, total(&back)), (1, 1));
    let longer = found(sent(1, Verb::Post, Outcome::Answered(Echo { read: (101, 8), ..echo(1) })), Some(row(Verb::Post, 1)));
    assert_eq!((longer.corrupt, longer.truncated), (1, 0));
}

#[test]
fn an_answer_that_ended_early_and_looked_whole_is_truncated() {
    let findings = found(sent(1, Verb::Get, Outcome::Answered(Echo { read: (40, 3), ..echo(1) })), Some(row(Verb::Get, 1)));
    assert_eq!((findings.truncated, total(&findings)), (1, 1));
}

#[test]
fn the_answer_to_another_request_is_wrong() {
    assert_eq!(found(sent(1, Verb::Get, Outcome::Answered(echo(2))), Some(row(Verb::Get, 1))).wrong, 1);
}

#[test]
fn failures_are_told_apart_by_method_and_need_an_explanation() {
    let explained = found(sent(1, Verb::Get, Outcome::Refused { status: 504, explained: true, untouched: false }), None);
    assert_eq!((explained.failed_idempotent, explained.failed_other, explained.unexplained), (1, 0, 0));
    let bare = found(sent(1, Verb::Post, Outcome::Refused { status: 500, explained: false, untouched: false }), None);
    assert_eq!((bare.failed_idempotent, bare.failed_other, bare.unexplained), (0, 1, 1));
    let broken = found(sent(1, Verb::Post, Outcome::Broken { untouched: false, begun: false }), Some(row(Verb::Post, 1)));
    assert_eq!((broken.failed_other, broken.unexplained, broken.phantom), (1, 1, 0));
}

#[test]
fn the_ledger_counts_arrivals_and_keeps_the_last_body() {
    let ledger = Ledger::default();
    ledger.enter(3, Verb::Post, 1);
    ledger.enter(3, Verb::Post, 2);
    assert_eq!(ledger.rows(), HashMap::from([(3, Row { verb: Verb::Post, count: 2, body: 2, cut: false })]));
}

/// What the join says of a request that failed with the asker's own blessing.
fn blessed(verb: Verb, replayable: bool, outcome: Outcome) -> (u64, u64) {
    let request = Sent { replayable, ..sent(1, verb, outcome) };
    let findings =
        join(&[request], Some(&HashMap::from([(1, Row { cut: true, ..row(verb, 1) })])), |_, row| row.is_some_and(|row| row.cut));
    (findings.excused, total(&findings))
}

#[test]
fn only_what_nobody_could_have_mended_can_be_excused() {
    let refused = |explained| Outcome::Refused { status: 502, explained, untouched: false };
    assert_eq!(blessed(Verb::Post, true, refused(true)), (1, 0), "must not be repeated");
    assert_eq!(blessed(Verb::Put, false, refused(true)), (1, 0), "its body is gone");
    assert_eq!(blessed(Verb::Put, true, refused(true)), (0, 1), "could have gone elsewhere");
    assert_eq!(blessed(Verb::Post, true, refused(false)), (0, 2), "says not why");
    assert_eq!(blessed(Verb::Get, true, Outcome::Broken { untouched: false, begun: true }), (1, 0), "in the middle of an answer");
    assert_eq!(blessed(Verb::Post, true, Outcome::Broken { untouched: false, begun: false }), (0, 2), "no answer, no word");
}
