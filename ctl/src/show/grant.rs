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
                match (&grant.agent, &grant.name_template) {
                    (Some(agent), _) => agent.to_string(),
                    (None, Some(template)) => template.to_string(),
                    (None, None) => "any".to_owned(),
                },
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
