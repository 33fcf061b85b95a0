//! Who may become an agent, who did, and whose identity was taken back.
//!
//! Pure: time and randomness are arguments. Of a grant's secret only the SHA-256 is kept. A revocation is lifted by
//! redeeming a grant that was made after it and names the agent; certificates from before stay refused all the same. Whoever
//! redeemed a grant and lost the answer may ask again with the same key for as long as the grant lives; that uses nothing up.

mod known;
mod naming;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use figspan_proto::admin::{self, CreateGrant};
use figspan_proto::join::{Pin, RefusedReason, Secret};
use figspan_proto::name::{AgentName, NamePattern};
use figspan_proto::permit::{MAX_PATTERNS, Permit};
use figspan_proto::template::NameTemplate;
use figspan_tunnel::ca::MAX_LEAF_LIFETIME;
use figspan_tunnel::digest::{same, sha256};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::text;
use crate::registry::older;

/// Grants kept at most, ended ones included.
const MAX_GRANTS: usize = 10_000;
/// Longest life of a grant: it is made when a VM is set up, not for ever.
const MAX_TTL: u64 = 30 * 24 * 3600;
/// How long an ended grant is still shown.
const SHOWN: Duration = Duration::from_secs(7 * 24 * 3600);
/// Most redemptions of one grant: an autoscaling group.
const MAX_USES: u32 = 1000;

/// One grant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    pub(crate) agent: Option<AgentName>,
    /// What names are made of. Left out where there is none, so that a hub from before can read the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) template: Option<NameTemplate>,
    pub(crate) uplinks: Vec<NamePattern>,
    /// Not written where there are none, so that a hub from before can read the file of one that was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) services: Vec<NamePattern>,
    /// SHA-256 of the secret, base64url.
    hash: String,
    pub(crate) created: Timestamp,
    pub(crate) expires: Timestamp,
    uses: u32,
    redeemed_by: Vec<AgentName>,
    /// SHA-256 of the key of each of them.
    #[serde(default)]
    keys: Vec<String>,
    revoked: bool,
    who: String,
}

/// One agent that joined.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Joined {
    pub(crate) allowed: Vec<NamePattern>,
    /// Services that it may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) services: Vec<NamePattern>,
    pub(crate) grant: String,
    /// When the grant was redeemed.
    pub(crate) at: Timestamp,
    /// When the grant was made.
    #[serde(default)]
    pub(crate) granted: Option<Timestamp>,
}

/// One identity taken back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocation {
    pub(crate) at: Timestamp,
    pub(crate) who: String,
    pub(crate) reason: String,
    /// When a new grant was redeemed for the name. Certificates from before that moment stay refused.
    pub(crate) lifted: Option<Timestamp>,
}

impl Revocation {
    /// Whether a certificate of that moment is refused that says nothing of its grant.
    pub(crate) fn refuses(&self, issued: Timestamp) -> bool {
        // Certificates count whole seconds.
        self.lifted.is_none_or(|lifted| issued.as_second() < lifted.as_second())
    }
}

/// The ledger: three maps, each a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) grants: BTreeMap<String, Grant>,
    pub(crate) agents: BTreeMap<AgentName, Joined>,
    pub(crate) revoked: BTreeMap<AgentName, Revocation>,
}

/// What a redeemed grant would give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) grant: String,
    pub(crate) name: AgentName,
    pub(crate) allowed: Vec<NamePattern>,
    pub(crate) services: Vec<NamePattern>,
    /// When the grant was made.
    pub(crate) granted: Timestamp,
    /// Of the key that asks, where the request can be read.
    key: Option<Pin>,
    /// It was redeemed with this key before, and the answer was lost.
    pub(crate) again: bool,
}

/// Why nothing is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Denial(pub(crate) RefusedReason, pub(crate) String);

