use figspan_proto::join::{RefusedReason, Secret};

use super::*;
use crate::testing::pair;

fn request() -> IdentityRequest {
    IdentityRequest::Join { grant: "g1".into(), secret: Secret([3; 32]), wanted_name: Some("vm-1".into()), csr: vec![1, 2], time_ms: 5 }
}

fn issued() -> Issued {
    Issued {
        chain: vec![vec![1; 900]],
        roots: vec![vec![2; 600]],
        spiffe_id: "spiffe://figspan.local/agent/vm-1".parse().unwrap(),
        uplinks: vec!["orders-*".parse().unwrap()],
        services: vec![],
    }
}

#[tokio::test]
async fn a_question_gets_its_answer() {
    let (hub, agent) = pair("vm-1").await;
    for wanted in [Ok(issued()), Err(Refused { reason: RefusedReason::Used, message: "used".into(), hub_time_ms: 9 })] {
        let asked = async { ask(agent.open().await.unwrap(), request()).await.unwrap() };
        let answered = async {
            let mut stream = hub.accept().await.unwrap();
            assert_eq!(question(&mut stream).await.unwrap(), request());
            answer(stream, wanted.clone()).await.unwrap();
        };
        let (got, ()) = tokio::join!(asked, answered);
        assert_eq!(got, wanted);
    }
}

#[tokio::test]
async fn too_long_garbled_and_cut_questions_are_refused() {
    let (hub, agent) = pair("vm-1").await;
    let long = (MAX_MESSAGE as u32 + 1).to_be_bytes().to_vec();
    let garbled = [&4u32.to_be_bytes()[..], &[0xff; 4]].concat();
    let empty = 0u32.to_be_bytes().to_vec();
    let cut = [&9u32.to_be_bytes()[..], b"x"].concat();
    for (bytes, wanted) in [(long, "limit"), (garbled, "cannot be read"), (empty, "missing"), (cut, "too early")] {
        let mut stream = agent.open().await.unwrap();
        stream.write_chunk(bytes.into()).await.unwrap();
        stream.finish();
        let error = question(&mut hub.accept().await.unwrap()).await.unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn a_hub_that_goes_away_ends_the_wait() {
    let (hub, agent) = pair("vm-1").await;
    let asked = ask(agent.open().await.unwrap(), request());
    let gone = async { drop(hub.accept().await.unwrap()) };
    let (answer, ()) = tokio::join!(asked, gone);
    assert!(matches!(answer, Err(ExchangeError::Stream(_))), "{answer:?}");
}

#[tokio::test]
async fn a_question_is_read_too_when_its_purpose_was_looked_at_first() {
    let (hub, agent) = pair("vm-1").await;
    let asked = async { ask(agent.open().await.unwrap(), request()).await.unwrap() };
    let answered = async {
        let mut stream = hub.accept().await.unwrap();
        assert_eq!(crate::call::read_header(&mut stream).await, Ok(crate::call::Opened::Identity));
        assert_eq!(question_begun(&mut stream).await.unwrap(), request());
        answer(stream, Ok(issued())).await.unwrap();
    };
    assert_eq!(tokio::join!(asked, answered).0, Ok(issued()));
}
