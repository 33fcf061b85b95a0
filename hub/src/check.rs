//! Checks a configuration without loading it, for `figspan-hub check` and `POST /v1/check`. Pure but for the files it names.

use std::path::Path;

use figspan_model::routing::ListenerProtocol;
use figspan_model::settings::{self, Finding, Loaded};
use figspan_proto::admin::CheckResult;

use crate::certificates;

/// Checks a text; `source` names it in findings, and relative paths start in its folder.
pub(crate) fn text(source: &str, text: &str) -> CheckResult {
    result(settings::parse(text, source))
}

/// Checks a file.
pub fn file(path: &Path) -> CheckResult {
    result(settings::load(path))
}

fn result(loaded: Result<Loaded, Vec<Finding>>) -> CheckResult {
    match loaded {
        Ok(loaded) => CheckResult { errors: files(&loaded), warnings: texts(&loaded.warnings) },
        Err(errors) => CheckResult { errors: texts(&errors), warnings: Vec::new() },
    }
}

/// What is wrong with the files that good settings name: certificates that do not parse or do not fit their keys.
pub(crate) fn files(loaded: &Loaded) -> Vec<String> {
    let mut errors = Vec::new();
    for listener in &loaded.routing.listeners {
        if let ListenerProtocol::Https { certificates } = &listener.protocol
            && let Err(why) = certificates::read(certificates).and_then(|pairs| certificates::server(&pairs))
        {
            errors.extend(why.into_iter().map(|why| format!("listener {}: {why}", listener.name)));
        }
    }
    errors
}

/// Findings as people read them.
pub(crate) fn texts(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}
