//! The CA of hub and agents, and its change in two steps.

use figspan_proto::admin::{BeginCaChange, Ca, CaChange, FinishCaChange};
use http::Method;

use crate::args::Change;
use crate::client::Client;
use crate::error::{CtlError, Exit};
use crate::show;
use crate::terminal::Terminal;

pub(super) async fn show(client: &Client, terminal: &mut Terminal) -> Result<Exit, CtlError> {
    let ca: Ca = client.get("/v1/ca").await?;
    terminal.show(&ca, show::ca::ca)?;
    Ok(Exit::Done)
}

pub(super) async fn begin(client: &Client, terminal: &mut Terminal, change: Change) -> Result<Exit, CtlError> {
    let body = BeginCaChange { reason: change.reason, dry_run: change.dry_run };
    let changed: CaChange = client.send(Method::POST, "/v1/ca/begin", &body).await?;
    terminal.show(&changed, show::ca::changed)?;
    Ok(Exit::Done)
}

pub(super) async fn finish(client: &Client, terminal: &mut Terminal, force: bool, change: Change) -> Result<Exit, CtlError> {
    let body = FinishCaChange { force, reason: change.reason, dry_run: change.dry_run };
    let changed: CaChange = client.send(Method::POST, "/v1/ca/finish", &body).await?;
    terminal.show(&changed, show::ca::changed)?;
    Ok(Exit::Done)
}
