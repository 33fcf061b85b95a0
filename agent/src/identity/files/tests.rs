use super::*;
use figspan_proto::name::Role;
use figspan_tunnel::testing::Authority;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

fn kept(authority: &Authority) -> Kept {
    let key = KeyPair::generate().unwrap();
    let id =
        figspan_proto::name::SpiffeId { trust_domain: authority.ca.trust_domain().clone(), role: Role::Agent("vm-1".parse().unwrap()) };
    let chain = authority.ca.issue(&id, &key.csr().unwrap(), SystemTime::now(), Duration::from_secs(60)).unwrap();
    Kept { identity: Identity::from_der(chain, &key).unwrap(), key, roots: authority.ca.roots() }
}

#[test]
fn what_a_join_gave_is_read_back_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(&dir.path().join("state"));
    assert!(files.read().unwrap().is_none());
    let authority = Authority::new();
    let joined = kept(&authority);
    let declared =
        Declared { uplinks: [("shop".parse().unwrap(), "127.0.0.1:8080".parse().unwrap())].into(), zone: Some("eu-1a".parse().unwrap()) };
    files.write_joined(&joined, &["hub.example:7443".to_owned()], authority.ca.trust_domain(), &declared).unwrap();
    let back = files.read().unwrap().unwrap();
    assert_eq!(back.identity.chain_pem(), joined.identity.chain_pem());
    for file in [files.key(), files.chain(), files.roots()] {
        assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o600);
    }
    let mut reader = crate::settings::read::Reader::default();
    reader.read("join", &fs::read_to_string(dir.path().join("state").join(JOIN_DROP_IN)).unwrap());
    let (settings, _) = reader.finish().unwrap();
    assert_eq!(settings.hubs, ["hub.example:7443"]);
    assert_eq!((&settings.uplinks[0].name, &settings.uplinks[0].address), (&declared.uplinks[0].0, &declared.uplinks[0].1));
    assert_eq!(settings.zone, declared.zone);
    // Another join replaces all of it.
    let other = kept(&authority);
    files.write_joined(&other, &["other:1".to_owned()], authority.ca.trust_domain(), &Declared::default()).unwrap();
    assert_eq!(files.read().unwrap().unwrap().identity.chain_pem(), other.identity.chain_pem());
}

#[test]
fn the_key_of_a_join_stays_the_same_until_its_answer_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    let first = files.joining_key().unwrap().to_pem();
    assert_eq!(files.joining_key().unwrap().to_pem(), first);
    assert_eq!(fs::metadata(files.joining()).unwrap().mode() & 0o777, 0o600);
    let authority = Authority::new();
    files.write_joined(&kept(&authority), &["hub:1".to_owned()], authority.ca.trust_domain(), &Declared::default()).unwrap();
    assert!(!files.joining().exists());
    assert_ne!(files.joining_key().unwrap().to_pem(), first);
}

#[test]
fn writers_at_the_same_time_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let authorities = [Authority::new(), Authority::new()];
    let key = KeyPair::generate().unwrap();
    let start = Barrier::new(authorities.len());
    let write = |authority: &Authority| {
        let files = Files::new(dir.path());
        let round = |_| {
            start.wait();
            let written = files.renew_roots(&authority.ca.roots(), &key).err().map(|error| error.to_string());
            let there = read(&files.roots()).ok().flatten().unwrap_or_default();
            let whole = authorities.iter().any(|authority| there == authority.ca.roots().to_pem());
            written.or((!whole).then(|| format!("not whole: {there}")))
        };
        (0..200).filter_map(round).collect::<Vec<_>>()
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = authorities.iter().map(|authority| scope.spawn(|| write(authority))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "{} of 400 writes went wrong: {:?}", wrong.len(), wrong.first());
    let left: Vec<_> = fs::read_dir(dir.path().join("identity")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["roots.pem"]);
}

#[test]
fn what_a_killed_writer_left_goes_with_the_next_write_and_what_a_living_one_writes_stays() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    files.try_write().unwrap();
    let (left, file) = being_written(&files.key()).unwrap();
    drop(file);
    let (alive, file) = being_written(&files.roots()).unwrap();
    let older = files.chain().with_extension("pem.new");
    let foreign = files.chain().with_file_name("notes.new");
    for path in [&older, &foreign] {
        fs::write(path, "").unwrap();
    }
    files.try_write().unwrap();
    assert_eq!([&left, &older, &alive, &foreign].map(|path| path.exists()), [false, false, true, true]);
    drop(file);
    files.try_write().unwrap();
    assert!(!alive.exists());
}

#[test]
fn nothing_of_an_older_key_is_written_over_what_another_join_gave() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    let (before, after) = (Authority::new(), Authority::new());
    let (old, new) = (kept(&before), kept(&after));
    let join = |kept: &Kept, authority: &Authority| {
        files.write_joined(kept, &["hub:1".to_owned()], authority.ca.trust_domain(), &Declared::default()).unwrap();
    };
    join(&old, &before);
    assert!(files.renew_chain(&old.identity, &old.key).unwrap() && files.renew_roots(&old.roots, &old.key).unwrap());
    join(&new, &after);
    assert!(!files.renew_chain(&old.identity, &old.key).unwrap() && !files.renew_roots(&old.roots, &old.key).unwrap());
    let there = files.read().unwrap().unwrap();
    assert_eq!((there.identity.chain_pem(), there.roots), (new.identity.chain_pem(), new.roots));
}

#[test]
fn a_key_of_another_certificate_is_told_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let files = Files::new(dir.path());
    let authority = Authority::new();
    files.write_joined(&kept(&authority), &["hub:1".to_owned()], authority.ca.trust_domain(), &Declared::default()).unwrap();
    fs::write(files.key(), KeyPair::generate().unwrap().to_pem()).unwrap();
    let error = files.read().unwrap_err().to_string();
    assert!(error.contains("chain.pem") && error.contains("figspan-agent join"), "{error}");
}
