use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::health::window::{Measure, Window};
use crate::health::{End, Outcome};
use crate::moment::Moment;

fn totals(condition: &Condition, outcomes: &[(End, u64)]) -> Totals {
    let window = Window::new(1);
    let measure = Measure { length: Duration::from_secs(10), ranges: condition.ranges(), era: 0 };
    for (end, millis) in outcomes {
        let outcome = Outcome { end: *end, latency: Duration::from_millis(*millis) };
        window.record(0, &measure, &outcome, Moment::from_millis(1000));
    }
    window.totals(&measure, Moment::from_millis(1000))
}

fn holds(text: &str, outcomes: &[(End, u64)]) -> bool {
    let condition = Condition::parse(text).unwrap();
    condition.holds(&totals(&condition, outcomes))
}

#[test]
fn traefiks_words_mean_what_they_say() {
    use End::{Answered, Failed};
    let mixed = [(Answered(200), 10), (Answered(503), 10), (Failed, 10), (Answered(404), 300)];
    assert!(holds("NetworkErrorRatio() > 0.24", &mixed) && !holds("NetworkErrorRatio() > 0.25", &mixed));
    assert!(holds("ErrorRatio() >= 0.5", &mixed) && !holds("ErrorRatio() > 0.5", &mixed));
    assert!(holds("LatencyAtQuantileMS(99.0) > 250", &mixed) && !holds("LatencyAtQuantileMS(50) > 100", &mixed));
    // One of the three answers is a 5xx; the one that never came is none.
    assert!(holds("ResponseCodeRatio(500, 600, 0, 600) > 0.33", &mixed) && !holds("ResponseCodeRatio(500, 600, 0, 600) > 0.34", &mixed));
    assert!(holds("ResponseCodeRatio(500, 600, 400, 600) == 0.5", &mixed));
    let all = "NetworkErrorRatio() > 0.30 || LatencyAtQuantileMS(99.0) > 100 || ResponseCodeRatio(500, 600, 0, 600) > 0.25";
    assert!(holds(all, &mixed) && !holds(all, &[(Answered(200), 10)]));
}

#[test]
fn and_binds_tighter_than_or_and_parentheses_win() {
    let one = [(End::Answered(200), 1)];
    let (yes, no) = ("ErrorRatio() == 0", "ErrorRatio() != 0");
    assert!(holds(&format!("{yes} || {yes} && {no}"), &one));
    assert!(!holds(&format!("({yes} || {yes}) && {no}"), &one));
    assert!(holds(&format!("!({no}) && !!{yes}"), &one));
}

#[test]
fn ratios_of_nothing_are_zero() {
    assert!(holds("ErrorRatio() == 0 && NetworkErrorRatio() <= 0 && ResponseCodeRatio(1, 2, 3, 4) == 0", &[]));
    assert!(holds("LatencyAtQuantileMS(50) < 1", &[]));
}

#[test]
fn a_mistake_is_told_with_its_place() {
    for (text, at, why) in [
        ("", 1, "expected NetworkErrorRatio"),
        ("ErrorRatio() > ", 16, "a number"),
        ("ErrorRatio() 0.5", 14, "a comparison"),
        ("ErrorRatio > 0.5", 12, "`(`"),
        ("ErrorRatio() > 1.5", 1, "never above 1"),
        ("LatencyAtQuantileMS(0) > 1", 21, "a quantile"),
        ("LatencyAtQuantileMS(101) > 1", 21, "a quantile"),
        ("ResponseCodeRatio(600, 500, 0, 600) > 0.1", 19, "the second beyond the first"),
        ("ResponseCodeRatio(500, 601, 0, 600) > 0.1", 24, "a status"),
        ("(ErrorRatio() > 0.5", 20, "`)`"),
        ("ErrorRatio() > 0.5 or", 20, "`&&`"),
        ("ErrorRatio() > 0.5 || Ü", 23, "expected NetworkErrorRatio"),
        ("ErrorRatio() > 1e9", 17, "`&&`"),
        ("ErrorRatio() > -1", 16, "a number"),
        ("ErrorRatio() > .5", 16, "a number"),
    ] {
        let mistake = Condition::parse(text).expect_err(text);
        assert_eq!(mistake.at, at, "{text}: {mistake}");
        assert!(mistake.why.contains(why), "{text}: {mistake}");
    }
}

#[test]
fn what_is_read_is_bounded() {
    let one = "ErrorRatio() > 0.5";
    let deep = |levels: usize| format!("{}{one}{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Condition::parse(&deep(MAX_DEPTH - 1)).is_ok());
    assert!(Condition::parse(&deep(MAX_DEPTH)).unwrap_err().why.contains("deeper"));
    let many = |count: usize| vec![one; count].join("||");
    assert!(Condition::parse(&many(MAX_COMPARISONS)).is_ok());
    assert!(Condition::parse(&many(MAX_COMPARISONS + 1)).unwrap_err().why.contains("comparisons"));
    let ranges = |count: usize| {
        let one = |index: usize| format!("ResponseCodeRatio(1{index}0,1{index}5,0,600)>0");
        (0..count).map(one).collect::<Vec<_>>().join("||")
    };
    assert!(Condition::parse(&ranges(7)).is_ok());
    assert!(Condition::parse(&ranges(8)).unwrap_err().why.contains("ranges"));
    assert!(Condition::parse(&" ".repeat(MAX_TEXT + 1)).unwrap_err().why.contains("longer"));
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,80}") {
        if let Err(mistake) = Condition::parse(&text) {
            prop_assert!(mistake.at <= text.chars().count() + 1);
        }
    }

    #[test]
    fn texts_of_its_own_words_are_read_or_refused_and_evaluated(words in prop::collection::vec(prop_oneof![
        Just("ErrorRatio()"), Just("NetworkErrorRatio()"), Just("LatencyAtQuantileMS(99)"), Just("ResponseCodeRatio(500,600,0,600)"),
        Just(">"), Just("<="), Just("0.5"), Just("100"), Just("&&"), Just("||"), Just("("), Just(")"), Just("!"),
    ], 0..24)) {
        let text = words.join(" ");
        if let Ok(condition) = Condition::parse(&text) {
            let _ = condition.holds(&totals(&condition, &[(End::Failed, 3)]));
            prop_assert_eq!(&Condition::parse(&condition.to_string()).unwrap(), &condition);
        }
    }
}
