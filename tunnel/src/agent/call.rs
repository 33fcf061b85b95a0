//! Reaching a hub by the best way there is: UDP, and TCP where UDP gives no answer.
//!
//! Both may be under way at a time, UDP with a lead (as RFC 8305 does for address families). What speaks for TCP is not that UDP
//! is slow but that it is dead: probes that any hub answers are not answered. Promises that whatever is not used is closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use figspan_quic::{Connection, Endpoint, Udp};
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, ConnectionError, ConnectionId, EndpointConfig};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::failure::failure;
use super::link;
use super::recording::Recording;
use crate::carrier::link::Link;
use crate::carrier::socket::{CarrierSocket, Links, Route};
use crate::carrier::{Preference, Why, probe};
use crate::hub::towards;
use crate::identity::Identity;
use crate::transport::{self, INITIAL_RTT, TCP_AFTER};
use crate::tunnel::TunnelError;
use crate::{tasks, tls};

/// Where probes over UDP are answered and the handshake still does not end, TCP may win from this time of the dial on: perhaps
/// longer packets are lost.
const TCP_ANYHOW_AFTER: Duration = Duration::from_secs(3);

/// Whom to call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) address: SocketAddr,
    pub(super) shard: u8,
    /// Who calls, for messages.
    pub(super) identity: Option<&'a Arc<Identity>>,
    /// Who writes its packets down.
    pub(super) recording: Option<&'a Recording>,
}

/// A connection, and what has to live as long.
#[derive(Debug)]
pub(super) struct Reached {
    pub(super) endpoint: Endpoint,
    pub(super) connection: Connection,
    pub(super) links: Arc<Links>,
    /// What carries it, if not UDP.
    pub(super) link: Option<Arc<Link>>,
}

impl Call<'_> {
    /// Connects by what the preference allows, and says why by this.
    pub(super) async fn reach(
        self,
        preference: Preference,
        quic: impl Fn() -> Result<QuicClientConfig, TunnelError>,
        tcp: impl Fn() -> Result<Arc<rustls::ClientConfig>, TunnelError>,
    ) -> Result<(Reached, Why), TunnelError> {
        match preference {
            Preference::Quic => Ok((self.over_udp(quic()?).await?, Why::Settings)),
            Preference::Tcp => Ok((self.over_tcp(tcp()?, quic()?).await?, Why::Settings)),
            Preference::Auto => self.race(quic()?, quic()?, tcp()?).await,
        }
    }

    async fn race(
        self,
        quic: QuicClientConfig,
        inside: QuicClientConfig,
        tcp: Arc<rustls::ClientConfig>,
    ) -> Result<(Reached, Why), TunnelError> {
        let (start, failed) = (Instant::now(), Notify::new());
        let udp = self.over_udp(quic);
        let tcp = async {
            tokio::select! {
                () = tokio::time::sleep_until(start + TCP_AFTER) => {}
                () = failed.notified() => {}
            }
            let dead = async {
                if probe::answers(self.address, probe::UNANSWERED, INITIAL_RTT).await {
                    tokio::time::sleep_until(start + TCP_ANYHOW_AFTER).await;
                }
                Ok(())
            };
            futures_util::future::try_join(dead, self.over_tcp(tcp, inside)).await.map(|((), reached)| reached)
        };
        tokio::pin!(udp, tcp);
        let (mut no_udp, mut no_tcp) = (None, None);
        loop {
            tokio::select! {
                biased;
                reached = &mut udp, if no_udp.is_none() => match reached {
                    Ok(reached) => return Ok((reached, Why::Answered)),
                    Err(error) if is_final(&error) => return Err(error),
                    Err(error) => {
                        failed.notify_one();
                        no_udp = Some(error);
                    }
                },
                reached = &mut tcp, if no_tcp.is_none() => match reached {
                    Ok(reached) => return Ok((reached, Why::Blocked)),
                    Err(error) => no_tcp = Some(error),
                },
            }
            match (&no_udp, &no_tcp) {
                (Some(_), Some(tcp)) if is_final(tcp) => return Err(tcp.clone()),
                (Some(udp), Some(_)) => return Err(udp.clone()),
                _ => {}
            }
        }
    }

    async fn over_udp(self, crypto: QuicClientConfig) -> Result<Reached, TunnelError> {
        self.connect(crypto, Route::Udp, Arc::default()).await
    }

    async fn over_tcp(self, tls: Arc<rustls::ClientConfig>, crypto: QuicClientConfig) -> Result<Reached, TunnelError> {
        let links = Arc::<Links>::default();
        let link = link::open(self.address, self.shard, tls, &links).await?;
        let reached = self.connect(crypto, Route::Link(Arc::clone(&link)), links).await?;
        Ok(Reached { link: Some(link), ..reached })
    }

    pub(super) async fn connect(self, crypto: QuicClientConfig, route: Route, links: Arc<Links>) -> Result<Reached, TunnelError> {
        self.connect_as(towards(self.shard), crypto, route, links).await
    }

    /// The same with first packets of that connection id.
    pub(super) async fn connect_as(
        self,
        id: ConnectionId,
        crypto: QuicClientConfig,
        route: Route,
        links: Arc<Links>,
    ) -> Result<Reached, TunnelError> {
        let Self { address, shard: _, identity, recording } = self;
        let socket_failed = |error: std::io::Error| TunnelError::Socket { address, source: Arc::new(error) };
        let mtu = match route {
            // TCP carries any size.
            Route::Link(_) => transport::MTU_CAP,
            Route::Udp | Route::ByAddress => transport::mtu_towards(address).map_err(socket_failed)?,
        };
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut carried = transport::agent(mtu);
        if let Some(recording) = recording {
            recording.of(&mut carried);
        }
        config.transport_config(Arc::new(carried));
        config.initial_dst_cid_provider(Arc::new(move || id));
        let mut endpoint = EndpointConfig::default();
        let payload = endpoint.max_udp_payload_size(transport::MTU_CAP);
        payload.map_err(|error| socket_failed(std::io::Error::other(error)))?;
        let udp = transport::udp_towards(address).and_then(Udp::new).map_err(socket_failed)?;
        let (endpoint, driver) = Endpoint::new(endpoint, None, CarrierSocket::new(udp, route, Arc::clone(&links)));
        tasks::drive(driver);
        let connecting = endpoint
            .connect(config, address, tls::SERVER_NAME)
            .map_err(|error| socket_failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
        let connection = connecting.await.map_err(|error| failure(address, error, identity))?;
        Ok(Reached { endpoint, connection, links, link: None })
    }
}

/// Whether the other transport would be told the same.
fn is_final(error: &TunnelError) -> bool {
    matches!(error, TunnelError::Identity(_) | TunnelError::Tls(_) | TunnelError::Refused { .. })
}

/// Waits until the hub has confirmed the handshake (RFC 9001, section 4.1.2), which it does after it has verified our
/// certificate. quinn-proto tells nobody about that frame, so its counter is looked at, ever less often.
pub(super) async fn confirmed(connection: &Connection) -> Result<(), ConnectionError> {
    let mut wait = Duration::from_micros(500);
    while connection.stats().frame_rx.handshake_done == 0 {
        match tokio::time::timeout(wait, connection.closed()).await {
            Ok(error) => return Err(error),
            Err(_) => wait = (wait * 2).min(Duration::from_millis(20)),
        }
    }
    Ok(())
}
