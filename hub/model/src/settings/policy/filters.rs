//! `filters` of a rule: one list, in which a type says what each is.

use figspan_settings::{Item, Section};
use http::StatusCode;

use super::super::keys;
use super::super::values::{self, Files};
use super::header_edit::{self, Of};
use super::{compression, cors, error_answer, mirror, path_edit};
use crate::routing::policy::Mirror;
use crate::routing::{Filters, PathEdit, Redirect, Rewrite, RouteMatch, Target};

/// The one type that may stand there more than once.
const MIRROR: &str = "RequestMirror";

/// Filters of one rule.
const MAX_FILTERS: usize = 16;

/// What was read.
#[derive(Debug, Default)]
pub(in super::super) struct Read {
    pub(in super::super) filters: Filters,
    /// Whether there is a RequestRedirect, be it right or wrong: then there are no backends.
    pub(in super::super) redirects: bool,
    /// In the order of the file.
    pub(in super::super) mirrors: Vec<Mirror>,
}

/// `target` reads where a section points.
pub(in super::super) fn read(
    rule: &Section<'_>,
    matches: &[RouteMatch],
    files: &Files<'_>,
    target: &dyn Fn(&Section<'_>) -> Option<Target>,
) -> Read {
    let mut read = Read::default();
    let list = rule.sections("filters", &keys::FILTER);
    if let (Some(item), true) = (rule.get("filters"), list.len() > MAX_FILTERS) {
        item.wrong(format!("has {} entries", list.len()), format!("use at most {MAX_FILTERS}"));
    }
    let mut seen: Vec<&str> = Vec::new();
    let kinds: Vec<(&str, &str)> = keys::FILTER_KINDS.iter().map(|(kind, _)| (*kind, *kind)).collect();
    for section in &list {
        let Some(item) = section.required("type") else { continue };
        let Some(kind) = item.choice(&kinds) else { continue };
        if kind == MIRROR {
            refuse_keys_of_others(section, kind);
            let Some(mirror) = mirror::read(section, target) else { continue };
            if read.mirrors.iter().any(|other| other.target == mirror.target) {
                section.wrong(format!("is a second mirror to {}", mirror.target.key()), "merge the two");
            }
            read.mirrors.push(mirror);
            continue;
        }
        if seen.contains(&kind) && kind != "ErrorAnswer" {
            item.wrong(format!("{kind} stands here twice"), "merge the two");
        }
        seen.push(kind);
        refuse_keys_of_others(section, kind);
        let filters = &mut read.filters;
        match kind {
            "RequestHeaderModifier" => filters.request_headers = header_edit::read(section, Of::Request),
            "ResponseHeaderModifier" => filters.response_headers = header_edit::read(section, Of::Response),
            "URLRewrite" => filters.rewrite = rewrite(section, matches),
            "RequestRedirect" => {
                filters.redirect = redirect(section, matches);
                read.redirects = true;
            }
            "CORS" => filters.cors = cors::read(section, matches),
            "Compression" => filters.compression = compression::read(section),
            "ErrorAnswer" => filters.errors.extend(error_answer::read(section, files)),
            other => unreachable!("{other} is in the list of kinds and is not read"),
        }
        let both = ["URLRewrite", "RequestRedirect"];
        if both.contains(&kind) && both.iter().all(|kind| seen.contains(kind)) {
            item.wrong(
                "URLRewrite and RequestRedirect exclude each other",
                "keep the redirect, which may give host and path itself, or the rewrite",
            );
        }
    }
    read
}

/// A key that another type has is a mistake that `type` explains.
fn refuse_keys_of_others(section: &Section<'_>, kind: &str) {
    let own = keys::FILTER_KINDS.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, keys)| *keys);
    for key in keys::FILTER.keys.iter().map(|key| key.name).filter(|key| *key != "type" && !own.contains(key)) {
        if let Some(item) = section.get(key) {
            item.wrong(format!("does not go with {kind}"), format!("remove it, or use one of: {}", own.join(", ")));
        }
    }
}

fn rewrite(section: &Section<'_>, matches: &[RouteMatch]) -> Option<Rewrite> {
    let hostname = section.get("hostname").and_then(|item| values::host(&item));
    let path = path(section, matches);
    if section.get("hostname").is_none() && section.get("path").is_none() {
        section.wrong("changes nothing", "give it hostname or path, or take it out");
    }
    let rewrite = Rewrite { hostname, path };
    (rewrite != Rewrite::default()).then_some(rewrite)
}

fn path(section: &Section<'_>, matches: &[RouteMatch]) -> Option<PathEdit> {
    path_edit::read(&section.section("path", &keys::PATH_EDIT)?, matches)
}

fn redirect(section: &Section<'_>, matches: &[RouteMatch]) -> Option<Redirect> {
    let scheme = section.get("scheme").and_then(|item| item.choice(&[("http", "http"), ("https", "https")]));
    let hostname = section.get("hostname").and_then(|item| values::host(&item));
    let port = section.get("port").and_then(|item| item.number(1..=u64::from(u16::MAX))).and_then(|port| u16::try_from(port).ok());
    let path = path(section, matches);
    let status = section.get("status_code").map_or(Some(StatusCode::FOUND), |item| status(&item))?;
    if ["scheme", "hostname", "port", "path"].iter().all(|key| section.get(key).is_none()) {
        section.wrong("leads where the client already is", "give it scheme, hostname, port or path");
    }
    Some(Redirect { scheme, hostname, port, path, status })
}

fn status(item: &Item<'_>) -> Option<StatusCode> {
    let number = item.number(100..=599)?;
    let status = u16::try_from(number).ok().filter(|number| [301, 302, 303, 307, 308].contains(number));
    if status.is_none() {
        item.wrong(format!("{number} is no status of a redirect"), "use 301, 302, 303, 307 or 308");
    }
    StatusCode::from_u16(status?).ok()
}

#[cfg(test)]
mod tests;
