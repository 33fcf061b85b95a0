use std::sync::Arc;

use super::*;
use figspan_model::routing::draft::{HttpRouteDraft, HttpRuleDraft, RoutingDraft};
use figspan_model::routing::{Cors, HeaderEdit, Listener, ListenerProtocol, PathEdit, PathMatch, Redirect, RouteMatch, RulePolicy};
use figspan_model::state::Book;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};

fn lines(lines: &[(&'static str, &'static str)]) -> Vec<(HeaderName, HeaderValue)> {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

/// What becomes of a request under one rule below `/shop`.
fn through(filters: Filters, request: Request<()>) -> (request::Parts, Option<Response<Body>>) {
    let rule = HttpRuleDraft {
        matches: vec![RouteMatch { path: Some(PathMatch::Prefix("/shop".into())), ..RouteMatch::default() }],
        policy: Some(Arc::new(RulePolicy { filters, ..RulePolicy::default() })),
        ..HttpRuleDraft::default()
    };
    let route = HttpRouteDraft { name: "r".into(), listeners: vec![], hostnames: vec![], rules: vec![rule] };
    let address = ([127, 0, 0, 1], 0).into();
    let listener = Listener { name: "web".into(), address, protocol: ListenerProtocol::Http, accept_proxy_protocol: false };
    let draft = RoutingDraft { listeners: vec![listener], http_routes: vec![route], ..RoutingDraft::default() };
    let routing = draft.build(&Book::new(1));
    let (mut parts, ()) = request.into_parts();
    let matched = routing.matcher().http("web", "a.example", &parts.method, parts.uri.path(), parts.uri.query(), &parts.headers).unwrap();
    let preflight = is_preflight(matched.rule, &parts);
    let answer = match before(&matched, &mut parts) {
        Verdict::Forward(_) => None,
        Verdict::Answer(answer) => Some(answer),
        Verdict::Refuse(filtered, failure) => Some(refusal(Some(&filtered), failure.reply())),
    };
    assert!(!preflight || answer.is_some(), "whatever goes without a token is answered here");
    assert_eq!(preflight, answer.as_ref().is_some_and(|answer| answer.status() == StatusCode::NO_CONTENT));
    (parts, answer)
}

#[test]
fn a_request_is_edited_and_goes_to_another_host_and_path() {
    let filters = Filters {
        request_headers: Some(HeaderEdit {
            set: lines(&[("x-env", "prod")]),
            add: lines(&[("via-shop", "b")]),
            remove: vec![HeaderName::from_static("x-debug")],
        }),
        rewrite: Some(Rewrite { hostname: Some("legacy.internal".into()), path: Some(PathEdit::Prefix("/v2".into())) }),
        ..Filters::default()
    };
    let request =
        Request::get("http://a.example:81/shop/cart?x=%2F").header("x-debug", "1").header("x-env", "test").header("via-shop", "a");
    let (parts, answer) = through(filters, request.body(()).unwrap());
    assert!(answer.is_none());
    assert_eq!(parts.uri, "http://legacy.internal/v2/cart?x=%2F");
    assert_eq!(parts.headers["x-env"], "prod");
    assert_eq!(parts.headers.get_all("via-shop").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!parts.headers.contains_key("x-debug"));
}

#[test]
fn a_redirect_is_answered_with_the_rules_own_fields() {
    let redirect = Redirect { scheme: Some("https"), hostname: None, port: None, path: None, status: StatusCode::MOVED_PERMANENTLY };
    let response_headers = Some(HeaderEdit { set: lines(&[("x-from", "hub")]), ..HeaderEdit::default() });
    let filters = Filters { redirect: Some(redirect), response_headers, ..Filters::default() };
    let (_, answer) = through(filters.clone(), Request::get("http://a.example:8080/shop?x").body(()).unwrap());
    let answer = answer.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["location"]), (301, &HeaderValue::from_static("https://a.example/shop?x")));
    assert_eq!(answer.headers()["x-from"], "hub");
    let (_, answer) = through(filters, Request::get("https://a.example/shop").body(()).unwrap());
    let answer = answer.unwrap();
    assert_eq!((answer.status().as_u16(), &answer.headers()["figspan-reason"]), (500, &HeaderValue::from_static("redirect-loop")));
    assert_eq!(answer.headers()["x-from"], "hub");
}

#[test]
fn only_what_cors_answers_by_itself_is_a_preflight() {
    let (methods, headers, expose) = ("PUT".to_owned(), String::new(), String::new());
    let cors = Cors { origins: Vec::new(), any_origin: true, methods, headers, expose, credentials: false, max_age: 5 };
    let with = Filters { cors: Some(cors), ..Filters::default() };
    let asked = |filters: &Filters, method: Method, fields: &[&str]| {
        let request = Request::builder().method(method).uri("http://a.example/shop");
        let request = fields.iter().fold(request, |request, field| request.header(*field, "PUT"));
        through(filters.clone(), request.body(()).unwrap()).1.is_some()
    };
    let whole = ["origin", "access-control-request-method"];
    assert!(asked(&with, Method::OPTIONS, &whole));
    assert!(!asked(&Filters::default(), Method::OPTIONS, &whole), "without CORS it is the workload's");
    assert!(
        !asked(&with, Method::GET, &whole) && !asked(&with, Method::OPTIONS, &whole[..1]) && !asked(&with, Method::OPTIONS, &whole[1..])
    );
}
