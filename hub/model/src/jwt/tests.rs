use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_790_000_000;

/// Somebody who signs.
struct Signer {
    algorithm: Algorithm,
    id: &'static str,
    key: EncodingKey,
}

impl Signer {
    fn new(algorithm: Algorithm, id: &'static str) -> Self {
        let generate = |of| rcgen::KeyPair::generate_for(of).unwrap().serialize_der();
        let key = match algorithm {
            Algorithm::ES256 => EncodingKey::from_ec_der(&generate(&rcgen::PKCS_ECDSA_P256_SHA256)),
            Algorithm::ES384 => EncodingKey::from_ec_der(&generate(&rcgen::PKCS_ECDSA_P384_SHA384)),
            Algorithm::EdDSA => {
                // PKCS#8 of version 1, which has the secret half alone: its public half is made of that.
                let version = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
                EncodingKey::from_ed_der(&[&version, &generate(&rcgen::PKCS_ED25519)[16..48]].concat())
            }
            // Behind 26 bytes that say "RSA", the key as it is wanted here.
            _ => EncodingKey::from_rsa_der(&generate(&rcgen::PKCS_RSA_SHA256)[26..]),
        };
        Self { algorithm, id, key }
    }

    fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.to_owned());
        serde_json::to_value(jwk).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(self.algorithm, Some(self.id), claims)
    }

    fn sign_as(&self, algorithm: Algorithm, id: Option<&str>, claims: &Value) -> String {
        let header = Header { kid: id.map(str::to_owned), ..Header::new(algorithm) };
        encode(&header, claims, &self.key).unwrap()
    }
}

static EC: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::ES256, "ec"));
static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new(Algorithm::RS256, "rsa"));

fn terms() -> Terms {
    Terms { issuer: "https://id.example".into(), audiences: vec!["shop".into(), "office".into()], ..Terms::default() }
}

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn keys(keys: &[Value]) -> Keys {
    Keys::read(&set(keys), &terms()).unwrap()
}

fn claims() -> Value {
    json!({ "iss": "https://id.example", "aud": "shop", "exp": NOW + 60, "sub": "ann" })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// A token of parts that nobody has signed.
fn forged(head: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |part: &Value| BASE64.encode(part.to_string());
    format!("{}.{}.{}", part(head), part(claims), BASE64.encode(signature))
}

#[test]
fn a_token_of_any_asymmetric_algorithm_verifies_and_no_other_key_does() {
    let signers = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA].map(|algorithm| Signer::new(algorithm, "other"));
    for signer in signers.iter().chain([&*EC]) {
        let keys = keys(&[signer.jwk()]);
        assert_eq!(keys.verify(&signer.sign(&claims())).unwrap()["sub"], "ann", "{:?}", signer.algorithm);
        let stranger = Signer::new(signer.algorithm, signer.id);
        assert_eq!(keys.verify(&stranger.sign(&claims())), Err(BadToken::Signature), "{:?}", signer.algorithm);
    }
    let mut jwk = RSA.jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    let keys = keys(&[jwk]);
    for algorithm in [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512] {
        assert!(keys.verify(&RSA.sign_as(algorithm, Some("rsa"), &claims())).is_ok(), "{algorithm:?}");
    }
}

