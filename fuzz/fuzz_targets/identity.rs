//! Certificates, requests for them, tokens and messages are read or refused, never a panic; what is read means the same when
//! it is written and read again.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use figspan_proto::control::{FromAgent, FromHub};
use figspan_proto::join::{self, IdentityRequest, Token};
use figspan_proto::name::SpiffeId;
use figspan_proto::permit::{MAX_PATTERNS, Permit};
use figspan_proto::pb;
use figspan_tunnel::ca::Ca;
use figspan_tunnel::identity::Leaf;
use figspan_tunnel::{Identity, KeyPair, Roots};
use libfuzzer_sys::fuzz_target;
use prost::Message;

struct Fixed {
    ca: Ca,
    key: KeyPair,
    csr: Vec<u8>,
    id: SpiffeId,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("a key");
    Fixed {
        ca: Ca::create(&"figspan.local".parse().expect("a domain"), SystemTime::now()).expect("a CA"),
        csr: key.csr().expect("a request"),
        key,
        id: "spiffe://figspan.local/agent/vm-1".parse().expect("an identity"),
    }
});

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let text = || String::from_utf8_lossy(rest);
    match first % 12 {
        0 => drop(Roots::from_der(vec![rest.to_vec()])),
        1 => drop(Identity::from_der(vec![rest.to_vec()], &FIXED.key)),
        2 => drop(FIXED.ca.issue(&FIXED.id, rest, SystemTime::now(), Duration::from_secs(60))),
        3 => drop(Roots::from_pem(&text())),
        4 => {
            if let Ok(token) = text().parse::<Token>() {
                assert_eq!(token.to_string().parse::<Token>().expect("a token that was written"), token);
            }
        }
        5 => {
            if let Ok(id) = text().parse::<SpiffeId>() {
                assert_eq!(id.to_string().parse::<SpiffeId>().expect("an identity that was written"), id);
            }
        }
        6 => {
            if let Ok(message) = pb::AgentMessage::decode(rest)
                && let Ok(Some(checked)) = FromAgent::check(message)
            {
                let again = FromAgent::check(pb::AgentMessage::from(checked.clone())).expect("a message that was written");
                assert_eq!(again, Some(checked));
            }
        }
        7 => {
            if let Ok(message) = pb::HubMessage::decode(rest)
                && let Ok(Some(checked)) = FromHub::check(message)
            {
                let again = FromHub::check(pb::HubMessage::from(checked.clone())).expect("a message that was written");
                assert_eq!(again, Some(checked));
            }
        }
        8 => {
            if let Ok(message) = pb::IdentityRequest::decode(rest)
                && let Ok(checked) = IdentityRequest::check(message)
            {
                let again = IdentityRequest::check(pb::IdentityRequest::from(checked.clone())).expect("a question that was written");
                assert_eq!(again, checked);
            }
        }
        9 => {
            if let Ok(permit) = text().parse::<Permit>() {
                assert_eq!(permit.to_string(), text(), "a permit has one spelling");
                let chain = FIXED.ca.issue_permitted(&FIXED.id, &permit, &FIXED.csr, SystemTime::now(), Duration::from_secs(60));
                let leaf = Leaf::read(&chain.expect("a leaf with a permit")[0]).expect("a leaf that was written");
                assert_eq!(leaf.permit, Some(permit));
            }
        }
        10 => {
            if let Ok(leaf) = Leaf::read(rest) {
                assert!(leaf.permit.is_none_or(|permit| permit.uplinks.len() <= MAX_PATTERNS));
            }
        }
        _ => {
            if let Ok(reply) = pb::IdentityReply::decode(rest) {
                drop(join::check_reply(reply));
            }
        }
    }
});
