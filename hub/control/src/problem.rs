//! Refusals, as the admin API says them.

use figspan_proto::admin::Problem;

use crate::store::StoreError;

pub(crate) fn invalid(title: &str, detail: impl ToString) -> Problem {
    Problem { status: 422, title: title.to_owned(), detail: detail.to_string() }
}

pub(crate) fn unknown(title: &str, detail: impl ToString) -> Problem {
    Problem { status: 404, title: title.to_owned(), detail: detail.to_string() }
}

pub(crate) fn conflict(title: &str, detail: impl ToString) -> Problem {
    Problem { status: 409, title: title.to_owned(), detail: detail.to_string() }
}

pub(crate) fn storage(error: &StoreError) -> Problem {
    Problem { status: 507, title: "cannot store the change".to_owned(), detail: error.to_string() }
}

/// Control has ended, or ends now.
pub(crate) fn ending() -> Problem {
    Problem { status: 503, title: "the hub is ending".to_owned(), detail: "its control path has stopped; ask another replica".to_owned() }
}
