//! Agents that another hub of the same CA let in: what their certificates say of the grants behind them.
//!
//! Pure. Of two words about one agent the later redemption counts, whichever hub saw it; a revocation here takes back whatever
//! rests on a grant from before it, wherever that was redeemed, and is lifted by a later one.

use figspan_proto::name::AgentName;
use figspan_proto::permit::Permit;
use jiff::Timestamp;

use super::{Joined, Ledger, Revocation};

/// What stands in the place of the grant's id.
const ELSEWHERE: &str = "of another hub";

impl Joined {
    /// The same for the agent's certificate.
    pub(crate) fn permit(&self) -> Permit {
        // Entries from before this was kept: a grant is redeemed after it was made, and was not revoked in between.
        let granted = micros(self.granted.unwrap_or(self.at));
        Permit { granted, joined: micros(self.at), uplinks: self.allowed.clone(), services: self.services.clone() }
    }
}

impl Revocation {
    /// Whether it takes back a permit.
    pub(crate) fn takes_back(&self, permit: &Permit) -> bool {
        permit.granted <= micros(self.at)
    }
}

impl Ledger {
    /// Takes the word of a certificate whose chain holds. `None` when it changes nothing here: known, older than what is known,
    /// or taken back; else whether a revocation was lifted by it.
    pub(crate) fn learn(&mut self, name: &AgentName, permit: &Permit, now: Timestamp) -> Option<bool> {
        if self.revoked.get(name).is_some_and(|revocation| revocation.takes_back(permit)) {
            return None;
        }
        if self.agents.get(name).is_some_and(|known| permit.joined <= micros(known.at)) {
            return None;
        }
        let joined = Joined {
            allowed: permit.uplinks.clone(),
            services: permit.services.clone(),
            grant: ELSEWHERE.to_owned(),
            at: moment(permit.joined),
            granted: Some(moment(permit.granted)),
        };
        self.agents.insert(name.clone(), joined);
        Some(self.revoked.get_mut(name).is_some_and(|revocation| revocation.lifted.replace(now).is_none()))
    }
}

fn micros(at: Timestamp) -> u64 {
    u64::try_from(at.as_microsecond()).unwrap_or(0)
}

fn moment(micros: u64) -> Timestamp {
    i64::try_from(micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok()).unwrap_or(Timestamp::MAX)
}
