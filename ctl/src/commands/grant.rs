//! Who may join, and who may no longer.

use figspan_proto::admin::{CreateGrant, CreatedGrant, Grant, Revoke, Revoked};
use figspan_proto::name::AgentName;
use http::Method;

use crate::args;
use crate::client::{Client, segment};
use crate::error::{CtlError, Exit};
use crate::show;
use crate::terminal::{Format, Terminal};

pub(super) async fn create(client: &Client, terminal: &mut Terminal, wanted: args::CreateGrant) -> Result<Exit, CtlError> {
    let (agent, name_template) = match wanted.name {
        Some(args::GrantName::Agent(name)) if wanted.uses > 1 => {
            let why = format!(
                "--uses above 1 needs a template ('{name}-{{n}}', '{name}-{{hostname}}') or --any-name: one name cannot be given to several agents"
            );
            return Err(CtlError::Usage(why));
        }
        Some(args::GrantName::Agent(name)) => (Some(name), None),
        Some(args::GrantName::Template(template)) => (None, Some(template)),
        None => (None, None),
    };
    let request = CreateGrant {
        agent,
        name_template,
        uplinks: wanted.uplinks,
        services: wanted.services,
        ttl_seconds: wanted.ttl.as_secs(),
        uses: wanted.uses,
        hubs: wanted.hubs,
        dry_run: wanted.dry_run,
    };
    let created: CreatedGrant = client.send(Method::POST, "/v1/grants", &request).await?;
    if wanted.dry_run {
        terminal.show(&created.grant, |grant| show::grant::many(std::slice::from_ref(grant)))?;
        terminal.say("dry run: no grant was made");
    } else if wanted.token_only {
        terminal.raw(&format!("{}\n", created.token))?;
    } else if terminal.format == Format::Table {
        let grant = &created.grant;
        let whom = match (&grant.agent, &grant.name_template) {
            (Some(agent), _) => format!("agent {agent}"),
            (None, Some(template)) => format!("{} agents {template}", grant.uses),
            (None, None) => "an agent".to_owned(),
        };
        terminal.say(&format!("Grant {} lets {whom} join until {}. Paste this on the VM:", grant.id, grant.expires));
        terminal.raw(&format!("{}\n", join_line(&created.token)))?;
    } else {
        terminal.show(&created, |_| String::new())?;
    }
    Ok(Exit::Done)
}

/// The one line to paste: `printf` is a builtin of every shell, so the secret is in no process list, and the leading space
/// keeps it out of the history of shells that are set up so (Debian's are).
pub(super) fn join_line(token: &str) -> String {
    format!(" printf %s '{token}' | sudo figspan-agent join --token-file -")
}

pub(super) async fn list(client: &Client, terminal: &mut Terminal) -> Result<Exit, CtlError> {
    let grants: Vec<Grant> = client.get("/v1/grants").await?;
    terminal.show(&grants, |grants| show::grant::many(grants))?;
    Ok(Exit::Done)
}

pub(super) async fn revoke(client: &Client, terminal: &mut Terminal, id: &str, change: args::Change) -> Result<Exit, CtlError> {
    delete(client, terminal, &format!("/v1/grants/{}", segment(id)), change).await
}

pub(super) async fn revoke_agent(
    client: &Client,
    terminal: &mut Terminal,
    name: &AgentName,
    change: args::Change,
) -> Result<Exit, CtlError> {
    delete(client, terminal, &format!("/v1/agents/{}", segment(name.as_str())), change).await
}

async fn delete(client: &Client, terminal: &mut Terminal, path: &str, change: args::Change) -> Result<Exit, CtlError> {
    let body = Revoke { reason: change.reason, dry_run: change.dry_run };
    let revoked: Revoked = client.send(Method::DELETE, path, &body).await?;
    terminal.show(&revoked, show::hub::revoked)?;
    Ok(Exit::Done)
}
