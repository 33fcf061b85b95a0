use super::*;
use crate::identity::{Identity, Leaf};
use crate::lifetime::CLOCK_TOLERANCE;
use x509_parser::prelude::{GeneralName, X509Certificate};

fn domain() -> TrustDomain {
    "figspan.local".parse().unwrap()
}

fn ca() -> Ca {
    Ca::create(&domain(), SystemTime::now()).unwrap()
}

fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

const VM: &str = "spiffe://figspan.local/agent/vm-1";

#[test]
fn a_request_with_evil_names_and_ca_true_yields_a_clean_leaf() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut evil = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    evil.subject_alt_names.push(SanType::URI("spiffe://figspan.local/hub/hub-0".try_into().unwrap()));
    evil.distinguished_name.push(DnType::CommonName, "root of all");
    evil.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    evil.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    evil.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let csr = evil.serialize_request(&key).unwrap();

    let chain = ca().issue(&id(VM), csr.der(), SystemTime::now(), LEAF_LIFETIME).unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject().to_string(), "CN=vm-1");
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert!(matches!(&names[..], [GeneralName::URI(VM)]), "{names:?}");
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !usage.code_signing && !usage.any);
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    assert_eq!(leaf.public_key().subject_public_key.data.as_ref(), rcgen::PublicKeyData::der_bytes(&key));
}

#[test]
fn a_leaf_begins_five_minutes_ago_and_lives_as_long_as_asked() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let ca = Ca::create(&domain(), now).unwrap();
    let chain = ca.issue(&id(VM), &KeyPair::generate().unwrap().csr().unwrap(), now, LEAF_LIFETIME).unwrap();
    let leaf = Leaf::read(&chain[0]).unwrap();
    assert_eq!(leaf.not_before, now - CLOCK_TOLERANCE);
    assert_eq!(leaf.not_after, now + LEAF_LIFETIME);
}

#[test]
fn a_leaf_never_outlives_its_ca() {
    let ca = ca();
    let late = SystemTime::now() + CA_LIFETIME - Duration::from_secs(600);
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let chain = ca.issue(&id(VM), &csr, late, LEAF_LIFETIME).unwrap();
    assert!(Leaf::read(&chain[0]).unwrap().not_after < late + Duration::from_secs(601));
    assert!(ca.issue(&id(VM), &csr, late + LEAF_LIFETIME, LEAF_LIFETIME).is_err());
}

#[test]
fn serials_differ() {
    let (ca, csr) = (ca(), KeyPair::generate().unwrap().csr().unwrap());
    let serial = || {
        let chain = ca.issue(&id(VM), &csr, SystemTime::now(), LEAF_LIFETIME).unwrap();
        X509Certificate::from_der(&chain[0]).unwrap().1.serial.clone()
    };
    assert_ne!(serial(), serial());
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let other = KeyPair::generate().unwrap().csr().unwrap();
    let (_, parsed) = X509CertificationRequest::from_der(&csr).unwrap();
    let (_, foreign) = X509CertificationRequest::from_der(&other).unwrap();
    let own = parsed.certification_request_info.subject_pki.subject_public_key.data.to_vec();
    let theirs = foreign.certification_request_info.subject_pki.subject_public_key.data.to_vec();
    let at = csr.windows(own.len()).position(|window| window == own).unwrap();
    let mut forged = csr.clone();
    forged[at..at + own.len()].copy_from_slice(&theirs);
    assert!(matches!(ca().issue(&id(VM), &forged, SystemTime::now(), LEAF_LIFETIME), Err(CaError::Csr(_))));
}

#[test]
fn rsa_keys_trailing_bytes_and_garbage_are_refused() {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let rsa = CertificateParams::default().serialize_request(&rsa).unwrap();
    let mut long = KeyPair::generate().unwrap().csr().unwrap();
    long.push(0);
    for bad in [rsa.der().to_vec(), long, b"not a request".to_vec(), Vec::new(), vec![0x30; MAX_CSR + 1]] {
        assert!(matches!(ca().issue(&id(VM), &bad, SystemTime::now(), LEAF_LIFETIME), Err(CaError::Csr(_))));
    }
}

