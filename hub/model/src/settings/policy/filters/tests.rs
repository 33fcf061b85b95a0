use crate::routing::{Filters, PathEdit};
use crate::settings::parse_with;

/// What a rule with these matches and filters is read as, or the findings.
fn read(matches: &str, filters: &str, backends: bool) -> Result<Filters, String> {
    let backends = if backends { "backend_refs = [{ uplink = 'u' }]" } else { "" };
    let text = format!("[[http_route]]\nname = 'r'\n[[http_route.rules]]\n{matches}\n{backends}\nfilters = [\n{filters}\n]\n");
    match parse_with(&text, "hub.toml", &|_, _| Ok(b"<p>sorry".to_vec())) {
        Ok(loaded) => Ok(loaded.routing.http_routes[0].rules[0].policy.as_ref().map(|policy| policy.filters.clone()).unwrap_or_default()),
        Err(findings) => Err(findings.iter().map(|finding| format!("{finding}\n")).collect()),
    }
}

fn refused(filters: &str) -> String {
    read("", filters, true).expect_err(filters)
}

#[test]
fn a_filter_may_not_touch_what_is_the_hubs_or_of_one_hop() {
    for name in [
        "Connection",
        "transfer-encoding",
        "Transfer_Encoding",
        "content-length",
        "host",
        "TE",
        "upgrade",
        "expect",
        "x-forwarded-for",
        "X_Forwarded_For",
        "forwarded",
        "x-real-ip",
        "x-figspan-pin",
        "figspan-reason",
        "proxy-status",
        "sec-websocket-key",
        "proxy-authorization",
    ] {
        for kind in ["RequestHeaderModifier", "ResponseHeaderModifier"] {
            for edit in [
                format!("set = [{{ name = '{name}', value = 'x' }}]"),
                format!("add = [{{ name = '{name}', value = 'x' }}]"),
                format!("remove = ['{name}']"),
            ] {
                let found = refused(&format!("{{ type = '{kind}', {edit} }}"));
                assert!(found.contains("hub.toml:7") && found.contains(&name.to_ascii_lowercase()), "{edit}: {found}");
            }
        }
    }
    assert!(refused("{ type = 'RequestHeaderModifier', remove = ['host'] }").contains("URLRewrite"), "the mend names the right filter");
}

#[test]
fn values_that_would_split_a_head_are_refused() {
    for value in ["a\\r\\nb: c", "\\u0000", " a", "caf\u{e9}"] {
        let found = refused(&format!("{{ type = 'RequestHeaderModifier', set = [{{ name = 'x-a', value = \"{value}\" }}] }}"));
        assert!(found.contains("characters that no field carries"), "{value}: {found}");
    }
    assert!(
        refused("{ type = 'RequestHeaderModifier', set = [{ name = 'x-a', value = '1' }], remove = ['X-A'] }").contains("edited twice")
    );
}

#[test]
fn each_type_has_its_own_keys_and_stands_once() {
    let found = refused("{ type = 'URLRewrite', hostname = 'a.example', status_code = 301 },\n{ type = 'URLRewrit' },\n{ hostname = 'a' }");
    assert!(found.contains("status_code: does not go with URLRewrite"), "{found}");
    assert!(found.contains("write \"URLRewrite\"") && found.contains("filters[2].type: is missing"), "{found}");
    let twice = "{ type = 'URLRewrite', hostname = 'a.example' },\n{ type = 'URLRewrite', hostname = 'b.example' }";
    assert!(refused(twice).contains("stands here twice"));
    assert!(refused("{ type = 'URLRewrite' }").contains("changes nothing"));
    assert!(refused("{ type = 'RequestHeaderModifier' }").contains("changes nothing"));
}

#[test]
fn a_prefix_is_replaced_only_where_all_matches_are_prefixes() {
    let rewrite = "{ type = 'URLRewrite', path = { type = 'ReplacePrefixMatch', value = '/v2/' } }";
    let path = |matches: &str| read(matches, rewrite, true).map(|filters| filters.rewrite.unwrap().path.unwrap());
    assert_eq!(path("matches = [{ path = { value = '/a' } }, { method = 'GET' }]"), Ok(PathEdit::Prefix("/v2".into())));
    assert_eq!(path(""), Ok(PathEdit::Prefix("/v2".into())));
    let found = path("matches = [{ path = { value = '/a' } }, { path = { type = 'Exact', value = '/b' } }]").unwrap_err();
    assert!(found.contains("use ReplaceFullPath"), "{found}");
}

#[test]
fn a_path_is_canonical_once_it_is_read() {
    let path = |value: &str| {
        let filter = format!("{{ type = 'URLRewrite', path = {{ type = 'ReplaceFullPath', value = '{value}' }} }}");
        read("", &filter, true).map(|filters| filters.rewrite.unwrap().path.unwrap())
    };
    assert_eq!(path("/a{b}\"%c3%a9"), Ok(PathEdit::Full("/a%7Bb%7D%22%C3%A9".into())));
    for bad in
        ["a", "//evil.example", "/a//b", "/a/../b", "/a?b", "/a#b", "/a\\b", "/%2e%2e/b", "/a%2Fb", "/%zz", "/..;x/b", "/a b", "/\u{e9}"]
    {
        assert!(path(bad).is_err(), "{bad}");
    }
}

