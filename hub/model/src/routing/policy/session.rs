//! Sessions: a client stays where its first request went, by a cookie that only the hub can read.

use std::time::Duration;

/// `session_persistence` of a rule (Gateway API: `sessionPersistence`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPersistence {
    /// Name of the cookie. Rules with the same name share their sessions as far as they share backends. Never `None` once the
    /// routing is built: a rule that gives none has one of its own.
    pub name: Option<String>,
    /// How long a session lasts without a request. Each answer in its second half renews it.
    pub ttl: Duration,
    /// How long a session lasts at most, whatever happens.
    pub absolute_timeout: Option<Duration>,
    /// Path of the cookie.
    pub path: String,
    /// Domain of the cookie; `None`: the host that the client asked.
    pub domain: Option<String>,
    /// Whether it is sent over TLS only; `None`: where the client came over TLS.
    pub secure: Option<bool>,
    /// Whether scripts cannot see it.
    pub http_only: bool,
    /// When browsers send it from other sites.
    pub same_site: SameSite,
}

/// When browsers send a cookie from other sites.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SameSite {
    /// Never.
    Strict,
    /// When the user follows a link.
    #[default]
    Lax,
    /// Always; only over TLS.
    None,
}

impl SameSite {
    /// As it stands in the cookie.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

impl Default for SessionPersistence {
    fn default() -> Self {
        Self {
            name: None,
            ttl: Duration::from_secs(3600),
            absolute_timeout: None,
            path: "/".to_owned(),
            domain: None,
            secure: None,
            http_only: true,
            same_site: SameSite::default(),
        }
    }
}

impl SessionPersistence {
    /// The name of the cookie; empty before the routing is built.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}
