//! TLS of tunnels: one provider, TLS 1.3 only, both ends proven, nothing resumed.
//!
//! No switch turns verification off, and no process-wide default provider is needed. Sessions are never resumed and no early
//! data is sent or taken, so that every tunnel begins with a full handshake under the identity and roots of that moment.

mod timeless;
mod verify;

use std::sync::Arc;

use figspan_proto::{ALPN_JOIN, ALPN_TUNNEL};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
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
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(AgentsOnly::new(Arc::clone(credentials))))
        .with_cert_resolver(Arc::new(Presented(Arc::clone(credentials))));
    config.alpn_protocols = vec![ALPN_TUNNEL.to_vec(), ALPN_JOIN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))
}

/// An agent's end of a tunnel.
pub(crate) fn agent(credentials: &Arc<Credentials>) -> Result<QuicClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // rustls's word for any verifier but its own; ours checks more than names.
        .with_custom_certificate_verifier(Arc::new(HubsOnly::new(Arc::clone(credentials))))
        .with_client_cert_resolver(Arc::new(Presented(Arc::clone(credentials))));
    client(config, ALPN_TUNNEL)
}

/// An end that has no identity yet.
pub(crate) fn joining(pinned: Arc<Pinned>) -> Result<QuicClientConfig, rustls::Error> {
    anonymous(pinned, ALPN_JOIN)
}

/// An end that only asks for the time.
pub(crate) fn asking(timeless: Arc<Timeless>) -> Result<QuicClientConfig, rustls::Error> {
    anonymous(timeless, ALPN_JOIN)
}

/// An end without a certificate.
pub(crate) fn anonymous(verifier: Arc<dyn ServerCertVerifier>, alpn: &[u8]) -> Result<QuicClientConfig, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&TLS13])?
        .dangerous() // As above: a pin or our roots are checked instead of a name.
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    client(config, alpn)
}

fn client(mut config: ClientConfig, alpn: &[u8]) -> Result<QuicClientConfig, rustls::Error> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    QuicClientConfig::try_from(config).map_err(|error| rustls::Error::General(error.to_string()))
}
