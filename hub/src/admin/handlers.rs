//! The operations of the API, one function each: take the request apart, ask, answer.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use figspan_proto::admin;
use figspan_proto::name::{AgentName, UplinkName};
use http::{StatusCode, header};
use serde::Deserialize;

use super::extract::{Asked, Body, Named, Text, Who};
use super::{Admin, backends, explain, routes};
use crate::face::time;
use crate::problem::Refusal;

type Answer<T> = Result<Json<T>, Refusal>;

/// Events given when the request says no limit.
const EVENTS: usize = 200;

pub(super) async fn status(State(admin): State<Admin>) -> Answer<admin::Status> {
    let parts = admin.control.status_parts().await?;
    let face = &admin.face;
    let waiting_for = face.waiting_for(&admin.control);
    Ok(Json(admin::Status {
        replica: face.replica.clone(),
        version: face.version.clone(),
        trust_domain: face.trust_domain.clone(),
        started: time(face.started),
        shards: face.shards,
        ready: waiting_for.is_empty(),
        waiting_for,
        generation: parts.generation,
        oldest_generation: parts.oldest_generation,
        config: admin::ConfigStatus::clone(&face.config()),
        agents: parts.agents,
        tunnels: parts.tunnels,
        uplinks: parts.uplinks,
        in_flight: parts.in_flight,
        tunnel_address: face.tunnel_address.to_string(),
        metrics_address: face.metrics_address.map(|address| address.to_string()),
        listeners: face.listeners().to_vec(),
        roots: parts.roots,
        certificate_ends: parts.certificate_ends,
    }))
}

pub(super) async fn agents(State(admin): State<Admin>) -> Answer<Vec<admin::Agent>> {
    Ok(Json(admin.control.agents().await?))
}

pub(super) async fn agent(State(admin): State<Admin>, Named(name): Named<AgentName>) -> Answer<admin::Agent> {
    Ok(Json(admin.control.agent(&name).await?))
}

pub(super) async fn uplinks(State(admin): State<Admin>) -> Answer<Vec<admin::Uplink>> {
    Ok(Json(admin.control.uplinks().await?))
}

pub(super) async fn uplink(State(admin): State<Admin>, Named(name): Named<UplinkName>) -> Answer<admin::Uplink> {
    Ok(Json(admin.control.uplink(&name).await?))
}

pub(super) async fn set_weight(
    State(admin): State<Admin>,
    Named(name): Named<UplinkName>,
    Who(who): Who,
    Body(change): Body<admin::SetWeight>,
) -> Answer<admin::WeightChange> {
    Ok(Json(admin.control.set_weight(&name, change, &who).await?))
}

