//! Header modifiers: take away, set, add, in that order (Gateway API: HTTPHeaderFilter).

use figspan_model::routing::HeaderEdit;
use http::HeaderMap;

/// Edits a head. Names and values were checked when they were read.
pub(super) fn edit(edit: &HeaderEdit, headers: &mut HeaderMap) {
    for name in &edit.remove {
        headers.remove(name);
    }
    for (name, value) in &edit.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edit.add {
        headers.append(name, value.clone());
    }
}
