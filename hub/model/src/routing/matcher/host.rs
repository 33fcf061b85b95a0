//! Hosts: exact, wildcard, any. Generic over what stands behind a host.

use crate::Map;

/// Longest host that can match by name, in bytes (RFC 1035, section 2.3.4). Longer ones match routes without hosts only, so
/// that a long Host header costs nothing.
const MAX_HOST: usize = 253;

#[derive(Debug, Default)]
pub(super) struct Hosts<T> {
    exact: Map<Box<str>, T>,
    /// By what follows `*.`.
    wildcard: Map<Box<str>, T>,
    any: T,
}

impl<T: Default> Hosts<T> {
    /// Shows the places of some hosts, making them where needed; without hosts, the place for all.
    pub(super) fn places(&mut self, hostnames: &[String], mut show: impl FnMut(&mut T)) {
        if hostnames.is_empty() {
            return show(&mut self.any);
        }
        for host in hostnames {
            let host = host.to_ascii_lowercase();
            match host.strip_prefix("*.") {
                Some(suffix) => show(self.wildcard.entry(suffix.into()).or_default()),
                None => show(self.exact.entry(host.into()).or_default()),
            }
        }
    }

    /// Shows every place.
    pub(super) fn each(&mut self, show: impl FnMut(&mut T)) {
        self.exact.values_mut().chain(self.wildcard.values_mut()).chain([&mut self.any]).for_each(show);
    }

    /// Asks the places that cover a host, the most specific first, until one answers.
    pub(super) fn find<'t, R>(&'t self, host: &str, mut ask: impl FnMut(&'t T) -> Option<R>) -> Option<R> {
        self.search(host, |_, place| ask(place))
    }

    /// [`Hosts::find`]; each place is shown with a line about how it covers the host.
    pub(super) fn find_saying<'t, R>(&'t self, host: &str, mut ask: impl FnMut(String, &'t T) -> Option<R>) -> Option<R> {
        self.search(host, |by, place| {
            let says = match by {
                By::Exact(host) => format!("host {host}: exact"),
                By::Wildcard(suffix) => format!("host {host}: covered by *.{suffix}"),
                By::Any => format!("host {host}: routes for any host"),
            };
            ask(says, place)
        })
    }

    fn search<'t, R>(&'t self, host: &str, mut ask: impl FnMut(By<'_>, &'t T) -> Option<R>) -> Option<R> {
        let host = bare(host);
        if host.len() <= MAX_HOST && !(self.exact.is_empty() && self.wildcard.is_empty()) {
            // Admission has written it so already; a name in a TLS handshake is as the client wrote it.
            let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
                true => &*host.to_ascii_lowercase(),
                false => host,
            };
            if let Some(found) = self.exact.get(host).and_then(|place| ask(By::Exact(host), place)) {
                return Some(found);
            }
            let mut rest = if self.wildcard.is_empty() { "" } else { host };
            while let Some((_, suffix)) = rest.split_once('.') {
                if let Some(found) = self.wildcard.get(suffix).and_then(|place| ask(By::Wildcard(suffix), place)) {
                    return Some(found);
                }
                rest = suffix;
            }
        }
        ask(By::Any, &self.any)
    }
}

enum By<'h> {
    Exact(&'h str),
    Wildcard(&'h str),
    Any,
}

/// A host without its port and final dot.
pub(super) fn bare(authority: &str) -> &str {
    let host = if authority.starts_with('[') {
        authority.find(']').map_or(authority, |end| &authority[..=end])
    } else {
        authority.bytes().position(|byte| byte == b':').map_or(authority, |colon| &authority[..colon])
    };
    host.strip_suffix('.').unwrap_or(host)
}
