//! Keys of mirrors.

use figspan_settings::Table;

use super::key;

pub(in super::super) static MIRROR_BACKEND: Table = Table {
    path: "http_route.rules.filters.backend",
    doc: "RequestMirror: where copies go. Exactly one of `uplink` and `service`; its weight does not matter, a drain of it does.",
    keys: &[
        key("uplink", "name", "", "Workloads on VMs, as agents advertise them."),
        key("service", "name", "", "A `[[service]]` of this file."),
    ],
};

pub(in super::super) static MIRROR_COMPARE: Table = Table {
    path: "http_route.rules.filters.compare",
    doc: "RequestMirror: how the answers to copies are compared with those that clients get, for a report of matches with examples. Status and latency always are. Examples hold method, path without query, and where the answers differ; never a value.",
    keys: &[
        key("sample_percent", "1 to 100", "100", "Which part of the copies is compared."),
        key(
            "body",
            "hash or json",
            "not compared",
            "`hash`: byte for byte. `json`: as JSON, whatever the order of fields; what is no JSON, encoded or too long, byte for byte.",
        ),
        key("ignore_paths", "list of paths", "", "With `json`: what may differ, as in `$.updated_at` or `$.items[*].id`."),
        key("max_json", "size up to 1MiB", "64KiB", "With `json`: the longest body that is read as JSON."),
    ],
};
