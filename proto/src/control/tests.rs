use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::pb;

fn uplink(name: &str) -> Uplink {
    let name: UplinkName = name.parse().unwrap();
    let state = State { name: name.clone(), health: Health::Ready, reason: String::new(), open_connections: 3 };
    Uplink { name, weight: Weight::DEFAULT, protocol: Protocol::Http1, state }
}

fn hello(zone: Option<Zone>) -> FromAgent {
    FromAgent::Hello(AgentHello { version: 1, software: "figspan-agent 0.1".into(), instance: "a1".into(), time_ms: 5, zone })
}

#[test]
fn an_agent_that_says_no_zone_has_none_and_a_wrong_one_is_refused() {
    let of = |zone: &str| {
        FromAgent::check(pb::AgentMessage {
            body: Some(pb::agent_message::Body::Hello(pb::AgentHello { version: 1, zone: zone.into(), ..Default::default() })),
        })
    };
    assert!(matches!(of("").unwrap(), Some(FromAgent::Hello(AgentHello { zone: None, .. }))));
    for wrong in ["a b", "-", "\u{1b}[31m", &"z".repeat(64)] {
        assert!(matches!(of(wrong), Err(ControlError::Name(_))), "{wrong:?}");
    }
}

#[test]
fn versions_meet_at_the_highest_that_both_know() {
    assert_eq!(negotiate(&(1..=3), &(2..=5)), Some(3));
    assert_eq!(negotiate(&(1..=3), &(3..=3)), Some(3));
    assert_eq!(negotiate(&(1..=2), &(3..=4)), None);
    assert_eq!(negotiate(&(4..=5), &(1..=3)), None);
    #[allow(clippy::reversed_empty_ranges)]
    let empty = 3..=1;
    assert_eq!(negotiate(&(1..=3), &empty), None);
}

#[test]
fn messages_read_back_as_written() {
    let all = [
        hello(None),
        hello(Some("eu-1a".parse().unwrap())),
        FromAgent::List { generation: 7, uplinks: vec![uplink("a"), uplink("b")] },
        FromAgent::Upsert { generation: 8, uplink: uplink("a") },
        FromAgent::Withdraw { generation: 9, uplink: "a".parse().unwrap() },
        FromAgent::States(vec![uplink("b").state]),
        FromAgent::Draining { deadline_ms: 30_000 },
        FromAgent::Counted { nonce: 4, uplink: "a".parse().unwrap(), open_connections: 0 },
    ];
    for message in all {
        let wire = pb::AgentMessage::from(message.clone()).encode_to_vec();
        let read = FromAgent::check(pb::AgentMessage::decode(&wire[..]).unwrap()).unwrap();
        assert_eq!(read, Some(message));
    }
}

#[test]
fn hub_messages_read_back_as_written() {
    let replica = Replica { id: "hub-0".parse().unwrap(), shards: 2, leaving: false, addresses: vec![([127, 0, 0, 1], 7443).into()] };
    let hello =
        HubHello { versions: 1..=2, replica: "hub-0".parse().unwrap(), shard: 1, shards: 2, software: "x".into(), time_ms: 1, calls: true };
    let verdict = Verdict { uplink: "a".parse().unwrap(), refused: Some("outside the grant".into()), weight: Weight::ZERO };
    let all = [
        FromHub::Hello(hello),
        FromHub::Directory(vec![replica]),
        FromHub::Verdicts(vec![verdict]),
        FromHub::Trust(vec![vec![1, 2]]),
        FromHub::Leaving { deadline_ms: 1 },
        FromHub::Count { nonce: 1, uplink: "a".parse().unwrap() },
    ];
    for message in all {
        let wire = pb::HubMessage::from(message.clone()).encode_to_vec();
        assert_eq!(FromHub::check(pb::HubMessage::decode(&wire[..]).unwrap()).unwrap(), Some(message));
    }
}

#[test]
fn an_uplink_listed_twice_is_refused() {
    let list = FromAgent::List { generation: 1, uplinks: vec![uplink("a"), uplink("a")] };
    assert!(matches!(FromAgent::check(list.into()), Err(ControlError::Twice(_))));
}

#[test]
fn lists_are_bounded() {
    let uplinks = (0..=MAX_UPLINKS).map(|n| uplink(&format!("u{n}"))).collect();
    assert!(matches!(FromAgent::check(FromAgent::List { generation: 1, uplinks }.into()), Err(ControlError::TooMany { .. })));
}

#[test]
fn unknown_messages_and_fields_are_ignored() {
    // Field 90 is not of this version; alone it is an unknown message, beside a known one it does not disturb.
    let unknown = [0xd2, 0x05, 0x03, b'a', b'b', b'c'];
    assert_eq!(FromAgent::check(pb::AgentMessage::decode(&unknown[..]).unwrap()).unwrap(), None);
    let mut wire = pb::AgentMessage::from(FromAgent::Draining { deadline_ms: 2 }).encode_to_vec();
    wire.extend(unknown);
    assert_eq!(FromAgent::check(pb::AgentMessage::decode(&wire[..]).unwrap()).unwrap(), Some(FromAgent::Draining { deadline_ms: 2 }));
}

#[test]
fn texts_for_people_lose_control_characters_and_length() {
    let mut state = uplink("a").state;
    state.reason = format!("\x1b[31m{}", "é".repeat(600));
    let read = State::try_from(pb::State::from(state)).unwrap();
    assert!(read.reason.len() <= MAX_TEXT && !read.reason.contains('\x1b'));
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(message) = pb::AgentMessage::decode(&bytes[..]) { let _ = FromAgent::check(message); }
        if let Ok(message) = pb::HubMessage::decode(&bytes[..]) { let _ = FromHub::check(message); }
    }
}
