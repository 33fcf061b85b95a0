use super::*;
use figspan_proto::join::Secret;
use figspan_proto::name::{Role, SpiffeId};
use figspan_tunnel::hub::{Established, HubEndpoint};
use figspan_tunnel::testing::Authority;

fn token(authority: &Authority, hub: &HubEndpoint) -> Token {
    let address = hub.local_address().unwrap().to_string();
    Token { hubs: vec![address], grant: "g1".to_owned(), secret: Secret([3; 32]), pin: authority.ca.pin() }
}

/// Answers `answers.len()` joins, one after the other.
async fn hub(endpoint: &HubEndpoint, answers: Vec<Result<(), Refused>>, authority: &Authority) -> Vec<IdentityRequest> {
    let mut asked = Vec::new();
    for answer in answers {
        let Ok(Established::Joining(mut joining)) = endpoint.accept().await.unwrap().establish().await else { panic!("a join") };
        let mut stream = joining.accept().await.unwrap();
        let question = exchange::question(&mut stream).await.unwrap();
        let IdentityRequest::Join { csr, .. } = &question else { panic!("a join") };
        let id = SpiffeId { trust_domain: authority.ca.trust_domain().clone(), role: Role::Agent("vm-1".parse().unwrap()) };
        let issue = || Issued {
            services: Vec::new(),
            chain: authority.ca.issue(&id, csr, SystemTime::now(), Duration::from_secs(60)).unwrap(),
            roots: authority.ca.roots().to_der(),
            spiffe_id: id.clone(),
            uplinks: vec!["*".parse().unwrap()],
        };
        exchange::answer(stream, answer.map(|()| issue())).await.unwrap();
        joining.finish().await;
        asked.push(question);
    }
    asked
}

fn refused(reason: RefusedReason) -> Refused {
    Refused { reason, message: String::new(), hub_time_ms: unix_ms(SystemTime::now()) }
}

#[tokio::test]
async fn a_grant_becomes_a_certificate_for_the_name_that_the_hub_chose() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let token = token(&authority, &endpoint);
    let resolver = Resolver::system().unwrap();
    let wanted = Some("my-vm".parse().unwrap());
    let (asked, joined) = tokio::join!(hub(&endpoint, vec![Ok(())], &authority), join(&token, wanted, &resolver));
    let joined = joined.unwrap();
    assert_eq!(joined.name.as_str(), "vm-1");
    assert_eq!(joined.trust_domain.as_str(), "figspan.local");
    let [IdentityRequest::Join { grant, wanted_name, .. }] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((grant.as_str(), wanted_name.as_deref()), ("g1", Some("my-vm")));
}

#[tokio::test]
async fn a_busy_hub_is_asked_again_and_a_refusal_is_final() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let token = token(&authority, &endpoint);
    let resolver = Resolver::system().unwrap();
    let answers = vec![Err(refused(RefusedReason::Busy)), Err(refused(RefusedReason::Used))];
    let (asked, joined) = tokio::join!(hub(&endpoint, answers, &authority), join(&token, None, &resolver));
    assert_eq!(asked.len(), 2);
    assert!(joined.unwrap_err().to_string().contains("redeemed"));
}

fn key(question: &IdentityRequest) -> Pin {
    let IdentityRequest::Join { csr, .. } = question else { panic!("a join") };
    figspan_tunnel::ca::requested_key(csr).unwrap()
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let token = token(&authority, &endpoint);
    let resolver = Resolver::system().unwrap();
    let hub = async {
        let Ok(Established::Joining(mut joining)) = endpoint.accept().await.unwrap().establish().await else { panic!("a join") };
        let mut stream = joining.accept().await.unwrap();
        let lost = exchange::question(&mut stream).await.unwrap();
        // The hub has redeemed the grant, and dies before it says so.
        drop((stream, joining));
        let again = hub(&endpoint, vec![Ok(())], &authority).await;
        (key(&lost), key(&again[0]))
    };
    let ((lost, again), joined) = tokio::join!(hub, join(&token, None, &resolver));
    assert_eq!(joined.unwrap().name.as_str(), "vm-1");
    assert_eq!(lost, again);
}

#[tokio::test]
async fn of_several_hubs_the_one_that_made_the_grant_is_found() {
    let authority = Authority::new();
    let (other, right) = (authority.endpoints(1).remove(0), authority.endpoints(1).remove(0));
    let mut token = token(&authority, &other);
    token.hubs.push(right.local_address().unwrap().to_string());
    let resolver = Resolver::system().unwrap();
    let unknown = || Err(refused(RefusedReason::UnknownGrant));
    let hubs = async { tokio::join!(hub(&other, vec![unknown()], &authority), hub(&right, vec![Ok(())], &authority)) };
    let (_, joined) = tokio::join!(hubs, join(&token, None, &resolver));
    assert_eq!(joined.unwrap().name.as_str(), "vm-1");

    let hubs = async { tokio::join!(hub(&other, vec![unknown()], &authority), hub(&right, vec![unknown()], &authority)) };
    let (_, joined) = tokio::join!(hubs, join(&token, None, &resolver));
    assert!(matches!(joined, Err(JoinFailure::Refused { .. })), "{joined:?}");
}

#[tokio::test]
async fn nothing_is_sent_to_a_hub_with_another_ca() {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    let mut token = token(&authority, &endpoint);
    token.pin = Authority::new().ca.pin();
    let resolver = Resolver::system().unwrap();
    let watch = async {
        // The join, and the question whether it is the clock.
        for _ in 0..2 {
            let incoming = endpoint.accept().await.unwrap();
            assert!(incoming.establish().await.is_err());
        }
    };
    let (_, joined) = tokio::join!(watch, join(&token, None, &resolver));
    assert!(matches!(joined, Err(JoinFailure::Untrusted(..))), "{joined:?}");
}

#[test]
fn every_refusal_has_its_own_words_and_a_mend() {
    use RefusedReason::*;
    let mut seen = std::collections::HashSet::new();
    for reason in [UnknownGrant, Used, Expired, Revoked, Name, Csr, Clock, Busy, Other] {
        let text = refusal(&Refused { reason, message: String::new(), hub_time_ms: 0 }, -7_260_000);
        assert!(text.contains(';'), "{text}");
        assert!(seen.insert(text));
    }
    let clock = refusal(&Refused { reason: Clock, message: "too far".to_owned(), hub_time_ms: 0 }, -7_260_000);
    assert!(clock.contains("2h 1m behind the hub's") && clock.contains("the hub says: too far"), "{clock}");
}
