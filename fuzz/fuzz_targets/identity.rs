//! Certificates, requests for them, tokens and messages are read or refused, never a panic; what is read means the same when
//! it is written and read again.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use figspan_proto::control::{FromAgent, FromHub};
use figspan_proto::join::{self, IdentityRequest, Token};
use figspan_proto::name::SpiffeId;
use figspan_proto::pb;
use figspan_tunnel::ca::Ca;
use figspan_tunnel::{Identity, KeyPair, Roots};
use libfuzzer_sys::fuzz_target;
use prost::Message;

struct Fixed {
    ca: Ca,
    key: KeyPair,
    id: SpiffeId,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| Fixed {
    ca: Ca::create(&"figspan.local".parse().expect("a domain"), SystemTime::now()).expect("a CA"),
    key: KeyPair::generate().expect("a key"),
    id: "spiffe://figspan.local/agent/vm-1".parse().expect("an identity"),
});

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let text = || String::from_utf8_lossy(rest);
    match first % 10 {
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
        _ => {
            if let Ok(reply) = pb::IdentityReply::decode(rest) {
                drop(join::check_reply(reply));
            }
        }
    }
});
