//! Connection attempts, and what becomes of them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use figspan_proto::reset::Close;
use figspan_proto::{ALPN_JOIN, ALPN_TUNNEL};
use figspan_quic::Connection;
use quinn_proto::ConnectionError;
use quinn_proto::crypto::rustls::HandshakeData;
use rustls::pki_types::CertificateDer;

use crate::carrier::address::{is_over_tcp, real};
use crate::carrier::socket::Links;
use crate::heard::Heard;
use crate::identity::Leaf;
use crate::stream::Stream;
use crate::transport::{self, HANDSHAKE_TIMEOUT, TUNNEL_WINDOW};
use crate::tunnel::{Sampler, Tunnel, TunnelError};

/// How long a joining VM may take to hear the answer before its connection is closed.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection attempt. Dropped, it is refused.
#[derive(Debug)]
pub struct Incoming {
    incoming: figspan_quic::Incoming,
    sampler: Arc<Sampler>,
    links: Arc<Links>,
    heard: Arc<Heard>,
    _counted: Counted,
}

/// Counts attempts that are not yet decided.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a handshake led to.
#[derive(Debug)]
pub enum Established {
    /// A tunnel of a known agent.
    Tunnel(Tunnel),
    /// A VM without a certificate that may do one thing: redeem a grant.
    Joining(Joining),
}

impl Incoming {
    pub(super) fn new(
        incoming: figspan_quic::Incoming,
        opening: &Arc<AtomicUsize>,
        sampler: &Arc<Sampler>,
        links: &Arc<Links>,
        heard: &Arc<Heard>,
    ) -> Self {
        opening.fetch_add(1, Ordering::Relaxed);
        Self {
            incoming,
            sampler: Arc::clone(sampler),
            links: Arc::clone(links),
            heard: Arc::clone(heard),
            _counted: Counted(Arc::clone(opening)),
        }
    }

    /// Where it comes from; not proven to be true unless the peer has answered a Retry.
    pub fn remote_address(&self) -> SocketAddr {
        real(self.incoming.remote_address())
    }

    /// Whether the peer has proven that it receives what is sent to its address.
    pub fn validated(&self) -> bool {
        super::proven(&self.incoming)
    }

    /// Finishes the handshake (at most [`HANDSHAKE_TIMEOUT`]) and checks the identity: role agent, own trust domain. A client
    /// without a certificate gets past this point only if it asked to join, by ALPN.
    pub async fn establish(self) -> Result<Established, TunnelError> {
        let path = self.incoming.remote_address();
        let remote = real(path);
        // TCP carries any size, and whoever has no route back will not hear us anyway.
        let mtu = if is_over_tcp(path) { transport::MTU_CAP } else { transport::mtu_towards(remote).unwrap_or(transport::MTU) };
        let connecting = self.incoming.accept(Some(transport::hub(mtu))).map_err(|error| refused(remote, error))?;
        let connection = tokio::time::timeout(HANDSHAKE_TIMEOUT, connecting)
            .await
            .map_err(|_| TunnelError::Lost(format!("handshake with {remote} did not end in {} s", HANDSHAKE_TIMEOUT.as_secs())))?
            .map_err(|error| refused(remote, error))?;
        match alpn(&connection).as_deref() {
            Some(ALPN_JOIN) => Ok(Established::Joining(Joining { connection, asked: false })),
            Some(ALPN_TUNNEL) => match leaf(&connection) {
                // One identity over TCP and another inside of it is somebody's trick.
                Some(leaf) if is_over_tcp(path) && self.links.peer(path).as_ref() != Some(&leaf.id) => {
                    connection.close(Close::Identity.code().into(), b"TLS over TCP proved another identity");
                    Err(TunnelError::Identity(format!("{remote} is {} inside of a TCP connection of somebody else", leaf.id)))
                }
                Some(leaf) if leaf.id.agent().is_some() => {
                    connection.set_receive_window(TUNNEL_WINDOW.into());
                    Ok(Established::Tunnel(Tunnel::of_hub(connection, leaf, self.sampler, self.heard)))
                }
                _ => {
                    connection.close(Close::Identity.code().into(), b"an agent's certificate is needed");
                    Err(TunnelError::Identity(format!("{remote} asked for a tunnel and showed no agent's certificate")))
                }
            },
            // rustls lets nothing else through.
            _ => {
                connection.close(Close::Protocol.code().into(), b"");
                Err(TunnelError::Tls(format!("{remote} asked for no protocol of ours")))
            }
        }
    }
}

fn refused(remote: SocketAddr, error: ConnectionError) -> TunnelError {
    match error {
        ConnectionError::TransportError(error) => {
            TunnelError::Identity(format!("{remote} is refused: {}", crate::tls::plain(&error.reason)))
        }
        error => TunnelError::Lost(format!("handshake with {remote} failed: {}", crate::closed::closed(error).detail)),
    }
}

fn alpn(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// The leaf that the TLS verifier has accepted.
pub(crate) fn leaf(connection: &Connection) -> Option<Leaf> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    Leaf::read(chain.first()?).ok()
}

/// A connection without a client certificate. Dropped, it is closed.
#[derive(Debug)]
pub struct Joining {
    connection: Connection,
    asked: bool,
}

impl Joining {
    /// The VM's address.
    pub fn remote_address(&self) -> SocketAddr {
        real(self.connection.remote_address())
    }

    /// The one stream that it may open, within [`HANDSHAKE_TIMEOUT`]. A second call is an error.
    pub async fn accept(&mut self) -> Result<Stream, TunnelError> {
        if std::mem::replace(&mut self.asked, true) {
            return Err(TunnelError::Lost("a joining VM has one question only".into()));
        }
        let (send, recv) = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.connection.accept_bi())
            .await
            .map_err(|_| TunnelError::Lost("a joining VM asked nothing".into()))?
            .map_err(TunnelError::of)?;
        Ok(Stream::new(self.connection.clone(), send, recv))
    }

    /// Closes after the VM has taken its answer and closed, or after 1 s.
    pub async fn finish(self) {
        let _ = tokio::time::timeout(FAREWELL, self.connection.closed()).await;
        self.connection.close(Close::Done.code().into(), b"");
    }
}

impl Drop for Joining {
    fn drop(&mut self) {
        self.connection.close(Close::Done.code().into(), b"");
    }
}
