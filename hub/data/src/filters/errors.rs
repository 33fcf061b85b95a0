//! Error answers: another body for the statuses that a rule names. The status stays, and so do Retry-After, Proxy-Status and the
//! reason: machines read these, people read the body.

use figspan_model::routing::ErrorAnswer;
use http::{HeaderMap, StatusCode, header};

/// The answer that replaces one of this status.
pub(super) fn for_status(errors: &[ErrorAnswer], status: StatusCode, of_workload: bool) -> Option<&ErrorAnswer> {
    let named = |error: &&ErrorAnswer| error.statuses.iter().any(|range| range.contains(&status.as_u16()));
    errors.iter().find(|error| (error.workloads || !of_workload) && named(error))
}

/// Takes away what described the body before, and describes the new one.
pub(super) fn describe(error: &ErrorAnswer, head: &mut HeaderMap) {
    for name in [
        "accept-ranges",
        "content-digest",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-location",
        "content-md5",
        "content-range",
        "digest",
        "etag",
        "last-modified",
        "repr-digest",
        "trailer",
    ] {
        head.remove(name);
    }
    head.insert(header::CONTENT_TYPE, error.content_type.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_first_that_names_a_status_counts_and_workloads_are_left_alone_unless_asked() {
        let error = |statuses: &[std::ops::RangeInclusive<u16>], body: &'static str, workloads| ErrorAnswer {
            statuses: statuses.to_vec(),
            body: body.into(),
            content_type: HeaderValue::from_static("text/plain"),
            workloads,
        };
        let errors = [error(&[502..=504], "hub", false), error(&[404..=404, 500..=599], "all", true)];
        let body = |status, of_workload| {
            for_status(&errors, StatusCode::from_u16(status).unwrap(), of_workload)
                .map_or("", |error| std::str::from_utf8(&error.body).unwrap())
        };
        assert_eq!([body(503, false), body(503, true), body(500, false), body(404, true)], ["hub", "all", "all", "all"]);
        assert_eq!([body(501, true), body(403, true), body(200, true), body(405, false)], ["all", "", "", ""]);
    }
}
