//! The shapes of `figspan_proto::admin`, in a short notation: `T?` may be null, `[T]` is a list, anything upper-case is a
//! schema of this table. A test reads a sample of each schema into its Rust type and back, so that neither can drift.

use serde_json::{Map, Value, json};

/// A field and its type.
type Field = (&'static str, &'static str);

/// Name, whether unknown fields are refused (requests), and fields. A `=` behind a type: the field may be left out.
pub(super) type Schema = (&'static str, bool, &'static [Field]);

const TOLD: bool = false;
const ASKED: bool = true;

#[rustfmt::skip]
pub(super) const SCHEMAS: &[Schema] = &[
    ("SetLogLevel", ASKED, &[("level", "string?="), ("target", "string?="), ("seconds", "integer="), ("reason", "string=")]),
    ("LogLevel", TOLD, &[("configured", "string"), ("raised", "RaisedLevel?")]),
    ("RaisedLevel", TOLD, &[("level", "string"), ("target", "string?"), ("until", "time")]),
    ("Status", TOLD, &[
        ("replica", "string"), ("version", "string"), ("trust_domain", "string"), ("started", "time"), ("shards", "integer"),
        ("ready", "boolean"), ("waiting_for", "[string]"), ("generation", "integer"), ("oldest_generation", "integer"),
        ("config", "ConfigStatus"), ("agents", "integer"), ("tunnels", "integer"), ("uplinks", "integer"), ("in_flight", "integer"),
        ("tunnel_address", "string"), ("metrics_address", "string?"), ("listeners", "[ListenerStatus]"), ("roots", "[string]"), ("certificate_ends", "time"),
    ]),
    ("ListenerStatus", TOLD, &[("name", "string"), ("protocol", "string"), ("address", "string")]),
    ("ConfigStatus", TOLD, &[("file", "string"), ("loaded", "time"), ("errors", "[string]"), ("warnings", "[string]")]),
    ("Agent", TOLD, &[
        ("name", "name"), ("zone", "name?"), ("connected", "boolean"), ("draining", "boolean"), ("revoked", "boolean"), ("version", "string"),
        ("instances", "[string]"), ("tunnels", "[AgentTunnel]"), ("allowed", "[name]"), ("uplinks", "[name]"),
        ("refused", "[RefusedUplink]"), ("services", "[name]="), ("refused_calls", "[RefusedCall]="), ("calls_open", "integer="),
        ("calls", "integer="), ("certificate_ends", "time?"), ("clock_skew_ms", "integer?"), ("last_seen", "time?"),
    ]),
    ("AgentTunnel", TOLD, &[("shard", "integer"), ("remote", "string"), ("transport", "string="), ("rtt_ms", "number"), ("mtu", "integer"), ("since", "time")]),
    ("RefusedUplink", TOLD, &[("uplink", "name"), ("reason", "string")]),
    ("RefusedCall", TOLD, &[("service", "name"), ("reason", "string"), ("times", "integer"), ("at", "time")]),
    ("Uplink", TOLD, &[
        ("name", "name"), ("protocol", "protocol"), ("weight", "weight"), ("weight_override", "Override?"), ("draining", "boolean"),
        ("endpoints", "[Endpoint]"), ("in_flight", "integer"), ("picked", "integer"), ("failed", "integer"),
    ]),
    ("Endpoint", TOLD, &[
        ("agent", "name"), ("zone", "name?"), ("weight", "weight"), ("advertised_weight", "weight"), ("weight_override", "Override?"),
        ("accepts", "boolean"), ("reason", "string"), ("tunnels", "integer"), ("in_flight", "integer"), ("pooled", "integer"),
        ("open_connections", "integer"), ("picked", "integer"), ("failed", "integer"),
    ]),
    ("Override", TOLD, &[("weight", "weight"), ("who", "string"), ("reason", "string"), ("at", "time"), ("sessions_until", "time?=")]),
    ("SetWeight", ASKED, &[("weight", "weight"), ("sessions_seconds", "integer?="), ("agent", "name?="), ("reason", "string"), ("dry_run", "boolean=")]),
    ("ResetWeight", ASKED, &[("agent", "name?="), ("reason", "string"), ("dry_run", "boolean=")]),
    ("WeightChange", TOLD, &[
        ("uplink", "name"), ("agent", "name?"), ("old", "weight"), ("new", "weight"), ("generation", "integer?"),
        ("confirmed", "[string]"), ("dry_run", "boolean"),
    ]),
    ("DrainVerdict", TOLD, &[
        ("uplink", "name"), ("agent", "name?"), ("drained", "boolean"), ("weight_is_zero", "boolean"), ("confirmed", "[string]"),
        ("in_flight", "integer"), ("pooled", "integer"), ("sessions", "integer?="), ("agents", "[AgentCount]"), ("waiting_for", "[string]"),
    ]),
    ("AgentCount", TOLD, &[("agent", "name"), ("open_connections", "integer?")]),
    ("Route", TOLD, &[("name", "string"), ("kind", "string"), ("listeners", "[string]"), ("hostnames", "[string]"), ("rules", "[Rule]")]),
    ("Rule", TOLD, &[("index", "integer"), ("name", "string?="), ("matches", "[string]"), ("policies", "[string]="), ("mirrors", "[Mirror]="),
        ("tiers", "[Tier]="), ("backends", "[RuleBackend]"),
    ]),
    ("Tier", TOLD, &[
        ("tier", "integer"), ("state", "string"), ("share", "number"), ("cause", "string?"), ("seconds_left", "number?"),
        ("failovers", "integer"),
    ]),
    ("Mirror", TOLD, &[
        ("kind", "string"), ("name", "string"), ("seen", "integer"), ("begun", "integer"), ("answered", "integer"), ("failed", "integer"),
        ("dropped", "integer"), ("compared", "integer"), ("matched", "integer"), ("other_status", "integer"), ("other_body", "integer"),
        ("match_percent", "number?"), ("primary_ms", "number?"), ("mirror_ms", "number?"), ("examples", "[MirrorExample]"),
    ]),
    ("MirrorExample", TOLD, &[("at", "time"), ("method", "string"), ("path", "string"), ("difference", "string")]),
    ("RuleBackend", TOLD, &[
        ("kind", "string"), ("name", "string"), ("weight", "weight?"), ("effective_weight", "weight"),
        ("ready_endpoints", "integer"), ("endpoints", "integer"), ("tier", "integer="), ("share_wanted", "number"), ("share_observed", "number?="),
        ("picked", "integer="), ("picked_last_minute", "integer="),
    ]),
    ("Backend", TOLD, &[
        ("kind", "string"), ("name", "string"), ("policies", "[string]"), ("rules", "[string]"), ("breaker", "BreakerStatus?"),
        ("requests", "Bound?"), ("connections", "Bound?"), ("endpoints", "[BackendEndpoint]"),
    ]),
    ("Bound", TOLD, &[("used", "integer"), ("waiting", "integer"), ("max", "integer")]),
    ("BreakerStatus", TOLD, &[("state", "string"), ("opened", "integer"), ("open_seconds", "number?")]),
    ("BackendEndpoint", TOLD, &[
        ("name", "string"), ("zone", "name?"), ("verdict", "string"), ("reason", "string"), ("breaker", "BreakerStatus?"), ("ejected", "integer"),
        ("in_flight", "integer"), ("picked", "integer"), ("failed", "integer"), ("latency_ms", "number?"), ("sessions", "integer"),
        ("sessions_at_least", "boolean"),
    ]),
    ("ExplainRequest", ASKED, &[("listener", "string?="), ("method", "string"), ("url", "string"), ("headers", "[[string]]="), ("client", "string?=")]),
    ("ExplainConnection", ASKED, &[("listener", "string"), ("server_name", "string?="), ("client", "string?=")]),
    ("Explanation", TOLD, &[
        ("refused", "string?"), ("target", "string"), ("route", "string?"), ("rule", "integer?"), ("rule_name", "string?="),
        ("policies", "[string]="), ("why", "[string]"), ("decisions", "[Decision]="), ("backends", "[RuleBackend]"), ("tiers", "[Tier]="), ("next", "string?"),
        ("attempts", "[string]="), ("retried", "[string]="), ("status", "integer?"),
    ]),
    ("Decision", TOLD, &[("step", "string"), ("says", "[string]")]),
    ("Event", TOLD, &[
        ("number", "integer"), ("at", "time"), ("kind", "string"), ("subject", "string"), ("who", "string"), ("old", "string?="),
        ("new", "string?="), ("message", "string"),
    ]),
    ("CreateGrant", ASKED, &[
        ("agent", "name?="), ("name_template", "template?="), ("uplinks", "[name]"), ("services", "[name]="), ("ttl_seconds", "integer"), ("uses", "integer="), ("hubs", "[string]="),
        ("dry_run", "boolean="),
    ]),
    ("CreatedGrant", TOLD, &[("grant", "Grant"), ("token", "string")]),
    ("Grant", TOLD, &[
        ("id", "string"), ("agent", "name?"), ("name_template", "template?="), ("uplinks", "[name]"), ("services", "[name]="), ("expires", "time"), ("uses", "integer"),
        ("redeemed_by", "[name]"), ("revoked", "boolean"), ("who", "string"), ("state", "string"),
    ]),
    ("Revoke", ASKED, &[("reason", "string"), ("dry_run", "boolean=")]),
    ("Revoked", TOLD, &[("subject", "string"), ("tunnels_closed", "integer"), ("dry_run", "boolean")]),
    ("Ca", TOLD, &[
        ("given", "boolean"), ("changing", "boolean"), ("roots", "[CaRoot]"), ("certificate_lifetime", "integer"),
        ("safe_to_finish", "boolean"), ("untold", "[name]"), ("on_old_root", "[name]"),
    ]),
    ("CaRoot", TOLD, &[("pin", "string"), ("state", "string"), ("since", "time?"), ("until", "time?")]),
    ("BeginCaChange", ASKED, &[("reason", "string"), ("dry_run", "boolean=")]),
    ("FinishCaChange", ASKED, &[("force", "boolean="), ("reason", "string"), ("dry_run", "boolean=")]),
    ("CaChange", TOLD, &[("ca", "Ca"), ("left_behind", "[name]"), ("dry_run", "boolean")]),
    ("CheckResult", TOLD, &[("errors", "[string]"), ("warnings", "[string]")]),
    ("Problem", TOLD, &[("status", "integer"), ("title", "string"), ("detail", "string")]),
];

