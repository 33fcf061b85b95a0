//! Real tunnels over loopback, for the tests of all crates. Small on purpose; nothing in a product uses it.
#![allow(clippy::expect_used, clippy::missing_panics_doc, reason = "a test that cannot begin has failed")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use figspan_proto::name::{Role, SpiffeId, TrustDomain};

use crate::ca::{Ca, LEAF_LIFETIME};
use crate::hub::{Established, HubConfig, HubEndpoint, bind_both, bind_shards};
use crate::{Credentials, Identity, KeyPair, Tunnel, agent};

/// A CA and the identities that it gives out.
#[derive(Debug)]
pub struct Authority {
    /// The CA, of trust domain `figspan.local`.
    pub ca: Ca,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// Makes a CA.
    pub fn new() -> Self {
        let domain: TrustDomain = "figspan.local".parse().expect("a name");
        Self { ca: Ca::create(&domain, SystemTime::now()).expect("a CA can be made") }
    }

    /// An identity for a role, issued at a time, for a lifetime.
    pub fn identity(&self, role: Role, now: SystemTime, lifetime: Duration) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let id = SpiffeId { trust_domain: self.ca.trust_domain().clone(), role };
        let chain = self.ca.issue(&id, &key.csr().expect("a request"), now, lifetime).expect("a leaf can be issued");
        Identity::from_der(chain, &key).expect("an identity")
    }

    /// Credentials of a replica of the hub.
    pub fn hub(&self, replica: &str) -> Arc<Credentials> {
        let role = Role::Hub(replica.parse().expect("a replica id"));
        Credentials::new(self.identity(role, SystemTime::now(), LEAF_LIFETIME), self.ca.roots())
    }

    /// Credentials of an agent.
    pub fn agent(&self, name: &str) -> Arc<Credentials> {
        let role = Role::Agent(name.parse().expect("an agent name"));
        Credentials::new(self.identity(role, SystemTime::now(), LEAF_LIFETIME), self.ca.roots())
    }

    /// The endpoints of a hub with that many shards on one loopback port, all on the current runtime.
    pub fn endpoints(&self, shards: usize) -> Vec<HubEndpoint> {
        self.on(bind_shards(([127, 0, 0, 1], 0).into(), shards).expect("loopback can be bound"))
    }

    /// The same, over TCP as well.
    pub fn endpoints_over_both(&self, shards: usize) -> Vec<HubEndpoint> {
        let (sockets, shares) = bind_both(([127, 0, 0, 1], 0).into(), shards).expect("loopback can be bound");
        let endpoints = self.on(sockets);
        for (endpoint, share) in endpoints.iter().zip(shares) {
            endpoint.listen_tcp(share).expect("TCP can be served");
        }
        endpoints
    }

    fn on(&self, sockets: Vec<UdpSocket>) -> Vec<HubEndpoint> {
        let (credentials, shards) = (self.hub("hub-0"), sockets.len());
        let start = |(shard, socket)| {
            let config = HubConfig { shard, shards, credentials: Arc::clone(&credentials), reset_key: [7; 64] };
            HubEndpoint::new(socket, config).expect("an endpoint can be made")
        };
        sockets.into_iter().enumerate().map(start).collect()
    }
}

/// Accepts one tunnel on the endpoint, which must come within 10 s.
pub async fn accept(endpoint: &HubEndpoint) -> Tunnel {
    let incoming = tokio::time::timeout(Duration::from_secs(10), endpoint.accept()).await.expect("somebody dials this endpoint");
    match incoming.expect("the endpoint is open").establish().await {
        Ok(Established::Tunnel(tunnel)) => tunnel,
        other => panic!("expected a tunnel, not {other:?}"),
    }
}

/// Opens a tunnel between an endpoint and a new agent: (hub's end, agent's end).
pub async fn join_up(endpoint: &HubEndpoint, credentials: &Arc<Credentials>) -> (Tunnel, Tunnel) {
    let address: SocketAddr = endpoint.local_address().expect("the endpoint is bound");
    let (hub, agent) = tokio::join!(accept(endpoint), agent::dial(address, 0, credentials));
    (hub, agent.expect("the hub can be dialled"))
}

/// A tunnel over loopback with everything it needs: (hub's end, agent's end). Both ends run on the current runtime.
pub async fn pair(agent: &str) -> (Tunnel, Tunnel) {
    let authority = Authority::new();
    let endpoint = authority.endpoints(1).remove(0);
    join_up(&endpoint, &authority.agent(agent)).await
}
