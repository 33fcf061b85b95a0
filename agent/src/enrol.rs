//! Joining from the command line or at the first start: where the token comes from, and what is kept of the answer.

mod terminal;

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use figspan_proto::join::{JoinError, MAX_TOKEN, RefusedReason, Token};
use figspan_proto::name::{AgentName, UplinkName};
use figspan_tunnel::resolve::{ResolveError, Resolver};

use crate::identity::files::{Declared, FileError, Files};
use crate::identity::join::{self, JoinFailure, Joined};
use crate::settings::{Address, Settings};

/// Name of the systemd credential that may hold a token.
const CREDENTIAL: &str = "figspan.token";

/// Why this VM has not joined.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The token is not where it should be.
    #[error("cannot read the token from {0}: {1}; give a file that holds the line of `figspanctl grant create`, or - for standard input")]
    Token(String, io::Error),
    /// No token was given, and nobody can be asked for it.
    #[error("no token; give --token-file PATH, or --token-file - and the token on standard input")]
    NoToken,
    /// It is no token.
    #[error(transparent)]
    NotAToken(#[from] JoinError),
    /// There is an identity already.
    #[error("this VM has joined already, as {0}, and the certificate is valid; to replace it, add --again")]
    Joined(AgentName),
    /// The hub said no, or could not be asked.
    #[error(transparent)]
    Join(#[from] JoinFailure),
    /// The answer cannot be kept.
    #[error("{0}. Mend this and run `join` again with the same line: the grant allows that while it lives")]
    Keep(FileError),
    /// The state directory cannot be used. Nothing was asked yet.
    #[error(transparent)]
    Files(#[from] FileError),
    /// No resolver.
    #[error(transparent)]
    Resolver(#[from] ResolveError),
}

impl EnrolError {
    /// Whether the hub, or an identity that is there, is in the way. A clock that is wrong and a hub that is busy are not: at a first
    /// boot, time comes with the network, and the next try may find both right.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Join(JoinFailure::Refused { refused, .. }) => !matches!(refused.reason, RefusedReason::Clock | RefusedReason::Busy),
            Self::Join(JoinFailure::Untrusted(..)) | Self::Joined(_) => true,
            _ => false,
        }
    }
}

/// What the operator says beside the token.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The name to ask for, where the grant leaves it open.
    pub name: Option<AgentName>,
    /// What else to keep.
    pub declared: Declared,
    /// Whether a valid certificate is to be replaced.
    pub again: bool,
}

/// Reads `NAME=HOST:PORT`.
pub fn uplink(text: &str) -> Result<(UplinkName, Address), String> {
    let (name, address) = text.split_once('=').ok_or("write NAME=HOST:PORT, as in monolith=127.0.0.1:8080")?;
    let name = name.parse().map_err(|error| format!("{name}: {error}"))?;
    let address = address.parse().map_err(|error| format!("{address}: {error}"))?;
    Ok((name, address))
}

/// Redeems the token and keeps what it gave.
pub async fn join(settings: &Settings, token_file: Option<&Path>, wanted: Wanted) -> Result<Joined, EnrolError> {
    let files = Files::new(&settings.state_dir);
    // A certificate that cannot be read is no reason to refuse a new one.
    if !wanted.again
        && let Ok(Some(kept)) = files.read()
        && kept.identity.not_after() > SystemTime::now()
        && let Some(agent) = kept.identity.id().agent()
    {
        return Err(EnrolError::Joined(agent.clone()));
    }
    let token: Token = read_token(token_file)?.parse()?;
    redeem(settings, &files, &token, wanted).await
}

/// Redeems the token that waits for the first start of the service, if one does.
pub async fn join_at_start(settings: &Settings, token_file: Option<&Path>) -> Result<Option<Joined>, EnrolError> {
    let credential = || Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL)).filter(|path| path.exists());
    let Some(path) = token_file.map(Path::to_owned).or_else(credential) else { return Ok(None) };
    let token: Token = read_token(Some(&path))?.parse()?;
    redeem(settings, &Files::new(&settings.state_dir), &token, Wanted::default()).await.map(Some)
}

async fn redeem(settings: &Settings, files: &Files, token: &Token, wanted: Wanted) -> Result<Joined, EnrolError> {
    // Find out whether the answer can be kept before asking for it.
    files.try_write()?;
    let name = wanted.name.or_else(|| settings.name.clone()).or_else(host_name);
    let resolver = Resolver::system()?;
    let joined = match join::join_with(files.joining_key()?, token, name, &resolver).await {
        Ok(joined) => joined,
        Err(error @ JoinFailure::NoAnswer(..)) => return Err(error.into()),
        Err(error) => {
            files.forget_joining_key()?;
            return Err(error.into());
        }
    };
    files.write_joined(&joined.kept, &joined.hubs, &joined.trust_domain, &wanted.declared).map_err(EnrolError::Keep)?;
    Ok(joined)
}

/// Reads a token, for a look at the way to its hubs.
pub fn token(path: &Path) -> Result<Token, EnrolError> {
    Ok(read_token(Some(path))?.parse()?)
}

fn read_token(path: Option<&Path>) -> Result<String, EnrolError> {
    let limit = MAX_TOKEN as u64 + 2;
    let mut text = String::new();
    match path {
        Some(path) if path.as_os_str() == "-" => {
            io::stdin()
                .lock()
                .take(limit)
                .read_to_string(&mut text)
                .map_err(|error| EnrolError::Token("standard input".to_owned(), error))?;
        }
        Some(path) => {
            let file = std::fs::File::open(path).map_err(|error| EnrolError::Token(path.display().to_string(), error))?;
            file.take(limit).read_to_string(&mut text).map_err(|error| EnrolError::Token(path.display().to_string(), error))?;
        }
        None if io::stdin().is_terminal() => {
            text = terminal::ask("Paste the token that `figspanctl grant create` printed (it is not shown): ")
                .map_err(|error| EnrolError::Token("the terminal".to_owned(), error))?;
        }
        None => return Err(EnrolError::NoToken),
    }
    Ok(text)
}

/// The host's name as an agent may have it; `None` where it has none that fits.
fn host_name() -> Option<AgentName> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::fs::read_to_string("/etc/hostname")).ok()?;
    text.trim().to_lowercase().parse().ok()
}
