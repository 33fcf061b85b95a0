//! The CA, and how its change stands.

use figspan_proto::admin::{Ca, CaChange};
use figspan_proto::name::AgentName;

use crate::table::{fields, list, table};

/// The CA with what to do next.
pub(crate) fn ca(ca: &Ca) -> String {
    let roots = ca.roots.iter().map(|root| {
        let since = root.since.clone().unwrap_or_default();
        [root.state.clone(), since, root.until.clone().unwrap_or_default(), root.pin.clone()]
    });
    let roots = table("no roots", ["STATE", "SINCE", "TRUSTED UNTIL", "PIN"], roots);
    let about = fields([
        ("Certificates live", format!("{} s", ca.certificate_lifetime)),
        ("Change", next(ca).to_owned()),
        ("Agents not told", names(&ca.untold)),
        ("Agents on an old root", names(&ca.on_old_root)),
    ]);
    format!("{roots}\n{about}")
}

/// A change, or what it would be.
pub(crate) fn changed(change: &CaChange) -> String {
    let mut text = ca(&change.ca);
    if !change.left_behind.is_empty() {
        text.push_str(&format!("\nLeft behind, to join again: {}", names(&change.left_behind)));
    }
    if change.dry_run {
        text.push_str("\ndry run: nothing was changed");
    }
    text
}

fn next(ca: &Ca) -> &'static str {
    match ca {
        Ca { given: true, .. } => "none here: the CA is given as files in the hub's settings",
        Ca { safe_to_finish: true, .. } => "begun; every agent knows the new root: figspanctl ca finish",
        Ca { changing: true, .. } => "begun; wait until every agent has been told the new root",
        ca if ca.roots.iter().any(|root| root.state == "old") => "finished; the old root runs out by itself",
        _ => "none",
    }
}

fn names(names: &[AgentName]) -> String {
    if names.is_empty() { "none".to_owned() } else { list(names) }
}