/// A type of the notation as JSON Schema.
pub(super) fn of(notation: &str) -> Value {
    if let Some(inner) = notation.strip_suffix('?') {
        return json!({ "anyOf": [of(inner), { "type": "null" }] });
    }
    if let Some(inner) = notation.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return json!({ "type": "array", "items": of(inner) });
    }
    match notation {
        "string" | "boolean" | "number" | "object" => json!({ "type": notation }),
        "integer" => json!({ "type": "integer", "format": "int64" }),
        "time" => json!({ "type": "string", "format": "date-time" }),
        "name" => json!({ "type": "string", "maxLength": 64 }),
        "template" => json!({ "type": "string", "maxLength": 80, "description": "a name with one {n} or one {hostname} in it" }),
        "weight" => json!({ "type": "integer", "minimum": 0, "maximum": 1_000_000 }),
        "protocol" => json!({ "type": "string", "enum": ["http1", "h2c", "tcp"] }),
        named => json!({ "$ref": format!("#/components/schemas/{named}") }),
    }
}

/// The table as the `schemas` of an OpenAPI document.
pub(super) fn all() -> Value {
    let mut schemas = Map::new();
    for (name, closed, fields) in SCHEMAS {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (field, notation) in *fields {
            properties.insert((*field).to_owned(), of(notation.trim_end_matches('=')));
            if !notation.ends_with('=') {
                required.push(*field);
            }
        }
        let mut schema = json!({ "type": "object", "properties": properties, "required": required });
        if *closed {
            schema["additionalProperties"] = false.into();
        }
        schemas.insert((*name).to_owned(), schema);
    }
    Value::Object(schemas)
}
