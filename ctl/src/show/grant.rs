//! Grants.

use figspan_proto::admin::Grant;

use crate::table::{list, table};

/// All grants, a line each.
pub(crate) fn many(grants: &[Grant]) -> String {
    table(
        "no grant",
        ["ID", "AGENT", "UPLINKS", "SERVICES", "STATE", "USES", "REDEEMED BY", "EXPIRES", "BY"],
        grants.iter().map(|grant| {
            [
                grant.id.clone(),
                grant.agent.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string),
                list(&grant.uplinks),
                list(&grant.services),
                grant.state.clone(),
                format!("{}/{}", grant.redeemed_by.len(), grant.uses),
                list(&grant.redeemed_by),
                grant.expires.clone(),
                grant.who.clone(),
            ]
        }),
    )
}
