//! The hub's CA: whom agents trust, and what this replica shows them.
//!
//! A CA is made at the first start and kept in the state directory (`ca.json`, 0600, replaced as a whole), or given as
//! files. The replica's own leaf is made anew at every start, its key never written, and replaced at two thirds of its life.
//! A CA changes in two steps, so that no agent ever meets a root that it was not told: `begin` adds a second root beside the
//! one that issues, `finish` lets the new one issue and keeps the old root until its last leaf has ended.

mod kept;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use figspan_proto::admin::CaRoot;
use figspan_proto::join::Pin;
use figspan_proto::name::{ReplicaId, Role, SpiffeId, TrustDomain};
use figspan_proto::permit::Permit;
use figspan_tunnel::ca::{Ca, CaError};
use figspan_tunnel::identity::{Credentials, Identity, IdentityError, KeyPair};
use jiff::Timestamp;

use crate::config::{CaFiles, Clock, text};
use crate::store::{Store, StoreError};
use kept::{Cas, Kept, Next, Previous, keep, restore, roots};

const FILE: &str = "ca.json";
/// How long an old root stays trusted after the last leaf that it could have signed has ended, but no longer than a leaf lives:
/// room for skewed clocks.
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
    Order(String),
}

/// The CA and what is made of it.
#[derive(Debug)]
pub(crate) struct Trust {
    id: SpiffeId,
    clock: Clock,
    /// How long leafs live.
    lifetime: Duration,
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
        lifetime: Duration,
    ) -> Result<Self, TrustError> {
        let now = clock.stamp();
        let cas = match given {
            Some(files) => Cas::alone(read_given(domain, files)?, lifetime, None),
            None => match store.read::<Kept>(FILE)? {
                Some(kept) => {
                    let mut cas = restore(domain, kept, &store.path(FILE))?;
                    if cas.live(lifetime, now) {
                        store.write(FILE, &keep(&cas))?;
                    }
                    cas
                }
                None => {
                    let current = Ca::create(domain, clock.now()).map_err(|source| TrustError::Ca { place: "memory".into(), source })?;
                    let cas = Cas::alone(current, lifetime, Some(now));
                    store.write(FILE, &keep(&cas))?;
                    tracing::info!(pin = %cas.current.pin(), "made a CA for trust domain {domain}");
                    cas
                }
            },
        };
        let id = SpiffeId { trust_domain: domain.clone(), role: Role::Hub(replica.clone()) };
        let identity = leaf(&cas.current, &id, clock.now(), lifetime)?;
        let credentials = Credentials::new(identity, roots(&cas)?);
        Ok(Self { id, clock, lifetime, store: given.is_none().then(|| Arc::clone(store)), cas: Mutex::new(cas), credentials })
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

    /// The roots for people, in the order of `pins`.
    pub(crate) fn roots_view(&self) -> Vec<CaRoot> {
        self.cas().view()
    }

    /// How long leafs live.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Whether every leaf from before that moment has ended by now.
    pub(crate) fn all_ended(&self, before: Timestamp) -> bool {
        let now = self.clock.stamp();
        let last = before.checked_add(self.lifetime).unwrap_or(Timestamp::MAX);
        now > last && self.cas().longest.is_none_or(|longest| now > longest)
    }

    /// Signs a leaf for an agent, with its permit; the public key is all that the request is used for.
    pub(crate) fn issue(&self, id: &SpiffeId, permit: &Permit, csr: &[u8]) -> Result<Vec<Vec<u8>>, CaError> {
        let ca = Arc::clone(&self.cas().current);
        ca.issue_permitted(id, permit, csr, self.clock.now(), self.lifetime)
    }

    /// Whether a second root could be added.
    pub(crate) fn may_begin(&self) -> Result<(), TrustError> {
        self.store.as_ref().ok_or(TrustError::Given)?;
        let cas = self.cas();
        if cas.next.is_some() {
            return Err(TrustError::Order("a CA change is already under way; finish it first (`figspanctl ca finish`)".to_owned()));
        }
        match &cas.previous {
            Some(old) => Err(TrustError::Order(format!(
                "the last CA change still runs out: certificates of the old root may live until {}; wait until then",
                text(old.until)
            ))),
            None => Ok(()),
        }
    }

    /// Whether there is a change to finish.
    pub(crate) fn may_finish(&self) -> Result<(), TrustError> {
        self.store.as_ref().ok_or(TrustError::Given)?;
        let none = || TrustError::Order("no CA change is under way; begin one first (`figspanctl ca begin`)".to_owned());
        if self.changing() { Ok(()) } else { Err(none()) }
    }

    /// Adds a second root. Blocks for the disk.
    pub(crate) fn begin_change(&self) -> Result<(), TrustError> {
        self.may_begin()?;
        let store = self.store.as_ref().ok_or(TrustError::Given)?;
        let mut cas = self.cas().clone();
        let place = || store.path(FILE).display().to_string();
        let next = Ca::create(&self.id.trust_domain, self.clock.now()).map_err(|source| TrustError::Ca { place: place(), source })?;
        cas.next = Some(Next { ca: Arc::new(next), since: Some(self.clock.stamp()) });
        self.put(store, cas)
    }

    /// Lets the new CA issue from now on. Blocks for the disk.
    pub(crate) fn finish_change(&self) -> Result<(), TrustError> {
        let store = self.store.as_ref().ok_or(TrustError::Given)?;
        let mut cas = self.cas().clone();
        self.may_finish()?;
        let Some(next) = cas.next.take() else { return self.may_finish() };
        let now = self.clock.stamp();
        let last = now.checked_add(self.lifetime).unwrap_or(Timestamp::MAX).max(cas.longest.unwrap_or(now));
        let until = last.checked_add(ROOT_MARGIN.min(self.lifetime)).unwrap_or(Timestamp::MAX);
        let old = std::mem::replace(&mut cas.current, next.ca);
        cas.since = Some(now);
        cas.previous = Some(Previous { certificate: old.certificate_pem(), until, since: Some(now) });
        let identity = leaf(&cas.current, &self.id, self.clock.now(), self.lifetime)?;
        self.put(store, cas)?;
        self.credentials.set_identity(identity);
        Ok(())
    }

    /// Whether the CA was given as files.
    pub(crate) fn is_given(&self) -> bool {
        self.store.is_none()
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
            self.credentials.set_identity(leaf(&current, &self.id, now, self.lifetime)?);
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

fn leaf(ca: &Ca, id: &SpiffeId, now: SystemTime, lifetime: Duration) -> Result<Identity, TrustError> {
    let key = KeyPair::generate()?;
    let chain = ca.issue(id, &key.csr()?, now, lifetime).map_err(|source| TrustError::Ca { place: "use".into(), source })?;
    Ok(Identity::from_der(chain, &key)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use figspan_tunnel::ca::LEAF_LIFETIME;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn domain() -> TrustDomain {
        "figspan.local".parse().unwrap()
    }

    fn open(dir: &Path, hours: &Arc<AtomicU64>) -> Result<Trust, TrustError> {
        open_for(dir, hours, LEAF_LIFETIME)
    }

    fn open_for(dir: &Path, hours: &Arc<AtomicU64>, life: Duration) -> Result<Trust, TrustError> {
        let hours = Arc::clone(hours);
        let clock = Clock::new(move || SystemTime::UNIX_EPOCH + Duration::from_secs((500_000 + hours.load(Ordering::Relaxed)) * 3600));
        let store = Store::open(dir)?;
        let trust = Trust::open(&domain(), &"hub-0".parse().unwrap(), None, &store, clock, life);
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
    fn an_old_root_outlives_leafs_from_before_lifetimes_were_shortened() {
        let (dir, hours) = (tempfile::tempdir().unwrap(), Arc::default());
        drop(open_for(dir.path(), &hours, Duration::from_secs(100 * 3600)).unwrap());
        hours.store(10, Ordering::Relaxed);
        drop(open_for(dir.path(), &hours, Duration::from_secs(3600)).unwrap());
        // What was lowered stays in mind over restarts.
        let trust = open_for(dir.path(), &hours, Duration::from_secs(3600)).unwrap();
        trust.begin_change().unwrap();
        trust.finish_change().unwrap();
        assert_eq!(trust.roots_view().iter().map(|root| root.state.as_str()).collect::<Vec<_>>(), ["issues", "old"]);
        hours.store(110, Ordering::Relaxed);
        assert!(!trust.keep_up().unwrap(), "a leaf of 100 hours may still live");
        assert!(!trust.all_ended(trust.clock.stamp().checked_sub(Duration::from_secs(7200)).unwrap()));
        hours.store(112, Ordering::Relaxed);
        assert!(trust.keep_up().unwrap());
        assert!(trust.all_ended(trust.clock.stamp().checked_sub(Duration::from_secs(7200)).unwrap()));
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
        let open = || Trust::open(&domain(), &"hub-0".parse().unwrap(), Some(&files), &store, Clock::system(), LEAF_LIFETIME);
        assert!(open().unwrap_err().to_string().contains("ca.crt"));
        std::fs::write(&files.certificate, ca.certificate_pem()).unwrap();
        std::fs::write(&files.key, ca.key_pem()).unwrap();
        let trust = open().unwrap();
        assert_eq!(trust.pin(), ca.pin());
        assert!(matches!(trust.begin_change(), Err(TrustError::Given)));
        assert!(!store.path(FILE).exists());
    }
}
