//! Hop: route -> *pins* -> balance. Clients who may choose a backend of their rule, and do.
//!
//! A pinned request goes by a rule of its own, which has that one backend and nobody else's sessions, mirrors or shares: so
//! nothing behind this hop knows of pins. The backend's weight in the rule does not count there, but its own does: what is
//! drained or not ready answers 503, and the request never goes elsewhere. A pin that is not believed is counted and ignored, and the
//! client is not told. The field itself never gets here: admission takes it away and keeps it with the client.

use figspan_model::routing::policy::{Pin, PinnedBy};
use figspan_model::routing::{HttpRule, Target};
use figspan_tunnel::pin::Unbelieved;

use crate::client::Client;
use crate::metrics::{Metrics, PinEvent};

/// The rule by which a request goes: its own, or that of its pin. `now` is the Unix time in seconds.
pub fn rule<'r>(rule: &'r HttpRule, client: &Client, now: impl Fn() -> u64, metrics: &Metrics) -> &'r HttpRule {
    let Some(pins) = rule.policy.as_deref().map(|policy| &*policy.pins).filter(|pins| !pins.is_empty()) else { return rule };
    let mut unbelieved = client.pin.is_some().then_some(PinEvent::Elsewhere);
    for (pin, pinned) in pins.iter().zip(&rule.pinned) {
        match holds(pin, client, &now) {
            Ok(true) => {
                metrics.pinned(PinEvent::Used);
                return pinned;
            }
            Ok(false) | Err(Unbelieved::Elsewhere) => {}
            Err(Unbelieved::Malformed) => unbelieved = Some(PinEvent::Malformed),
            Err(Unbelieved::Forged) => unbelieved = Some(PinEvent::Forged),
            Err(Unbelieved::Expired) => unbelieved = Some(PinEvent::Expired),
        }
    }
    if let Some(event) = unbelieved {
        metrics.pinned(event);
    }
    rule
}

/// Whether a pin holds for a request of that client; `Ok(false)`: nothing was asked for, or its address is not one of those.
pub fn holds(pin: &Pin, client: &Client, now: &dyn Fn() -> u64) -> Result<bool, Unbelieved> {
    match (&pin.by, &client.pin) {
        (PinnedBy::Key(key), Some(wish)) => key.verify(wish.as_bytes(), &pin.target.key(), now()).map(|()| true),
        (PinnedBy::Key(_), None) => Ok(false),
        (PinnedBy::Trusted { addresses, always }, wish) => {
            let address = client.address.ip().to_canonical();
            let named = || wish.as_ref().is_some_and(|wish| names(&pin.target, wish.as_bytes()));
            Ok((*always || named()) && addresses.iter().any(|net| net.contains(&address)))
        }
    }
}

/// Whether an unsigned wish names that target: `service/orders`.
fn names(target: &Target, wish: &[u8]) -> bool {
    wish.strip_prefix(target.kind().as_bytes()).and_then(|rest| rest.strip_prefix(b"/")) == Some(target.name().as_bytes())
}

#[cfg(test)]
mod tests;