#[test]
fn ed25519_and_p384_keys_are_served() {
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        assert!(ca().issue(&id(VM), csr.der(), SystemTime::now(), LEAF_LIFETIME).is_ok());
    }
}

#[test]
fn an_id_of_another_trust_domain_is_refused() {
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    assert!(matches!(ca().issue(&id("spiffe://other/agent/vm-1"), &csr, SystemTime::now(), LEAF_LIFETIME), Err(CaError::Ca(_))));
}

#[test]
fn a_ca_read_back_from_pem_issues_under_the_same_pin() {
    let ca = ca();
    let again = Ca::from_pem(&domain(), &ca.certificate_pem(), &ca.key_pem()).unwrap();
    assert_eq!(again.pin(), ca.pin());
    let key = KeyPair::generate().unwrap();
    let chain = again.issue(&id(VM), &key.csr().unwrap(), SystemTime::now(), LEAF_LIFETIME).unwrap();
    assert_eq!(Identity::from_der(chain, &key).unwrap().id(), &id(VM));
    let other = Ca::create(&domain(), SystemTime::now()).unwrap();
    assert!(Ca::from_pem(&domain(), &ca.certificate_pem(), &other.key_pem()).is_err());
}

#[test]
fn short_lives_begin_little_before_now_and_every_leaf_tells_when_it_was_signed() {
    let ca = ca();
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for seconds in [10, 15, 19, 60, 601, 2999, 3000, 3001, 3600, 24 * 3600, 30 * 24 * 3600] {
        let life = Duration::from_secs(seconds);
        // The root is older than the leaf.
        let ca = Ca::create(ca.trust_domain(), now - Duration::from_secs(3600)).unwrap();
        let leaf = Leaf::read(&ca.issue(&id(VM), &csr, now, life).unwrap()[0]).unwrap();
        assert_eq!((leaf.issued(), leaf.not_after), (now, now + life), "{seconds} s");
        assert_eq!(leaf.not_before, now - Duration::from_secs((seconds / 10).min(300)), "{seconds} s");
        assert_eq!(leaf.root(&ca.roots()), Some(ca.pin()));
        assert_eq!(leaf.root(&Ca::create(ca.trust_domain(), now).unwrap().roots()), None);
    }
}

#[test]
fn a_permit_is_read_from_the_leaf_and_a_hub_has_none() {
    let (ca, csr) = (ca(), KeyPair::generate().unwrap().csr().unwrap());
    let permit = Permit {
        granted: 1,
        joined: 2,
        uplinks: vec!["shop-*".parse().unwrap(), "monolith".parse().unwrap()],
        services: vec!["orders".parse().unwrap()],
    };
    let issue = |name: &str| ca.issue_permitted(&id(name), &permit, &csr, SystemTime::now(), LEAF_LIFETIME).unwrap();
    assert_eq!(Leaf::read(&issue(VM)[0]).unwrap().permit.as_ref(), Some(&permit));
    assert!(Leaf::read(&issue("spiffe://figspan.local/hub/hub-0")[0]).is_err());
    let plain = ca.issue(&id(VM), &csr, SystemTime::now(), LEAF_LIFETIME).unwrap();
    assert_eq!(Leaf::read(&plain[0]).unwrap().permit, None);
}

#[test]
fn requests_of_one_key_are_known_as_such() {
    let (one, two) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    assert_eq!(requested_key(&one.csr().unwrap()).unwrap(), requested_key(&one.csr().unwrap()).unwrap());
    assert_ne!(requested_key(&one.csr().unwrap()).unwrap(), requested_key(&two.csr().unwrap()).unwrap());
    assert!(requested_key(b"none").is_err());
}
