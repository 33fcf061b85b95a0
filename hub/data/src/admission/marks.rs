//! Hop `admission`: which fields with a meaning for this hop a head has, noted as its names are read.
//!
//! Most heads have none of them. Whoever would look for a field that is not there asks the marks first: a look into the map
//! costs a hash each time, and there are some thirty looks per request. A mark may be set for a field that has gone since;
//! it is never missing for one that is there.

use http::header::HeaderMap;

use figspan_model::routing::fields::{is_alias, is_hubs};

/// A set of marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks(u16);

impl Marks {
    /// No mark.
    pub const NONE: Self = Self(0);
    /// Connection.
    pub const CONNECTION: Self = Self(1);
    /// TE.
    pub const TE: Self = Self(1 << 1);
    /// Transfer-Encoding.
    pub const TRANSFER_ENCODING: Self = Self(1 << 2);
    /// Upgrade.
    pub const UPGRADE: Self = Self(1 << 3);
    /// Other fields that concern one connection only.
    pub const HOP: Self = Self(1 << 4);
    /// Expect.
    pub const EXPECT: Self = Self(1 << 5);
    /// Fields that only the hub or a trusted proxy may set, and aliases of fields.
    pub const TRUSTED: Self = Self(1 << 6);
    /// Authorization and WWW-Authenticate.
    pub const AUTHENTICATION: Self = Self(1 << 7);
    /// Content-Length.
    pub const CONTENT_LENGTH: Self = Self(1 << 8);
    /// The `close` of Connection; only in marks that were noted as an HTTP/1 head was read.
    pub const CLOSE: Self = Self(1 << 9);
    /// The `keep-alive` of Connection, likewise.
    pub const KEEP_ALIVE: Self = Self(1 << 10);

    /// The marks of a head that HTTP/2 brought.
    pub fn of(headers: &HeaderMap) -> Self {
        headers.keys().fold(Self::NONE, |marks, name| marks.and(Self::of_name(name.as_str().as_bytes())))
    }

    /// Whether any of `wanted` is set.
    pub fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 != 0
    }

    /// Both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// `name` is lower case, as header maps keep it.
    pub(super) fn of_name(name: &[u8]) -> Self {
        match name {
            b"connection" => Self::CONNECTION,
            b"te" => Self::TE,
            b"transfer-encoding" => Self::TRANSFER_ENCODING,
            b"upgrade" => Self::UPGRADE,
            b"keep-alive" | b"proxy-connection" | b"http2-settings" | b"proxy" | b"proxy-authenticate" | b"proxy-authorization" => {
                Self::HOP
            }
            b"expect" => Self::EXPECT,
            b"content-length" => Self::CONTENT_LENGTH,
            b"authorization" | b"www-authenticate" => Self::AUTHENTICATION,
            _ if is_hubs(name) || is_alias(name) => Self::TRUSTED,
            _ => Self::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::HeaderName;

    #[test]
    fn every_field_that_a_hop_removes_or_reads_has_a_mark() {
        let marked = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("accept", http::HeaderValue::from_static("*/*"));
            assert_eq!(Marks::of(&headers), Marks::default());
            headers.insert(HeaderName::from_static(name), http::HeaderValue::from_static("x"));
            Marks::of(&headers)
        };
        let hop = Marks::HOP;
        for (name, mark) in [
            ("connection", Marks::CONNECTION),
            ("te", Marks::TE),
            ("transfer-encoding", Marks::TRANSFER_ENCODING),
            ("upgrade", Marks::UPGRADE),
            ("keep-alive", hop),
            ("proxy-connection", hop),
            ("http2-settings", hop),
            ("proxy", hop),
            ("proxy-authenticate", hop),
            ("proxy-authorization", hop),
            ("expect", Marks::EXPECT),
            ("authorization", Marks::AUTHENTICATION),
            ("www-authenticate", Marks::AUTHENTICATION),
            ("x-forwarded-for", Marks::TRUSTED),
            ("forwarded", Marks::TRUSTED),
            ("x-real-ip", Marks::TRUSTED),
            ("x-figspan-uplink", Marks::TRUSTED),
            ("figspan-mirror", Marks::TRUSTED),
            ("x_forwarded_for", Marks::TRUSTED),
            ("content_length", Marks::TRUSTED),
            ("anything.else", Marks::TRUSTED),
        ] {
            assert_eq!(marked(name), mark, "{name}");
        }
        assert!(marked("te").has(Marks::TE.and(Marks::HOP)) && !marked("te").has(Marks::HOP));
        assert_eq!(marked("user-agent"), Marks::default());
    }
}
