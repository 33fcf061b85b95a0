//! Tables for people: columns, no lines. Every cell may hold what a network said, so control characters never pass.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use figspan_proto::control::plain;

/// Spaces between columns.
const GAP: u16 = 2;

/// A table; or, without rows, a sentence that there is nothing.
pub(crate) fn table<const N: usize>(nothing: &str, header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.into_iter().map(|row| row.map(|cell| if cell.is_empty() { "-".to_owned() } else { plain(&cell) })).collect();
    if rows.is_empty() {
        return nothing.to_owned();
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.trim_fmt()
}

/// Names and values below each other.
pub(crate) fn fields(rows: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1 + usize::from(GAP);
    let line = |(name, value): (&str, String)| {
        let value = if value.is_empty() { "-".to_owned() } else { plain(&value) };
        format!("{:width$}{value}", format!("{name}:"))
    };
    rows.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Items with commas between.
pub(crate) fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Moves every line of a block to the right.
pub(crate) fn indent(block: &str) -> String {
    block.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// `yes` or `no`.
pub(crate) fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_empty_cells_show() {
        let rows = [["monolith".to_owned(), "90".to_owned()], ["o".to_owned(), String::new()]];
        assert_eq!(table("none", ["NAME", "WEIGHT"], rows), "NAME      WEIGHT\nmonolith  90\no         -");
        assert_eq!(table("none", ["NAME"], []), "none");
    }

    #[test]
    fn a_terminal_escape_from_a_network_does_not_pass() {
        let text = table("", ["REASON"], [["\u{1b}[2Jgone\nnext".to_owned()]]);
        assert_eq!(text, "REASON\n?[2Jgone?next");
        assert!(!fields([("why", "\u{7}".to_owned())]).contains('\u{7}'));
    }
}
