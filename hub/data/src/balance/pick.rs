//! Exact weighted choice by number: no state, no randomness, no memory.

/// Index of the choice with number `n` among `len` weights, or `None` where all are 0. `before(i)` is the sum of the weights
/// before index `i`, and `before(len)` the sum of all.
///
/// In every window of as many consecutive numbers as the weights add up to, each index comes up exactly as often as its
/// weight says, and evenly spread: 5 % of 100 is 5, whatever the number to start with. Works by splitting the list in halves:
/// of `W` choices, `L` belong to the left half, and number `n` is one of them where `floor(n·L/W)` steps up; the steps so far
/// are the left half's own number. Any weights, any number; one step for each doubling of the list.
pub fn pick(n: u64, len: usize, before: impl Fn(usize) -> u64) -> Option<usize> {
    let mut total = before(len);
    if total == 0 {
        return None;
    }
    // The pattern repeats, so the wrap of a cursor is a step like any other only if it falls between two repetitions; it
    // takes more than 10,000 years at a million choices a second to get there.
    let mut n = n % total;
    let (mut from, mut to) = (0, len);
    while to - from > 1 {
        let middle = from + (to - from) / 2;
        let left = before(middle) - before(from);
        let (left_before, left_after) = (share(n, left, total), share(n + 1, left, total));
        if left_after > left_before {
            (to, total, n) = (middle, left, left_before);
        } else {
            (from, total, n) = (middle, total - left, n - left_before);
        }
    }
    Some(from)
}

/// Whether choice number `n` is one of the `part` in every `whole`, evenly spread; and which number it has on its side.
///
/// What is chosen next goes by that number and not by `n`: of every second number all are even, so that one of two would get
/// them all.
pub(super) fn split(n: u64, part: u64, whole: u64) -> (bool, u64) {
    let (rounds, within) = (n / whole, n % whole);
    let (before, after) = (share(within, part, whole), share(within + 1, part, whole));
    let on_this_side = rounds * part + before;
    if after > before { (true, on_this_side) } else { (false, n - on_this_side) }
}

/// `floor(n * part / total)` without overflow, for `n <= total` and `part <= total`.
fn share(n: u64, part: u64, total: u64) -> u64 {
    if total <= u64::from(u32::MAX) {
        return n * part / total;
    }
    // At most `part`, so it fits.
    u64::try_from(u128::from(n) * u128::from(part) / u128::from(total)).unwrap_or(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    fn pick(n: u64, weights: &[u32]) -> Option<usize> {
        super::pick(n, weights.len(), |to| weights[..to].iter().copied().map(u64::from).sum())
    }

    fn counts(from: u64, window: u64, weights: &[u32]) -> Vec<u64> {
        let mut counts = vec![0; weights.len()];
        for n in from..from + window {
            counts[pick(n, weights).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn five_percent_of_a_hundred_is_five_at_any_start() {
        for from in [0, 1, 37, 99, 12_345_678_901] {
            assert_eq!(counts(from, 100, &[95, 5]), [95, 5]);
        }
    }

    #[test]
    fn choices_are_spread_and_not_in_bursts() {
        let order: Vec<usize> = (0..8).map(|n| pick(n, &[1, 1, 1, 1]).unwrap()).collect();
        assert_eq!(order[..4], order[4..]);
        let rare: Vec<u64> = (0..1000).filter(|n| pick(*n, &[99, 1]) == Some(1)).collect();
        assert!(rare.windows(2).all(|pair| pair[1] - pair[0] == 100), "{rare:?}");
    }

    #[test]
    fn without_weights_nothing_is_picked() {
        assert_eq!(pick(7, &[]), None);
        assert_eq!(pick(7, &[0, 0, 0]), None);
        assert_eq!(pick(u64::MAX, &[0, 3, 0]), Some(1));
    }

    proptest! {
        #[test]
        fn a_split_numbers_both_sides_without_a_gap(whole in 1u64..300, part in 0u64..300, from in 0u64..1 << 48) {
            let part = part.min(whole);
            let sides: Vec<_> = (from..from + 2 * whole).map(|n| super::split(n, part, whole)).collect();
            for side in [true, false] {
                let numbers: Vec<u64> = sides.iter().filter(|(found, _)| *found == side).map(|(_, number)| *number).collect();
                prop_assert_eq!(numbers.len() as u64, 2 * if side { part } else { whole - part });
                prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{:?}", numbers);
            }
        }

        #[test]
        fn every_window_of_the_total_has_exact_shares(weights in prop::collection::vec(0u32..40, 1..12), from in 0u64..1 << 48) {
            let total: u64 = weights.iter().copied().map(u64::from).sum();
            let expected: Vec<u64> = weights.iter().copied().map(u64::from).collect();
            prop_assert_eq!(counts(from, total, &weights), expected);
        }

        #[test]
        fn shares_stay_near_in_windows_of_any_length(weights in prop::collection::vec(1u32..1000, 2..8), from: u32, window in 1u64..500) {
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for (count, weight) in counts(from.into(), window, &weights).iter().zip(&weights) {
                let wanted = window as f64 * f64::from(*weight) / total;
                // One choice for each of the at most three splits above a leaf.
                prop_assert!((*count as f64 - wanted).abs() <= 3.0, "{count} instead of {wanted}");
            }
        }

        #[test]
        fn any_weights_and_any_number_give_one_that_has_a_weight(weights in prop::collection::vec(prop_oneof![Just(0), any::<u32>()], 0..200), n: u64) {
            match pick(n, &weights) {
                Some(index) => prop_assert!(weights[index] > 0),
                None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
            }
        }
    }
}
