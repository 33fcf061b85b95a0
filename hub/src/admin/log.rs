//! The level of the hub's log over the API: told, and raised for a while. Audited, since a log can be made to tell more than it should.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use figspan_proto::admin::{self, Event};
use figspan_proto::control::plain;
use figspan_telemetry::{Levels, LogHandle};
use http::StatusCode;
use jiff::Timestamp;

use super::Admin;
use super::extract::{Body, Who};
use crate::face::time;
use crate::problem::Refusal;

pub(super) async fn level(State(admin): State<Admin>) -> Result<Json<admin::LogLevel>, Refusal> {
    Ok(Json(told(log(&admin)?.levels())))
}

pub(super) async fn set_level(
    State(admin): State<Admin>,
    Who(who): Who,
    Body(ask): Body<admin::SetLogLevel>,
) -> Result<Json<admin::LogLevel>, Refusal> {
    let log = log(&admin)?;
    let old = words(&log.levels());
    let levels = match &ask.level {
        Some(level) => log
            .raise(level, ask.target.as_deref(), Duration::from_secs(ask.seconds))
            .map_err(|error| Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "cannot change the log level", error.to_string()))?,
        None => log.lower(),
    };
    let new = words(&levels);
    admin.control.record_event(Event {
        number: 0,
        at: String::new(),
        kind: "log".into(),
        subject: "log level".into(),
        message: format!("{who} set the log level: {new}: {}", plain(&ask.reason)),
        who,
        old: Some(old),
        new: Some(new),
    });
    Ok(Json(told(levels)))
}

fn log(admin: &Admin) -> Result<&LogHandle, Refusal> {
    let none = || Refusal::new(StatusCode::CONFLICT, "no log of its own", "this hub logs as the program does that it is a part of");
    admin.log.as_ref().ok_or_else(none)
}

fn words(levels: &Levels) -> String {
    match &levels.raised {
        None => format!("{}, as configured", levels.configured),
        Some(raised) => {
            let target = raised.target.as_ref().map(|target| format!(" for {target}")).unwrap_or_default();
            format!("{}{target} until {}", plain(&raised.level), until(raised.until))
        }
    }
}

fn until(at: std::time::SystemTime) -> String {
    time(Timestamp::try_from(at).unwrap_or(Timestamp::MAX))
}

fn told(levels: Levels) -> admin::LogLevel {
    let raised = levels.raised.map(|raised| admin::RaisedLevel { level: raised.level, target: raised.target, until: until(raised.until) });
    admin::LogLevel { configured: levels.configured, raised }
}
