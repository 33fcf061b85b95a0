//! `[[jwt_provider]]`

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use figspan_settings::{Item, Place, Section, nearest};
use http::{HeaderName, header};

use super::values::{self, Files, Taken, Want};
use super::{keys, matches};
use crate::jwt::{ALGORITHMS, JwtProvider, MAX_JWKS, Terms};
use crate::routing::fields;

/// Providers of a file, and audiences of a provider.
const MAX_ENTRIES: usize = 32;

/// Longest issuer or audience in bytes.
const MAX_TEXT: usize = 1024;

/// Largest difference of clocks: beyond it somebody should mend a clock.
const MAX_SKEW: Duration = Duration::from_secs(600);

/// The providers of a file.
#[derive(Default)]
pub(super) struct Providers {
    known: HashMap<String, Known>,
    /// In the order of the file.
    all: Vec<Arc<JwtProvider>>,
}

struct Known {
    place: Place,
    used: Cell<bool>,
    /// `None`: it has mistakes of its own, which are findings already.
    provider: Option<Arc<JwtProvider>>,
}

impl Providers {
    /// The provider that a rule names.
    pub(super) fn find(&self, item: &Item<'_>) -> Option<Arc<JwtProvider>> {
        let text = item.text()?;
        let Some(known) = self.known.get(text) else {
            let mend = match nearest(text, self.known.keys().map(String::as_str)) {
                Some(near) => format!("write \"{near}\""),
                None => "add it as [[jwt_provider]], or correct the name".to_owned(),
            };
            item.wrong(format!("provider {} does not exist", text.escape_debug()), mend);
            return None;
        };
        known.used.set(true);
        known.provider.clone()
    }

    /// Those that no rule names.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&str, Place)> {
        self.known.iter().filter(|(_, known)| !known.used.get()).map(|(name, known)| (name.as_str(), known.place))
    }

    /// All of them.
    pub(super) fn into_all(self) -> Vec<Arc<JwtProvider>> {
        self.all
    }
}

pub(super) fn providers(top: &Section<'_>, files: &Files<'_>) -> Providers {
    let list = top.sections("jwt_provider", &keys::JWT_PROVIDER);
    if let (Some(item), true) = (top.get("jwt_provider"), list.len() > MAX_ENTRIES) {
        item.wrong(format!("has {} entries", list.len()), format!("use at most {MAX_ENTRIES}"));
    }
    let (mut providers, mut taken) = (Providers::default(), Taken::default());
    for section in &list {
        let item = section.required("name");
        let name = item.as_ref().and_then(values::name);
        let provider = provider(section, files, name.clone()).map(Arc::new);
        let (Some(item), Some(name)) = (item, name) else { continue };
        if taken.take(&item, "jwt_provider", &name) {
            providers.all.extend(provider.clone());
            providers.known.insert(name.to_string(), Known { place: item.place(), used: Cell::new(false), provider });
        }
    }
    providers
}

fn provider(section: &Section<'_>, files: &Files<'_>, name: Option<Arc<str>>) -> Option<JwtProvider> {
    let default = Terms::default();
    let issuer = section.required("issuer").and_then(|item| text(&item));
    let audiences = section.required("audiences").map(|list| audiences(&list)).unwrap_or_default();
    let header = section.get("header").and_then(|item| token_header(&item)).unwrap_or(default.header);
    let prefix = match section.get("prefix") {
        Some(item) => prefix(&item)?,
        None if header == header::AUTHORIZATION => default.prefix,
        None => String::new(),
    };
    let bytes = section.get("max_token_bytes").and_then(|item| item.size(256..=64 * 1024));
    let terms = Terms {
        algorithms: section.get("algorithms").and_then(|list| algorithms(&list)).unwrap_or(default.algorithms),
        clock_skew: section.get("clock_skew").and_then(|item| skew(&item)).unwrap_or(default.clock_skew),
        forward: section.get("forward").and_then(|item| item.boolean()).unwrap_or(default.forward),
        max_token_bytes: bytes.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default.max_token_bytes),
        issuer: issuer.unwrap_or_default(),
        audiences,
        header,
        prefix,
    };
    let file = section.required("jwks_file")?;
    let (path, jwks) = (files.path(&file)?, files.content(&file, Want::Read(MAX_JWKS))?);
    match JwtProvider::new(name?, terms, path, &jwks) {
        Ok(provider) => Some(provider),
        Err(error) => {
            file.wrong(error.to_string(), "save what the provider's jwks_uri answers there");
            None
        }
    }
}

fn text(item: &Item<'_>) -> Option<String> {
    let text = item.text()?;
    if text.len() > MAX_TEXT {
        item.wrong(format!("has {} bytes", text.len()), format!("write at most {MAX_TEXT}, as the provider's tokens have it"));
        return None;
    }
    Some(text.to_owned())
}

fn audiences(list: &Item<'_>) -> Vec<String> {
    let items = list.items();
    if !(1..=MAX_ENTRIES).contains(&items.len()) {
        list.wrong(format!("has {} entries", items.len()), format!("write 1 to {MAX_ENTRIES}: what `aud` says in tokens for these routes"));
    }
    items.iter().filter_map(text).collect()
}

/// `None` where something is wrong with them: then nothing is to be said of keys that do not fit.
fn algorithms(list: &Item<'_>) -> Option<Vec<jsonwebtoken::Algorithm>> {
    let items = list.items();
    if items.is_empty() {
        list.wrong("is empty", "name at least one, or leave it out for all");
        return None;
    }
    let read: Vec<_> = items.iter().map(|item| item.choice(ALGORITHMS)).collect();
    read.into_iter().collect()
}

fn skew(item: &Item<'_>) -> Option<Duration> {
    let skew = item.duration_or_off()?.unwrap_or_default();
    if skew > MAX_SKEW {
        item.wrong("is out of range", "use up to 10m; a minute suits most");
        return None;
    }
    Some(skew)
}

fn token_header(item: &Item<'_>) -> Option<HeaderName> {
    let name = matches::header_name(item)?;
    let bytes = name.as_str().as_bytes();
    if fields::is_of_the_hop(bytes) || fields::is_hubs(bytes) || fields::is_alias(bytes) || name == header::COOKIE {
        item.wrong(format!("{name} cannot carry a token"), "use authorization, or a name of letters, digits and '-' of your own");
        return None;
    }
    Some(name)
}

fn prefix(item: &Item<'_>) -> Option<String> {
    let text = item.any_text()?;
    if text.len() > 32 || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        item.wrong(format!("`{}` is no word", text.escape_debug()), "write letters, digits and '-', as in \"Bearer\"; nothing for none");
        return None;
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests;
