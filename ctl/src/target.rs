//! Where the hub's admin API is: a Unix socket, or TCP with a token.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a hub listens unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/figspan-hub/admin.sock";

/// An address of an admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `unix:/path`
    Unix(PathBuf),
    /// `http://127.0.0.1:port`: this machine only, because a token in clear must not cross a network.
    Http { host: String, port: u16 },
    /// `https://host:port`
    Https { host: String, port: u16 },
}

impl Default for Target {
    fn default() -> Self {
        Self::Unix(DEFAULT_SOCKET.into())
    }
}

impl Target {
    /// What goes into `Host`.
    pub(crate) fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Http { host, port } | Self::Https { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Http { host, port } | Self::Https { host, port } => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http { .. } => write!(f, "http://{}", self.authority()),
            Self::Https { .. } => write!(f, "https://{}", self.authority()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shapes = "use unix:/path, https://host:port or http://127.0.0.1:port";
        let path = text.strip_prefix("unix:").map(|path| path.strip_prefix("//").unwrap_or(path)).or(text.starts_with('/').then_some(text));
        if let Some(path) = path {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into()))
            } else {
                Err(format!("`{text}` has no absolute path; {shapes}"))
            };
        }
        let uri: http::Uri = text.parse().map_err(|error| format!("`{text}` is no address of a hub ({error}); {shapes}"))?;
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let bare = uri.path_and_query().is_none_or(|rest| rest == "/") && !host.is_empty();
        let Some(port) = uri.port_u16().filter(|_| bare) else {
            return Err(format!("`{text}` needs a host and a port, and nothing behind them; {shapes}"));
        };
        match uri.scheme_str() {
            Some("https") => Ok(Self::Https { host, port }),
            Some("http") if host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) => Ok(Self::Http { host, port }),
            Some("http") => Err(format!("`{text}` would send the token over a network in clear; use https://{host}:{port}")),
            _ => Err(format!("`{text}` is no address of a hub; {shapes}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_written() {
        for text in ["unix:/run/figspan-hub/admin.sock", "https://hub.example:8443", "http://127.0.0.1:9000", "http://[::1]:9000"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert_eq!("/tmp/a.sock".parse::<Target>().unwrap(), Target::Unix("/tmp/a.sock".into()));
        assert_eq!("unix:///tmp/a.sock".parse::<Target>().unwrap(), Target::Unix("/tmp/a.sock".into()));
    }

    #[test]
    fn what_is_no_address_says_which_shapes_are() {
        for text in ["", "hub", "unix:admin.sock", "https://hub", "https://hub:1/v1", "ftp://hub:21", "http://"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains("unix:/path"), "{text}: {error}");
        }
    }

    #[test]
    fn a_token_never_crosses_a_network_in_clear() {
        let error = "http://10.0.0.7:9000".parse::<Target>().unwrap_err();
        assert!(error.contains("https://10.0.0.7:9000"), "{error}");
    }
}
