use proptest::prelude::*;

use super::*;
use std::time::Duration;

const UNREADY: Result<(), Cause> = Err(Cause::Unready);

fn at(millis: u64) -> Moment {
    Moment::from_millis(1 + millis)
}

/// Held for 10 s, coming back over 30 s.
fn terms() -> Failover {
    Failover::default()
}

fn failed() -> TierState {
    let tier = TierState::default();
    tier.look(&terms(), Ok(()), at(0));
    assert_eq!(tier.look(&terms(), UNREADY, at(0)), (0, Some(Turn::Failed(Cause::Unready))));
    tier
}

#[test]
fn a_tier_that_never_worked_has_not_failed() {
    let tier = TierState::default();
    assert_eq!(tier.look(&terms(), UNREADY, at(0)), (WHOLE, None));
    assert_eq!(tier.look(&terms(), Ok(()), at(1)), (WHOLE, None), "so it gets all at once");
    assert_eq!(tier.standing(), Standing::Up);
}

#[test]
fn a_failed_tier_is_held_and_comes_back_by_a_share_that_grows() {
    let tier = failed();
    assert_eq!(tier.look(&terms(), Ok(()), at(9_999)), (0, None), "able again, but held");
    assert_eq!(tier.look(&terms(), Ok(()), at(10_000)), (FLOOR, Some(Turn::FailingBack)));
    let shares: Vec<u32> = (10..40).map(|second| tier.look(&terms(), Ok(()), at(second * 1000)).0).collect();
    assert!(shares.is_sorted() && shares[15] == FLOOR + (WHOLE - FLOOR) / 2, "{shares:?}");
    assert_eq!(tier.look(&terms(), Ok(()), at(40_000)), (WHOLE, Some(Turn::Back)));
    assert_eq!(tier.failed(Cause::Unready), 1);
}

#[test]
fn hold_counts_from_when_it_was_last_seen_unable_so_that_a_flapping_tier_stays_away() {
    let tier = failed();
    for second in 1..60 {
        // Ready for four seconds, gone for one.
        let able = if second % 5 == 0 { UNREADY } else { Ok(()) };
        assert_eq!(tier.look(&terms(), able, at(second * 1000)), (0, None), "after {second} s");
    }
    assert_eq!(tier.look(&terms(), Ok(()), at(66_000)).0, FLOOR, "seen unable at 55 s");
    assert_eq!(tier.failed(Cause::Unready), 1, "one failover, not twelve");
}

#[test]
fn it_falls_back_at_once_if_it_fails_while_it_comes_back() {
    for cause in [Cause::Status, Cause::Latency, Cause::NoAnswer] {
        let tier = failed();
        tier.look(&terms(), Ok(()), at(10_000));
        let turn = tier.record(&terms(), Some(cause), at(10_001), at(10_002));
        assert_eq!(turn, Some(Turn::Failed(cause)), "the first answer is a failure");
        assert_eq!(tier.look(&terms(), Ok(()), at(20_001)), (0, None), "held anew");
        assert_eq!(tier.look(&terms(), Ok(()), at(20_002)).0, FLOOR);
    }
    let tier = failed();
    tier.look(&terms(), Ok(()), at(10_000));
    assert_eq!(tier.look(&terms(), Err(Cause::Shut), at(30_000)), (0, Some(Turn::Failed(Cause::Shut))));
}

#[test]
fn answers_of_what_began_before_do_not_speak_of_a_tier_that_comes_back() {
    let tier = failed();
    assert_eq!(tier.record(&terms(), Some(Cause::Status), at(0), at(5)), None, "held: it has failed already");
    tier.look(&terms(), Ok(()), at(10_000));
    for _ in 0..20 {
        assert_eq!(tier.record(&terms(), Some(Cause::Status), at(9_999), at(10_500)), None);
    }
    assert_eq!(tier.record(&terms(), None, at(10_000), at(10_500)), None);
    assert!(matches!(tier.standing(), Standing::FailingBack { .. }));
}

#[test]
fn failed_answers_make_an_able_tier_fail_once() {
    let tier = TierState::default();
    tier.look(&terms(), Ok(()), at(0));
    let turns: Vec<_> = (0..20).filter_map(|n| tier.record(&terms(), Some(Cause::Status), at(n), at(n + 1))).collect();
    assert_eq!(turns, [Turn::Failed(Cause::Status)]);
    assert_eq!(tier.standing(), Standing::Held { until: at(5 + 10_000), cause: Cause::Status });
}

