//! Names that travel: of uplinks, agents, replicas, zones and trust domains, and the SPIFFE ids built from them.
//!
//! Every name is checked once, when it is read; after that the type is the proof. Names end up in metric labels, file
//! names, logs and certificates, so the alphabet is the one that is harmless in all of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name in bytes: that of a DNS label, so that a name may become one.
pub const MAX_NAME: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{text}` {why}; use 1 to 63 of {alphabet}, with a letter or digit at both ends")]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
    alphabet: &'static str,
}

impl NameError {
    fn of(what: &'static str, text: &str, why: &'static str, alphabet: &'static str) -> Self {
        // The text may come from a network: keep what a log can bear.
        let text = text.chars().take(MAX_NAME).map(|c| if c.is_control() { '?' } else { c }).collect();
        Self { what, text, why, alphabet }
    }
}

fn check(what: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    let fail = |why| Err(NameError::of(what, text, why, "a-z, 0-9, '-' and '.'"));
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match text.as_bytes() {
        [] => fail("is empty"),
        bytes if bytes.len() > max => fail("is too long"),
        bytes if !bytes.iter().all(|&b| edge(b) || b == b'-' || b == b'.') => fail("has a character that is not allowed"),
        [first, .., last] if !edge(*first) || !edge(*last) => fail("begins or ends with '-' or '.'"),
        [only] if !edge(*only) => fail("begins or ends with '-' or '.'"),
        bytes if bytes.windows(2).any(|w| w == b"..") => fail("has two dots in a row"),
        _ => Ok(()),
    }
}

/// The values that Kubernetes allows in labels, but never an empty one.
fn check_label(what: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    let fail = |why| Err(NameError::of(what, text, why, "A-Z, a-z, 0-9, '-', '_' and '.'"));
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (None, _) | (_, None) => fail("is empty"),
        _ if bytes.len() > max => fail("is too long"),
        _ if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)) => fail("has a character that is not allowed"),
        (Some(first), Some(last)) if !first.is_ascii_alphanumeric() || !last.is_ascii_alphanumeric() => {
            fail("begins or ends with '-', '_' or '.'")
        }
        _ => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                $check($what, text, MAX_NAME)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Names an uplink: what a route asks for and an agent advertises.
    UplinkName, "uplink name", check
);
name!(
    /// Names a service in the cluster, as an agent calls it.
    ServiceName, "service name", check
);
name!(
    /// Names an agent: one VM.
    AgentName, "agent name", check
);
name!(
    /// Names a replica of the hub.
    ReplicaId, "replica id", check
);
name!(
    /// Names the domain within which identities are trusted (SPIFFE-ID, section 2.1).
    TrustDomain, "trust domain", check
);
name!(
    /// Names a zone: a part of a region that fails as one, with short ways within (Kubernetes: `topology.kubernetes.io/zone`).
    Zone, "zone", check_label
);

/// Who a certificate speaks for: exactly one URI name in the verified leaf (SPIFFE-ID, section 2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// The domain that vouches for the name.
    pub trust_domain: TrustDomain,
    /// The part that the holder plays.
    pub role: Role,
}

/// The part that the holder of a certificate plays.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Role {
    /// The daemon on a VM.
    Agent(AgentName),
    /// One replica of the hub.
    Hub(ReplicaId),
}

impl SpiffeId {
    /// The agent's name, where the id is an agent's.
    pub fn agent(&self) -> Option<&AgentName> {
        match &self.role {
            Role::Agent(name) => Some(name),
            Role::Hub(_) => None,
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Role::Agent(name) => write!(f, "spiffe://{}/agent/{name}", self.trust_domain),
            Role::Hub(id) => write!(f, "spiffe://{}/hub/{id}", self.trust_domain),
        }
    }
}

/// Why a URI is not one of figspan's SPIFFE ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    /// Not `spiffe://<trust-domain>/agent/<name>` or `spiffe://<trust-domain>/hub/<replica>`.
    #[error("not a figspan identity: expected spiffe://<trust-domain>/agent/<name> or .../hub/<replica>")]
    Shape,
    /// A part of it is not a name.
    #[error("not a figspan identity: {0}")]
    Name(#[from] NameError),
}

