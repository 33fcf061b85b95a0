//! Bounds how much one place in the code may log, so that a flood from the network does not fill a disk. Pure: time is given.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use tracing::Level;

use crate::entry::{Entry, Value};

/// Lines of one place in the code within one window. Above what a person reads, below what hurts a disk.
const LINES: u32 = 200;

/// Length of the window.
const WINDOW: Duration = Duration::from_secs(10);

/// What each place said in the window that runs.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    started: Option<SystemTime>,
    places: HashMap<(&'static str, u32), (u32, Entry)>,
}

impl Limit {
    /// Whether the entry may pass; `report` gets one entry for each place that was cut short in a window that has ended.
    pub(crate) fn admit(&mut self, entry: &Entry, mut report: impl FnMut(Entry)) -> bool {
        let age = self.started.and_then(|started| entry.at.duration_since(started).ok());
        if age.is_none_or(|age| age >= WINDOW) {
            self.started = Some(entry.at);
            for (_, (lines, first)) in self.places.drain() {
                if lines > LINES {
                    report(summary(&first, lines - LINES, entry.at));
                }
            }
        }
        // Whoever asks for debug wants all of it; the access log has its own switch.
        if entry.level > Level::INFO || entry.target == crate::ACCESS {
            return true;
        }
        let (Some(file), Some(line)) = (entry.file, entry.line) else { return true };
        let (lines, _) = self.places.entry((file, line)).or_insert_with(|| (0, entry.clone()));
        *lines = lines.saturating_add(1);
        *lines <= LINES
    }
}

fn summary(first: &Entry, left_out: u32, at: SystemTime) -> Entry {
    let message = format!("{left_out} more lines like one of the last {} s were left out: {}", WINDOW.as_secs(), first.message);
    Entry { at, message, fields: vec![("left_out", Value::Uint(left_out.into()))], ..first.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: SystemTime, level: Level) -> Entry {
        Entry { at, level, target: "t".into(), file: Some("f.rs"), line: Some(1), message: "refused".into(), fields: Vec::new() }
    }

    #[test]
    fn a_flood_from_one_place_is_cut_and_counted() {
        let mut limit = Limit::default();
        let start = SystemTime::UNIX_EPOCH;
        let passed = (0..LINES * 3).filter(|_| limit.admit(&entry(start, Level::WARN), |_| panic!("too early"))).count();
        assert_eq!(passed, LINES as usize);
        let mut reports = Vec::new();
        assert!(limit.admit(&entry(start + WINDOW, Level::WARN), |e| reports.push(e)));
        assert_eq!(reports.len(), 1);
        assert!(reports[0].message.starts_with("400 more lines"), "{}", reports[0].message);
    }

    #[test]
    fn debug_lines_are_not_limited() {
        let mut limit = Limit::default();
        assert!((0..LINES * 3).all(|_| limit.admit(&entry(SystemTime::UNIX_EPOCH, Level::DEBUG), |_| ())));
    }
}