#[test]
fn without_a_time_for_it_failback_is_at_once() {
    let terms = Failover { failback: Duration::ZERO, ..terms() };
    let tier = failed();
    assert_eq!(tier.look(&terms, Ok(()), at(9_000)), (0, None));
    assert_eq!(tier.look(&terms, Ok(()), at(10_000)), (WHOLE, Some(Turn::Back)));
}

#[test]
fn a_view_tells_what_the_next_look_would_get_and_changes_nothing() {
    let tier = failed();
    for (millis, share) in [(9_999, 0), (10_000, FLOOR), (60_000, FLOOR)] {
        assert_eq!(tier.share(&terms(), at(millis)), share);
    }
    assert!(matches!(tier.standing(), Standing::Held { .. }), "nobody has looked");
}

#[test]
fn of_many_threads_that_see_it_fail_one_turns_it() {
    let tier = TierState::default();
    tier.look(&terms(), Ok(()), at(0));
    let turns: usize = std::thread::scope(|scope| {
        let look = || (0..1000).filter(|_| tier.look(&terms(), UNREADY, at(1)).1.is_some()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(look)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((turns, tier.failed(Cause::Unready)), (1, 1));
}

/// What happens to a tier, and how long after the event before.
#[derive(Debug, Clone, Copy)]
enum Event {
    Able,
    Unable(Cause),
    Answer(Option<Cause>),
}

fn event() -> impl Strategy<Value = (Event, u64)> {
    let cause = prop::sample::select(&Cause::ALL[..]);
    let event = prop_oneof![
        4 => Just(Event::Able),
        1 => cause.clone().prop_map(Event::Unable),
        3 => prop::option::weighted(0.4, cause).prop_map(Event::Answer),
    ];
    (event, 0u64..4000)
}

proptest! {
    #[test]
    fn every_standing_survives_its_packing(millis in 0u64..1 << 42, cause in prop::sample::select(&Cause::ALL[..])) {
        let moment = Moment::from_millis(millis);
        for standing in [Standing::New, Standing::Up, Standing::Held { until: moment, cause }, Standing::FailingBack { since: moment, cause }] {
            prop_assert_eq!(Standing::unpack(standing.pack()), standing);
        }
    }

    #[test]
    fn after_a_failure_there_is_no_share_for_the_time_of_the_hold_and_then_it_only_grows(events in prop::collection::vec(event(), 1..200)) {
        let (tier, terms) = (TierState::default(), terms());
        let (mut now, mut held_until, mut last) = (0, None, None::<u32>);
        for (event, after) in events {
            now += after;
            let turn = match event {
                Event::Answer(failure) => tier.record(&terms, failure, at(now), at(now)),
                Event::Able | Event::Unable(_) => {
                    let able = if let Event::Unable(cause) = event { Err(cause) } else { Ok(()) };
                    let (share, turn) = tier.look(&terms, able, at(now));
                    if held_until.is_some_and(|until| now < until) {
                        prop_assert_eq!(share, 0, "at {}", now);
                    }
                    if able.is_ok() && turn.is_none() && let Some(last) = last {
                        prop_assert!(share >= last, "{} after {} at {}", share, last, now);
                    }
                    if able.is_ok() {
                        prop_assert!(share == 0 || share >= FLOOR);
                        last = Some(share);
                    }
                    turn
                }
            };
            if let Some(Turn::Failed(_)) = turn {
                (held_until, last) = (Some(now + 10_000), None);
            }
        }
        // Whatever happened, once it is able it gets all in the end.
        for _ in 0..2 {
            now += 31_000;
            tier.look(&terms, Ok(()), at(now));
        }
        prop_assert_eq!(tier.look(&terms, Ok(()), at(now + 31_000)).0, WHOLE);
    }

    #[test]
    fn what_a_tier_got_never_differs_by_one_from_the_sum_of_its_shares(
        shares in prop::collection::vec(0u32..=WHOLE, 1..600), from in 0usize..100, start in 0u64..5000,
    ) {
        let tier = TierState::default();
        tier.credit.store(start, Ordering::Relaxed);
        let taken: Vec<bool> = shares.iter().map(|share| tier.takes(*share, true)).collect();
        let from = from.min(shares.len() - 1);
        for to in from..=shares.len() {
            let got = taken[from..to].iter().filter(|taken| **taken).count() as f64;
            let sum = shares[from..to].iter().sum::<u32>() as f64 / f64::from(WHOLE);
            prop_assert!((got - sum).abs() < 1.0, "{} instead of {} in {}..{}", got, sum, from, to);
        }
    }
}
