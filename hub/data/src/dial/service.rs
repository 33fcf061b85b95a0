//! Hop: dial -> service. Connects to a service in the cluster, and knows where its endpoints are.
//!
//! Every address that a name resolves to is an endpoint of its own. Names are looked up again as their TTL says, by a task on
//! the shard; a failed lookup keeps the last good answer and is marked in the metrics. The request path waits for DNS in one
//! case only: nothing else can be chosen, and a name of the rule has not been looked up once yet.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use figspan_model::Map;
use figspan_model::routing::{Backend, Routing, Service, ServiceAddress, ServiceName, Target};
use figspan_model::state::{Book, EndpointState};
use figspan_proto::name::Zone;
use figspan_tunnel::backoff::Backoff;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::resolve::Resolver;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::balance::{self, ServiceEndpoint, ServiceEndpoints};
use crate::reply::Failure;

/// First and longest wait after a failed lookup.
const LOOKUP_FLOOR: Duration = Duration::from_millis(500);
const LOOKUP_CEILING: Duration = Duration::from_secs(30);

/// Most addresses taken from one answer; a larger one is cut, so that a name cannot grow memory.
const MAX_ADDRESSES: usize = 256;

/// A service's endpoints, as far as they are known now.
struct Entry {
    service: Arc<Service>,
    /// Where the hub is.
    zone: Option<Zone>,
    /// For each address of the settings, what it stands for.
    parts: Vec<RefCell<Vec<SocketAddr>>>,
    endpoints: RefCell<Rc<[ServiceEndpoint]>>,
    failing: Cell<usize>,
    /// Names whose first lookup has not ended.
    starting: Cell<usize>,
    started: Notify,
    /// Ends the lookups with the entry.
    _lookups: DropGuard,
}

/// The services that a shard knows.
pub struct Services {
    book: Arc<Book>,
    resolver: Option<Resolver>,
    entries: RefCell<Map<ServiceName, Rc<Entry>>>,
}

impl Services {
    /// Without a resolver, only fixed addresses are reached.
    pub fn new(book: Arc<Book>, resolver: Option<Resolver>) -> Self {
        Self { book, resolver, entries: RefCell::default() }
    }

    /// Takes over the services of a routing: new ones are looked up, vanished ones forgotten, unchanged ones kept.
    pub fn update(&self, routing: &Routing, tasks: &Drain) {
        let mut entries = self.entries.borrow_mut();
        let stays = |name: &ServiceName, entry: &Rc<Entry>| {
            let moved = entry.zone != routing.zone && !entry.service.zones.is_empty();
            !moved && routing.services.get(name).is_some_and(|service| *service == entry.service)
        };
        let replaced: Vec<_> = entries.extract_if(|name, entry| !stays(name, entry)).collect();
        for (name, service) in &routing.services {
            if !entries.contains_key(name) {
                entries.insert(Arc::clone(name), self.entry(service, routing.zone.as_ref(), tasks));
            }
        }
        for (name, old) in replaced {
            let new = entries.get(&name).map(|entry| Rc::clone(&entry.endpoints.borrow())).unwrap_or_else(|| Rc::from([]));
            left(&old.endpoints.borrow(), &new);
        }
    }

    fn entry(&self, service: &Arc<Service>, zone: Option<&Zone>, tasks: &Drain) -> Rc<Entry> {
        let cancel = CancellationToken::new();
        let fixed = |address: &ServiceAddress| match address {
            ServiceAddress::Socket(address) => RefCell::new(vec![*address]),
            ServiceAddress::Name { .. } => RefCell::default(),
        };
        let entry = Rc::new(Entry {
            service: Arc::clone(service),
            zone: zone.cloned(),
            parts: service.addresses.iter().map(fixed).collect(),
            endpoints: RefCell::new(Rc::from([])),
            failing: Cell::new(0),
            starting: Cell::new(0),
            started: Notify::new(),
            _lookups: cancel.clone().drop_guard(),
        });
        entry.join(&self.book);
        for (index, address) in service.addresses.iter().enumerate() {
            if let (ServiceAddress::Name { host, port }, Some(resolver)) = (address, &self.resolver) {
                entry.starting.set(entry.starting.get() + 1);
                let lookups = lookup(Rc::downgrade(&entry), index, host.clone(), *port, resolver.clone(), Arc::clone(&self.book));
                let (cancel, stopping) = (cancel.clone(), tasks.clone());
                tasks.spawn_local(async move {
                    tokio::select! {
                        () = lookups => {}
                        () = cancel.cancelled() => {}
                        // What is known then is enough for what still runs.
                        () = stopping.stopping() => {}
                    }
                });
            }
        }
        entry
    }

