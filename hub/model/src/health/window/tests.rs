use proptest::prelude::*;

use super::*;

const LENGTH: Duration = Duration::from_secs(10);

fn measure(era: u64) -> Measure<'static> {
    Measure { length: LENGTH, ranges: &[Range { from: 500, to: 600 }], era }
}

fn answered(status: u16, micros: u64) -> Outcome {
    Outcome { end: End::Answered(status), latency: Duration::from_micros(micros) }
}

#[test]
fn it_forgets_after_its_length_and_sums_over_shards() {
    let window = Window::new(3);
    for shard in 0..3 {
        window.record(shard, &measure(0), &answered(500, 100), Moment::from_millis(5000));
    }
    let total = |millis| window.totals(&measure(0), Moment::from_millis(millis)).total;
    assert_eq!((total(5000), total(14_999), total(15_000)), (3, 3, 0));
    assert_eq!(window.totals(&measure(0), Moment::from_millis(5000)).in_range(0), 3);
}

#[test]
fn another_era_length_or_range_sees_nothing_of_what_was_counted() {
    let (window, now) = (Window::new(1), Moment::from_millis(5000));
    window.record(0, &measure(0), &answered(500, 100), now);
    assert_eq!(window.totals(&measure(1), now).total, 0);
    assert_eq!(window.totals(&Measure { length: LENGTH * 2, ..measure(0) }, now).total, 0);
    assert_eq!(window.totals(&Measure { ranges: &[], ..measure(0) }, now).total, 0);
    assert_eq!(window.totals(&measure(0), now).total, 1);
}

#[test]
fn classes_are_ordered_and_hold_what_they_bound() {
    for index in 0..CLASSES - 1 {
        let (low, high) = bounds(index);
        assert!(low < high, "{index}");
        assert_eq!(class(Duration::from_micros(low)), index);
        assert_eq!(class(Duration::from_micros(high - 1)), index);
    }
    assert_eq!(class(Duration::MAX), CLASSES - 1);
}

proptest! {
    #[test]
    fn a_quantile_is_within_a_quarter_of_the_truth(mut latencies in prop::collection::vec(256u64..60_000_000, 1..200), percent in 1u32..=100) {
        let (window, now) = (Window::new(2), Moment::from_millis(1));
        for (at, micros) in latencies.iter().enumerate() {
            window.record(at % 2, &measure(0), &answered(200, *micros), now);
        }
        latencies.sort_unstable();
        let rank = (latencies.len() * percent as usize).div_ceil(100).max(1);
        let truth = latencies[rank - 1] as f64;
        let found = window.totals(&measure(0), now).latency(f64::from(percent) / 100.0).as_micros() as f64;
        prop_assert!((found - truth).abs() <= truth / 4.0 + 1.0, "{found} instead of {truth}");
    }

    #[test]
    fn what_it_holds_is_what_came_in_the_last_while(steps in prop::collection::vec((0u64..3000, 200u16..600), 1..120)) {
        let (window, mut now) = (Window::new(1), 1u64);
        let mut all = Vec::new();
        for (step, status) in steps {
            now += step;
            window.record(0, &measure(0), &answered(status, 1), Moment::from_millis(now));
            all.push((now, status));
            let totals = window.totals(&measure(0), Moment::from_millis(now));
            // Slices are whole seconds: what came in this one and in the nine before it.
            let recent: Vec<_> = all.iter().filter(|(at, _)| at / 1000 + 9 >= now / 1000).collect();
            prop_assert_eq!(totals.total, recent.len() as u64);
            prop_assert_eq!(totals.in_range(0), recent.iter().filter(|(_, status)| *status >= 500).count() as u64);
        }
    }
}
