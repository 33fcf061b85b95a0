//! Asks a hub over a tunnel whether what is sent to it over UDP arrives, where nothing comes back.
//!
//! For finding out what is wrong: what is sent are attempts at a connection that are given up with the answer. A hub shows only the
//! first packet of an attempt, and does not say when it begins to listen: so there are several, and their ids begin alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use figspan_proto::join::MARK;
use quinn_proto::ConnectionId;

use super::call::Call;
use crate::carrier::socket::Route;
use crate::exchange;
use crate::identity::Credentials;
use crate::tls;
use crate::tunnel::Tunnel;

/// From one attempt to the next: the hub listens for several of them.
const EACH: Duration = Duration::from_millis(400);

/// Whether packets over UDP to the hub's address, which is where the tunnel leads, arrive there. The tunnel was dialled to shard 0. An
/// error where the hub does not say. At most [`exchange::EXCHANGE_TIMEOUT`].
pub async fn udp_arrives(tunnel: &Tunnel, address: SocketAddr, credentials: &Arc<Credentials>) -> Result<bool, String> {
    let shard = 0;
    let mut mark: [u8; MARK] = rand::random();
    mark[0] = shard;
    let stream = tunnel.open().await.map_err(|error| error.to_string())?;
    let identity = credentials.identity();
    let call = Call { address, shard, identity: Some(&identity), recording: None };
    tokio::select! {
        heard = exchange::ask_heard(stream, mark) => heard.map_err(|error| error.to_string()),
        error = attempts(call, mark, credentials) => Err(error.to_string()),
    }
}

/// Tries again and again, each time under another id; only an error ends it.
async fn attempts(call: Call<'_>, mark: [u8; MARK], credentials: &Arc<Credentials>) -> rustls::Error {
    loop {
        let crypto = match tls::agent(credentials) {
            Ok(crypto) => crypto,
            Err(error) => return error,
        };
        let id = ConnectionId::new(&[mark, rand::random()].concat());
        // Should UDP pass after all, the connection that came to be is closed at once.
        let _ = tokio::time::timeout(EACH, call.connect_as(id, crypto, Route::Udp, Arc::default())).await;
        tokio::time::sleep(EACH / 4).await;
    }
}
