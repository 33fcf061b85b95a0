//! Keys of policies.

use figspan_settings::Table;

use super::key;

pub(in super::super) static BACKEND_POLICY: Table = Table {
    path: "backend_policy",
    doc: "What an uplink or a service asks for, in whichever route it is named. Exactly one of `uplink` and `service`.",
    keys: &[
        key("uplink", "name", "", "Workloads on VMs, as agents advertise them."),
        key("service", "name", "", "A `[[service]]` of this file."),
        key("circuit_breaker", "table", "", "Cuts a backend or an endpoint off while it fails."),
        key("health_check", "table", "", "Checks that the hub makes of a service's addresses."),
        key("outlier_ejection", "table", "", "Leaves an endpoint out for a while when it fails several times in a row."),
        key("load_balancing", "table", "", "How its endpoints share its requests."),
        key("limits", "table", "", "How much it gets at once."),
    ],
};
