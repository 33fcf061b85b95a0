//! What each command does: one call to the hub, or a few, and an answer.

mod ca;
mod explore;
mod grant;
mod hub;
mod pin;
mod shell;
mod weight;

use std::path::Path;

use figspan_tunnel::front_tls::PemPair;

use crate::args::{Agent, Cli, Command, Drain, Undrain, Uplink};
use crate::client::{Client, Proof};
use crate::error::{CtlError, Exit};
use crate::terminal::Terminal;
use crate::{Surroundings, args};

/// Runs a command; `name` is what people type to get here.
pub(crate) async fn run(name: &'static str, cli: Cli, around: &Surroundings, terminal: &mut Terminal) -> Result<Exit, CtlError> {
    terminal.format = cli.global.output;
    match &cli.command {
        Command::Completions { shell } => return shell::completions(name, *shell, terminal),
        Command::Pin(wanted) => return pin::print(wanted, terminal),
        Command::Man { dir } => return shell::man(dir.as_deref(), terminal),
        _ => {}
    }
    let client = client(&cli.global, around)?;
    match cli.command {
        Command::Grant(args::Grant::Create(wanted)) => grant::create(&client, terminal, wanted).await,
        Command::Grant(args::Grant::List) => grant::list(&client, terminal).await,
        Command::Grant(args::Grant::Revoke { id, change }) => grant::revoke(&client, terminal, &id, change).await,
        Command::Agent(Agent::Revoke { name, change }) => grant::revoke_agent(&client, terminal, &name, change).await,
        Command::Get(what) => explore::get(&client, terminal, what).await,
        Command::Describe(what) => explore::describe(&client, terminal, &what).await,
        Command::Explain(request) => explore::explain(&client, terminal, request).await,
        Command::ExplainConnection(connection) => explore::explain_connection(&client, terminal, connection).await,
        Command::Uplink(Uplink::Weight(wanted)) => weight::set(&client, terminal, wanted).await,
        Command::Drain(Drain::Uplink(wanted)) => weight::drain(&client, terminal, wanted).await,
        Command::Undrain(Undrain::Uplink(wanted)) => weight::undrain(&client, terminal, wanted).await,
        Command::Ca(args::Ca::Show) => ca::show(&client, terminal).await,
        Command::Ca(args::Ca::Begin { change }) => ca::begin(&client, terminal, change).await,
        Command::Ca(args::Ca::Finish { force, change }) => ca::finish(&client, terminal, force, change).await,
        Command::Events(events) => hub::events(&client, terminal, events).await,
        Command::Check(check) => hub::check(&client, terminal, &check.file).await,
        Command::Reload(reload) => hub::reload(&client, terminal, reload.dry_run).await,
        Command::LogLevel(wanted) => hub::log_level(&client, terminal, wanted).await,
        Command::Status => hub::status(&client, terminal).await,
        Command::Version => hub::version(name, &client, terminal).await,
        Command::Completions { .. } | Command::Man { .. } | Command::Pin(_) => Ok(Exit::Done),
    }
}

fn client(global: &args::Global, around: &Surroundings) -> Result<Client, CtlError> {
    let target = match (&global.hub, &around.hub) {
        (Some(target), _) => target.clone(),
        (None, Some(text)) => text.parse().map_err(|error| CtlError::Usage(format!("FIGSPAN_HUB: {error}")))?,
        (None, None) => Default::default(),
    };
    let certificate = match (&global.certificate, &global.key) {
        (Some(certificate), Some(key)) => {
            let source = certificate.display().to_string();
            Some(PemPair { source, certificate: read(certificate)?, key: read(key)? })
        }
        _ => None,
    };
    let token = global.token_file.as_deref().map(read).transpose()?;
    let roots_pem = global.ca.as_deref().map(read).transpose()?;
    Client::new(target, &around.operator, &Proof { token, roots_pem, certificate })
}

/// Reads a file; `-` is standard input.
fn read(path: &Path) -> Result<String, CtlError> {
    let text = if path == Path::new("-") { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    text.map_err(|source| CtlError::File { act: "read", path: path.to_owned(), source })
}
