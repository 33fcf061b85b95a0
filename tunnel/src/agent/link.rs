//! Opening a link: TCP to the hub's address, and TLS with the same proofs as a tunnel.

use std::net::SocketAddr;
use std::sync::Arc;

use figspan_proto::ALPN_TCP;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::carrier::LINK_TIMEOUT;
use crate::carrier::link::{Link, TLS_BUFFER, carry, prepare};
use crate::carrier::socket::Links;
use crate::identity::Leaf;
use crate::tls;
use crate::tunnel::TunnelError;

/// Connects to a shard. The links' tasks carry what is sent over it, until it is closed or lost.
pub(super) async fn open(hub: SocketAddr, shard: u8, config: Arc<ClientConfig>, links: &Links) -> Result<Arc<Link>, TunnelError> {
    let opening = async {
        let failed = |error: std::io::Error| TunnelError::Tcp { address: hub, source: Arc::new(error) };
        let io = TcpStream::connect(hub).await.map_err(failed)?;
        prepare(&io).map_err(failed)?;
        let name = ServerName::try_from(tls::server_name(shard)).map_err(|error| TunnelError::Tls(error.to_string()))?;
        let handshake = TlsConnector::from(config).connect_with(name, io, |tls| tls.set_buffer_limit(Some(TLS_BUFFER)));
        let io = handshake.await.map_err(|error| match rustls_error(&error) {
            Some(rustls::Error::AlertReceived(alert)) => {
                TunnelError::Identity(format!("hub at {hub} refuses our TLS over TCP: alert {alert:?}"))
            }
            Some(error) => TunnelError::Identity(format!("hub at {hub} cannot be trusted: {}", tls::plain(&error.to_string()))),
            None => failed(error),
        })?;
        let (_, session) = io.get_ref();
        if session.alpn_protocol() != Some(ALPN_TCP) {
            return Err(TunnelError::Lost(format!("what answers on TCP at {hub} is not a hub that carries tunnels")));
        }
        let leaf = session.peer_certificates().and_then(|chain| chain.first()).and_then(|leaf| Leaf::read(leaf).ok());
        let link = Link::new(hub, None, leaf.map(|leaf| leaf.id));
        let carrying = carry(Arc::clone(&link), Arc::clone(&links.arrivals), io);
        links.tasks.spawn(async move {
            let ended = carrying.await;
            tracing::debug!(%hub, shard, %ended, "a connection over TCP has ended");
        });
        Ok(link)
    };
    tokio::time::timeout(LINK_TIMEOUT, opening).await.unwrap_or(Err(TunnelError::Timeout(hub)))
}

fn rustls_error(error: &std::io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}
