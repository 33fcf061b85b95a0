//! Finds the settings files and reads them: what `join` wrote, then agent.toml, then agent.toml.d/*.toml beside it.
//!
//! Later files win, so that what an operator writes always beats what `join` learned. The agent never writes to /etc.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use figspan_settings::{Finding, MAX_TEXT};

use super::Settings;
use super::read::Reader;

/// Name of the drop-in that `join` writes in the state directory.
pub const JOIN_DROP_IN: &str = "agent.toml.d/10-join.toml";

/// What loading led to.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What works, but hardly as meant.
    pub warnings: Vec<Finding>,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
}

/// Reads the file at `path` and its drop-ins; all mistakes at once.
pub fn load(path: &Path) -> Result<Loaded, Vec<Finding>> {
    let (reader, files) = gather(path);
    let (settings, warnings) = reader.finish()?;
    Ok(Loaded { settings: Settings { file: path.to_owned(), ..settings }, warnings, files })
}

/// The status socket, as far as it can be read: mistakes elsewhere must not hide an agent that runs with older settings.
pub fn status_socket(path: &Path) -> Option<PathBuf> {
    gather(path).0.so_far().status_socket.clone()
}

fn gather(path: &Path) -> (Reader, Vec<PathBuf>) {
    // Which directory holds join's drop-in is itself a setting of the files that win over it.
    let mut own = Reader::default();
    let mut files = vec![path.to_owned()];
    files.extend(drop_ins(path, &mut own));
    let texts: Vec<(PathBuf, String)> = files.into_iter().filter_map(|file| Some((file.clone(), text_of(&file, &mut own)?))).collect();
    let mut scout = Reader::default();
    for (file, text) in &texts {
        scout.read(&file.display().to_string(), text);
    }
    let joined = scout.so_far().state_dir.join(JOIN_DROP_IN);
    let mut read = Vec::new();
    match fs::read_to_string(&joined) {
        Ok(text) => {
            own.read(&joined.display().to_string(), &text);
            own.give_way();
            read.push(joined);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // `check` by an ordinary user cannot look into the state directory; what stands there is the agent's own affair.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        Err(error) => own.note(unreadable(&joined, &error)),
    }
    for (file, text) in texts {
        own.read(&file.display().to_string(), &text);
        read.push(file);
    }
    (own, read)
}

fn text_of(path: &Path, reader: &mut Reader) -> Option<String> {
    match fs::metadata(path).and_then(|meta| if meta.len() > MAX_TEXT as u64 { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }) {
        Ok(()) => {}
        Err(error) => {
            reader.note(unreadable(path, &error));
            return None;
        }
    }
    fs::read_to_string(path).map_err(|error| reader.note(unreadable(path, &error))).ok()
}

fn unreadable(path: &Path, error: &io::Error) -> Finding {
    let mend = match error.kind() {
        io::ErrorKind::NotFound => "create it (there are samples in /usr/share/doc/figspan-agent/examples), or give another with --config",
        io::ErrorKind::PermissionDenied => "let the agent's user read it",
        io::ErrorKind::InvalidData => "save it as UTF-8",
        _ => "mend the file or its disk",
    };
    Finding::about_file(&path.display().to_string(), "file", format!("cannot be read: {error}"), mend)
}

/// `agent.toml.d/*.toml` beside `agent.toml`, in the order of their names.
fn drop_ins(path: &Path, reader: &mut Reader) -> Vec<PathBuf> {
    let dir = drop_in_dir(path);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            reader.note(unreadable(&dir, &error));
            return Vec::new();
        }
    };
    let is_toml = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "toml");
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_toml).collect();
    files.sort();
    files
}

/// The directory of drop-ins that belongs to a file.
pub fn drop_in_dir(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".d");
    path.with_file_name(name)
}
