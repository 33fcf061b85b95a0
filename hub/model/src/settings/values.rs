//! Values that several sections have: names, hosts, addresses, files, weights.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use figspan_proto::name::{UplinkName, Zone};
use figspan_proto::weight::Weight;
use figspan_settings::{Item, Place};

const NAME: &str = "use 1 to 63 of a-z, 0-9, '-' and '.', with a letter or digit at both ends";

/// What a file is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// To be opened later: its content does not matter yet.
    Opened,
    /// Its content, at most so many bytes.
    Read(usize),
    /// The same, of a file that nobody else may read.
    Secret(usize),
}

/// Says what is in a file, or why that cannot be known. Empty for [`Want::Opened`].
pub type Reading<'r> = &'r dyn Fn(&Path, Want) -> Result<Vec<u8>, String>;

/// Where relative paths start, and who reads files.
pub(super) struct Files<'r> {
    pub(super) base: PathBuf,
    pub(super) reading: Reading<'r>,
}

impl Files<'_> {
    /// A path, absolute or from the folder of the settings file.
    pub(super) fn path(&self, item: &Item<'_>) -> Option<PathBuf> {
        item.text().map(|text| self.base.join(text))
    }

    /// A file that can be read now.
    pub(super) fn file(&self, item: &Item<'_>) -> Option<PathBuf> {
        let path = self.path(item)?;
        self.ask(item, &path, Want::Opened).map(|_| path)
    }

    /// What is in a file.
    pub(super) fn content(&self, item: &Item<'_>, want: Want) -> Option<Vec<u8>> {
        let path = self.path(item)?;
        self.ask(item, &path, want)
    }

    fn ask(&self, item: &Item<'_>, path: &Path, want: Want) -> Option<Vec<u8>> {
        match (self.reading)(path, want) {
            Ok(content) => Some(content),
            Err(why) => {
                item.wrong(
                    format!("{} cannot be read: {why}", path.display()),
                    "create the file, let the hub's user (and of secrets nobody else) read it, or correct the path",
                );
                None
            }
        }
    }
}

/// Reads files of this machine.
pub(super) fn from_disk(path: &Path, want: Want) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let most = match want {
        Want::Opened => return Ok(Vec::new()),
        Want::Read(most) | Want::Secret(most) => most,
    };
    let mode = file.metadata().map_err(|error| error.to_string())?.permissions().mode() & 0o777;
    // A group may read it: that is how Kubernetes hands secrets to a user who is not root.
    if matches!(want, Want::Secret(_)) && mode & 0o027 != 0 {
        return Err(format!("its mode is {mode:03o}, so others may read or write it; chmod 600 it"));
    }
    let mut content = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if content.len() > most { Err(format!("it has more than {most} bytes")) } else { Ok(content) }
}

/// Names already taken, and where.
#[derive(Default)]
pub(super) struct Taken(HashMap<String, Place>);

impl Taken {
    /// Takes a name; a finding if it is taken already. `what` is the kind of name.
    pub(super) fn take(&mut self, item: &Item<'_>, what: &str, name: &str) -> bool {
        match self.0.get(name) {
            Some(first) => {
                let line = item.source().line(*first);
                item.wrong(format!("{what} {name} is taken by line {line}"), "use another one, or merge the two");
                false
            }
            None => {
                self.0.insert(name.to_owned(), item.place());
                true
            }
        }
    }
}

/// A name of the common alphabet.
pub(super) fn name(item: &Item<'_>) -> Option<Arc<str>> {
    let text = item.text()?;
    if text.parse::<UplinkName>().is_ok() {
        return Some(text.into());
    }
    item.wrong(format!("`{}` is not a name", text.escape_debug()), NAME);
    None
}

/// A name of a type with its own check.
pub(super) fn typed_name<T: std::str::FromStr>(item: &Item<'_>) -> Option<T> {
    let name = name(item)?;
    name.parse().ok()
}

/// A zone, as Kubernetes names them.
pub(super) fn zone(item: &Item<'_>) -> Option<Zone> {
    item.parsed("write it as Kubernetes has it, as in \"europe-west1-b\"")
}

/// An address such as `0.0.0.0:8080`.
pub(super) fn address(item: &Item<'_>) -> Option<SocketAddr> {
    let text = item.text()?;
    let parsed = text.parse().ok();
    if parsed.is_none() {
        item.wrong(format!("`{}` is not an address", text.escape_debug()), "write IP:port, as in \"0.0.0.0:8080\" or \"[::]:8080\"");
    }
    parsed
}

/// `host:port`, where the host is an address or a DNS name. Gives both parts.
pub(super) fn host_port(item: &Item<'_>) -> Option<(String, u16)> {
    let text = item.text()?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() != 0 {
            return Some((address.ip().to_string(), address.port()));
        }
    } else if let Some((host, port)) = text.rsplit_once(':')
        && let Ok(port @ 1..) = port.parse::<u16>()
        && is_host(&host.to_ascii_lowercase())
    {
        return Some((host.to_ascii_lowercase(), port));
    }
    item.wrong(
        format!("`{}` is not a host and port", text.escape_debug()),
        "write host:port, as in \"orders.shop.svc:80\" or \"10.0.0.7:80\"",
    );
    None
}

/// A host that certificates and SNI can name, lower case.
pub(super) fn host(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.to_ascii_lowercase();
    if is_host(&text) {
        return Some(text);
    }
    item.wrong(
        format!("`{}` is not a DNS name", text.escape_debug()),
        "write a name such as \"shop.example\", without scheme, port or path",
    );
    None
}

/// A host, exact or with a first label `*`, lower case.
pub(super) fn host_pattern(item: &Item<'_>) -> Option<String> {
    let text = item.text()?.to_ascii_lowercase();
    if is_host(text.strip_prefix("*.").unwrap_or(&text)) {
        return Some(text);
    }
    let mend = match text.as_str() {
        "*" => "leave hostnames out to match all hosts",
        _ => "write a name such as \"shop.example\" or \"*.example\", without scheme, port or path",
    };
    item.wrong(format!("`{}` is not a host", text.escape_debug()), mend);
    None
}

/// Whether a lower-case text is a DNS name (RFC 1123; underscores as clusters have them) or an IP address.
fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_');
        let bytes = label.as_bytes();
        bytes.len() <= 63 && edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|byte| edge(Some(byte)) || *byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// A weight.
pub(super) fn weight(item: &Item<'_>) -> Option<Weight> {
    let number = item.number(0..=u64::from(Weight::MAX.get()))?;
    u32::try_from(number).ok().and_then(|number| Weight::try_from(number).ok())
}

/// The host's name as a name of ours: in lower case; `hub-0` if it would not do.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_ascii_lowercase();
    if name.parse::<UplinkName>().is_ok() { name } else { "hub-0".to_owned() }
}
