//! Services by what the configuration says and the shards have resolved.
//!
//! A name that no shard has asked for yet is one endpoint without an address.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use figspan_data::balance::{ServiceEndpoint, ServiceEndpoints};
use figspan_model::routing::{ServiceAddress, ServiceName};
use figspan_model::snapshot::Snapshot;
use figspan_model::state::Book;

/// Services of a snapshot.
pub(crate) struct AsWritten<'s> {
    snapshot: &'s Snapshot,
    book: &'s Arc<Book>,
    /// States of endpoints without an address: asking must not leave any in the hub's own book.
    unresolved: Arc<Book>,
}

impl<'s> AsWritten<'s> {
    pub(crate) fn new(snapshot: &'s Snapshot, book: &'s Arc<Book>) -> Self {
        Self { snapshot, book, unresolved: Book::new(book.shards()) }
    }
}

impl ServiceEndpoints for AsWritten<'_> {
    fn endpoints(&self, service: &ServiceName) -> Rc<[ServiceEndpoint]> {
        let Some(service) = self.snapshot.routing.services.get(service) else { return Rc::new([]) };
        let key = format!("service/{}/", service.name);
        let own = self.snapshot.routing.zone.as_ref();
        let mut endpoints: Vec<ServiceEndpoint> = Vec::new();
        for (at, address) in service.addresses.iter().enumerate() {
            let before = endpoints.len();
            match address {
                ServiceAddress::Socket(address) => {
                    endpoints.push(ServiceEndpoint::new(*address, self.book.endpoint(&format!("{key}{address}"))));
                }
                ServiceAddress::Name { port, .. } => {
                    let resolved = self.book.endpoints_of(&key).into_iter();
                    let resolved = resolved.filter_map(|(address, state)| Some(ServiceEndpoint::new(address.parse().ok()?, state)));
                    endpoints.extend(resolved.filter(|endpoint| endpoint.address.port() == *port));
                    if endpoints.len() == before {
                        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port));
                        endpoints.push(ServiceEndpoint::new(address, self.unresolved.endpoint(&format!("{key}{address}"))));
                    }
                }
            }
            let near = own.is_some() && service.zone(at) == own;
            endpoints[before..].iter_mut().for_each(|endpoint| endpoint.near = near);
        }
        // Where two entries stand for one address, it is near if one of them says so.
        endpoints.sort_by_key(|endpoint| (endpoint.address, !endpoint.near));
        endpoints.dedup_by_key(|endpoint| endpoint.address);
        ServiceEndpoint::ordered(endpoints)
    }
}