impl Ledger {
    /// Checks what is asked for; the text says what is wrong and how to mend it.
    pub(crate) fn check(&self, ask: &CreateGrant, now: Timestamp) -> Result<(), String> {
        if ask.uplinks.is_empty() || ask.uplinks.len() > MAX_PATTERNS {
            return Err(format!("a grant names 1 to {MAX_PATTERNS} uplinks or patterns (`orders-*`)"));
        }
        if ask.services.len() > MAX_PATTERNS {
            return Err(format!("a grant names at most {MAX_PATTERNS} services or patterns (`orders-*`)"));
        }
        if ask.ttl_seconds == 0 || ask.ttl_seconds > MAX_TTL {
            return Err(format!("ttl_seconds is {}; use 1 to {MAX_TTL} (30 days)", ask.ttl_seconds));
        }
        if ask.uses == 0 || ask.uses > MAX_USES {
            return Err(format!("uses is {}; use 1 to {MAX_USES}", ask.uses));
        }
        if ask.agent.is_some() && ask.name_template.is_some() {
            return Err("a grant names its agent or has a template of names; leave one out".to_owned());
        }
        if ask.uses > 1 && ask.agent.is_some() {
            return Err("a grant that names its agent is good for one use; leave the name out, or uses at 1".to_owned());
        }
        if self.grants.values().filter(|grant| older(now, grant.expires) < SHOWN).count() >= MAX_GRANTS {
            return Err(format!("{MAX_GRANTS} grants are kept, which is the limit; wait until old ones have ended for a week"));
        }
        Ok(())
    }

    /// Enters a grant that was checked.
    pub(crate) fn create(&mut self, id: String, ask: &CreateGrant, secret: &Secret, who: &str, now: Timestamp) -> admin::Grant {
        self.grants.retain(|_, grant| older(now, grant.expires) < SHOWN);
        let grant = Grant {
            agent: ask.agent.clone(),
            template: ask.name_template.clone(),
            uplinks: ask.uplinks.clone(),
            services: ask.services.clone(),
            hash: hash(secret),
            created: now,
            expires: now.checked_add(Duration::from_secs(ask.ttl_seconds)).unwrap_or(Timestamp::MAX),
            uses: ask.uses,
            redeemed_by: Vec::new(),
            keys: Vec::new(),
            revoked: false,
            who: who.to_owned(),
        };
        let view = grant.view(&id, now);
        self.grants.insert(id, grant);
        view
    }

    /// Whether a grant may be redeemed now, by whom it says. Nothing is changed. An unknown grant and a wrong secret are told
    /// apart neither by the answer nor by its time. `key` is that of the request, which may be one whose answer was lost.
    pub(crate) fn redeemable(
        &self,
        id: &str,
        secret: &Secret,
        wanted: Option<&str>,
        key: Option<Pin>,
        now: Timestamp,
    ) -> Result<Ticket, Denial> {
        let known = self.grants.get(id);
        let nothing = "-".repeat(43);
        let expected = known.map_or(nothing.as_str(), |grant| &grant.hash);
        let right = same(expected.as_bytes(), hash(secret).as_bytes());
        let Some(grant) = known.filter(|_| right) else {
            return Err(Denial(RefusedReason::UnknownGrant, "no such grant; make a new one with `figspanctl grant create`".to_owned()));
        };
        let again = "make a new one with `figspanctl grant create`";
        if grant.revoked {
            return Err(Denial(RefusedReason::Revoked, format!("the grant was taken back; {again}")));
        }
        if now >= grant.expires {
            return Err(Denial(RefusedReason::Expired, format!("the grant ended at {}; {again}", text(grant.expires))));
        }
        let before = key.and_then(|key| grant.redeemed_with(key)).filter(|name| self.agents.get(*name).is_some_and(|now| now.grant == id));
        if before.is_none() && grant.redeemed_by.len() >= grant.uses as usize {
            return Err(Denial(
                RefusedReason::Used,
                format!("the grant was redeemed {} of {} times; {again}", grant.redeemed_by.len(), grant.uses),
            ));
        }
        let name = match before.or(grant.agent.as_ref()) {
            Some(name) => name.clone(),
            None => self.open_name(grant.template.as_ref(), wanted)?,
        };
        if let Some(revocation) = self.revoked.get(&name).filter(|revocation| revocation.lifted.is_none() && grant.created <= revocation.at)
        {
            let at = text(revocation.at);
            return Err(Denial(RefusedReason::Revoked, format!("agent {name} was revoked at {at}, after the grant was made; {again}")));
        }
        let (allowed, services, granted, again) = (grant.uplinks.clone(), grant.services.clone(), grant.created, before.is_some());
        Ok(Ticket { grant: id.to_owned(), name, allowed, services, granted, key, again })
    }