#[test]
fn no_algorithm_but_the_keys_own_verifies() {
    let (rsa, ec) = (RSA.jwk(), EC.jwk());
    let keys = keys(&[rsa.clone(), ec.clone()]);
    for name in ["none", "None", "NONE", "nOnE", "", "HS255", "ES512", "ES256K", "RSA-OAEP"] {
        for signature in [&b""[..], &[0; 64], &[0; 256]] {
            assert_eq!(keys.verify(&forged(&json!({ "alg": name }), &claims(), signature)), Err(BadToken::Algorithm), "{name}");
        }
    }
    // Everything of a public key that somebody might take for a secret.
    let decoded = |jwk: &Value, part: &str| BASE64.decode(jwk[part].as_str().unwrap()).unwrap();
    let point = [vec![4], decoded(&ec, "x"), decoded(&ec, "y")].concat();
    let public = [decoded(&rsa, "n"), decoded(&rsa, "e"), point, rsa.to_string().into_bytes(), ec.to_string().into_bytes()];
    let texts = ["n", "e"].map(|part| rsa[part].as_str().unwrap().as_bytes().to_vec());
    for secret in public.into_iter().chain(texts).chain([set(&[rsa.clone(), ec.clone()]), Vec::new()]) {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            for id in [None, Some("rsa".to_owned()), Some("ec".to_owned())] {
                let header = Header { kid: id, ..Header::new(algorithm) };
                let token = encode(&header, &claims(), &EncodingKey::from_secret(&secret)).unwrap();
                assert_eq!(keys.verify(&token), Err(BadToken::Algorithm));
            }
        }
    }
    // A good signature under another algorithm's name, and under another key's.
    let renamed = |token: &str, head: Value| format!("{}.{}", BASE64.encode(head.to_string()), token.split_once('.').unwrap().1);
    let good = RSA.sign(&claims());
    assert_eq!(keys.verify(&renamed(&good, json!({ "alg": "PS256", "kid": "rsa" }))), Err(BadToken::Algorithm), "the key says RS256");
    assert_eq!(keys.verify(&renamed(&good, json!({ "alg": "ES256", "kid": "rsa" }))), Err(BadToken::UnknownKey));
    assert_eq!(keys.verify(&renamed(&good, json!({ "alg": "RS256", "kid": "ec" }))), Err(BadToken::UnknownKey));
    let narrow = Terms { algorithms: vec![Algorithm::ES256], ..terms() };
    let narrow = Keys::read(&set(&[rsa, ec]), &narrow).unwrap();
    assert_eq!(narrow.verify(&good), Err(BadToken::Algorithm), "the terms want ES256");
    assert!(narrow.verify(&EC.sign(&claims())).is_ok());
}

#[test]
fn a_key_is_found_by_its_id_and_without_one_few_are_tried() {
    let signers: Vec<Signer> = ["a", "b", "c", "d", "e"].map(|id| Signer::new(Algorithm::ES256, id)).into();
    let jwks: Vec<Value> = signers.iter().map(Signer::jwk).collect();
    let (four, five) = (keys(&jwks[..4]), keys(&jwks));
    let unnamed = signers[3].sign_as(Algorithm::ES256, None, &claims());
    assert!(four.verify(&unnamed).is_ok());
    assert_eq!(five.verify(&unnamed), Err(BadToken::UnknownKey), "a token costs a few checks at most");
    assert!(five.verify(&signers[4].sign(&claims())).is_ok());
    assert_eq!(four.verify(&signers[4].sign(&claims())), Err(BadToken::UnknownKey));
    assert_eq!(four.verify(&signers[4].sign_as(Algorithm::ES256, Some("a"), &claims())), Err(BadToken::Signature));
    let mut nameless = jwks[0].clone();
    nameless.as_object_mut().unwrap().remove("kid");
    assert!(keys(&[nameless]).verify(&signers[0].sign_as(Algorithm::ES256, Some("whatever"), &claims())).is_ok());
}

#[test]
fn issuer_and_audience_are_the_providers_or_the_token_is_not() {
    let keys = keys(&[EC.jwk()]);
    let verify = |claims: &Value| keys.verify(&EC.sign(claims)).map(drop);
    for good in [claims(), with("aud", json!(["x", "office"]))] {
        assert_eq!(verify(&good), Ok(()));
    }
    for bad in [json!("https://id.example/"), json!("HTTPS://id.example"), json!(""), json!(7), json!({}), json!(null)] {
        assert_eq!(verify(&with("iss", bad.clone())), Err(BadToken::Issuer), "{bad}");
    }
    for bad in [json!("shops"), json!(["x"]), json!([]), json!(7), json!({ "shop": 1 }), json!(null)] {
        assert_eq!(verify(&with("aud", bad.clone())), Err(BadToken::Audience), "{bad}");
    }
    assert_eq!([verify(&without("iss")), verify(&without("aud"))], [Err(BadToken::Issuer), Err(BadToken::Audience)]);
    assert_eq!(verify(&without("exp")), Err(BadToken::Malformed), "a token has an end");
}

#[test]
fn a_token_counts_from_its_beginning_to_its_end_give_or_take_the_skew() {
    let skew = Duration::from_secs(10);
    let at = |claims: Value, now: u64| Claims::of(claims.as_object().unwrap(), &[]).unwrap().at(now, skew);
    let timed = || json!({ "exp": 2000, "nbf": 1000 });
    assert_eq!([at(timed(), 990), at(timed(), 1500), at(timed(), 2009)], [Ok(()); 3]);
    assert_eq!((at(timed(), 989), at(timed(), 2010)), (Err(BadToken::NotYet), Err(BadToken::Expired)));
    assert_eq!(at(json!({ "exp": 2000.9 }), 2009), Ok(()));
    assert_eq!(at(json!({ "exp": u64::MAX }), u64::MAX - 1), Ok(()), "nothing overflows");
    for bad in [json!({}), json!({ "exp": "2000" }), json!({ "exp": -1 }), json!({ "exp": 2000, "nbf": "soon" }), json!({ "exp": null })] {
        assert_eq!(Claims::of(bad.as_object().unwrap(), &[]), Err(BadToken::Malformed), "{bad}");
    }
}

