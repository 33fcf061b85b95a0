//! The document and the router say the same, and the schemas are those of the types.

use std::collections::BTreeSet;

use figspan_proto::admin as api;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::operations::OPERATIONS;
use super::schemas::{SCHEMAS, Schema};
use super::{openapi, schemas};

fn schema(name: &str) -> &'static Schema {
    SCHEMAS.iter().find(|(known, _, _)| *known == name).unwrap_or_else(|| panic!("no schema {name}"))
}

/// A value that fits the notation, with everything that may be left out.
fn sample(notation: &str) -> Value {
    let notation = notation.trim_end_matches('=').trim_end_matches('?');
    if let Some(inner) = notation.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // The only list of lists is one of pairs.
        return if inner == "[string]" { json!([["a", "a"]]) } else { json!([sample(inner)]) };
    }
    match notation {
        "string" | "time" | "name" => json!("a"),
        "template" => json!("a-{n}"),
        "boolean" => json!(true),
        "integer" | "weight" => json!(1),
        "number" => json!(0.5),
        "protocol" => json!("h2c"),
        named => Value::Object(schema(named).2.iter().map(|(field, of)| ((*field).to_owned(), sample(of))).collect()),
    }
}

fn agrees<T: Serialize + DeserializeOwned>(name: &str) -> String {
    let sample = sample(name);
    let read: T = serde_json::from_value(sample.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_value(read).unwrap(), sample, "{name}");
    let (_, closed, fields) = schema(name);
    for (field, notation) in *fields {
        let mut without: Map<String, Value> = sample.as_object().unwrap().clone();
        without.remove(*field);
        let may_miss = serde_json::from_value::<T>(without.into()).is_ok();
        // serde takes a missing field for null; the document asks answers to have it all the same.
        let optional = notation.ends_with('=') || notation.contains('?');
        assert_eq!(may_miss, optional, "{name}.{field}");
    }
    let mut with_more = sample.as_object().unwrap().clone();
    with_more.insert("unknown".into(), json!(1));
    assert_eq!(serde_json::from_value::<T>(with_more.into()).is_err(), *closed, "{name}: unknown fields");
    name.to_owned()
}

#[test]
fn every_schema_is_that_of_its_type() {
    let checked: BTreeSet<String> = [
        agrees::<api::Status>("Status"),
        agrees::<api::ListenerStatus>("ListenerStatus"),
        agrees::<api::ConfigStatus>("ConfigStatus"),
        agrees::<api::Agent>("Agent"),
        agrees::<api::AgentTunnel>("AgentTunnel"),
        agrees::<api::RefusedUplink>("RefusedUplink"),
        agrees::<api::RefusedCall>("RefusedCall"),
        agrees::<api::Uplink>("Uplink"),
        agrees::<api::Endpoint>("Endpoint"),
        agrees::<api::Override>("Override"),
        agrees::<api::SetWeight>("SetWeight"),
        agrees::<api::ResetWeight>("ResetWeight"),
        agrees::<api::WeightChange>("WeightChange"),
        agrees::<api::DrainVerdict>("DrainVerdict"),
        agrees::<api::AgentCount>("AgentCount"),
        agrees::<api::Route>("Route"),
        agrees::<api::Rule>("Rule"),
        agrees::<api::RuleBackend>("RuleBackend"),
        agrees::<api::Tier>("Tier"),
        agrees::<api::Backend>("Backend"),
        agrees::<api::Bound>("Bound"),
        agrees::<api::Mirror>("Mirror"),
        agrees::<api::MirrorExample>("MirrorExample"),
        agrees::<api::BreakerStatus>("BreakerStatus"),
        agrees::<api::BackendEndpoint>("BackendEndpoint"),
        agrees::<api::ExplainRequest>("ExplainRequest"),
        agrees::<api::ExplainConnection>("ExplainConnection"),
        agrees::<api::Explanation>("Explanation"),
        agrees::<api::Decision>("Decision"),
        agrees::<api::Event>("Event"),
        agrees::<api::CreateGrant>("CreateGrant"),
        agrees::<api::CreatedGrant>("CreatedGrant"),
        agrees::<api::Grant>("Grant"),
        agrees::<api::Revoke>("Revoke"),
        agrees::<api::Revoked>("Revoked"),
        agrees::<api::Ca>("Ca"),
        agrees::<api::CaRoot>("CaRoot"),
        agrees::<api::BeginCaChange>("BeginCaChange"),
        agrees::<api::FinishCaChange>("FinishCaChange"),
        agrees::<api::CaChange>("CaChange"),
        agrees::<api::CheckResult>("CheckResult"),
        agrees::<api::SetLogLevel>("SetLogLevel"),
        agrees::<api::LogLevel>("LogLevel"),
        agrees::<api::RaisedLevel>("RaisedLevel"),
        agrees::<api::Problem>("Problem"),
    ]
    .into();
    let all: BTreeSet<String> = SCHEMAS.iter().map(|(name, _, _)| (*name).to_owned()).collect();
    assert_eq!(checked, all);
}

#[test]
fn the_document_has_every_operation_once_and_every_reference_leads_somewhere() {
    let document = openapi::document();
    let mut described = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(described.insert((method.clone(), path.clone())));
            let named = operation["parameters"].as_array().unwrap().iter().filter(|p| p["in"] == "path");
            assert_eq!(named.count(), path.matches('{').count(), "{method} {path}");
        }
    }
    let table: BTreeSet<_> = OPERATIONS.iter().map(|op| (op.method.to_owned(), op.path.to_owned())).collect();
    assert_eq!(described, table);
    assert_eq!(OPERATIONS.iter().map(|op| op.id).collect::<BTreeSet<_>>().len(), OPERATIONS.len(), "ids are unique");
    let known = schemas::all();
    references(&document, &mut |name| assert!(known.get(name).is_some(), "{name}"));
}

fn references(value: &Value, seen: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.as_str()) {
                    ("$ref", Some(target)) => seen(target.trim_start_matches("#/components/schemas/")),
                    _ => references(value, seen),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, seen)),
        _ => {}
    }
}
