use std::collections::HashMap;

use figspan_proto::control::Protocol;
use figspan_proto::weight::Weight;
use proptest::prelude::*;

use super::*;
use crate::snapshot::Shares;
use crate::state::Book;

fn uplink(name: &str, weight: u32, book: &Book) -> Arc<Uplink> {
    Arc::new(Uplink {
        name: name.parse().unwrap(),
        protocol: Protocol::Http1,
        weight: Weight::try_from(weight).unwrap(),
        draining: false,
        endpoints: vec![],
        shares: Shares::default(),
        state: book.rule(&format!("uplink/{name}")),
    })
}

/// Names and weights, in order.
fn content(uplinks: &Uplinks) -> Vec<(String, u32)> {
    let mut all: Vec<_> = uplinks.values().map(|uplink| (uplink.name.to_string(), uplink.weight.get())).collect();
    all.sort();
    all
}

proptest! {
    #[test]
    fn it_holds_what_a_map_holds_and_older_versions_stay_as_they_were(steps in prop::collection::vec((0u32..700, 0u32..100, prop::bool::weighted(0.7)), 0..400)) {
        let book = Book::new(1);
        let (mut uplinks, mut model) = (Uplinks::default(), HashMap::new());
        let mut kept = Vec::new();
        for (index, (number, weight, insert)) in steps.into_iter().enumerate() {
            let name = format!("u{number}");
            let before = uplinks.get(&name).map(|uplink| uplink.weight.get());
            let replaced = if insert {
                prop_assert_eq!(before, model.insert(name.clone(), weight));
                uplinks.insert(uplink(&name, weight, &book))
            } else {
                prop_assert_eq!(before, model.remove(&name));
                uplinks.remove(&name)
            };
            prop_assert_eq!(replaced.map(|uplink| uplink.weight.get()), before);
            prop_assert_eq!(uplinks.get(&name).map(|uplink| uplink.weight.get()), insert.then_some(weight));
            prop_assert_eq!((uplinks.len(), uplinks.is_empty()), (model.len(), model.is_empty()));
            if index % 50 == 0 {
                kept.push((uplinks.clone(), content(&uplinks)));
            }
        }
        let mut expected: Vec<_> = model.into_iter().collect();
        expected.sort();
        prop_assert_eq!(content(&uplinks), expected);
        for (version, then) in kept {
            prop_assert_eq!(content(&version), then);
        }
    }
}

#[test]
fn names_of_one_hash_are_told_apart() {
    let book = Book::new(1);
    let bucket: Vec<_> = ["a", "b", "c"].iter().zip([5, 7, 7]).map(|(name, hash)| (hash, uplink(name, 1, &book))).collect();
    assert_eq!([find(&bucket, 5, "a"), find(&bucket, 7, "b"), find(&bucket, 7, "c")], [Ok(0), Ok(1), Ok(2)]);
    assert_eq!(
        [find(&bucket, 5, "b"), find(&bucket, 6, "a"), find(&bucket, 7, "d"), find(&bucket, 9, "a")],
        [Err(0), Err(1), Err(1), Err(3)]
    );
}

#[test]
fn a_change_shares_all_other_buckets_with_the_version_before() {
    let book = Book::new(1);
    let before: Uplinks = (0..1000).map(|index| uplink(&format!("u{index}"), 1, &book)).collect();
    let mut after = before.clone();
    after.insert(uplink("u7", 2, &book));
    let differ = before.buckets.iter().zip(after.buckets.iter()).filter(|(one, other)| !Arc::ptr_eq(one, other)).count();
    assert_eq!((differ, before["u7"].weight.get(), after["u7"].weight.get()), (1, 1, 2));
}
