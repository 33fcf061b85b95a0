//! CORS (Gateway API: HTTPCORSFilter; Fetch Standard, section 3.2): preflights are answered here, answers get their fields here.
//!
//! The hub's word is the only one: what a workload says about other origins is taken away. An origin that may not ask gets an
//! answer without these fields, which is how browsers are told. Credentials never go with a star.

use figspan_model::routing::Cors;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};

use crate::body::Body;

const STAR: HeaderValue = HeaderValue::from_static("*");

/// Whether a request is a preflight, which its rule's CORS answers whatever else the rule asks.
pub(super) fn is_preflight(parts: &request::Parts) -> bool {
    let asked = |name| parts.headers.contains_key(name);
    parts.method == Method::OPTIONS && asked(ORIGIN) && asked(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight; `None` where the request is none.
pub(super) fn preflight(cors: &Cors, parts: &request::Parts) -> Option<Response<Body>> {
    if !is_preflight(parts) {
        return None;
    }
    let asked = |name| parts.headers.get(name);
    let (origin, method) = (asked(ORIGIN)?, asked(ACCESS_CONTROL_REQUEST_METHOD)?);
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NO_CONTENT;
    let head = response.headers_mut();
    if !allow(cors, Some(origin), head) {
        return Some(response);
    }
    let mut say = |name: HeaderName, ours: &str, asked: Option<&HeaderValue>| {
        // With credentials, a star would be a name like any other.
        let value = if ours == "*" && cors.credentials { asked.cloned() } else { HeaderValue::from_str(ours).ok() };
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            head.insert(name, value);
        }
    };
    say(ACCESS_CONTROL_ALLOW_METHODS, &cors.methods, Some(method));
    say(ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers, asked(ACCESS_CONTROL_REQUEST_HEADERS));
    head.insert(ACCESS_CONTROL_MAX_AGE, cors.max_age.into());
    head.append(VARY, HeaderValue::from_static("access-control-request-method, access-control-request-headers"));
    Some(response)
}

/// Writes what browsers shall know about an answer. `origin` is the request's.
pub(super) fn write(cors: &Cors, origin: Option<&HeaderValue>, head: &mut HeaderMap) {
    for name in [
        ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_HEADERS,
        ACCESS_CONTROL_EXPOSE_HEADERS,
        ACCESS_CONTROL_MAX_AGE,
    ] {
        head.remove(name);
    }
    if allow(cors, origin, head)
        && !cors.expose.is_empty()
        && let Ok(value) = HeaderValue::from_str(&cors.expose)
    {
        head.insert(ACCESS_CONTROL_EXPOSE_HEADERS, value);
    }
}

/// Writes who may read the answer, and that it depends on who asks; says whether this origin may.
fn allow(cors: &Cors, origin: Option<&HeaderValue>, head: &mut HeaderMap) -> bool {
    if cors.any_origin {
        head.insert(ACCESS_CONTROL_ALLOW_ORIGIN, STAR);
        return true;
    }
    head.append(VARY, HeaderValue::from_static("origin"));
    let text = origin.and_then(|origin| origin.to_str().ok());
    let Some(origin) = origin.filter(|_| text.is_some_and(|text| cors.origins.iter().any(|known| known.admits(text)))) else {
        return false;
    };
    head.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if cors.credentials {
        head.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use figspan_model::routing::Origin;
    use http::Request;
    use proptest::prelude::*;

    fn cors() -> Cors {
        Cors {
            origins: vec![
                Origin::Exact("https://shop.example".into()),
                Origin::Below { scheme: "https://".into(), suffix: ".office.example:8443".into() },
            ],
            any_origin: false,
            methods: "GET, PUT".into(),
            headers: "x-token".into(),
            expose: "x-total".into(),
            credentials: true,
            max_age: 60,
        }
    }

    fn asks(origin: &str) -> request::Parts {
        let request = Request::options("http://a.example/").header("origin", origin);
        let request = request.header("access-control-request-method", "PATCH").header("access-control-request-headers", "x-a,x-b");
        request.body(()).unwrap().into_parts().0
    }

    fn said<'h>(head: &'h HeaderMap, name: &str) -> &'h str {
        head.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_preflight_of_a_known_origin_is_told_what_it_may() {
        for origin in ["https://shop.example", "https://a.b.office.example:8443"] {
            let answer = preflight(&cors(), &asks(origin)).unwrap();
            let head = answer.headers();
            assert_eq!(answer.status(), 204);
            assert_eq!(said(head, "access-control-allow-origin"), origin);
            assert_eq!(said(head, "access-control-allow-credentials"), "true");
            assert_eq!(said(head, "access-control-allow-methods"), "GET, PUT");
            assert_eq!(said(head, "access-control-allow-headers"), "x-token");
            assert_eq!(said(head, "access-control-max-age"), "60");
            assert_eq!(said(head, "vary"), "origin");
        }
    }

    #[test]
    fn other_origins_are_told_nothing() {
        for origin in [
            "https://shop.example.evil.example",
            "http://shop.example",
            "https://shop.example:444",
            "https://evilshop.example",
            "https://.office.example:8443",
            "https://evil.example/.office.example:8443",
            "https://evil.example#.office.example:8443",
            "https://office.example:8443",
            "https://a.office.example",
            "null",
        ] {
            let answer = preflight(&cors(), &asks(origin)).unwrap();
            assert_eq!(answer.headers().keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["vary"], "{origin}");
        }
    }

    #[test]
    fn credentials_never_go_with_a_star() {
        let stars = Cors { methods: "*".into(), headers: "*".into(), ..cors() };
        let answer = preflight(&stars, &asks("https://shop.example")).unwrap();
        assert_eq!(said(answer.headers(), "access-control-allow-methods"), "PATCH");
        assert_eq!(said(answer.headers(), "access-control-allow-headers"), "x-a,x-b");
        let open = Cors { any_origin: true, credentials: false, origins: vec![], ..stars };
        let answer = preflight(&open, &asks("https://anybody.example")).unwrap();
        assert_eq!(said(answer.headers(), "access-control-allow-origin"), "*");
        assert_eq!(said(answer.headers(), "access-control-allow-methods"), "*");
        assert!(!answer.headers().contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn what_is_no_preflight_goes_to_the_workload() {
        let mut plain = asks("https://shop.example");
        plain.headers.remove("access-control-request-method");
        assert!(preflight(&cors(), &plain).is_none());
        let mut without = asks("https://shop.example");
        without.headers.remove("origin");
        assert!(preflight(&cors(), &without).is_none());
        let mut put = asks("https://shop.example");
        put.method = Method::PUT;
        assert!(preflight(&cors(), &put).is_none());
    }

    #[test]
    fn the_workloads_own_word_is_replaced() {
        let mut head = HeaderMap::new();
        head.insert("access-control-allow-origin", STAR);
        head.insert("access-control-allow-credentials", HeaderValue::from_static("true"));
        head.insert("vary", HeaderValue::from_static("accept"));
        write(&cors(), Some(&HeaderValue::from_static("https://evil.example")), &mut head);
        assert_eq!(head.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["vary"]);
        write(&cors(), Some(&HeaderValue::from_static("https://shop.example")), &mut head);
        assert_eq!(said(&head, "access-control-allow-origin"), "https://shop.example");
        assert_eq!(said(&head, "access-control-expose-headers"), "x-total");
        assert!(head.get_all("vary").iter().any(|value| value == "origin") && head.get_all("vary").iter().any(|value| value == "accept"));
    }

    proptest! {
        #[test]
        fn only_names_below_a_known_one_are_below_it(origin in "https://[a-z.:/@#?0-9]{0,20}(\\.office\\.example:8443)?") {
            let below = Origin::Below { scheme: "https://".into(), suffix: ".office.example:8443".into() };
            if below.admits(&origin) {
                let uri: http::Uri = origin.parse().unwrap();
                prop_assert!(uri.host().unwrap().ends_with(".office.example"));
                prop_assert_eq!(uri.port_u16(), Some(8443));
            }
        }
    }
}
