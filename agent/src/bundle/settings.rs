//! The settings as the agent reads them: values without comments, and of unknown keys only that they are there.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use figspan_settings::{Finding, MAX_TEXT};

use super::redact;
use crate::settings::keys;
use crate::settings::load::{Loaded, drop_in_dir};

/// A part with its text, or why it is missing.
type Part = Result<(String, String), (String, String)>;

/// One part for each file, and one for all mistakes.
pub(super) fn parts(config: &Path, loaded: &Result<Loaded, Vec<Finding>>) -> Vec<Part> {
    let files = match loaded {
        Ok(loaded) => loaded.files.clone(),
        Err(_) => beside(config),
    };
    let mut parts: Vec<Part> = files.iter().enumerate().map(|(number, file)| part(number, file)).collect();
    if let Err(findings) = loaded {
        // Where and which key, but not the value that is quoted in the reason.
        let places = findings.iter().map(|finding| format!("{}:{}:{}: {}\n", finding.source, finding.line, finding.column, finding.what));
        parts.push(Ok(("settings/mistakes.txt".to_owned(), places.collect())));
    }
    parts
}

/// The file and its drop-ins, for settings that cannot be loaded.
fn beside(config: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(drop_in_dir(config)).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files.insert(0, config.to_owned());
    files
}

fn part(number: usize, file: &Path) -> Part {
    let name = format!("settings/{number:02}-{}", file.file_name().unwrap_or_default().display());
    let missing = |why: String| (name.clone(), why);
    let length = std::fs::metadata(file).map_err(|error| missing(error.to_string()))?.len();
    if length > MAX_TEXT as u64 {
        return Err(missing(format!("{length} bytes are no settings file")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| missing(error.to_string()))?;
    // A text that is no TOML cannot be told apart into keys and values.
    let table: toml::Table = toml::from_str(&text).map_err(|_| missing("it is not TOML; see `figspan-agent check`".to_owned()))?;
    let mut value = toml::Value::Table(table);
    let known: HashSet<&str> = keys::TABLES.iter().flat_map(|table| table.keys).map(|key| key.name).collect();
    redact::toml(&mut value, &|key| known.contains(key));
    let text = toml::to_string_pretty(&value).map_err(|error| missing(error.to_string()))?;
    Ok((name.clone(), format!("# {}\n{text}", file.display())))
}