impl FromStr for SpiffeId {
    type Err = SpiffeError;
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let rest = text.strip_prefix("spiffe://").ok_or(SpiffeError::Shape)?;
        let mut parts = rest.split('/');
        let (Some(domain), Some(role), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
            return Err(SpiffeError::Shape);
        };
        let role = match role {
            "agent" => Role::Agent(name.parse()?),
            "hub" => Role::Hub(name.parse()?),
            _ => return Err(SpiffeError::Shape),
        };
        Ok(Self { trust_domain: domain.parse()?, role })
    }
}

/// A name, or the beginning of names: `orders`, `orders-*`, `*`. What a grant lists.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamePattern(String);

impl NamePattern {
    /// Whether the pattern covers the name.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => self.0 == name,
        }
    }
}

impl FromStr for NamePattern {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        // With a letter in place of the star, a pattern is checked like the names that it stands for.
        match text.strip_suffix('*') {
            Some(prefix) => check("name pattern", &format!("{prefix}x"), MAX_NAME)?,
            None => check("name pattern", text, MAX_NAME)?,
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for NamePattern {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<NamePattern> for String {
    fn from(pattern: NamePattern) -> String {
        pattern.0
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_hold_what_a_label_a_log_and_a_file_can_bear() {
        for good in ["a", "monolith", "orders-v2", "eu1.orders", "0"] {
            assert!(good.parse::<UplinkName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a b", "a/b", "a\n", "..", "a..b", "é", ".", &"a".repeat(64)] {
            assert!(bad.parse::<UplinkName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn zones_are_what_kubernetes_allows_in_labels() {
        for good in ["a", "europe-west1-b", "AZ1", "rack_7.row-2", "0", &"z".repeat(63)] {
            assert!(good.parse::<Zone>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a_", ".", "a b", "a/b", "a\n", "é", &"a".repeat(64)] {
            assert!(bad.parse::<Zone>().is_err(), "{bad:?}");
        }
        let why = "eu/1".parse::<Zone>().unwrap_err().to_string();
        assert_eq!(
            why,
            "zone `eu/1` has a character that is not allowed; use 1 to 63 of A-Z, a-z, 0-9, '-', '_' and '.', with a letter or digit at both ends"
        );
    }

    #[test]
    fn spiffe_ids_have_one_shape_only() {
        let id: SpiffeId = "spiffe://figspan.local/agent/vm-1".parse().unwrap();
        assert_eq!(id.agent().unwrap().as_str(), "vm-1");
        for bad in [
            "spiffe://figspan.local/agent/vm-1/x",
            "spiffe://figspan.local/agent/",
            "spiffe:///agent/vm-1",
            "https://figspan.local/agent/vm-1",
            "spiffe://figspan.local/AGENT/vm-1",
            "spiffe://user@figspan.local/agent/vm-1",
            "spiffe://figspan.local:80/agent/vm-1",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn patterns_match_by_prefix_only_at_a_final_star() {
        let orders: NamePattern = "orders-*".parse().unwrap();
        assert!(orders.matches("orders-v2") && !orders.matches("orders") && !orders.matches("xorders-"));
        assert!("*".parse::<NamePattern>().unwrap().matches("anything"));
        assert!("a*b".parse::<NamePattern>().is_err());
    }

    proptest! {
        #[test]
        fn a_spiffe_id_reads_back_as_written(domain in "[a-z][a-z0-9-]{0,20}[a-z0-9]", name in "[a-z0-9]{1,20}", hub: bool) {
            let role = if hub { Role::Hub(name.parse().unwrap()) } else { Role::Agent(name.parse().unwrap()) };
            let id = SpiffeId { trust_domain: domain.parse().unwrap(), role };
            prop_assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in ".{0,200}") {
            let _ = text.parse::<SpiffeId>();
            let _ = text.parse::<UplinkName>();
            let _ = text.parse::<Zone>();
            let _ = text.parse::<NamePattern>();
        }
    }
}
