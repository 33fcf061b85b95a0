//! Another path: the whole, or the prefix that matched (Gateway API: HTTPPathModifier). Pure.
//!
//! What comes out is canonical if what goes in is: the new part has no final slash, and what stays of the old one begins with
//! a slash or is empty. So `//` cannot arise.

use figspan_model::routing::PathEdit;

/// Path and query. `prefix` is the one that matched, without a final slash; the query stays as it was written.
pub(super) fn edited(edit: &PathEdit, prefix: &str, path: &str, query: Option<&str>) -> String {
    let (new, rest) = match edit {
        PathEdit::Full(new) => (new.as_str(), ""),
        PathEdit::Prefix(new) => (new.as_str(), path.strip_prefix(prefix).unwrap_or_default()),
    };
    let mut out = String::with_capacity(new.len() + rest.len() + query.map_or(0, |query| query.len() + 1) + 1);
    out.push_str(new);
    out.push_str(rest);
    if out.is_empty() {
        out.push('/');
    }
    if let Some(query) = query {
        out.push('?');
        out.push_str(query);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::path::canonical;
    use proptest::prelude::*;

    #[test]
    fn prefixes_are_replaced_as_gateway_api_says() {
        for (path, prefix, new, wanted) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/", "", "/v2", "/v2/"),
            ("/a/b", "", "/v2", "/v2/a/b"),
            ("/foo/foo", "/foo", "/x", "/x/foo"),
        ] {
            assert_eq!(edited(&PathEdit::Prefix(new.to_owned()), prefix, path, None), wanted, "{path} below {prefix} to {new}");
        }
    }

    #[test]
    fn the_query_stays_to_the_letter() {
        assert_eq!(edited(&PathEdit::Full("/x".to_owned()), "", "/a", Some("q=%2e%zz&&=")), "/x?q=%2e%zz&&=");
        assert_eq!(edited(&PathEdit::Prefix("/x".to_owned()), "/a", "/a/b", Some("")), "/x/b?");
    }

    proptest! {
        #[test]
        fn a_canonical_path_stays_canonical(
            prefix in "(/[a-z]{1,3}){0,2}", rest in "(/[a-z.%~]{0,4}){0,3}", new in "(/[a-z]{1,3}){0,2}",
        ) {
            let Ok(path) = canonical(&format!("{prefix}{}", if rest.is_empty() { "/" } else { &rest })).map(|path| path.into_owned()) else {
                return Ok(());
            };
            prop_assume!(path.starts_with(&prefix) && path[prefix.len()..].chars().next().is_none_or(|next| next == '/'));
            let edited = edited(&PathEdit::Prefix(new), &prefix, &path, None);
            prop_assert_eq!(canonical(&edited).unwrap(), edited.as_str());
        }
    }
}
