//! TLS of tunnels: one provider, TLS 1.3 only, both ends proven, nothing resumed.
//!
//! No switch turns verification off, and no process-wide default provider is needed. Sessions are never resumed and no early
//! data is sent or taken, so that every tunnel begins with a full handshake under the identity and roots of that moment.

mod timeless;
mod verify;

use std::sync::Arc;

use figspan_proto::{ALPN_JOIN, ALPN_TCP, ALPN_TUNNEL};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::SignatureScheme;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConfig, ResolvesClientCert, Resumption};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;

use crate::identity::Credentials;
use crate::provider::provider;
pub(crate) use timeless::{Anchor, Timeless};
use verify::{AgentsOnly, HubsOnly};
pub(crate) use verify::{Pinned, plain};

/// What an agent sends as SNI. Hubs are known by their SPIFFE id; the name only has to be one.
pub(crate) const SERVER_NAME: &str = "hub.figspan";

/// Presents whatever identity the credentials hold at the moment of the handshake.
#[derive(Debug)]
struct Presented(Arc<Credentials>);

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.identity().certified())
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.identity().certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The hub's end: tunnels of agents, and joins.
pub(crate) fn hub(credentials: &Arc<Credentials>) -> Result<QuicServerConfig, rustls::Error> {
    quic_server(server(credentials, &[ALPN_TUNNEL, ALPN_JOIN])?)
}

/// The hub's end of a TCP connection that carries datagrams. The same verification: whoever has no certificate may only join.
pub(crate) fn hub_over_tcp(credentials: &Arc<Credentials>) -> Result<Arc<ServerConfig>, rustls::Error> {
    server(credentials, &[ALPN_TCP]).map(Arc::new)
}

fn server(credentials: &Arc<Credentials>, alpn: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(AgentsOnly::new(Arc::clone(credentials))))
        .with_cert_resolver(Arc::new(Presented(Arc::clone(credentials))));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

fn quic_server(config: ServerConfig) -> Result<QuicServerConfig, rustls::Error> {
    QuicServerConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))
}

/// An agent's end of a tunnel.
pub(crate) fn agent(credentials: &Arc<Credentials>) -> Result<QuicClientConfig, rustls::Error> {
    quic_client(proven(credentials, ALPN_TUNNEL)?)
}

/// An agent's end of a TCP connection that carries datagrams.
pub(crate) fn agent_over_tcp(credentials: &Arc<Credentials>) -> Result<Arc<ClientConfig>, rustls::Error> {
    proven(credentials, ALPN_TCP).map(Arc::new)
}

fn proven(credentials: &Arc<Credentials>, alpn: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // rustls's word for any verifier but its own; ours checks more than names.
        .with_custom_certificate_verifier(Arc::new(HubsOnly::new(Arc::clone(credentials))))
        .with_client_cert_resolver(Arc::new(Presented(Arc::clone(credentials))));
    Ok(client(config, alpn))
}

/// An end that has no identity yet.
pub(crate) fn joining(pinned: Arc<Pinned>) -> Result<QuicClientConfig, rustls::Error> {
    anonymous(pinned, ALPN_JOIN)
}

/// The same for a TCP connection that carries datagrams.
pub(crate) fn joining_over_tcp(pinned: Arc<Pinned>) -> Result<Arc<ClientConfig>, rustls::Error> {
    unproven(pinned, ALPN_TCP).map(Arc::new)
}

/// An end that only asks for the time.
pub(crate) fn asking(timeless: Arc<Timeless>) -> Result<QuicClientConfig, rustls::Error> {
    anonymous(timeless, ALPN_JOIN)
}

/// The same for a TCP connection that carries datagrams.
pub(crate) fn asking_over_tcp(timeless: Arc<Timeless>) -> Result<Arc<ClientConfig>, rustls::Error> {
    unproven(timeless, ALPN_TCP).map(Arc::new)
}

/// An end without a certificate.
pub(crate) fn anonymous(verifier: Arc<dyn ServerCertVerifier>, alpn: &[u8]) -> Result<QuicClientConfig, rustls::Error> {
    quic_client(unproven(verifier, alpn)?)
}

fn unproven(verifier: Arc<dyn ServerCertVerifier>, alpn: &[u8]) -> Result<ClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // As above: a pin or our roots are checked instead of a name.
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(client(config, alpn))
}

fn client(mut config: ClientConfig, alpn: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config
}

fn quic_client(config: ClientConfig) -> Result<QuicClientConfig, rustls::Error> {
    QuicClientConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))
}

/// What an agent sends as SNI over TCP, where no connection id can name the shard.
pub(crate) fn server_name(shard: u8) -> String {
    format!("s{shard}.{SERVER_NAME}")
}

/// The shard that such a name names, before it is taken modulo the number of shards.
pub(crate) fn named_shard(name: &str) -> Option<u8> {
    let shard = name.strip_suffix(SERVER_NAME)?.strip_suffix('.')?.strip_prefix('s')?;
    shard.parse().ok().filter(|number: &u8| number.to_string() == shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_over_tcp_names_its_shard_and_others_none() {
        for shard in [0, 7, u8::MAX] {
            assert_eq!(named_shard(&server_name(shard)), Some(shard));
        }
        for other in [SERVER_NAME, "s.hub.figspan", "s256.hub.figspan", "s+1.hub.figspan", "s01.hub.figspan", "3.hub.figspan", "s3.example"]
        {
            assert_eq!(named_shard(other), None, "{other}");
        }
    }
}
