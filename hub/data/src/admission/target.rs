//! Hop `admission`: whom a request is for (RFC 9112, section 3.2; RFC 9110, section 7.4; RFC 9113, section 8.3.1).
//!
//! The absolute form wins over Host, which must be there and valid all the same. Host beside `:authority` must agree with it.
//! Where the TLS handshake named a server, the request's host must be that name, else 421: browsers that share a connection
//! among the names of one certificate then ask again on a connection of its own, and no request is routed by a name other
//! than the one whose certificate was shown. Ports do not take part in that comparison.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{HOST, HeaderMap};
use http::{Method, Uri};

use super::host::{Authority, LastAsked};
use super::path::canonical;
use super::reject::Reject;

/// A target in one of the forms that are served.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'t> {
    /// A path and query, canonical; with the authority where it was given in absolute form.
    Path {
        /// The authority of the absolute form.
        authority: Option<Authority>,
        /// Canonical path and query; where it is borrowed, a part of what was read.
        path: Cow<'t, str>,
    },
    /// `OPTIONS *`: the hub itself is asked.
    Asterisk,
}

/// Reads a target as written. The authority form belongs to CONNECT, which is refused.
pub fn parse<'t>(method: &Method, target: &'t [u8]) -> Result<Target<'t>, Reject> {
    let target = std::str::from_utf8(target).map_err(|_| Reject::Target)?;
    if target == "*" {
        return if method == Method::OPTIONS { Ok(Target::Asterisk) } else { Err(Reject::Target) };
    }
    if target.starts_with('/') {
        return Ok(Target::Path { authority: None, path: canonical(target)? });
    }
    let (scheme, rest) = target.split_once("://").ok_or(Reject::Target)?;
    if !(scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")) {
        return Err(Reject::Target);
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Reject::Target);
    }
    let authority = Some(Authority::parse(authority.as_bytes())?);
    let path = match path {
        "" => Cow::Owned("/".to_owned()),
        _ if path.starts_with('?') => Cow::Owned(canonical(&format!("/{path}"))?.into_owned()),
        _ => canonical(path)?,
    };
    Ok(Target::Path { authority, path })
}

/// The one Host of an HTTP/1 request, or the one that an HTTP/2 request may have beside `:authority`.
pub fn host(headers: &HeaderMap, last: &LastAsked) -> Result<Option<Authority>, Reject> {
    let mut hosts = headers.get_all(HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => last.parse(host.as_bytes()).map(Some),
        (Some(_), Some(_)) => Err(Reject::Host),
    }
}

/// Refuses a request for another host than the one that the TLS handshake named.
pub fn agree_with_server_name(authority: &Authority, server_name: Option<&str>) -> Result<(), Reject> {
    match server_name {
        Some(name) if name.strip_suffix('.').unwrap_or(name) != authority.host() => Err(Reject::ServerNameMismatch),
        _ => Ok(()),
    }
}

/// Builds the absolute URI that the outbound half works with. `path` is of `target` where it is borrowed, and shares its bytes then.
pub fn uri(scheme: &'static str, authority: Authority, target: &Bytes, path: Cow<'_, str>) -> Result<Uri, Reject> {
    let path = match path {
        Cow::Borrowed(path) => target.slice_ref(path.as_bytes()),
        Cow::Owned(path) => Bytes::from(path),
    };
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if scheme == "https" { http::uri::Scheme::HTTPS } else { http::uri::Scheme::HTTP });
    parts.authority = Some(authority.into());
    parts.path_and_query = Some(http::uri::PathAndQuery::from_maybe_shared(path).map_err(|_| Reject::Target)?);
    Uri::from_parts(parts).map_err(|_| Reject::Target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(authority: Option<&str>, path: &'static str) -> Result<Target<'static>, Reject> {
        Ok(Target::Path { authority: authority.map(|text| Authority::parse(text.as_bytes()).unwrap()), path: Cow::Borrowed(path) })
    }

    #[test]
    fn each_form_is_served_where_it_belongs() {
        assert_eq!(parse(&Method::GET, b"/a?b"), path(None, "/a?b"));
        assert_eq!(parse(&Method::GET, b"http://A.example:81/x/../y"), path(Some("a.example:81"), "/y"));
        assert_eq!(parse(&Method::GET, b"HTTPS://a.example"), path(Some("a.example"), "/"));
        assert_eq!(parse(&Method::GET, b"http://a.example?q"), path(Some("a.example"), "/?q"));
        assert_eq!(parse(&Method::OPTIONS, b"*"), Ok(Target::Asterisk));
        for bad in
            [&b"*"[..], b"a.example:443", b"ftp://a/", b"http:/a", b"http://u@a/", b"http://a/#f", b"a", b"", b"/\xff", b"http://a#f"]
        {
            assert_eq!(parse(&Method::GET, bad), Err(Reject::Target), "{bad:?}");
        }
        assert_eq!(parse(&Method::GET, b"http:///a"), Err(Reject::Host));
    }

    #[test]
    fn the_server_name_and_the_host_agree_or_the_request_is_misdirected() {
        let authority = Authority::parse(b"a.example:8443").unwrap();
        assert_eq!(agree_with_server_name(&authority, None), Ok(()));
        assert_eq!(agree_with_server_name(&authority, Some("a.example")), Ok(()));
        assert_eq!(agree_with_server_name(&authority, Some("b.example")), Err(Reject::ServerNameMismatch));
    }

    #[test]
    fn a_uri_is_absolute() {
        let of = |target: &'static [u8]| {
            let target = Bytes::from_static(target);
            let Ok(Target::Path { path, .. }) = parse(&Method::GET, &target) else { panic!("{target:?}") };
            uri("https", Authority::parse(b"[::1]:81").unwrap(), &target, path).unwrap().to_string()
        };
        assert_eq!(of(b"/a?b"), "https://[::1]:81/a?b");
        assert_eq!(of(b"/a/../%62"), "https://[::1]:81/b");
        assert_eq!(of(b"http://other"), "https://[::1]:81/");
        assert_eq!(of(b"http://other/x"), "https://[::1]:81/x");
        assert_eq!(of(b"http://other?x"), "https://[::1]:81/?x");
    }
}
