use std::sync::Arc;

use figspan_model::jwt::JwtProvider;
use figspan_model::routing::Reserved;
use http::{HeaderName, Request, request};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::admission::fields;

const NOW: u64 = 1_790_000_000;

struct Signer(EncodingKey);

impl Signer {
    fn new() -> Self {
        Self(EncodingKey::from_ec_der(&rcgen::KeyPair::generate().unwrap().serialize_der()))
    }

    fn jwks(&self) -> Vec<u8> {
        json!({ "keys": [Jwk::from_encoding_key(&self.0, Algorithm::ES256).unwrap()] }).to_string().into_bytes()
    }

    fn sign(&self, claims: &Value) -> String {
        encode(&Header::new(Algorithm::ES256), claims, &self.0).unwrap()
    }

    /// A token of Ann's that lives for a minute.
    fn token(&self) -> String {
        self.sign(&json!({ "iss": "me", "aud": "shop", "exp": NOW + 60, "sub": "ann", "roles": ["a", "b"] }))
    }

    fn provider(&self, change: impl FnOnce(&mut Terms)) -> Arc<JwtProvider> {
        let mut terms = Terms { issuer: "me".into(), audiences: vec!["shop".into()], ..Terms::default() };
        change(&mut terms);
        Arc::new(JwtProvider::new("id".into(), terms, "jwks.json".into(), &self.jwks()).unwrap())
    }
}

fn claims_of(provider: &Arc<JwtProvider>, required: bool, claims: &[(&str, &'static str)]) -> RuleJwt {
    let headers = claims.iter().map(|(claim, field)| ((*claim).to_owned(), HeaderName::from_static(field))).collect();
    RuleJwt::new(Arc::clone(provider), required, headers, ["sub"])
}

fn asked(fields: &[(&str, &str)]) -> request::Parts {
    let fill = |request: request::Builder, (name, value): &(&str, &str)| request.header(*name, *value);
    fields.iter().fold(Request::get("/"), fill).body(()).unwrap().into_parts().0
}

fn bearer(token: &str) -> request::Parts {
    asked(&[("authorization", &format!("Bearer {token}"))])
}

/// A shard's part, with a clock.
#[derive(Default)]
struct Shard {
    remembered: Remembered,
    metrics: Arc<Metrics>,
}

impl Shard {
    fn check<'r>(&self, jwt: &'r RuleJwt, parts: &request::Parts, now: u64) -> Result<Verified<'r>, Refused> {
        check(jwt, &parts.headers, now, &self.remembered, &self.metrics)
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let all = TokenEvent::ALL.iter().map(|event| (event.as_str(), self.metrics.tokens(*event)));
        all.filter(|(_, count)| *count > 0).collect()
    }
}

#[test]
fn a_token_stands_once_where_the_provider_says_behind_its_word() {
    let terms = Terms { max_token_bytes: 10, ..Terms::default() };
    let read = |terms: &Terms, fields: &[(&str, &str)]| token(&asked(fields).headers, terms).map(|token| token.map(str::to_owned));
    let of = |value: &str| read(&terms, &[("authorization", value)]);
    for value in ["Bearer abc", "bearer abc", "BEARER   abc ", "Bearer abc"] {
        assert_eq!(of(value), Ok(Some("abc".into())), "{value}");
    }
    for value in ["Basic YTpi", "abc", "Bearers abc", "Bearer,abc", ""] {
        assert_eq!(of(value), Ok(None), "{value}");
    }
    assert_eq!((of("Bearer"), of("Bearer ")), (Ok(Some(String::new())), Ok(Some(String::new()))));
    assert_eq!((of("Bearer 1234567890"), of("Bearer 12345678901")), (Ok(Some("1234567890".into())), Err(BadToken::TooLarge)));
    assert_eq!(of("Bearer a\u{e9}"), Err(BadToken::Malformed));
    for (first, second) in [("Bearer a", "Bearer a"), ("Bearer a", "Basic b"), ("Basic b", "Bearer a")] {
        assert_eq!(read(&terms, &[("authorization", first), ("authorization", second)]), Err(BadToken::Malformed));
    }
    let own = Terms { header: HeaderName::from_static("x-token"), prefix: String::new(), ..Terms::default() };
    assert_eq!(read(&own, &[("x-token", " abc "), ("authorization", "Bearer x")]), Ok(Some("abc".into())));
    assert_eq!(read(&own, &[]), Ok(None));
}

#[test]
fn a_signature_is_checked_once_and_the_time_with_every_use() {
    let (signer, shard) = (Signer::new(), Shard::default());
    let provider = signer.provider(|_| {});
    let rule = claims_of(&provider, true, &[("sub", "x-claim-sub")]);
    let parts = bearer(&signer.token());
    for now in [NOW, NOW + 119] {
        assert_eq!(shard.check(&rule, &parts, now).unwrap().claim("sub").unwrap(), "ann");
    }
    assert_eq!(shard.check(&rule, &parts, NOW + 120).unwrap_err(), Refused::Bad(BadToken::Expired), "a minute of skew");
    assert_eq!(shard.counts(), [("verified", 1), ("remembered", 1), ("expired", 1)]);

    // What was verified by keys that have gone counts no more.
    let other = Signer::new();
    assert_eq!(provider.replace(&other.jwks()), Ok(true));
    assert_eq!(shard.check(&rule, &parts, NOW).unwrap_err(), Refused::Bad(BadToken::Signature));
    assert!(shard.check(&rule, &bearer(&other.token()), NOW).is_ok());
    assert_eq!(provider.replace(&signer.jwks()), Ok(true));
    assert!(shard.check(&rule, &parts, NOW).is_ok());
    assert_eq!(shard.counts()[..2], [("verified", 2), ("remembered", 2)], "back to the old keys, back to what they verified");
}