#[test]
fn exactly_a_redirect_goes_without_backends() {
    let redirect = "{ type = 'RequestRedirect', scheme = 'https' }";
    assert_eq!(read("", redirect, false).unwrap().redirect.unwrap().status.as_u16(), 302);
    assert!(read("", redirect, true).unwrap_err().contains("backend_refs: stands beside a RequestRedirect"));
    let rewrite = "{ type = 'URLRewrite', hostname = 'a.example' }";
    assert!(read("", rewrite, false).unwrap_err().contains("backend_refs: is missing"));
    assert!(read("", &format!("{redirect},\n{rewrite}"), false).unwrap_err().contains("exclude each other"));
    // A redirect that is wrong is no reason to ask for backends as well.
    let found = read("", "{ type = 'RequestRedirect', status_code = 304 }", false).unwrap_err();
    assert!(found.contains("304 is no status of a redirect") && !found.contains("backend_refs"), "{found}");
    assert!(read("", "{ type = 'RequestRedirect' }", false).unwrap_err().contains("leads where the client already is"));
}

#[test]
fn cors_never_lets_any_site_use_credentials_and_knows_what_an_origin_is() {
    let cors = |keys: &str| read("", &format!("{{ type = 'CORS', {keys} }}"), true).map(|filters| filters.cors.unwrap());
    assert!(cors("allow_origins = ['*'], allow_credentials = true").unwrap_err().contains("list the origins"));
    let read = cors("allow_origins = ['https://Shop.example:443', 'http://*.office.example:8080'], allow_methods = ['*'], max_age = '1h'");
    let read = read.unwrap();
    assert!(read.origins[0].admits("https://shop.example") && !read.origins[0].admits("https://shop.example:443"));
    assert!(read.origins[1].admits("http://a.office.example:8080") && !read.origins[1].admits("http://office.example:8080"));
    assert_eq!((read.methods.as_str(), read.headers.as_str(), read.max_age), ("*", "", 3600));
    for bad in [
        "'null'",
        "'shop.example'",
        "'https://'",
        "'https://*'",
        "'https://a.example/x'",
        "'https://*.a.example', '*'",
        "'https://u@a.example'",
    ] {
        assert!(cors(&format!("allow_origins = [{bad}]")).is_err(), "{bad}");
    }
    assert!(cors("allow_origins = []").is_err() && cors("max_age = '1s'").is_err());
    assert!(cors("allow_origins = ['*'], allow_headers = ['*', 'x-a']").unwrap_err().contains("stands among others"));
}

#[test]
fn streams_of_messages_cannot_be_chosen_for_compression() {
    let compression = |keys: &str| read("", &format!("{{ type = 'Compression'{keys} }}"), true).map(|filters| filters.compression.unwrap());
    let usual = compression("").unwrap();
    for media in ["text/html", "APPLICATION/json", "application/problem+json", "image/svg+xml"] {
        assert!(usual.content_types.iter().any(|known| known.fits(media)), "{media}");
    }
    for media in ["image/png", "application/octet-stream", "application/zip", "video/mp4", "application/grpc"] {
        assert!(!usual.content_types.iter().any(|known| known.fits(media)), "{media}");
    }
    for bad in [
        ", content_types = ['text/event-stream']",
        ", content_types = ['application/grpc-web']",
        ", content_types = ['*/*']",
        ", content_types = ['text']",
        ", content_types = ['text/html; charset=utf-8']",
        ", content_types = []",
        ", algorithms = []",
        ", algorithms = ['gzip', 'gzip']",
        ", algorithms = ['deflate']",
        ", min_bytes = '2MiB'",
    ] {
        assert!(compression(bad).is_err(), "{bad}");
    }
}

#[test]
fn an_error_answer_names_errors_and_has_one_body() {
    let errors = |keys: &str| read("", &format!("{{ type = 'ErrorAnswer', {keys} }}"), true).map(|filters| filters.errors);
    let read = errors("statuses = '404, 502-504', body_file = 'sorry.html'").unwrap();
    assert_eq!(read[0].statuses, [404..=404, 502..=504]);
    assert_eq!((&read[0].body[..], read[0].content_type.to_str().unwrap()), (&b"<p>sorry"[..], "text/html; charset=utf-8"));
    for bad in [
        "statuses = '200', body = 'x'",
        "statuses = '504-502', body = 'x'",
        "statuses = '500-600', body = 'x'",
        "statuses = 'all', body = 'x'",
        "statuses = '503'",
        "statuses = '503', body = 'x', body_file = 'y'",
        "statuses = '503', body = 'x', content_type = 'nonsense'",
        "body = 'x'",
    ] {
        assert!(errors(bad).is_err(), "{bad}");
    }
}
