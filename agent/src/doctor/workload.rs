//! Checks of workloads, exactly as the running agent checks them.

use figspan_tunnel::resolve::Resolver;

use super::{Check, What};
use crate::probe;
use crate::settings::Uplink;

/// Checks one workload once.
pub(super) async fn look(uplink: &Uplink, resolver: &Resolver) -> Check {
    let name = uplink.name.to_string();
    match probe::check(uplink, resolver).await {
        Ok(()) => Check::pass(What::Workload, name, format!("{} answers", uplink.address)),
        Err(error) => {
            let mend = format!("{} in agent.toml", error.mend(uplink));
            Check::fail(What::Workload, name, format!("{}: {error}", uplink.address), mend)
        }
    }
}