    /// Names whose last lookup failed, so that their answers are stale.
    pub fn failing(&self) -> usize {
        self.entries.borrow().values().map(|entry| entry.failing.get()).sum()
    }

    /// Whether a service among the backends has a name that was not looked up once yet.
    pub fn starting(&self, backends: &[Backend]) -> bool {
        self.first_starting(backends).is_some()
    }

    /// Waits until every name of the backends was looked up once, well or not, for that long at most.
    pub async fn looked_up(&self, backends: &[Backend], wait: Duration) {
        let all = async {
            while let Some(entry) = self.first_starting(backends) {
                let started = entry.started.notified();
                // No await lies between the look at the entry and the wish to be told, and a shard is one thread.
                started.await;
            }
        };
        // Whatever came in time decides.
        let _ = tokio::time::timeout(wait, all).await;
    }

    fn first_starting(&self, backends: &[Backend]) -> Option<Rc<Entry>> {
        let entries = self.entries.borrow();
        let service = |backend: &Backend| match &backend.target {
            Target::Service(name) => entries.get(name).filter(|entry| entry.starting.get() > 0).cloned(),
            Target::Uplink(_) => None,
        };
        backends.iter().find_map(service)
    }

    /// Visits the state of every endpoint known now.
    pub fn each_state(&self, mut visit: impl FnMut(&Arc<EndpointState>)) {
        for entry in self.entries.borrow().values() {
            entry.endpoints.borrow().iter().for_each(|endpoint| visit(&endpoint.state));
        }
    }
}

impl ServiceEndpoints for Services {
    fn endpoints(&self, service: &ServiceName) -> Rc<[ServiceEndpoint]> {
        self.entries.borrow().get(service).map_or_else(|| Rc::from([]), |entry| Rc::clone(&entry.endpoints.borrow()))
    }
}

impl Entry {
    /// Joins what all addresses stand for, each once.
    fn join(&self, book: &Book) {
        let near = |at| self.zone.is_some() && self.service.zone(at) == self.zone.as_ref();
        let all = self
            .parts
            .iter()
            .enumerate()
            .flat_map(|(at, part)| part.borrow().iter().map(|address| (*address, near(at))).collect::<Vec<_>>());
        // An address that several parts stand for is near if one of them says so.
        let mut addresses = BTreeMap::new();
        all.for_each(|(address, near)| *addresses.entry(address).or_default() |= near);
        let name = &self.service.name;
        let state = |address| book.endpoint(&format!("service/{name}/{address}"));
        let endpoint = |(address, near)| ServiceEndpoint { near, ..ServiceEndpoint::new(address, state(address)) };
        let endpoints = ServiceEndpoint::ordered(addresses.into_iter().map(endpoint).collect());
        // Slow start begins where an address is new, and again where it was away; not with a reload.
        let now = balance::now();
        endpoints.iter().for_each(|endpoint| endpoint.state.warmth.begin_once(now));
        left(&self.endpoints.replace(Rc::clone(&endpoints)), &endpoints);
    }
}

/// Notes which addresses went.
fn left(before: &[ServiceEndpoint], after: &[ServiceEndpoint]) {
    let gone = before.iter().filter(|old| !after.iter().any(|new| new.address == old.address));
    gone.for_each(|old| old.state.warmth.end());
}