    /// Enters a redemption that `redeemable` allowed. `true` when a revocation was lifted by it.
    pub(crate) fn redeem(&mut self, ticket: &Ticket, now: Timestamp) -> bool {
        if ticket.again {
            return false;
        }
        if let Some(grant) = self.grants.get_mut(&ticket.grant) {
            // Both lists are as long as each other from the first redemption on that noted keys.
            grant.keys.resize(grant.redeemed_by.len(), String::new());
            grant.redeemed_by.push(ticket.name.clone());
            grant.keys.push(ticket.key.map(|key| key.to_string()).unwrap_or_default());
        }
        let (allowed, services) = (ticket.allowed.clone(), ticket.services.clone());
        let (grant, granted) = (ticket.grant.clone(), Some(ticket.granted));
        self.agents.insert(ticket.name.clone(), Joined { allowed, services, grant, at: now, granted });
        // Once all certificates from before have ended, the entry has done its work.
        self.revoked.retain(|_, revocation| revocation.lifted.is_none_or(|lifted| older(now, lifted) < 2 * MAX_LEAF_LIFETIME));
        match self.revoked.get_mut(&ticket.name) {
            Some(revocation) => revocation.lifted.replace(now).is_none(),
            None => false,
        }
    }

    /// Takes a grant back.
    pub(crate) fn revoke_grant(&mut self, id: &str) -> bool {
        self.grants.get_mut(id).is_some_and(|grant| {
            grant.revoked = true;
            true
        })
    }

    /// Takes an identity back.
    pub(crate) fn revoke_agent(&mut self, name: &AgentName, who: &str, reason: &str, now: Timestamp) {
        let revocation = Revocation { at: now, who: who.to_owned(), reason: reason.to_owned(), lifted: None };
        self.revoked.insert(name.clone(), revocation);
    }

    /// What an agent may, if it may be an agent at all.
    pub(crate) fn renewable(&self, name: &AgentName) -> Result<Permit, Denial> {
        if self.revoked.get(name).is_some_and(|revocation| revocation.lifted.is_none()) {
            return Err(Denial(RefusedReason::Revoked, format!("agent {name} was revoked; join again with a new grant")));
        }
        let unknown = || Denial(RefusedReason::UnknownGrant, format!("this hub knows no grant of agent {name}; join again with a new one"));
        self.agents.get(name).map(Joined::permit).ok_or_else(unknown)
    }

    /// All grants, newest first.
    pub(crate) fn view(&self, now: Timestamp) -> Vec<admin::Grant> {
        let mut grants: Vec<_> = self.grants.iter().collect();
        grants.sort_by(|(a_id, a), (b_id, b)| b.created.cmp(&a.created).then_with(|| a_id.cmp(b_id)));
        grants.into_iter().map(|(id, grant)| grant.view(id, now)).collect()
    }
}

impl Grant {
    /// `open`, `used`, `expired` or `revoked`.
    pub(crate) fn state(&self, now: Timestamp) -> &'static str {
        match () {
            () if self.revoked => "revoked",
            () if self.redeemed_by.len() >= self.uses as usize => "used",
            () if now >= self.expires => "expired",
            () => "open",
        }
    }

    /// Who redeemed it with that key.
    fn redeemed_with(&self, key: Pin) -> Option<&AgentName> {
        let key = key.to_string();
        self.keys.iter().position(|known| *known == key).and_then(|index| self.redeemed_by.get(index))
    }

    fn view(&self, id: &str, now: Timestamp) -> admin::Grant {
        admin::Grant {
            id: id.to_owned(),
            agent: self.agent.clone(),
            name_template: self.template.clone(),
            uplinks: self.uplinks.clone(),
            services: self.services.clone(),
            expires: text(self.expires),
            uses: self.uses,
            redeemed_by: self.redeemed_by.clone(),
            revoked: self.revoked,
            who: self.who.clone(),
            state: self.state(now).to_owned(),
        }
    }
}

fn hash(secret: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(sha256(&secret.0))
}

#[cfg(test)]
mod tests;
