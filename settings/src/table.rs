//! Which keys exist: written down once, used to refuse the others, to suggest the nearest, and to print the reference.

use std::fmt::Write;

/// One kind of table in a file.
#[derive(Debug)]
pub struct Table {
    /// Where it stands: empty for the top of the file, else keys joined by dots (`http_route.rules`).
    pub path: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// One key of a table.
#[derive(Debug)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What its value is, for people: `text`, `duration`, `list of tables` ...
    pub kind: &'static str,
    /// What holds without it; empty where it must be given, or nothing holds.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

impl Table {
    /// Whether the table has the key.
    pub fn knows(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known.name == key)
    }
}

/// The word that was probably meant: the nearest by edits (swaps count as one), if near enough to be worth saying.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    // Words longer than any key would only cost time.
    if wrong.len() > 64 {
        return None;
    }
    let allowed = |word: &str| (word.len().max(wrong.len()) / 3).max(1);
    let scored = known.into_iter().map(|word| (distance(&wrong, &word.to_lowercase()), word));
    scored.filter(|(edits, word)| *edits <= allowed(word)).min_by_key(|(edits, _)| *edits).map(|(_, word)| word)
}

/// Edits from one word to the other: insert, delete, replace, or swap neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

/// The reference of all tables as Markdown.
pub fn reference(tables: &[&Table]) -> String {
    let mut out = String::new();
    let cell = |text: &str| text.replace('|', "\\|");
    for table in tables {
        let title = if table.path.is_empty() { "Top of the file".to_owned() } else { format!("`{}`", table.path) };
        let _ = write!(out, "\n## {title}\n\n{}\n\n| key | value | default | what it does |\n|---|---|---|---|\n", table.doc);
        for key in table.keys {
            let default = if key.default.is_empty() { String::new() } else { format!("`{}`", cell(key.default)) };
            let _ = writeln!(out, "| `{}` | {} | {default} | {} |", key.name, cell(key.kind), cell(key.doc));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_only_when_near() {
        let known = ["hostnames", "listeners", "name", "rules"];
        assert_eq!(nearest("hostname", known), Some("hostnames"));
        assert_eq!(nearest("lsiteners", known), Some("listeners"));
        assert_eq!(nearest("Rules", known), Some("rules"));
        assert_eq!(nearest("timeout", known), None);
        assert_eq!(nearest("first-byte", ["first_byte"]), Some("first_byte"));
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }
}
