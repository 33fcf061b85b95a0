//! Redirects (Gateway API: HTTPRequestRedirectFilter). Location is always absolute, built from parts that were checked.
//!
//! What the filter does not give stays as the client asked, where a trusted proxy's word counts: scheme, host, and port. The
//! port is the filter's; else the scheme's own where the filter changes scheme or host; else the one that the client asked. A
//! path can never be taken for a host: it follows an authority, and holds no `//`.

use std::fmt::Write as _;

use figspan_model::routing::Redirect;
use http::{HeaderMap, HeaderValue, Response, Uri, header};

use super::path;
use crate::admission::forwarded;
use crate::admission::host::Authority;
use crate::body::Body;

/// The answer; `None` where the client would be sent to what it has just asked for.
pub(super) fn answer(redirect: &Redirect, prefix: &str, uri: &Uri, headers: &HeaderMap) -> Option<Response<Body>> {
    let location = location(redirect, prefix, uri, forwarded::asked(headers).as_ref())?;
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = redirect.status;
    response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(location).ok()?);
    Some(response)
}

fn location(redirect: &Redirect, prefix: &str, uri: &Uri, told: Option<&Authority>) -> Option<String> {
    let asked_scheme = uri.scheme_str().unwrap_or("http");
    let scheme = redirect.scheme.unwrap_or(asked_scheme);
    let own_host = uri.authority().and_then(|authority| Authority::parse(authority.as_str().as_bytes()).ok());
    let asked = told.or(own_host.as_ref())?;
    let host = redirect.hostname.as_deref().unwrap_or(asked.host());
    let kept = redirect.scheme.is_none() && redirect.hostname.is_none();
    let port = redirect.port.or(asked.port().filter(|_| kept)).filter(|port| *port != default_port(scheme));
    let path = match &redirect.path {
        Some(edit) => path::edited(edit, prefix, uri.path(), uri.query()),
        None => uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
    };
    let same_place = scheme == asked_scheme
        && host == asked.host()
        && port == asked.port().filter(|port| *port != default_port(asked_scheme))
        && uri.path_and_query().is_some_and(|asked| asked.as_str() == path);
    if same_place {
        return None;
    }
    let mut location = format!("{scheme}://{host}");
    if let Some(port) = port {
        let _ = write!(location, ":{port}");
    }
    location.push_str(&path);
    Some(location)
}

const fn default_port(scheme: &str) -> u16 {
    if scheme.len() == "https".len() { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use figspan_model::routing::PathEdit;
    use http::StatusCode;

    fn redirect() -> Redirect {
        Redirect { scheme: None, hostname: None, port: None, path: None, status: StatusCode::FOUND }
    }

    fn to(redirect: &Redirect, prefix: &str, uri: &str) -> Option<String> {
        location(redirect, prefix, &uri.parse().unwrap(), None)
    }

    #[test]
    fn what_is_not_given_stays_as_the_client_asked() {
        let https = Redirect { scheme: Some("https"), ..redirect() };
        assert_eq!(to(&https, "", "http://a.example:8080/x?y=1").as_deref(), Some("https://a.example/x?y=1"));
        let port = Redirect { port: Some(8443), ..https.clone() };
        assert_eq!(to(&port, "", "http://a.example/").as_deref(), Some("https://a.example:8443/"));
        let own = Redirect { port: Some(443), ..https };
        assert_eq!(to(&own, "", "http://a.example/").as_deref(), Some("https://a.example/"));
        let host = Redirect { hostname: Some("b.example".to_owned()), ..redirect() };
        assert_eq!(to(&host, "", "https://a.example:8443/x").as_deref(), Some("https://b.example/x"));
        let path = Redirect { path: Some(PathEdit::Prefix("/new".to_owned())), ..redirect() };
        assert_eq!(to(&path, "/old", "http://a.example:8080/old/x?q").as_deref(), Some("http://a.example:8080/new/x?q"));
        assert_eq!(to(&path, "/old", "http://[::1]:8080/old").as_deref(), Some("http://[::1]:8080/new"));
    }

    #[test]
    fn what_the_client_asked_of_a_proxy_counts_before_what_the_proxy_asks() {
        let path = Redirect { path: Some(PathEdit::Full("/login".to_owned())), ..redirect() };
        let told = Authority::parse(b"shop.example:444").unwrap();
        let uri = "https://10.0.0.1:8443/".parse().unwrap();
        assert_eq!(location(&path, "", &uri, Some(&told)).as_deref(), Some("https://shop.example:444/login"));
    }

    #[test]
    fn a_path_is_never_taken_for_a_host() {
        let stripped = Redirect { path: Some(PathEdit::Prefix(String::new())), ..redirect() };
        for (asked, wanted) in [
            ("http://a.example/go/evil.example/", "http://a.example/evil.example/"),
            ("http://a.example/go", "http://a.example/"),
            ("http://a.example/go/@evil.example", "http://a.example/@evil.example"),
        ] {
            assert_eq!(to(&stripped, "/go", asked).as_deref(), Some(wanted));
        }
    }

    #[test]
    fn nobody_is_sent_to_where_they_are() {
        let https = Redirect { scheme: Some("https"), ..redirect() };
        assert_eq!(to(&https, "", "https://a.example/x"), None);
        assert_eq!(to(&https, "", "https://a.example:443/x"), None);
        let same = Redirect { path: Some(PathEdit::Full("/x".to_owned())), ..redirect() };
        assert_eq!(to(&same, "", "http://a.example:81/x?y"), None);
        assert!(to(&same, "", "http://a.example:81/y").is_some());
    }
}
