//! `figspan-hub`: arguments, run, exit code. All else is in the library.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use figspan_hub::args::{Cli, Command};
use figspan_hub::{check, run};

/// `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let config = cli.config.config;
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => match run::run(&config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(run::RunError::Config(errors)) => {
                say_errors(&errors);
                ExitCode::from(EXIT_CONFIG)
            }
            Err(error) => {
                say_errors(&[error.to_string()]);
                ExitCode::FAILURE
            }
        },
        Command::Check => {
            let found = check::file(&config);
            let warnings: Vec<_> = found.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
            say_errors(&warnings);
            say_errors(&found.errors);
            if found.errors.is_empty() {
                print(format!("{}: good\n", config.display()).as_bytes());
                ExitCode::SUCCESS
            } else {
                ExitCode::from(EXIT_CONFIG)
            }
        }
        Command::Version => print(format!("figspan-hub {}\n", env!("CARGO_PKG_VERSION")).as_bytes()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "figspan-hub", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(Cli::command()).render(&mut page) {
                Ok(()) => print(&page),
                Err(_) => ExitCode::FAILURE,
            }
        }
    }
}

/// A reader that has gone away (`| head`) is no failure worth a message.
fn print(bytes: &[u8]) -> ExitCode {
    if stdout().lock().write_all(bytes).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// To standard error, where people and units look for what went wrong.
#[allow(clippy::print_stderr, reason = "there is no log before the configuration is read")]
fn say_errors(errors: &[String]) {
    for error in errors {
        eprintln!("{error}");
    }
}
