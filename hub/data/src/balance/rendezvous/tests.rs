use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;

fn winner(key: &str, candidates: &[(&str, u64)]) -> usize {
    let candidates = candidates.iter().map(|(name, weight)| (xxh3_64(name.as_bytes()), *weight));
    highest(xxh3_64(key.as_bytes()), candidates, |_| true).unwrap()
}

#[test]
fn golden_vectors_hold_on_every_machine_and_in_every_version() {
    // A change here moves every client of every user: it needs a new major version.
    assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
    assert_eq!(xxh3_64(b"uplink/monolith"), GOLDEN_ID);
    assert_eq!([0, 1, u64::MAX].map(mix), GOLDEN_MIX);
    assert_eq!([0, 1, 1 << 51, (1 << 52) - 1].map(|drawn| ln(drawn).to_bits()), GOLDEN_LN);
    let candidates = [("uplink/monolith", 75), ("service/orders", 20), ("service/orders-v2", 5)];
    let won: String = (0..64).map(|user| winner(&format!("user-{user}"), &candidates).to_string()).collect();
    assert_eq!(won, GOLDEN_WINNERS);
}

#[test]
fn the_logarithm_is_that_of_the_standard_library_to_within_rounding() {
    for step in 0..100_000u64 {
        let drawn = mix(step) >> (64 - BITS);
        let expected = ((drawn as f64 + 0.5) / (1u64 << BITS) as f64).ln();
        assert!((ln(drawn) - expected).abs() <= expected.abs() * 4.0 * f64::EPSILON, "{drawn}");
    }
}

#[test]
fn raising_ten_to_twenty_five_percent_moves_only_the_added_fifteen() {
    let (before, after) = ([("a", 90), ("b", 10)], [("a", 75), ("b", 25)]);
    let keys = 40_000;
    let (mut moved, mut of_b) = (0, 0);
    for key in 0..keys {
        let key = format!("client-{key}");
        let (was, is) = (winner(&key, &before), winner(&key, &after));
        of_b += usize::from(is == 1);
        moved += usize::from(was != is);
        assert!(was == is || (was, is) == (0, 1), "{key} moved from {was} to {is}");
    }
    let percent = |count: usize| 100.0 * count as f64 / f64::from(keys);
    assert!((percent(of_b) - 25.0).abs() < 1.0, "{}", percent(of_b));
    assert!((percent(moved) - 15.0).abs() < 1.0, "{}", percent(moved));
}

#[test]
fn who_does_not_take_part_loses_its_keys_to_all_others_alike() {
    let ids: Vec<u64> = (0..10).map(|id: u64| mix(id + 1)).collect();
    let mut counts = [0; 10];
    for key in 0..20_000 {
        let whole = highest(mix(key), (0..10).map(|at| (ids[at], 7)), |_| true).unwrap();
        let part = highest(mix(key), (0..10).map(|at| (ids[at], 7)), |at| at != 3).unwrap();
        assert!(whole == 3 || whole == part);
        counts[part] += usize::from(whole == 3);
    }
    let moved: usize = counts.iter().sum();
    assert!((1800..2200).contains(&moved), "{counts:?}");
    assert!(counts.iter().enumerate().all(|(at, count)| at == 3 || (140..320).contains(count)), "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn shares_are_those_of_the_weights(weights in prop::collection::vec(1u64..100, 2..8), seed: u64) {
        const KEYS: u64 = 4000;
        let mut counts = vec![0u64; weights.len()];
        for key in 0..KEYS {
            counts[highest(mix(seed ^ mix(key)), (0..weights.len()).map(|at| (mix(at as u64 + 1), weights[at])), |_| true).unwrap()] += 1;
        }
        let total: u64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let share = *weight as f64 / total as f64;
            let deviation = (KEYS as f64 * share * (1.0 - share)).sqrt();
            prop_assert!((*count as f64 - KEYS as f64 * share).abs() < 5.0 * deviation + 1.0, "{counts:?} of {weights:?}");
        }
    }

    #[test]
    fn a_changed_weight_moves_keys_of_that_candidate_only(
        weights in prop::collection::vec(0u64..1000, 2..12), changed: prop::sample::Index, to in 0u64..1000, key: u64
    ) {
        let changed = changed.index(weights.len());
        let mut after = weights.clone();
        after[changed] = to;
        let of = |weights: &[u64]| highest(key, (0..weights.len()).map(|at| (mix(at as u64 + 1), weights[at])), |_| true);
        let (was, is) = (of(&weights), of(&after));
        prop_assert_eq!(was.is_none(), weights.iter().all(|weight| *weight == 0));
        if was != is {
            let mover = if to > weights[changed] { is } else { was };
            prop_assert_eq!(mover, Some(changed));
        }
    }

    #[test]
    fn the_short_cut_changes_no_result(weights in prop::collection::vec(0u64..2_000_000_000, 1..40), key: u64) {
        let time = |at: usize| -ln(mix(key ^ mix(at as u64 + 1)) >> (64 - BITS)) / weights[at] as f64;
        let slow = (0..weights.len()).filter(|at| weights[*at] > 0).min_by(|a, b| time(*a).total_cmp(&time(*b)));
        prop_assert_eq!(highest(key, (0..weights.len()).map(|at| (mix(at as u64 + 1), weights[at])), |_| true), slow);
    }
}

const GOLDEN_ID: u64 = 0xd286_b379_897f_14e6;
const GOLDEN_MIX: [u64; 3] = [0x0000_0000_0000_0000, 0x5692_161d_100b_05e5, 0xb4d0_55fc_f2cb_bd7b];
const GOLDEN_LN: [u64; 4] = [0xc042_5e4f_7b27_37fa, 0xc041_d1b0_2751_cfe1, 0xbfe6_2e42_fefa_39ed, 0xbca0_0000_0000_0000];
const GOLDEN_WINNERS: &str = "1000020000000000000001000001001100100000001000010000000000200000";