#[test]
fn what_is_no_signed_token_or_wants_more_than_is_known_is_refused() {
    let keys = keys(&[EC.jwk()]);
    let good = EC.sign(&claims());
    let (head, rest) = good.split_once('.').unwrap();
    let critical = |name: &str| format!("{}.{rest}", BASE64.encode(json!({ "alg": "ES256", "kid": "ec", "crit": [name] }).to_string()));
    let nested = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let deep = format!("{}.{}.AAAA", head, BASE64.encode(format!("{{\"x\":{nested}}}")));
    let deep_head = format!("{}.{rest}", BASE64.encode(format!("{{\"alg\":\"ES256\",\"x\":{nested}}}")));
    for bad in [
        "",
        ".",
        "..",
        "...",
        head,
        &format!("{good}.x"),
        &format!("{good}.x.y"),
        &format!("{good} "),
        &format!(" {good}"),
        &format!("{good}="),
        &format!("{head}.{rest}").replace('.', "\n"),
        &critical("b64"),
        &critical("exp"),
        &deep_head,
        &forged(&json!([]), &claims(), b"x"),
        &forged(&json!({ "alg": 7 }), &claims(), b"x"),
    ] {
        assert_eq!(keys.verify(bad), Err(BadToken::Malformed), "{bad}");
    }
    assert_eq!(keys.verify(&deep), Err(BadToken::Signature), "its payload is not even looked at");
}

