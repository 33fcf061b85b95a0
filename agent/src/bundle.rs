//! A support bundle: what somebody needs who looks for a fault on this VM from elsewhere, in one file.
//!
//! Works whether the agent runs or not, and says what is missing. Keys, tokens and passwords never get in: no file that holds a
//! secret is read, and all that is read passes `redact`. Bounded in size and time; the file is for its owner alone.

mod archive;
mod host;
mod qlog;
mod redact;
mod settings;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::advertise::unix_ms;
use crate::doctor;
use crate::settings::load::{load, status_socket};
use crate::status::ask;
use archive::Archive;

/// Longest recording of a tunnel's packets.
pub const MAX_QLOG: Duration = Duration::from_secs(120);

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Where to write; `None`: a name of its own in the working directory.
    pub output: Option<PathBuf>,
    /// How far back the journal goes.
    pub since: Duration,
    /// How long to record a tunnel's packets; `None`: not at all.
    pub qlog: Option<Duration>,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// Names of its parts.
    pub holds: Vec<String>,
    /// Parts that are not in it, and why.
    pub left_out: Vec<(String, String)>,
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be written.
    #[error("cannot write {}: {source}; give another file with --output", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What never gets in, whatever the parts say.
const NEVER: &str = "keys, tokens, grants, passwords, comments of settings, requests and their bodies";

/// Makes the bundle; `config` is the settings file, which may be broken or missing.
pub async fn make(config: &Path, wanted: Wanted) -> Result<Made, BundleError> {
    let now = SystemTime::now();
    let path = wanted.output.unwrap_or_else(|| PathBuf::from(format!("figspan-support-{}-{}.tar.gz", host::name(), unix_ms(now) / 1000)));
    let failed = |source: io::Error| BundleError::Write { path: path.clone(), source };
    let mut archive = Archive::create(&path, now).map_err(failed)?;
    let mut bundle = Bundle { archive: &mut archive, left_out: Vec::new() };
    bundle.fill(config, wanted.since, wanted.qlog).await.map_err(failed)?;
    let left_out = bundle.left_out;
    let manifest = manifest(now, archive.names(), &left_out);
    archive.add("MANIFEST.txt", manifest.as_bytes()).map_err(failed)?;
    let holds = archive.names().to_vec();
    let bytes = archive.finish().map_err(failed)?;
    Ok(Made { path, bytes, holds, left_out })
}

struct Bundle<'a> {
    archive: &'a mut Archive,
    left_out: Vec<(String, String)>,
}

impl Bundle<'_> {
    async fn fill(&mut self, config: &Path, since: Duration, qlog: Option<Duration>) -> io::Result<()> {
        let loaded = load(config);
        self.json("versions.json", &host::versions().await)?;
        for part in settings::parts(config, &loaded) {
            match part {
                Ok((name, text)) => self.text(&name, &text)?,
                Err((name, why)) => self.without(&name, why),
            }
        }
        match &loaded {
            Ok(loaded) => self.json("doctor.json", &Box::pin(doctor::examine(loaded, None)).await)?,
            Err(findings) => self.json("doctor.json", &doctor::unreadable(findings))?,
        }
        let process = self.running(status_socket(config)).await?;
        self.text("limits.txt", &host::limits(process))?;
        match process {
            Some(process) => self.text("sockets.txt", &host::sockets(process))?,
            None => self.without("sockets.txt", "no agent runs"),
        }
        match host::journal(since).await {
            Ok(journal) => self.text("journal.txt", &journal)?,
            Err(why) => self.without("journal.txt", why),
        }
        match (qlog, &loaded) {
            (None, _) => self.without("qlog.sqlog", "not asked for; add --qlog 30s"),
            (Some(_), Err(_)) => self.without("qlog.sqlog", "the settings cannot be read"),
            (Some(time), Ok(loaded)) => match Box::pin(qlog::record(&loaded.settings, time.min(MAX_QLOG))).await {
                Ok(recorded) => {
                    self.archive.add("qlog.sqlog", &recorded.bytes)?;
                    if recorded.cut {
                        self.without("qlog.sqlog", "cut at its limit of size");
                    }
                }
                Err(why) => self.without("qlog.sqlog", why),
            },
        }
        Ok(())
    }

    /// What the running agent says; its process.
    async fn running(&mut self, socket: Option<PathBuf>) -> io::Result<Option<u32>> {
        let parts = ["status.json", "metrics.txt", "log-level.json"];
        let Some(socket) = socket else {
            parts.into_iter().for_each(|part| self.without(part, "the settings give the agent no status socket"));
            return Ok(None);
        };
        let status = match ask::ask(&socket).await {
            Ok(status) => status,
            Err(error) => {
                parts.into_iter().for_each(|part| self.without(part, error.to_string()));
                return Ok(None);
            }
        };
        self.json(parts[0], &status)?;
        match ask::metrics(&socket).await {
            Ok(metrics) => self.text(parts[1], &metrics)?,
            Err(error) => self.without(parts[1], error.to_string()),
        }
        match ask::log_level(&socket, None).await {
            Ok(level) => self.json(parts[2], &level)?,
            Err(error) => self.without(parts[2], error.to_string()),
        }
        Ok(Some(status.process.id).filter(|id| *id != 0))
    }

    fn json(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        match serde_json::to_value(value) {
            Ok(mut value) => {
                redact::json(&mut value);
                self.archive.add(name, format!("{value:#}\n").as_bytes())
            }
            Err(error) => {
                self.without(name, error.to_string());
                Ok(())
            }
        }
    }

    fn text(&mut self, name: &str, text: &str) -> io::Result<()> {
        self.archive.add(name, redact::text(text).as_bytes())
    }

    fn without(&mut self, name: &str, why: impl Into<String>) {
        self.left_out.push((name.to_owned(), redact::text(&why.into()).into_owned()));
    }
}

fn manifest(now: SystemTime, holds: &[String], left_out: &[(String, String)]) -> String {
    let mut text =
        format!("support bundle of figspan-agent, made at {} (Unix seconds, this machine's clock)\n\nholds:\n", unix_ms(now) / 1000);
    holds.iter().for_each(|name| text.push_str(&format!("  {name}\n")));
    text.push_str("\nleft out:\n");
    left_out.iter().for_each(|(name, why)| text.push_str(&format!("  {name}: {why}\n")));
    text.push_str(&format!("\nnever in it: {NEVER}\n"));
    text
}

impl Made {
    /// For people.
    pub fn told(&self) -> String {
        let mut text = format!("wrote {} ({} KiB, for its owner alone)\n", self.path.display(), self.bytes.div_ceil(1024));
        text.push_str(&format!("holds: {}\n", self.holds.join(", ")));
        self.left_out.iter().for_each(|(name, why)| text.push_str(&format!("left out: {name}: {why}\n")));
        text.push_str(&format!("never in it: {NEVER}"));
        text
    }
}
