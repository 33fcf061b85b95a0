use super::*;
use crate::ca::{Ca, LEAF_LIFETIME};
use figspan_proto::permit::Permit;
use proptest::prelude::*;
use rcgen::{CertificateParams, SanType};

fn ca() -> Ca {
    Ca::create(&"figspan.local".parse().unwrap(), SystemTime::now()).unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn leaf_with(names: Vec<SanType>) -> Result<Leaf, IdentityError> {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    Leaf::read(params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der())
}

#[test]
fn an_identity_reads_back_from_its_pem() {
    let (ca, key) = (ca(), KeyPair::generate().unwrap());
    let id: SpiffeId = "spiffe://figspan.local/hub/hub-0".parse().unwrap();
    let chain = ca.issue(&id, &key.csr().unwrap(), SystemTime::now(), LEAF_LIFETIME).unwrap();
    let identity = Identity::from_der(chain, &key).unwrap();
    assert_eq!(identity.id(), &id);
    let again = Identity::from_pem(&identity.chain_pem(), &KeyPair::from_pem(&key.to_pem()).unwrap().to_pem()).unwrap();
    assert_eq!((again.id(), again.not_after()), (identity.id(), identity.not_after()));
    assert!(!format!("{identity:?} {key:?}").contains("PRIVATE"));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (ca, key) = (ca(), KeyPair::generate().unwrap());
    let id = "spiffe://figspan.local/agent/vm-1".parse().unwrap();
    let chain = ca.issue(&id, &key.csr().unwrap(), SystemTime::now(), LEAF_LIFETIME).unwrap();
    assert!(matches!(Identity::from_der(chain, &KeyPair::generate().unwrap()), Err(IdentityError::Mismatch)));
}

#[test]
fn zero_or_two_names_are_refused_and_so_are_other_kinds_of_names() {
    let vm = || uri("spiffe://figspan.local/agent/vm-1");
    assert!(leaf_with(vec![vm()]).is_ok());
    assert!(matches!(leaf_with(vec![]), Err(IdentityError::Names(0))));
    assert!(matches!(leaf_with(vec![vm(), uri("spiffe://figspan.local/hub/hub-0")]), Err(IdentityError::Names(2))));
    let dns = || SanType::DnsName("vm-1.example".try_into().unwrap());
    assert!(matches!(leaf_with(vec![vm(), dns()]), Err(IdentityError::Names(2))));
    assert!(matches!(leaf_with(vec![dns()]), Err(IdentityError::NotUri)));
    assert!(matches!(leaf_with(vec![uri("https://figspan.local/agent/vm-1")]), Err(IdentityError::Spiffe(_))));
}

#[test]
fn permits_that_are_doubled_or_spelled_otherwise_are_refused() {
    let permit =
        || permit::extensions(&Permit { granted: 1, joined: 2, uplinks: vec!["shop".parse().unwrap()], services: vec![] }).remove(0);
    let leaf = |extensions: Vec<rcgen::CustomExtension>| {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri("spiffe://figspan.local/agent/vm-1")];
        params.custom_extensions = extensions;
        Leaf::read(params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der())
    };
    assert!(leaf(vec![permit()]).unwrap().permit.is_some());
    assert!(matches!(leaf(vec![permit(), permit()]), Err(IdentityError::Permit(_) | IdentityError::Certificate(_))));
    let oid: Vec<u64> = permit().oid_components().collect();
    for bad in ["\x0c\x07", "\x0c\x0a1 01 2 shop", "\x0c\x0c1 1 2 shop,,", "1 1 2 shop"] {
        let extension = rcgen::CustomExtension::from_oid_content(&oid, bad.as_bytes().to_vec());
        assert!(matches!(leaf(vec![extension]), Err(IdentityError::Permit(_))), "{bad:?}");
    }
}

#[test]
fn a_ca_is_no_leaf_and_a_leaf_is_no_root() {
    let (ca, key) = (ca(), KeyPair::generate().unwrap());
    assert!(matches!(Leaf::read(&ca.roots().to_der()[0]), Err(IdentityError::IsCa)));
    let id = "spiffe://figspan.local/agent/vm-1".parse().unwrap();
    let mut chain = ca.issue(&id, &key.csr().unwrap(), SystemTime::now(), LEAF_LIFETIME).unwrap();
    chain.truncate(1);
    assert!(matches!(Roots::from_der(chain), Err(IdentityError::NotCa)));
}

#[test]
fn roots_read_back_overlap_and_are_bounded() {
    let (old, new) = (ca().roots(), ca().roots());
    let both = old.and(&new).unwrap();
    assert_eq!(Roots::from_pem(&both.to_pem()).unwrap(), both);
    assert_eq!(both.pins(), [old.pins(), new.pins()].concat());
    assert_eq!(both.and(&old).unwrap(), both);
    assert!(matches!(both.and(&ca().roots()).unwrap().and(&ca().roots()).unwrap().and(&ca().roots()), Err(IdentityError::TooMany { .. })));
    assert!(matches!(Roots::from_pem(""), Err(IdentityError::Empty(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Leaf::read(&bytes);
        let _ = Roots::from_der(vec![bytes.clone()]);
        let text = String::from_utf8_lossy(&bytes);
        let _ = Roots::from_pem(&text);
        let _ = Identity::from_pem(&text, &text);
    }

    #[test]
    fn an_altered_leaf_never_makes_the_reader_panic(at in 0usize..700, to: u8) {
        static LEAF: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let mut der = LEAF.get_or_init(|| {
            let id = "spiffe://figspan.local/agent/vm-1".parse().unwrap();
            let permit = "1 1 2 shop,orders-*".parse().unwrap();
            let csr = KeyPair::generate().unwrap().csr().unwrap();
            ca().issue_permitted(&id, &permit, &csr, SystemTime::now(), LEAF_LIFETIME).unwrap().swap_remove(0)
        }).clone();
        let at = at % der.len();
        der[at] = to;
        let _ = Leaf::read(&der);
    }
}
