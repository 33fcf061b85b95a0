//! Where two JSON documents differ. Pure; says places and kinds, never values.

use std::fmt::Write;

use figspan_model::routing::policy::{JsonPath, Step};
use serde_json::Value;

/// Longest place that is told, in bytes.
const MAX_PLACE: usize = 200;

/// The first difference outside of what is ignored.
pub(super) fn difference(one: &Value, other: &Value, ignore: &[JsonPath]) -> Option<String> {
    let rests: Vec<&[Step]> = ignore.iter().map(|path| &*path.0).collect();
    let mut place = String::from("$");
    walk(one, other, &rests, &mut place)
}

/// `rests`: what is left of the ignored paths that lead through this place.
fn walk(one: &Value, other: &Value, rests: &[&[Step]], place: &mut String) -> Option<String> {
    let depth = place.len();
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
            for name in names {
                let Some(rests) =
                    further(rests, |step| matches!(step, Step::AnyField) || matches!(step, Step::Field(field) if field == name))
                else {
                    continue;
                };
                say(place, format_args!(".{}", name.escape_debug()));
                let found = match (one.get(name), other.get(name)) {
                    (Some(one), Some(other)) => walk(one, other, &rests, place),
                    (Some(_), None) => Some(format!("{place}: missing in the mirror")),
                    _ => Some(format!("{place}: only in the mirror")),
                };
                place.truncate(depth);
                if found.is_some() {
                    return found;
                }
            }
            None
        }
        (Value::Array(one), Value::Array(other)) => {
            for index in 0..one.len().max(other.len()) {
                let Some(rests) = further(rests, |step| matches!(step, Step::AnyElement) || *step == Step::Element(index)) else {
                    continue;
                };
                let (Some(one), Some(other)) = (one.get(index), other.get(index)) else {
                    return Some(format!("{place}: {} elements, mirror {}", one.len(), other.len()));
                };
                say(place, format_args!("[{index}]"));
                let found = walk(one, other, &rests, place);
                place.truncate(depth);
                if found.is_some() {
                    return found;
                }
            }
            None
        }
        (one, other) if kind(one) != kind(other) => Some(format!("{place}: {}, mirror {}", kind(one), kind(other))),
        (one, other) => (one != other).then(|| format!("{place}: other value")),
    }
}

/// The paths that lead on over a step; `None` where one of them ends with it, so that what is there is ignored.
fn further<'p>(rests: &[&'p [Step]], fits: impl Fn(&Step) -> bool) -> Option<Vec<&'p [Step]>> {
    let mut on = Vec::new();
    for rest in rests {
        match rest.split_first() {
            Some((step, [])) if fits(step) => return None,
            Some((step, behind)) if fits(step) => on.push(behind),
            _ => {}
        }
    }
    Some(on)
}

fn say(place: &mut String, step: std::fmt::Arguments<'_>) {
    if place.len() < MAX_PLACE {
        let _ = place.write_fmt(step);
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn differ(one: &Value, other: &Value, ignore: &[&str]) -> Option<String> {
        let ignore: Vec<JsonPath> = ignore.iter().map(|path| path.parse().unwrap()).collect();
        difference(one, other, &ignore)
    }

    #[test]
    fn a_difference_is_told_by_its_place_and_without_values() {
        let (one, other) = (json!({"a": {"b": [1, 2, "secret"]}}), json!({"a": {"b": [1, 2, "other"]}}));
        assert_eq!(differ(&one, &other, &[]), Some("$.a.b[2]: other value".to_owned()));
        assert_eq!(differ(&json!([1]), &json!([1, 2]), &[]), Some("$: 1 elements, mirror 2".to_owned()));
        assert_eq!(differ(&json!({"a": 1}), &json!({}), &[]), Some("$.a: missing in the mirror".to_owned()));
        assert_eq!(differ(&json!({}), &json!({"a": 1}), &[]), Some("$.a: only in the mirror".to_owned()));
        assert_eq!(differ(&json!(1), &json!("1"), &[]), Some("$: a number, mirror a text".to_owned()));
    }

    #[test]
    fn what_is_ignored_is_ignored_at_its_place_only() {
        let (one, other) = (json!({"at": 1, "items": [{"id": 1, "n": 1}]}), json!({"at": 2, "items": [{"id": 2, "n": 1}], "new": 1}));
        assert_eq!(differ(&one, &other, &["$.at", "$.items[*].id", "$.new"]), None);
        assert_eq!(differ(&one, &other, &["$.at", "$.items[1].id", "$.new"]), Some("$.items[0].id: other value".to_owned()));
        assert_eq!(differ(&one, &other, &["$.*"]), None);
        assert_eq!(differ(&json!([1, 2]), &json!([1]), &["$[1]"]), None);
    }

    proptest! {
        #[test]
        fn a_document_equals_itself_and_no_other(numbers in prop::collection::vec(any::<i32>(), 0..8), more: i32) {
            let one = json!({"list": numbers, "deep": {"list": numbers}});
            prop_assert_eq!(differ(&one, &one, &[]), None);
            let mut longer = numbers.clone();
            longer.push(more);
            let other = json!({"list": numbers, "deep": {"list": longer}});
            prop_assert!(differ(&one, &other, &[]).is_some_and(|place| place.starts_with("$.deep.list")));
            prop_assert_eq!(differ(&one, &other, &["$.deep"]), None);
        }
    }
}
