//! Who this agent is: its key, its certificate, whom it trusts, and how all three are kept up to date.
//!
//! The key is made on this VM and never leaves it. The certificate lives a day and is renewed over a tunnel, without a
//! reconnect. [`Holder`] is the one owner: tunnels read its credentials live, [`files`] keep them over restarts.

pub mod files;
pub mod join;
pub mod renew;
pub mod schedule;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use figspan_proto::join::Issued;
use figspan_proto::name::AgentName;
use figspan_tunnel::identity::IdentityError;
use figspan_tunnel::{Credentials, Identity, KeyPair, Roots};
use tokio::sync::watch;

use files::{FileError, Files};

/// A key and what a hub made of it.
#[derive(Debug)]
pub struct Kept {
    /// The private key.
    pub key: KeyPair,
    /// The certificate.
    pub identity: Identity,
    /// Whom to trust.
    pub roots: Roots,
}

/// How renewal goes.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// When the next attempt is due.
    pub due: Option<SystemTime>,
    /// Renewals so far.
    pub done: u64,
    /// Why the last attempt failed; `None` after a success.
    pub error: Option<String>,
}

/// Why credentials could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// The certificate is not an agent's.
    #[error("the certificate is of {0}, which is no agent; run `figspan-agent join` with a grant for this VM")]
    NotAnAgent(String),
    /// The key does not fit, or a certificate cannot be read.
    #[error("the certificate cannot be used: {0}; run `figspan-agent join` with a new grant")]
    Unusable(#[from] IdentityError),
    /// The files cannot be read or written.
    #[error(transparent)]
    Files(#[from] FileError),
}

/// The owner of the agent's identity.
#[derive(Debug)]
pub struct Holder {
    /// Read live by every handshake.
    pub credentials: Arc<Credentials>,
    name: AgentName,
    key: ArcSwap<KeyPair>,
    files: Option<Files>,
    /// The chain that the files hold, as far as is known: an older one than is in use, while they cannot be written.
    on_disk: Mutex<String>,
    renewal: Mutex<Renewal>,
    serving: watch::Sender<bool>,
}

impl Holder {
    /// Holds what was kept or just given; writes changes to `files`, where there are any.
    pub fn new(kept: Kept, files: Option<Files>) -> Result<Self, HolderError> {
        let name = agent_name(&kept.identity)?;
        let on_disk = Mutex::new(kept.identity.chain_pem());
        Ok(Self {
            credentials: Credentials::new(kept.identity, kept.roots),
            name,
            key: ArcSwap::from_pointee(kept.key),
            files,
            on_disk,
            renewal: Mutex::default(),
            serving: watch::Sender::new(true),
        })
    }

    /// The agent's name, as the hub certified it.
    pub fn name(&self) -> &AgentName {
        &self.name
    }

    /// How renewal goes.
    pub fn renewal(&self) -> Renewal {
        self.renewal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the certificate may still be shown; false soon after it has expired.
    pub fn may_serve(&self) -> watch::Receiver<bool> {
        self.serving.subscribe()
    }

    /// Trusts other roots from now on, and keeps them. Roots that cannot be read change nothing.
    pub fn trust(&self, roots: Vec<Vec<u8>>) {
        match Roots::from_der(roots) {
            Ok(roots) if roots == *self.credentials.roots() => {}
            Ok(roots) => {
                let count = roots.to_der().len();
                if let Some(Err(error)) = self.files.as_ref().map(|files| files.renew_roots(&roots, &self.key())) {
                    tracing::error!(%error, "cannot keep the hub's new root certificates: {error}; they hold until a restart");
                }
                self.credentials.set_roots(roots);
                tracing::info!(count, "trusting {count} root certificate(s) from now on, as the hub says");
            }
            Err(error) => tracing::warn!(%error, "the hub sent root certificates that cannot be read: {error}; keeping the old"),
        }
    }

    /// Takes on what the files say now, after another `join`. Returns whether it is news.
    pub fn reread(&self) -> Result<bool, HolderError> {
        let Some(kept) = self.files.as_ref().map(Files::read).transpose()?.flatten() else { return Ok(false) };
        let chain = kept.identity.chain_pem();
        // What could not be written must not be lost to what it was to replace.
        if chain == self.credentials.identity().chain_pem() || chain == *self.disk() {
            return Ok(false);
        }
        agent_name(&kept.identity)?;
        *self.disk() = chain;
        self.key.store(Arc::new(kept.key));
        self.credentials.set_roots(kept.roots);
        self.credentials.set_identity(kept.identity);
        self.serving.send_replace(true);
        Ok(true)
    }

    fn key(&self) -> Arc<KeyPair> {
        self.key.load_full()
    }

    /// Takes on a renewed certificate. Keeping it is another matter ([`Self::save`]): a full disk must not end what can go on.
    fn renewed(&self, issued: Issued) -> Result<(), HolderError> {
        let identity = Identity::from_der(issued.chain, &self.key())?;
        let name = agent_name(&identity)?;
        if name != self.name {
            return Err(HolderError::NotAnAgent(format!("{} instead of {}", identity.id(), self.name)));
        }
        self.trust(issued.roots);
        self.credentials.set_identity(identity);
        self.serving.send_replace(true);
        Ok(())
    }

    /// Writes the certificate in use, if the files do not hold it yet. Returns whether it had to. What another join has put there is
    /// left alone: it is taken on soon.
    fn save(&self) -> Result<bool, FileError> {
        let (Some(files), identity) = (&self.files, self.credentials.identity()) else { return Ok(false) };
        let chain = identity.chain_pem();
        if chain == *self.disk() {
            return Ok(false);
        }
        let written = files.renew_chain(&identity, &self.key())?;
        if written {
            *self.disk() = chain;
        }
        Ok(written)
    }

    fn disk(&self) -> std::sync::MutexGuard<'_, String> {
        self.on_disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Renewal)) {
        change(&mut self.renewal.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn agent_name(identity: &Identity) -> Result<AgentName, HolderError> {
    identity.id().agent().cloned().ok_or_else(|| HolderError::NotAnAgent(identity.id().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use figspan_proto::name::{Role, SpiffeId};
    use figspan_tunnel::testing::Authority;
    use std::time::Duration;

    #[test]
    fn a_renewed_certificate_that_cannot_be_written_is_used_and_written_when_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let (files, authority) = (Files::new(dir.path()), Authority::new());
        let id = SpiffeId { trust_domain: authority.ca.trust_domain().clone(), role: Role::Agent("vm-1".parse().unwrap()) };
        let key = KeyPair::generate().unwrap();
        let issue = || authority.ca.issue(&id, &key.csr().unwrap(), SystemTime::now(), Duration::from_secs(60)).unwrap();
        let kept = Kept {
            identity: Identity::from_der(issue(), &key).unwrap(),
            key: KeyPair::from_pem(&key.to_pem()).unwrap(),
            roots: authority.ca.roots(),
        };
        files.write_joined(&kept, &["hub:1".to_owned()], authority.ca.trust_domain(), &files::Declared::default()).unwrap();
        let old = kept.identity.chain_pem();
        let holder = Holder::new(kept, Some(files.clone())).unwrap();

        // A directory stands where the new file would be put.
        let (chain, aside) = (files.chain(), dir.path().join("aside"));
        std::fs::rename(&chain, &aside).unwrap();
        std::fs::create_dir(&chain).unwrap();
        holder
            .renewed(Issued {
                services: Vec::new(),
                chain: issue(),
                roots: authority.ca.roots().to_der(),
                uplinks: Vec::new(),
                spiffe_id: id.clone(),
            })
            .unwrap();
        let new = holder.credentials.identity().chain_pem();
        assert!(new != old && holder.save().is_err());
        std::fs::remove_dir(&chain).unwrap();
        std::fs::rename(&aside, &chain).unwrap();
        assert!(!holder.reread().unwrap(), "the old file does not win over it");
        assert_eq!(holder.credentials.identity().chain_pem(), new);

        assert!(holder.save().unwrap() && !holder.save().unwrap());
        assert_eq!(files.read().unwrap().unwrap().identity.chain_pem(), new);
    }
}
