//! Bounds how much may be logged, so that neither a fault that repeats nor a flood from the network fills a disk. Pure: time is given.
//!
//! Two measures in one window: the same event (its place in the code and what it is about) shows a few times and then as one line
//! that says how often it was repeated; one place in the code shows so many lines, whatever they are about. Bounded by both:
//! of an event that finds the table full only its place is counted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use tracing::Level;

use crate::entry::{Entry, Fields, Value};

/// How often the same event is shown within one window: enough to see that it repeats, and how fast.
const SAME: u32 = 10;
/// Lines of one place in the code within one window. Above what a person reads, below what hurts a disk.
const LINES: u32 = 200;
/// Length of the window.
const WINDOW: Duration = Duration::from_secs(10);
/// Events that are told apart within one window.
const EVENTS: usize = 1024;
/// Fields that say what an event is about. Others, such as a client's address or an error's text, only say more about it.
const ABOUT: &[&str] = &["agent", "uplink", "replica", "shard", "hub", "listener", "route", "backend", "service", "workload"];

/// A line of the code.
type Place = (&'static str, u32);

/// What was said in the window that runs.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    started: Option<SystemTime>,
    places: HashMap<Place, Count>,
    events: HashMap<(Place, u64), Count>,
}

#[derive(Debug, Default)]
struct Count {
    shown: u32,
    left_out: u64,
    /// One of those that were left out.
    like: Option<Entry>,
}

impl Limit {
    /// Whether the entry may pass; `report` gets a line for each event and each place that was cut short in a window that has ended.
    pub(crate) fn admit(&mut self, entry: &Entry, report: impl FnMut(Entry)) -> bool {
        let over = self.started.is_none_or(|started| entry.at.duration_since(started).is_ok_and(|age| age >= WINDOW) || entry.at < started);
        if over {
            self.end(entry.at, report);
            self.started = Some(entry.at);
        }
        // Whoever asks for debug wants all of it; the access log has its own switch.
        if entry.level > Level::INFO || entry.target == crate::ACCESS {
            return true;
        }
        let (Some(file), Some(line)) = (entry.file, entry.line) else { return true };
        let (place, key) = ((file, line), ((file, line), about(entry)));
        if self.events.len() < EVENTS || self.events.contains_key(&key) {
            let event = self.events.entry(key).or_default();
            if event.shown >= SAME {
                event.leave_out(entry);
                return false;
            }
            event.shown += 1;
        }
        let place = self.places.entry(place).or_default();
        if place.shown >= LINES {
            place.leave_out(entry);
            return false;
        }
        place.shown += 1;
        true
    }

    /// How long until what was left out has to be told; `None` while nothing was.
    pub(crate) fn due(&self, now: SystemTime) -> Option<Duration> {
        let cut = self.events.values().chain(self.places.values()).any(|count| count.left_out > 0);
        let age = now.duration_since(self.started?).unwrap_or_default();
        cut.then(|| WINDOW.saturating_sub(age))
    }

    /// Ends the window and tells what was left out.
    pub(crate) fn end(&mut self, at: SystemTime, mut report: impl FnMut(Entry)) {
        self.started = None;
        for (_, count) in self.events.drain() {
            if let Some(like) = count.like {
                let message = format!("repeated {} times: {}", grouped(count.left_out), like.message);
                report(Entry { at, message, fields: with(like.fields, "repeated", count.left_out), ..like });
            }
        }
        for (_, count) in self.places.drain() {
            if let Some(like) = count.like {
                let message = format!(
                    "{} more lines like one of the last {} s were left out: {}",
                    grouped(count.left_out),
                    WINDOW.as_secs(),
                    like.message
                );
                report(Entry { at, message, fields: with(Fields::default(), "left_out", count.left_out), ..like });
            }
        }
    }
}

impl Count {
    fn leave_out(&mut self, entry: &Entry) {
        self.left_out += 1;
        self.like.get_or_insert_with(|| entry.clone());
    }
}

fn about(entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (name, value) in entry.fields.iter().filter(|(name, _)| ABOUT.contains(name)) {
        name.hash(&mut hasher);
        match value {
            Value::Text(text) => text.hash(&mut hasher),
            other => other.to_string().hash(&mut hasher),
        }
    }
    hasher.finish()
}

fn with(mut fields: Fields, name: &'static str, count: u64) -> Fields {
    fields.push(name, Value::Uint(count));
    fields
}

/// `1,234`
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: SystemTime, level: Level, agent: &str) -> Entry {
        let mut fields = Fields::default();
        fields.push("agent", Value::Text(agent));
        fields.push("remote", Value::Text(&format!("{at:?}")));
        Entry { at, level, target: "t".into(), file: Some("f.rs"), line: Some(1), message: format!("{agent} refused"), fields }
    }

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn told(limit: &mut Limit, at: SystemTime) -> Vec<String> {
        let mut reports = Vec::new();
        limit.end(at, |report| reports.push(report.message));
        reports.sort();
        reports
    }

    #[test]
    fn the_same_event_shows_a_few_times_and_then_how_often_it_was_repeated() {
        let mut limit = Limit::default();
        let passed = (0..1244).filter(|_| limit.admit(&entry(START, Level::WARN, "vm-1"), |_| panic!("too early"))).count();
        assert_eq!(passed, SAME as usize);
        assert!(limit.admit(&entry(START, Level::WARN, "vm-2"), |_| panic!("too early")), "another one is news");
        assert_eq!(limit.due(START + Duration::from_secs(4)), Some(Duration::from_secs(6)));
        let mut reports = Vec::new();
        assert!(limit.admit(&entry(START + WINDOW, Level::WARN, "vm-1"), |report| reports.push(report)));
        let [report] = &reports[..] else { panic!("{reports:?}") };
        assert_eq!(report.message, "repeated 1,234 times: vm-1 refused");
        let fields: Vec<_> = report.fields.iter().collect();
        assert!(fields.contains(&("agent", Value::Text("vm-1"))) && fields.contains(&("repeated", Value::Uint(1234))), "{fields:?}");
        assert_eq!(limit.due(START + WINDOW), None);
    }

    #[test]
    fn a_flood_of_different_events_from_one_place_is_cut_and_counted_in_bounded_memory() {
        let mut limit = Limit::default();
        let passed = (0..5000).filter(|n| limit.admit(&entry(START, Level::WARN, &format!("vm-{n}")), |_| panic!("too early"))).count();
        assert_eq!(passed, LINES as usize);
        assert_eq!((limit.events.len(), limit.places.len()), (EVENTS, 1));
        let reports = told(&mut limit, START);
        assert!(reports.len() == 1 && reports[0].starts_with("4,800 more lines like one of the last 10 s"), "{reports:?}");
    }

    #[test]
    fn debug_lines_are_not_limited_and_a_clock_that_jumps_back_ends_the_window() {
        let mut limit = Limit::default();
        assert!((0..LINES * 3).all(|_| limit.admit(&entry(START, Level::DEBUG, "vm-1"), |_| ())));
        let later = START + Duration::from_secs(86_400);
        for _ in 0..SAME {
            assert!(limit.admit(&entry(later, Level::INFO, "vm-1"), |_| ()));
        }
        assert!(!limit.admit(&entry(later, Level::INFO, "vm-1"), |_| ()));
        assert!(limit.admit(&entry(START, Level::INFO, "vm-1"), |_| ()), "a new window");
        assert!(told(&mut limit, START).is_empty());
    }

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
