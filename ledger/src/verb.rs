//! The methods of the load.

use http::Method;

/// A method, as far as the join and the retry table tell methods apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verb {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// POST.
    Post,
    /// PATCH.
    Patch,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Get, Self::Head, Self::Put, Self::Delete, Self::Post, Self::Patch];

    /// Whether a request may be repeated without harm (RFC 9110, section 9.2.2).
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch)
    }

    /// Whether its requests have a body here.
    pub const fn has_body(self) -> bool {
        matches!(self, Self::Put | Self::Post | Self::Patch)
    }

    /// For the wire.
    pub const fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Head => Method::HEAD,
            Self::Put => Method::PUT,
            Self::Delete => Method::DELETE,
            Self::Post => Method::POST,
            Self::Patch => Method::PATCH,
        }
    }

    /// From the wire.
    pub fn of(method: &Method) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.method() == *method)
    }
}
