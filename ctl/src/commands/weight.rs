//! Weights, drain and undrain: the changes that move traffic.

use std::time::Duration;

use figspan_proto::admin::{ResetWeight, SetWeight, WeightChange};
use figspan_proto::name::{AgentName, UplinkName};
use figspan_proto::weight::Weight;
use http::Method;

use crate::args;
use crate::client::{Client, segment};
use crate::error::{CtlError, Exit};
use crate::show::uplink;
use crate::terminal::Terminal;
use crate::wait;

pub(super) async fn set(client: &Client, terminal: &mut Terminal, wanted: args::SetWeight) -> Result<Exit, CtlError> {
    let args::Change { reason, dry_run } = wanted.change;
    let body = SetWeight { weight: wanted.weight, sessions_seconds: None, agent: wanted.agent, reason, dry_run };
    let change: WeightChange = client.send(Method::PUT, &path(&wanted.name), &body).await?;
    if wanted.wait && wanted.weight.is_zero() {
        until_drained(client, terminal, &change, body.agent.as_ref(), wanted.timeout).await
    } else {
        until_live(client, terminal, change, wanted.wait.then_some(wanted.timeout)).await
    }
}

pub(super) async fn drain(client: &Client, terminal: &mut Terminal, wanted: args::DrainUplink) -> Result<Exit, CtlError> {
    let args::Change { reason, dry_run } = wanted.change;
    let body = SetWeight {
        weight: Weight::ZERO,
        sessions_seconds: wanted.sessions_until.map(|time| time.as_secs()),
        agent: wanted.agent,
        reason,
        dry_run,
    };
    let change: WeightChange = client.send(Method::PUT, &path(&wanted.name), &body).await?;
    if wanted.wait {
        return until_drained(client, terminal, &change, body.agent.as_ref(), wanted.timeout).await;
    }
    terminal.show(&change, uplink::change)?;
    if !dry_run {
        terminal.say("nothing new goes there; the same command with --wait proves when it is drained");
    }
    Ok(Exit::Done)
}

pub(super) async fn undrain(client: &Client, terminal: &mut Terminal, wanted: args::UndrainUplink) -> Result<Exit, CtlError> {
    let args::Change { reason, dry_run } = wanted.change;
    let body = ResetWeight { agent: wanted.agent, reason, dry_run };
    let change: WeightChange = client.send(Method::DELETE, &path(&wanted.name), &body).await?;
    let still_zero = change.new.is_zero();
    let exit = until_live(client, terminal, change, wanted.wait.then_some(wanted.timeout)).await?;
    if still_zero {
        terminal.say("it still drains: 0 is what the agents' own files say; change it there, or set a weight here");
    }
    Ok(exit)
}

async fn until_live(client: &Client, terminal: &mut Terminal, mut change: WeightChange, wait: Option<Duration>) -> Result<Exit, CtlError> {
    if let (Some(timeout), Some(generation)) = (wait, change.generation.filter(|_| change.confirmed.is_empty())) {
        terminal.say(&uplink::change(&change));
        change.confirmed = vec![wait::live(client, terminal, generation, timeout).await?];
    }
    terminal.show(&change, uplink::change)?;
    Ok(Exit::Done)
}

async fn until_drained(
    client: &Client,
    terminal: &mut Terminal,
    change: &WeightChange,
    agent: Option<&AgentName>,
    timeout: Duration,
) -> Result<Exit, CtlError> {
    terminal.say(&uplink::change(change));
    let verdict = wait::drained(client, terminal, &change.uplink, agent, timeout).await?;
    terminal.show(&verdict, uplink::verdict)?;
    Ok(Exit::Done)
}

fn path(uplink: &UplinkName) -> String {
    format!("/v1/uplinks/{}/weight", segment(uplink.as_str()))
}
