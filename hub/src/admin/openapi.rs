//! The API's OpenAPI document, made from the table of operations and the schemas. Pure.

use serde_json::{Map, Value, json};

use super::operations::{OPERATIONS, Operation};
use super::schemas;

/// OpenAPI 3.1.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "figspan hub admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Over a Unix socket, whose file mode says who may; or over TCP with a bearer token. Times are RFC 3339.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{}, { "token": [] }],
    })
}

fn described(operation: &Operation) -> Value {
    let problem = json!({
        "description": "refused",
        "content": { "application/problem+json": { "schema": schemas::of("Problem") } },
    });
    let answer = json!({
        "description": "done",
        "content": { "application/json": { "schema": schemas::of(operation.answer) } },
    });
    let mut parameters: Vec<Value> = names(operation.path)
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": schemas::of("string") }))
        .collect();
    parameters.extend(
        operation.query.iter().map(
            |(name, notation, meaning)| json!({ "name": name, "in": "query", "description": meaning, "schema": schemas::of(notation) }),
        ),
    );
    if operation.method != "get" {
        parameters.push(json!({
            "name": "X-Figspan-Operator", "in": "header", "schema": schemas::of("string"),
            "description": "who asks, for the audit: user@host",
        }));
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": { "200": answer, "default": problem },
    });
    if let Some((media, notation)) = operation.body {
        described["requestBody"] = json!({ "required": true, "content": { media: { "schema": schemas::of(notation) } } });
    }
    described
}

/// The names in braces of a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}
