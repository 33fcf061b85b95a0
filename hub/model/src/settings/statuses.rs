//! Statuses of errors: `"502-504, 500"`, or a list of numbers and such texts.

use std::ops::RangeInclusive;

use figspan_settings::Item;

/// Most parts.
const MAX_RANGES: usize = 32;

/// Error statuses, in the order of the file. `None` is a mistake.
pub(super) fn errors(item: &Item<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    if !item.is_list() {
        return of_text(item);
    }
    let items = item.items();
    if items.is_empty() || items.len() > MAX_RANGES {
        item.wrong(format!("has {} entries", items.len()), format!("write 1 to {MAX_RANGES} statuses, or leave it out"));
        return None;
    }
    let parts: Vec<_> =
        items.iter().map(|item| if item.is_text() { of_text(item) } else { number(item).map(|range| vec![range]) }).collect();
    parts.into_iter().collect::<Option<Vec<_>>>().map(|parts| parts.concat())
}

fn number(item: &Item<'_>) -> Option<RangeInclusive<u16>> {
    let status = item.number(400..=599).and_then(|status| u16::try_from(status).ok())?;
    Some(status..=status)
}

fn of_text(item: &Item<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let text = item.text()?;
    let status = |text: &str| text.trim().parse::<u16>().ok().filter(|status| (400..600).contains(status));
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (status(first)?, status(last)?);
        (first <= last).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = text.split(',').map(range).collect();
    let ranges = ranges.filter(|ranges| ranges.len() <= MAX_RANGES);
    if ranges.is_none() {
        item.wrong(
            format!("`{}` are no error statuses", text.escape_debug()),
            "write some of 400 to 599, as in \"502-504\" or \"404, 500-599\"",
        );
    }
    ranges
}
