use super::*;

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn hop_by_hop(fields: &mut HeaderMap) -> Result<(), Reject> {
    let marks = Marks::of(fields);
    remove_hop_by_hop(fields, marks)
}

fn trusted(fields: &mut HeaderMap, peer_is_trusted: bool) {
    let marks = Marks::of(fields);
    remove_trusted(fields, marks, peer_is_trusted);
}

#[test]
fn connection_fields_and_what_they_name_go() {
    let mut fields = headers(&[
        ("connection", "close, X-Secret ,keep-alive"),
        ("connection", "x-other"),
        ("x-secret", "1"),
        ("x-other", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "foo"),
        ("te", "gzip, trailers"),
        ("proxy-authorization", "Basic x"),
        ("proxy", "http://evil"),
        ("trailer", "grpc-status"),
        ("accept", "*/*"),
    ]);
    hop_by_hop(&mut fields).unwrap();
    assert_eq!(names(&fields), ["accept", "te", "trailer"]);
    assert_eq!(fields["te"], "trailers");
}

#[test]
fn connection_cannot_take_away_what_delimits_or_routes() {
    for value in ["host", "Content-Length", "close, HOST", "a b", "x;y", "@"] {
        assert_eq!(hop_by_hop(&mut headers(&[("connection", value)])), Err(Reject::Connection), "{value}");
    }
    let many = vec!["x-a"; CONNECTION_NAMES + 1].join(",");
    let mut fields = headers(&[("x-a", "1")]);
    fields.insert(header::CONNECTION, many.parse().unwrap());
    assert_eq!(hop_by_hop(&mut fields), Err(Reject::Connection));
}

#[test]
fn fields_of_the_hub_never_pass_from_clients_under_any_spelling() {
    let spellings = [
        "x-forwarded-for",
        "x_forwarded_for",
        "x-forwarded_for",
        "x.forwarded.for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-client-cert",
        "x_forwarded_proto",
        "forwarded",
        "x-real-ip",
        "x_real_ip",
        "x-figspan-subject",
        "figspan-claim-sub",
        "figspan_claim_sub",
        "x-forwarded",
        "content_length",
        "transfer_encoding",
    ];
    for name in spellings {
        let mut fields = headers(&[(name, "evil"), ("x-forwardish", "kept"), ("x_custom", "kept"), ("x-for", "kept")]);
        trusted(&mut fields, false);
        assert_eq!(names(&fields), ["x-for", "x-forwardish", "x_custom"].map(|name| name), "{name}");
    }
}

#[test]
fn a_trusted_peer_may_use_true_spellings_only() {
    let mut fields = headers(&[("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4"), ("x_forwarded_for", "evil")]);
    trusted(&mut fields, true);
    assert_eq!(names(&fields), ["forwarded", "x-forwarded-for"]);
}

#[test]
fn trailers_carry_results_and_nothing_that_routes_or_authorises() {
    let mut trailers = headers(&[
        ("grpc-status", "0"),
        ("grpc-message", "ok"),
        ("server-timing", "x"),
        ("x-checksum", "y"),
        ("etag", "z"),
        ("x-forwarded-for", "evil"),
        ("x_forwarded_for", "evil"),
        ("forwarded", "evil"),
        ("host", "evil"),
        ("content-length", "1"),
        ("content_length", "1"),
        ("content-type", "evil"),
        ("transfer-encoding", "chunked"),
        ("authorization", "evil"),
        ("cookie", "evil"),
        ("set-cookie", "evil"),
        ("connection", "close"),
        ("te", "evil"),
        ("if-match", "evil"),
        ("figspan-claim-sub", "evil"),
    ]);
    filter_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["etag", "grpc-message", "grpc-status", "server-timing", "x-checksum"]);
}
