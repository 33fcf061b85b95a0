//! What there is, and why a request goes where it goes. Nothing here changes anything.

use std::time::Duration;

use figspan_proto::admin::{Agent, Backend, ExplainConnection, ExplainRequest, Explanation, Route, Uplink};
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::args::{self, Described, Listed};
use crate::client::{Client, segment};
use crate::error::{CtlError, Exit};
use crate::show;
use crate::show::service::Service;
use crate::terminal::{Format, Terminal};

/// Time between two looks of `--watch`.
const EVERY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });

/// Puts the cursor to the top and clears the terminal.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

pub(super) async fn get(client: &Client, terminal: &mut Terminal, what: args::Get) -> Result<Exit, CtlError> {
    let name = what.name.as_deref();
    match what.what {
        Listed::Agents => list::<Agent>(client, terminal, "/v1/agents", name, what.watch, show::agent::many).await,
        Listed::Uplinks => list::<Uplink>(client, terminal, "/v1/uplinks", name, what.watch, show::uplink::many).await,
        Listed::Backends => {
            // Those of one name come as a list of their own: an uplink and a service may share it.
            let path = name.map_or_else(|| "/v1/backends".to_owned(), |name| format!("/v1/backends/{}", segment(name)));
            list::<Backend>(client, terminal, &path, None, what.watch, show::backend::many).await
        }
        Listed::Services => {
            let fetch = async || services(client, name).await.map(Ok);
            repeat(terminal, what.watch, show::service::many, fetch).await
        }
        Listed::Mirrors => list::<Route>(client, terminal, "/v1/routes", name, what.watch, show::mirror::many).await,
        Listed::Routes => list::<Route>(client, terminal, "/v1/routes", name, what.watch, show::route::many).await,
    }
}

pub(super) async fn describe(client: &Client, terminal: &mut Terminal, what: &args::Describe) -> Result<Exit, CtlError> {
    let name = segment(&what.name);
    match what.what {
        Described::Agent => terminal.show(&client.get::<Agent>(&format!("/v1/agents/{name}")).await?, show::agent::whole)?,
        Described::Uplink => terminal.show(&client.get::<Uplink>(&format!("/v1/uplinks/{name}")).await?, show::uplink::whole)?,
        Described::Backend => {
            terminal.show(&client.get::<Vec<Backend>>(&format!("/v1/backends/{name}")).await?[..], show::backend::whole)?
        }
        Described::Route => terminal.show(&client.get::<Route>(&format!("/v1/routes/{name}")).await?, show::route::whole)?,
    }
    Ok(Exit::Done)
}

pub(super) async fn explain(client: &Client, terminal: &mut Terminal, request: args::Explain) -> Result<Exit, CtlError> {
    let args::Explain { method, url, headers, listener, client: from } = request;
    let request = ExplainRequest { listener, method, url, headers, client: from.map(|address| address.to_string()) };
    let explanation: Explanation = client.send(Method::POST, "/v1/explain", &request).await?;
    terminal.show(&explanation, show::route::explanation)?;
    Ok(Exit::Done)
}

pub(super) async fn explain_connection(
    client: &Client,
    terminal: &mut Terminal,
    connection: args::ExplainConnection,
) -> Result<Exit, CtlError> {
    let args::ExplainConnection { listener, server_name, client: from } = connection;
    let asked = ExplainConnection { listener, server_name, client: from.map(|address| address.to_string()) };
    let explanation: Explanation = client.send(Method::POST, "/v1/explain-connection", &asked).await?;
    terminal.show(&explanation, show::route::explanation)?;
    Ok(Exit::Done)
}

/// Services as the hub's backends and agents' grants show them together.
async fn services(client: &Client, name: Option<&str>) -> Result<Vec<Service>, CtlError> {
    let path = name.map_or_else(|| "/v1/backends".to_owned(), |name| format!("/v1/backends/{}", segment(name)));
    let (backends, agents) = (client.get::<Vec<Backend>>(&path).await?, client.get::<Vec<Agent>>("/v1/agents").await?);
    Ok(show::service::of(&backends, &agents))
}

async fn list<T: Serialize + DeserializeOwned>(
    client: &Client,
    terminal: &mut Terminal,
    path: &str,
    name: Option<&str>,
    watch: bool,
    table: fn(&[T]) -> String,
) -> Result<Exit, CtlError> {
    // One object where one was asked for, as the API itself answers.
    let fetch = async || match name {
        Some(name) => client.get(&format!("{path}/{}", segment(name))).await.map(Err),
        None => client.get(path).await.map(Ok),
    };
    repeat(terminal, watch, table, fetch).await
}

/// Shows what is fetched, once, or whenever it has changed.
async fn repeat<T: Serialize>(
    terminal: &mut Terminal,
    watch: bool,
    table: fn(&[T]) -> String,
    fetch: impl AsyncFn() -> Result<Result<Vec<T>, T>, CtlError>,
) -> Result<Exit, CtlError> {
    let mut last = String::new();
    loop {
        let found = fetch().await?;
        let print = |terminal: &mut Terminal| match &found {
            Ok(many) if watch => terminal.show_next(many, |many| table(many)),
            Ok(many) => terminal.show(many, |many| table(many)),
            Err(one) if watch => terminal.show_next(one, |one| table(std::slice::from_ref(one))),
            Err(one) => terminal.show(one, |one| table(std::slice::from_ref(one))),
        };
        if !watch {
            print(terminal)?;
            return Ok(Exit::Done);
        }
        let now = match &found {
            Ok(many) => serde_json::to_string(many),
            Err(one) => serde_json::to_string(one),
        };
        let now = now.map_err(std::io::Error::other)?;
        if now != last {
            if terminal.format == Format::Table && !last.is_empty() {
                terminal.raw("\n")?;
            }
            if terminal.format == Format::Table && terminal.out_is_tty {
                terminal.raw(CLEAR)?;
            }
            print(terminal)?;
            last = now;
        }
        tokio::time::sleep(EVERY).await;
    }
}