/// Looks a name up for as long as its entry lives.
async fn lookup(entry: std::rc::Weak<Entry>, index: usize, host: String, port: u16, resolver: Resolver, book: Arc<Book>) {
    let mut backoff = Backoff::new(LOOKUP_FLOOR, LOOKUP_CEILING);
    let (mut failed, mut begun) = (false, false);
    let target = format!("{host}:{port}");
    loop {
        let answer = resolver.lookup(&target, port).await;
        let Some(entry) = entry.upgrade() else { return };
        let is_first = !std::mem::replace(&mut begun, true);
        let wait = match answer {
            Ok(mut answer) if !answer.addresses.is_empty() => {
                answer.addresses.truncate(MAX_ADDRESSES);
                if *entry.parts[index].borrow() != answer.addresses {
                    entry.parts[index].replace(answer.addresses);
                    entry.join(&book);
                }
                if std::mem::take(&mut failed) {
                    entry.failing.set(entry.failing.get() - 1);
                }
                backoff.reset();
                answer.valid_for
            }
            answer => {
                if !std::mem::replace(&mut failed, true) {
                    entry.failing.set(entry.failing.get() + 1);
                    let why = answer.err().map_or_else(|| "no addresses".to_owned(), |error| error.to_string());
                    tracing::warn!(service = %entry.service.name, name = %host, why, "name cannot be resolved; the last good answer is kept");
                }
                backoff.next(rand::random())
            }
        };
        if is_first {
            entry.starting.set(entry.starting.get() - 1);
            entry.started.notify_waiters();
        }
        drop(entry);
        tokio::time::sleep(wait).await;
    }
}

/// Connects to an address.
pub async fn connect(address: SocketAddr, wait: Duration) -> Result<TcpStream, Failure> {
    match tokio::time::timeout(wait, TcpStream::connect(address)).await {
        Err(_) => Err(Failure::ConnectTimeout),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(Failure::ConnectRefused),
        Ok(Err(_)) => Err(Failure::ConnectFailed),
        Ok(Ok(stream)) => {
            // Nagle would hold small requests back; it is a matter of speed alone, so a failure is none.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use figspan_model::state::Warmth;
    use figspan_proto::control::Protocol;
    use figspan_proto::weight::Weight;

    fn routing(addresses: &[&str]) -> Routing {
        let addresses = addresses.iter().map(|address| ServiceAddress::Socket(address.parse().unwrap())).collect();
        let name: ServiceName = "orders".into();
        let service =
            Service { name: Arc::clone(&name), protocol: Protocol::Http1, addresses, zones: vec![], weight: Weight::DEFAULT, tls: None };
        Routing { services: HashMap::from([(name, Arc::new(service))]), ..Routing::default() }
    }

    #[test]
    fn addresses_keep_their_state_over_a_change_of_the_service() {
        let services = Services::new(Book::new(1), None);
        services.update(&routing(&["127.0.0.1:1", "127.0.0.1:2"]), &Drain::new());
        let before = services.endpoints(&"orders".into());
        services.update(&routing(&["127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:3"]), &Drain::new());
        let after = services.endpoints(&"orders".into());
        assert_eq!((before.len(), after.len()), (2, 2));
        assert!(Arc::ptr_eq(&before[1].state, &after[0].state));
        let cold =
            |endpoint: &ServiceEndpoint, age| endpoint.state.warmth.part(Duration::from_secs(10), balance::now() + age) < Warmth::FULL;
        assert!(cold(&after[0], Duration::ZERO) && cold(&after[1], Duration::ZERO) && !cold(&after[0], Duration::from_secs(10)));
        assert!(!cold(&before[0], Duration::ZERO), "it went, and begins anew if it comes back");
        services.update(&Routing::default(), &Drain::new());
        assert!(services.endpoints(&"orders".into()).is_empty());
    }

    #[test]
    fn addresses_of_the_hubs_own_zone_stand_first_also_after_the_hub_has_moved() {
        let services = Services::new(Book::new(1), None);
        let zone = |name: &str| Some(name.parse::<Zone>().unwrap());
        let mut routing = routing(&["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"]);
        let service = routing.services.get_mut("orders").map(|service| Arc::get_mut(service).unwrap()).unwrap();
        service.zones = vec![zone("a"), zone("b")];
        let mut ports = |own: Option<Zone>| {
            routing.zone = own;
            services.update(&routing, &Drain::new());
            services.endpoints(&"orders".into()).iter().map(|endpoint| (endpoint.address.port(), endpoint.near)).collect::<Vec<_>>()
        };
        assert_eq!(ports(zone("b")), [(2, true), (1, false), (3, false)]);
        assert_eq!(ports(zone("a")), [(1, true), (2, false), (3, false)]);
        assert_eq!(ports(None), [(1, false), (2, false), (3, false)]);
    }
}
