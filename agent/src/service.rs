//! The other direction: processes on this VM call services of the cluster, through the tunnels.
//!
//! Owns one listener for each `[[service]]`, in this order of hops: `listener` -> `call` (a hub takes the connection) -> splice.
//! The agent moves bytes and reads none; what may be called is for the hub to say. A listener that cannot be opened is told,
//! shown and tried again; it takes nothing else down. Connections are tasks of the agent's work, so that a drain waits for them.

pub mod call;
mod counts;
pub mod listener;
mod refuse;

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use figspan_tunnel::drain::Drain;
use tokio_util::sync::CancellationToken;

use crate::settings::{Listen, Service};
use crate::tunnels::Tunnels;
use call::Refusal;
pub use counts::Counts;
use listener::Listener;

/// How long hubs have to hear that the agent ends.
const FAREWELL: Duration = Duration::from_millis(500);

/// One place where a service is called.
#[derive(Debug)]
pub struct Door {
    /// Its settings; limits may change while it is open.
    pub settings: ArcSwap<Service>,
    /// What was called there.
    pub counts: Counts,
    state: Mutex<State>,
    stop: CancellationToken,
}

/// How a door is.
#[derive(Debug, Default)]
struct State {
    /// The open listener.
    listener: Option<Arc<Listener>>,
    /// Why there is none.
    error: Option<String>,
    /// Why the last connection was refused; gone with the next one that is taken.
    refused: Option<String>,
}

/// All doors of an agent.
#[derive(Debug)]
pub struct Services {
    tunnels: Arc<Tunnels>,
    /// Owns connections.
    work: Drain,
    /// Owns listeners.
    life: Drain,
    doors: Mutex<Vec<Arc<Door>>>,
    /// Listeners of the process before this one, until they are taken.
    handed: Mutex<Vec<(String, OwnedFd)>>,
    /// Whether another process has them now.
    handed_over: CancellationToken,
}

impl Services {
    /// No door yet.
    pub fn new(tunnels: Arc<Tunnels>, work: Drain, life: Drain) -> Self {
        Self { tunnels, work, life, doors: Mutex::default(), handed: Mutex::default(), handed_over: CancellationToken::new() }
    }

    /// Takes listeners over that another process opened, by their places, for the doors to come.
    pub fn take_over(&self, handed: Vec<(String, OwnedFd)>) {
        *self.handed.lock().unwrap_or_else(PoisonError::into_inner) = handed;
    }

    /// Opens the doors that are wanted and are not open, closes those that are not, and gives the others their limits.
    pub fn apply(&self, wanted: &[Service]) {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let alike = |door: &Door, service: &Service| {
            let now = door.settings.load();
            now.listen == service.listen && now.name == service.name && now.protocol == service.protocol && now.mode == service.mode
        };
        doors.retain(|door| {
            let stays = wanted.iter().any(|service| alike(door, service));
            if !stays {
                door.stop.cancel();
            }
            stays
        });
        let mut next = Vec::with_capacity(wanted.len());
        for service in wanted {
            let known = doors.iter().position(|door| alike(door, service)).map(|at| doors.swap_remove(at));
            let door = match known {
                Some(door) => {
                    door.settings.store(Arc::new(service.clone()));
                    door
                }
                None => self.open(service),
            };
            next.push(door);
        }
        *doors = next;
    }

    fn open(&self, service: &Service) -> Arc<Door> {
        let door = Arc::new(Door {
            settings: ArcSwap::from_pointee(service.clone()),
            counts: Counts::default(),
            state: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let place = service.listen.to_string();
        let mut handed = self.handed.lock().unwrap_or_else(PoisonError::into_inner);
        let own = handed.iter().position(|(known, _)| *known == place).map(|at| handed.swap_remove(at).1);
        drop(handed);
        let parts = listener::Parts {
            door: Arc::clone(&door),
            tunnels: Arc::clone(&self.tunnels),
            work: self.work.clone(),
            life: self.life.clone(),
            handed_over: self.handed_over.clone(),
        };
        self.life.spawn(listener::run(parts, own));
        door
    }

    /// All doors, in the order of the settings.
    pub fn doors(&self) -> Vec<Arc<Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Copies of all open listeners, with their places, for another process.
    pub fn listeners(&self) -> Vec<(String, OwnedFd)> {
        let copy = |door: &Arc<Door>| Some((door.settings.load().listen.to_string(), door.listener()?.copy().ok()?));
        self.doors().iter().filter_map(copy).collect()
    }

    /// Another process has them from now on: what waits in their queues is its own.
    pub fn hand_over(&self) {
        self.handed_over.cancel();
    }

    /// Says to hubs that this process ends, so that they ask its clients to come again on other connections.
    pub async fn leave(&self) {
        if self.doors().iter().all(|door| door.counts.open() == 0) {
            return;
        }
        let tunnels = self.tunnels.live();
        let all = tunnels.iter().filter(|live| live.calls).map(|live| figspan_tunnel::call::say_leaving(&live.tunnel));
        // A hub that does not hear it closes what is left with the tunnel.
        let _ = tokio::time::timeout(FAREWELL, futures_util::future::join_all(all)).await;
    }
}

impl Door {
    /// Where it is, once it is open.
    pub fn listener(&self) -> Option<Arc<Listener>> {
        self.state().listener.clone()
    }

    /// Where it really listens: the kernel may have chosen the port.
    pub fn address(&self) -> Listen {
        let (listener, settings) = (self.listener(), self.settings.load());
        listener.and_then(|listener| listener.address()).map_or_else(|| settings.listen.clone(), Listen::Tcp)
    }

    /// Why it is not open.
    pub fn error(&self) -> Option<String> {
        self.state().error.clone()
    }

    /// Why the last connection was refused.
    pub fn refused(&self) -> Option<String> {
        self.state().refused.clone()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) {
        self.state().refused = None;
    }

    fn refuse(&self, refusal: &Refusal) {
        let service = &self.settings.load().name;
        self.counts.fail(refusal.word());
        let told = refusal.told(service);
        let mut state = self.state();
        if state.refused.as_ref() != Some(&told) {
            tracing::warn!(%service, reason = refusal.word(), "a call of service {service} is refused: {told}");
            state.refused = Some(told);
        }
    }
}

#[cfg(test)]
mod tests;
