//! The hub's CA: whom agents trust, and what this replica shows them.
//!
//! A CA is made at the first start and kept in the state directory (`ca.json`, 0600, replaced as a whole), or given as
//! files. The replica's own leaf is made anew at every start, its key never written, and replaced at two thirds of its life.
//! A CA changes in two steps, so that no agent ever meets a root that it was not told: `begin` adds a second root beside the
//! one that issues, `finish` lets the new one issue and keeps the old root until its last leaf has ended.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use figspan_proto::join::Pin;
use figspan_proto::name::{ReplicaId, Role, SpiffeId, TrustDomain};
use figspan_tunnel::ca::{Ca, CaError, LEAF_LIFETIME};
use figspan_tunnel::identity::{Credentials, Identity, IdentityError, KeyPair, Roots};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{CaFiles, Clock};
use crate::store::{Store, StoreError};

const FILE: &str = "ca.json";
/// How long an old root stays trusted after the last leaf that it could have signed has ended: room for skewed clocks.
const ROOT_MARGIN: Duration = Duration::from_secs(3600);

/// Why the CA or the hub's own certificate cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The state directory.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A given file cannot be read.
    #[error("cannot read CA file {path}: {source}; correct the path, or the file's owner and mode")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The CA cannot be used.
    #[error("the CA in {place} cannot be used: {source}")]
    Ca {
        /// Where it comes from.
        place: String,
        /// Why.
        source: CaError,
    },
    /// The hub's own certificate cannot be made.
    #[error("cannot make the hub's certificate: {0}")]
    Leaf(#[from] IdentityError),
    /// Somebody else looks after the CA.
    #[error("the CA was given as files; change those files and restart the hub")]
    Given,
    /// A change is under way, or none is.
    #[error("{0}")]
    Order(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    current: Pem,
    next: Option<Pem>,
    previous: Option<Previous>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pem {
    certificate: String,
    key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Previous {
    certificate: String,
    until: Timestamp,
}

#[derive(Debug, Clone)]
struct Cas {
    current: Arc<Ca>,
    next: Option<Arc<Ca>>,
    previous: Option<Previous>,
}

/// The CA and what is made of it.
#[derive(Debug)]
pub(crate) struct Trust {
    id: SpiffeId,
    clock: Clock,
    /// `None` for a CA given as files.
    store: Option<Arc<Store>>,
    cas: Mutex<Cas>,
    credentials: Arc<Credentials>,
}

impl Trust {
    /// Loads or makes the CA and makes the replica's certificate.
    pub(crate) fn open(
        domain: &TrustDomain,
        replica: &ReplicaId,
        given: Option<&CaFiles>,
        store: &Arc<Store>,
        clock: Clock,
    ) -> Result<Self, TrustError> {
        let cas = match given {
            Some(files) => Cas { current: Arc::new(read_given(domain, files)?), next: None, previous: None },
            None => match store.read::<Kept>(FILE)? {
                Some(kept) => restore(domain, kept, &store.path(FILE))?,
                None => {
                    let current = Ca::create(domain, clock.now()).map_err(|source| TrustError::Ca { place: "memory".into(), source })?;
                    let cas = Cas { current: Arc::new(current), next: None, previous: None };
                    store.write(FILE, &keep(&cas))?;
                    tracing::info!(pin = %cas.current.pin(), "made a CA for trust domain {domain}");
                    cas
                }
            },
        };
        let id = SpiffeId { trust_domain: domain.clone(), role: Role::Hub(replica.clone()) };
        let identity = leaf(&cas.current, &id, clock.now())?;
        let credentials = Credentials::new(identity, roots(&cas)?);
        Ok(Self { id, clock, store: given.is_none().then(|| Arc::clone(store)), cas: Mutex::new(cas), credentials })
    }

    /// What endpoints present and trust.
    pub(crate) fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }

    /// Hash of the public key of the CA that issues: what grants tell agents to insist on.
    pub(crate) fn pin(&self) -> Pin {
        self.cas().current.pin()
    }

    /// Root certificates in DER, to be trusted by agents.
    pub(crate) fn roots_der(&self) -> Vec<Vec<u8>> {
        self.credentials.roots().to_der()
    }

    /// Pins of all roots.
    pub(crate) fn pins(&self) -> Vec<String> {
        self.credentials.roots().pins().iter().map(ToString::to_string).collect()
    }

    /// Signs a leaf for an identity; the public key is all that the request is used for.
    pub(crate) fn issue(&self, id: &SpiffeId, csr: &[u8]) -> Result<Vec<Vec<u8>>, CaError> {
        let ca = Arc::clone(&self.cas().current);
        ca.issue(id, csr, self.clock.now(), LEAF_LIFETIME)
    }

    /// Adds a second root. Blocks for the disk.
    pub(crate) fn begin_change(&self) -> Result<(), TrustError> {
        let store = self.store.as_ref().ok_or(TrustError::Given)?;
        let mut cas = self.cas().clone();
        if cas.next.is_some() {
            return Err(TrustError::Order("a CA change is already under way; finish it first"));
        }
        if cas.previous.is_some() {
            return Err(TrustError::Order("the last CA change still runs out: certificates of the old CA may live; wait a day after it"));
        }
        let place = || store.path(FILE).display().to_string();
        let next = Ca::create(&self.id.trust_domain, self.clock.now()).map_err(|source| TrustError::Ca { place: place(), source })?;
        cas.next = Some(Arc::new(next));
        self.put(store, cas)
    }

    /// Lets the new CA issue from now on. Blocks for the disk.
    pub(crate) fn finish_change(&self) -> Result<(), TrustError> {
        let store = self.store.as_ref().ok_or(TrustError::Given)?;
        let mut cas = self.cas().clone();
        let next = cas.next.take().ok_or(TrustError::Order("no CA change is under way; begin one first"))?;
        let until = self.clock.stamp().checked_add(LEAF_LIFETIME + ROOT_MARGIN).unwrap_or(Timestamp::MAX);
        let old = std::mem::replace(&mut cas.current, next);
        cas.previous = Some(Previous { certificate: old.certificate_pem(), until });
        let identity = leaf(&cas.current, &self.id, self.clock.now())?;
        self.put(store, cas)?;
        self.credentials.set_identity(identity);
        Ok(())
    }

    /// Whether a change waits for its second step.
    pub(crate) fn changing(&self) -> bool {
        self.cas().next.is_some()
    }

    /// What time brings: a new leaf at two thirds of its life, and the end of an old root. `true` when the roots changed.
    /// Blocks for the disk once in a change.
    pub(crate) fn keep_up(&self) -> Result<bool, TrustError> {
        let now = self.clock.now();
        let identity = self.credentials.identity();
        let life = identity.not_after().duration_since(identity.not_before()).unwrap_or_default();
        if now.duration_since(identity.not_before()).unwrap_or_default() > life * 2 / 3 {
            let current = Arc::clone(&self.cas().current);
            self.credentials.set_identity(leaf(&current, &self.id, now)?);
            tracing::info!("renewed the hub's own certificate");
        }
        let mut cas = self.cas().clone();
        let Some(store) = self.store.as_ref().filter(|_| cas.previous.as_ref().is_some_and(|old| self.clock.stamp() > old.until)) else {
            return Ok(false);
        };
        cas.previous = None;
        self.put(store, cas)?;
        Ok(true)
    }

    fn put(&self, store: &Arc<Store>, cas: Cas) -> Result<(), TrustError> {
        let roots = roots(&cas)?;
        store.write(FILE, &keep(&cas))?;
        *self.cas() = cas;
        self.credentials.set_roots(roots);
        Ok(())
    }

    fn cas(&self) -> MutexGuard<'_, Cas> {
        self.cas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_given(domain: &TrustDomain, files: &CaFiles) -> Result<Ca, TrustError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|source| TrustError::Read { path: path.display().to_string(), source });
    let place = files.certificate.display().to_string();
    Ca::from_pem(domain, &read(&files.certificate)?, &read(&files.key)?).map_err(|source| TrustError::Ca { place, source })
}

fn restore(domain: &TrustDomain, kept: Kept, path: &Path) -> Result<Cas, TrustError> {
    let load = |pem: Pem| {
        let ca = Ca::from_pem(domain, &pem.certificate, &pem.key);
        ca.map(Arc::new).map_err(|source| TrustError::Ca { place: path.display().to_string(), source })
    };
    Ok(Cas { current: load(kept.current)?, next: kept.next.map(load).transpose()?, previous: kept.previous })
}

fn keep(cas: &Cas) -> Kept {
    let pem = |ca: &Arc<Ca>| Pem { certificate: ca.certificate_pem(), key: ca.key_pem() };
    Kept { current: pem(&cas.current), next: cas.next.as_ref().map(pem), previous: cas.previous.clone() }
}

fn roots(cas: &Cas) -> Result<Roots, TrustError> {
    let mut der = cas.current.roots().to_der();
    if let Some(next) = &cas.next {
        der.extend(next.roots().to_der());
    }
    if let Some(previous) = &cas.previous {
        der.extend(Roots::from_pem(&previous.certificate)?.to_der());
    }
    Ok(Roots::from_der(der)?)
}

fn leaf(ca: &Ca, id: &SpiffeId, now: SystemTime) -> Result<Identity, TrustError> {
    let key = KeyPair::generate()?;
    let chain = ca.issue(id, &key.csr()?, now, LEAF_LIFETIME).map_err(|source| TrustError::Ca { place: "use".into(), source })?;
    Ok(Identity::from_der(chain, &key)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn domain() -> TrustDomain {
        "figspan.local".parse().unwrap()
    }

    fn open(dir: &Path, hours: &Arc<AtomicU64>) -> Result<Trust, TrustError> {
        let hours = Arc::clone(hours);
        let clock = Clock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs((500_000 + hours.load(Ordering::Relaxed)) * 3600));
        let store = Store::open(dir)?;
        let trust = Trust::open(&domain(), &"hub-0".parse().unwrap(), None, &store, clock);
        store.release();
        // Tests below write again: what counts is that two do not at once.
        trust.map(|mut trust| {
            trust.store = Some(Store::open(dir).unwrap());
            trust
        })
    }

    #[test]
    fn the_ca_outlives_a_restart_and_the_leaf_is_made_anew() {
        let (dir, hours) = (tempfile::tempdir().unwrap(), Arc::default());
        let first = open(dir.path(), &hours).unwrap();
        let (pin, chain) = (first.pin(), first.credentials().identity().chain_pem());
        drop(first);
        let second = open(dir.path(), &hours).unwrap();
        assert_eq!(second.pin(), pin);
        assert_ne!(second.credentials().identity().chain_pem(), chain);
        assert_eq!(second.credentials().identity().id().to_string(), "spiffe://figspan.local/hub/hub-0");
    }

    #[test]
    fn the_leaf_is_renewed_at_two_thirds_of_its_life() {
        let (dir, hours) = (tempfile::tempdir().unwrap(), Arc::default());
        let trust = open(dir.path(), &hours).unwrap();
        let ends = trust.credentials().identity().not_after();
        hours.store(15, Ordering::Relaxed);
        trust.keep_up().unwrap();
        assert_eq!(trust.credentials().identity().not_after(), ends);
        hours.store(17, Ordering::Relaxed);
        trust.keep_up().unwrap();
        assert!(trust.credentials().identity().not_after() > ends);
    }

    #[test]
    fn a_ca_change_trusts_both_roots_until_the_old_leafs_have_ended() {
        let (dir, hours) = (tempfile::tempdir().unwrap(), Arc::default());
        let trust = open(dir.path(), &hours).unwrap();
        let old = trust.pin();
        assert!(trust.finish_change().is_err());
        trust.begin_change().unwrap();
        assert!(trust.begin_change().is_err());
        assert_eq!((trust.pin(), trust.pins().len()), (old, 2));
        drop(trust);

        let trust = open(dir.path(), &hours).unwrap();
        assert!(trust.changing());
        trust.finish_change().unwrap();
        assert_ne!(trust.pin(), old);
        assert_eq!(trust.pins().len(), 2);
        hours.store(24, Ordering::Relaxed);
        assert!(!trust.keep_up().unwrap());
        hours.store(26, Ordering::Relaxed);
        assert!(trust.keep_up().unwrap());
        assert_eq!(trust.pins(), [trust.pin().to_string()]);
    }

    #[test]
    fn a_damaged_ca_is_an_error_and_never_replaced() {
        let (dir, hours) = (tempfile::tempdir().unwrap(), Arc::default());
        drop(open(dir.path(), &hours).unwrap());
        let path = dir.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap().replace("BEGIN CERTIFICATE", "BEGIN NOTHING");
        std::fs::write(&path, &text).unwrap();
        assert!(open(dir.path(), &hours).unwrap_err().to_string().contains(FILE));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_ca_given_as_files_is_used_and_never_changed_here() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::create(&domain(), SystemTime::now()).unwrap();
        let files = CaFiles { certificate: dir.path().join("ca.crt"), key: dir.path().join("ca.key") };
        let store = Store::open(&dir.path().join("state")).unwrap();
        let open = || Trust::open(&domain(), &"hub-0".parse().unwrap(), Some(&files), &store, Clock::system());
        assert!(open().unwrap_err().to_string().contains("ca.crt"));
        std::fs::write(&files.certificate, ca.certificate_pem()).unwrap();
        std::fs::write(&files.key, ca.key_pem()).unwrap();
        let trust = open().unwrap();
        assert_eq!(trust.pin(), ca.pin());
        assert!(matches!(trust.begin_change(), Err(TrustError::Given)));
        assert!(!store.path(FILE).exists());
    }
}