#[test]
fn claims_are_texts_that_a_field_can_carry_or_nothing() {
    let token = json!({
        "exp": 1, "sub": "ann", "n": 7, "b": true, "no": null, "roles": ["a", "b", 3], "spoof": ["a,admin"], "deep": { "er": { "x": "y" } },
        "https://shop.example/tier": "gold", "a.b": "dotted", "a": { "b": "nested", "c": "d" }, "tab": "a\tb", "line": "a\r\nx-admin: 1",
        "blank": " admin", "long": "x".repeat(4097), "fits": "x".repeat(4096), "none": [], "lists": [["a"]], "ü": "ö",
    });
    let text = |name: &str| {
        let claims = Claims::of(token.as_object().unwrap(), &[name.to_owned()]).unwrap();
        claims.text(0).map(|text| String::from_utf8(text.as_bytes().to_vec()).unwrap())
    };
    for (name, value) in [
        ("sub", "ann"),
        ("n", "7"),
        ("b", "true"),
        ("roles", "a,b,3"),
        ("deep.er.x", "y"),
        ("https://shop.example/tier", "gold"),
        ("a.b", "dotted"),
        ("a.c", "d"),
        ("none", ""),
        ("ü", "ö"),
    ] {
        assert_eq!(text(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(text("fits").map(|text| text.len()), Some(4096));
    for name in ["missing", "no", "spoof", "deep", "deep.er", "deep.er.x.y", "tab", "line", "blank", "long", "lists", ".", "a.", ".a"] {
        assert_eq!(text(name), None, "{name}");
    }
}

#[test]
fn a_file_of_keys_is_public_whole_and_strong_or_says_why_not() {
    let read = |keys: &[Value]| Keys::read(&set(keys), &terms()).map(|keys| keys.keys.len());
    let change = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    let foreign = [
        json!({ "kty": "PQC", "x": 1 }),
        json!({}),
        json!(7),
        change(EC.jwk(), "use", json!("enc")),
        change(EC.jwk(), "key_ops", json!(["sign"])),
        change(EC.jwk(), "alg", json!("ECDH-ES")),
        json!({ "kty": "OKP", "crv": "Ed25519", "alg": "RS256", "x": "AA" }),
    ];
    assert_eq!(read(&foreign), Err(BadKeys::Nothing));
    assert_eq!(read(&[&foreign[..], &[EC.jwk(), RSA.jwk()]].concat()), Ok(2), "others are passed over");
    let small = BASE64.encode([0xff; 128]);
    for (bad, why) in [
        (json!({ "kty": "oct", "k": "AAAA", "kid": "s" }), BadKeys::Symmetric("`s`".into())),
        (change(EC.jwk(), "d", json!("AAAA")), BadKeys::Private("`ec`".into())),
        (change(RSA.jwk(), "n", json!(small)), BadKeys::Strength("`rsa`".into(), 1024)),
        (change(RSA.jwk(), "n", json!("?")), BadKeys::Malformed("`rsa`".into())),
        (change(RSA.jwk(), "e", json!("")), BadKeys::Malformed("`rsa`".into())),
        (change(EC.jwk(), "x", json!("AAAA")), BadKeys::Malformed("`ec`".into())),
        (json!({ "kty": "RSA" }), BadKeys::Malformed("1".into())),
    ] {
        assert_eq!(read(std::slice::from_ref(&bad)), Err(why), "{bad}");
    }
    assert_eq!(read(&vec![EC.jwk(); 65]), Err(BadKeys::TooMany(65)));
    for text in ["", "{}", "[]", "{\"keys\": 1}", "-----BEGIN PUBLIC KEY-----"] {
        assert!(matches!(Keys::read(text.as_bytes(), &terms()), Err(BadKeys::NoSet(_))), "{text}");
    }
}

#[test]
fn keys_are_replaced_at_once_and_bad_ones_leave_those_before() {
    let (old, new) = (Signer::new(Algorithm::ES256, "old"), Signer::new(Algorithm::ES256, "new"));
    let provider = JwtProvider::new("id".into(), terms(), "jwks.json".into(), &set(&[old.jwk()])).unwrap();
    let before = *provider.keys().identity();
    let verifies = |signer: &Signer| provider.keys().verify(&signer.sign(&claims())).is_ok();
    assert_eq!((verifies(&old), verifies(&new)), (true, false));
    assert_eq!(provider.replace(b"half a fi"), Err(BadKeys::NoSet("expected value at line 1 column 1".into())));
    assert_eq!((provider.replace(&set(&[old.jwk()])), verifies(&old)), (Ok(false), true));
    assert_eq!((provider.replace(&set(&[new.jwk()])), verifies(&old), verifies(&new)), (Ok(true), false, true));
    assert_ne!(before, *provider.keys().identity());
    let other = |terms: Terms| JwtProvider::new("id".into(), terms, "jwks.json".into(), &set(&[new.jwk()])).unwrap();
    let identities: std::collections::HashSet<[u8; 32]> = [
        terms(),
        Terms { issuer: "x".into(), ..terms() },
        Terms { audiences: vec!["shopoffice".into()], ..terms() },
        Terms { algorithms: vec![Algorithm::ES256], ..terms() },
    ]
    .map(|terms| *Arc::new(other(terms)).keys().identity())
    .into();
    assert_eq!(identities.len(), 4, "what was verified under other terms is another thing");
}

/// Only few algorithms, as making keys of RSA takes long.
fn signer(rsa: bool) -> &'static Signer {
    if rsa { &RSA } else { &EC }
}

proptest! {
    #[test]
    fn a_token_with_any_character_changed_lost_or_added_does_not_verify(
        rsa in any::<bool>(), place in any::<prop::sample::Index>(), with in "[A-Za-z0-9_.-]", how in 0..3,
    ) {
        let keys = keys(&[signer(rsa).jwk()]);
        let token = signer(rsa).sign(&claims());
        prop_assert!(keys.verify(&token).is_ok());
        let place = place.index(token.len());
        let mut changed = token.clone();
        match how {
            0 => changed.replace_range(place..=place, &with),
            1 => drop(changed.remove(place)),
            _ => changed.insert_str(place, &with),
        }
        prop_assume!(changed != token);
        prop_assert!(keys.verify(&changed).is_err(), "{changed}");
    }

    #[test]
    fn no_text_is_a_panic_or_a_token(text in "\\PC{0,300}", parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5)) {
        let keys = keys(&[EC.jwk()]);
        prop_assert!(keys.verify(&text).is_err());
        let parts: Vec<String> = parts.iter().map(|part| BASE64.encode(part)).collect();
        prop_assert!(keys.verify(&parts.join(".")).is_err());
        let (head, _) = EC.sign(&claims()).split_once('.').map(|(head, rest)| (head.to_owned(), rest.to_owned())).unwrap();
        let headed = format!("{head}.{}", parts.join("."));
        prop_assert!(keys.verify(&headed).is_err());
    }
}
