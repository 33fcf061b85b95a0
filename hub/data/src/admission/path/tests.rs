use proptest::prelude::*;

use super::*;

#[test]
fn paths_have_one_spelling() {
    for (raw, expected) in [
        ("/", "/"),
        ("/a/b.c?x=1", "/a/b.c?x=1"),
        ("/a/./b", "/a/b"),
        ("/a/%2e/b", "/a/b"),
        ("/a//b", "/a/b"),
        ("//a", "/a"),
        ("/a/", "/a/"),
        ("/a//", "/a/"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/a/b/..", "/a/"),
        ("/a/../b", "/b"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%61dmin", "/admin"),
        ("/%7euser", "/~user"),
        ("/%e2%82%ac", "/%E2%82%AC"),
        ("/a%20b", "/a%20b"),
        ("/a|b", "/a%7Cb"),
        ("/a[0]", "/a%5B0%5D"),
        ("/a/%252e%252e/b", "/a/%252e%252e/b"),
        ("/...", "/..."),
        ("/.hidden", "/.hidden"),
        ("/a/..b", "/a/..b"),
        ("/p;jsessionid=1F", "/p;jsessionid=1F"),
        ("/a?b=/../c", "/a?b=/../c"),
        ("/a?b=100%", "/a?b=100%"),
        ("/a?b=<c>", "/a?b=%3Cc%3E"),
        ("/a/../?q", "/?q"),
        ("/?", "/?"),
        ("/a:b@c", "/a:b@c"),
    ] {
        assert_eq!(canonical(raw).as_deref(), Ok(expected), "{raw}");
    }
}

#[test]
fn paths_that_can_be_read_in_two_ways_are_refused() {
    for raw in [
        "/..",
        "/../a",
        "/a/../../b",
        "/%2e%2e/a",
        "/a%2fb",
        "/a%2Fb",
        "/a%5cb",
        "/a\\b",
        "/a/..\\b",
        "/a%00",
        "/a%0d%0ab",
        "/a%1f",
        "/a%7f",
        "/a/..;/b",
        "/a/..;x=1/b",
        "/a/.;/b",
        "/;/a",
        "/a/;x/b",
        "/a/..%3b/b",
        "/a/%2e%2e;/b",
        "/..;/manager/html",
    ] {
        assert_eq!(canonical(raw), Err(Reject::AmbiguousPath), "{raw}");
    }
    for raw in
        ["", "a", "*", "?a", "/a#b", "/a?b#c", "/a%", "/a%2", "/a%zz", "/a b", "/\u{e4}", "/a?\u{e4}", "/a\tb", "/a?b\x7f", "/%u002e"]
    {
        assert_eq!(canonical(raw), Err(Reject::Target), "{raw}");
    }
}

proptest! {
    #[test]
    fn a_canonical_path_is_its_own_canonical_path(raw in "/[a-z.%/;\\\\2eEfF5cC?#|\"<]{0,40}") {
        if let Ok(once) = canonical(&raw) {
            let twice = canonical(&once);
            prop_assert_eq!(twice.as_deref(), Ok(&*once));
            prop_assert!(http::uri::PathAndQuery::try_from(once.as_ref()).is_ok());
            let path = once.split('?').next().unwrap();
            prop_assert!(!path.contains("//") && !path.split('/').any(|segment| segment == "." || segment == ".."));
        }
    }

    #[test]
    fn no_text_makes_it_panic(raw in "\\PC{0,60}") {
        let _ = canonical(&raw);
    }
}