#[test]
fn rules_of_one_provider_read_their_own_claims() {
    let (signer, shard) = (Signer::new(), Shard::default());
    let provider = signer.provider(|_| {});
    let one = claims_of(&provider, true, &[("roles", "x-a")]);
    let two = claims_of(&provider, true, &[("sub", "x-a"), ("missing", "x-b")]);
    let parts = bearer(&signer.token());
    for _ in 0..2 {
        let mut headers = asked(&[("x-b", "own")]).headers;
        shard.check(&one, &parts, NOW).unwrap().write(&mut headers);
        assert_eq!((&headers["x-a"], &headers["x-b"]), (&HeaderValue::from_static("a,b"), &HeaderValue::from_static("own")));
        shard.check(&two, &parts, NOW).unwrap().write(&mut headers);
        assert_eq!((&headers["x-a"], headers.get("x-b")), (&HeaderValue::from_static("ann"), None), "never somebody else's");
    }
    assert_eq!(shard.counts(), [("verified", 2), ("remembered", 2)]);
}

#[test]
fn without_a_token_a_request_passes_only_where_none_is_required() {
    let (signer, shard) = (Signer::new(), Shard::default());
    let provider = signer.provider(|terms| terms.forward = false);
    let strict = claims_of(&provider, true, &[]);
    let lax = claims_of(&provider, false, &[]);
    let (none, basic) = (asked(&[]), asked(&[("authorization", "Basic YTpi")]));
    for parts in [&none, &basic] {
        assert_eq!(shard.check(&strict, parts, NOW).unwrap_err(), Refused::Missing);
        let verified = shard.check(&lax, parts, NOW).unwrap();
        let mut headers = parts.headers.clone();
        verified.write(&mut headers);
        assert_eq!((verified.claim("sub"), headers), (None, parts.headers.clone()), "what is no token is the workload's");
    }
    assert_eq!(shard.check(&lax, &bearer("x"), NOW).unwrap_err(), Refused::Bad(BadToken::Malformed), "a bad token is refused anywhere");
    let mut parts = bearer(&signer.token());
    shard.check(&lax, &parts, NOW).unwrap().write(&mut parts.headers);
    assert!(parts.headers.is_empty(), "the token goes no further");
    assert_eq!(shard.counts(), [("verified", 1), ("absent", 2), ("missing", 2), ("malformed", 1)]);
}

#[test]
fn a_refusal_tells_the_scheme_and_nothing_of_the_provider() {
    let told = |refused: Refused| {
        let mut response = refused.failure().reply();
        refused.tell(&mut response);
        assert_eq!(response.status(), 401);
        response.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().to_owned()
    };
    assert_eq!(told(Refused::Missing), "Bearer realm=\"figspan\"", "RFC 6750, section 3.1: no error without a token");
    let bad = |bad| told(Refused::Bad(bad));
    assert_eq!(bad(BadToken::Expired), "Bearer error=\"invalid_token\", error_description=\"the token has expired\"");
    let same = [BadToken::Algorithm, BadToken::UnknownKey, BadToken::Signature, BadToken::Issuer, BadToken::Audience].map(bad);
    assert!(same.iter().all(|told| *told == same[0]), "{same:?}");
    let words: std::collections::HashSet<_> = [BadToken::Malformed, BadToken::NotYet, BadToken::Expired, BadToken::Issuer].map(bad).into();
    assert_eq!(words.len(), 4);
}

#[test]
fn a_clients_own_copy_of_a_claim_goes_from_head_and_trailers_under_any_spelling() {
    let provider = Signer::new().provider(|terms| terms.header = HeaderName::from_static("x-token"));
    let reserved = Reserved::of([&claims_of(&provider, true, &[("sub", "x-claim-sub")])]);
    let copies = || {
        asked(&[("x-claim-sub", "1"), ("X_Claim_Sub", "2"), ("x.claim-sub", "3"), ("x_token", "4"), ("x-token", "5"), ("x-claim", "6")])
            .headers
    };
    let names = |headers: &HeaderMap| headers.keys().map(ToString::to_string).collect::<std::collections::BTreeSet<_>>();
    let mut headers = copies();
    fields::remove_reserved(&mut headers, &reserved);
    assert_eq!(names(&headers), ["x-claim", "x-token"].map(str::to_owned).into());
    let mut trailers = copies();
    fields::filter_reserved_trailers(&mut trailers, &reserved);
    assert_eq!(names(&trailers), ["x-claim"].map(str::to_owned).into());
    let mut untouched = copies();
    fields::remove_reserved(&mut untouched, &Reserved::default());
    assert_eq!(untouched, copies());
}