pub(super) async fn reset_weight(
    State(admin): State<Admin>,
    Named(name): Named<UplinkName>,
    Who(who): Who,
    Body(change): Body<admin::ResetWeight>,
) -> Answer<admin::WeightChange> {
    Ok(Json(admin.control.reset_weight(&name, change, &who).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OneAgent {
    agent: Option<AgentName>,
}

pub(super) async fn drain(
    State(admin): State<Admin>,
    Named(name): Named<UplinkName>,
    Asked(asked): Asked<OneAgent>,
) -> Answer<admin::DrainVerdict> {
    Ok(Json(admin.control.drain_verdict(&name, asked.agent.as_ref()).await?))
}

pub(super) async fn routes(State(admin): State<Admin>) -> Json<Vec<admin::Route>> {
    Json(routes::all(&admin.reader.load(), &admin.book))
}

pub(super) async fn route(State(admin): State<Admin>, Named(name): Named<String>) -> Answer<admin::Route> {
    let missing = || Refusal::new(StatusCode::NOT_FOUND, format!("no route `{name}`"), "GET /v1/routes lists those there are");
    routes::all(&admin.reader.load(), &admin.book).into_iter().find(|route| route.name == name).map(Json).ok_or_else(missing)
}

pub(super) async fn backends(State(admin): State<Admin>) -> Json<Vec<admin::Backend>> {
    Json(backends::all(&admin.reader.load(), &admin.book))
}

pub(super) async fn backend(State(admin): State<Admin>, Named(name): Named<String>) -> Answer<Vec<admin::Backend>> {
    let mut found = backends::all(&admin.reader.load(), &admin.book);
    found.retain(|backend| backend.name == name);
    if found.is_empty() {
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("no rule names `{name}`"), "GET /v1/backends lists what rules name"));
    }
    Ok(Json(found))
}

pub(super) async fn explain(State(admin): State<Admin>, Body(request): Body<admin::ExplainRequest>) -> Answer<admin::Explanation> {
    Ok(Json(explain::explain(&explain::World { snapshot: &admin.reader.load(), book: &admin.book, sessions: &admin.sessions }, &request)?))
}

pub(super) async fn explain_connection(
    State(admin): State<Admin>,
    Body(connection): Body<admin::ExplainConnection>,
) -> Answer<admin::Explanation> {
    let world = explain::World { snapshot: &admin.reader.load(), book: &admin.book, sessions: &admin.sessions };
    Ok(Json(explain::connection::explain(&world, &connection)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    #[serde(default)]
    since: u64,
    limit: Option<usize>,
}

pub(super) async fn events(State(admin): State<Admin>, Asked(asked): Asked<Since>) -> Json<Vec<admin::Event>> {
    Json(admin.control.events(asked.since, asked.limit.unwrap_or(EVENTS)))
}

pub(super) async fn grants(State(admin): State<Admin>) -> Answer<Vec<admin::Grant>> {
    Ok(Json(admin.control.grants().await?))
}

pub(super) async fn create_grant(
    State(admin): State<Admin>,
    Who(who): Who,
    Body(grant): Body<admin::CreateGrant>,
) -> Answer<admin::CreatedGrant> {
    Ok(Json(admin.control.create_grant(grant, &who).await?))
}

pub(super) async fn revoke_grant(
    State(admin): State<Admin>,
    Named(id): Named<String>,
    Who(who): Who,
    Body(revoke): Body<admin::Revoke>,
) -> Answer<admin::Revoked> {
    Ok(Json(admin.control.revoke_grant(&id, revoke, &who).await?))
}

pub(super) async fn revoke_agent(
    State(admin): State<Admin>,
    Named(name): Named<AgentName>,
    Who(who): Who,
    Body(revoke): Body<admin::Revoke>,
) -> Answer<admin::Revoked> {
    Ok(Json(admin.control.revoke_agent(&name, revoke, &who).await?))
}

pub(super) async fn ca(State(admin): State<Admin>) -> Answer<admin::Ca> {
    Ok(Json(admin.control.ca().await?))
}

pub(super) async fn begin_ca_change(
    State(admin): State<Admin>,
    Who(who): Who,
    Body(change): Body<admin::BeginCaChange>,
) -> Answer<admin::CaChange> {
    Ok(Json(admin.control.begin_ca_change(change, &who).await?))
}

pub(super) async fn finish_ca_change(
    State(admin): State<Admin>,
    Who(who): Who,
    Body(change): Body<admin::FinishCaChange>,
) -> Answer<admin::CaChange> {
    Ok(Json(admin.control.finish_ca_change(change, &who).await?))
}

/// Under the name of the hub's own file, in whose folder relative paths start.
pub(super) async fn check(State(admin): State<Admin>, Text(text): Text) -> Json<admin::CheckResult> {
    Json(crate::check::text(&admin.face.config().file, &text))
}

pub(super) async fn reload(State(admin): State<Admin>, Who(who): Who) -> Answer<admin::ConfigStatus> {
    Ok(Json(admin.reloader.reload_file(&who).await?))
}

/// The text of the OpenAPI document, which the router brings along.
#[derive(Clone)]
pub(super) struct Document(pub(super) Arc<str>);

pub(super) async fn document(Extension(Document(text)): Extension<Document>) -> ([(header::HeaderName, &'static str); 1], String) {
    ([(header::CONTENT_TYPE, "application/json")], text.to_string())
}
