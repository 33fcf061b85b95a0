//! Round trips on connections that stay: WebSocket messages, and bytes over TCP.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

use super::{Done, together};

/// What goes forth and back.
const MESSAGE: [u8; 64] = [b'x'; 64];

/// WebSocket messages in a closed loop.
pub fn messages(address: SocketAddr, connections: usize, time: Duration) -> anyhow::Result<Done> {
    let end = Instant::now() + time;
    together((0..connections).map(|_| async move {
        let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        tcp.set_nodelay(true)?;
        let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/echo"), tcp).await?;
        let mut done = Done::new();
        while Instant::now() < end {
            let start = Instant::now();
            socket.send(Message::binary(&MESSAGE[..])).await?;
            let back = socket.next().await.context("the WebSocket ended")??;
            ensure!(back.into_data() == MESSAGE[..], "another message came back");
            done.note(start.elapsed(), MESSAGE.len());
        }
        Ok(done)
    }))
}

/// Bytes over TCP in a closed loop.
pub fn bytes(address: SocketAddr, connections: usize, time: Duration) -> anyhow::Result<Done> {
    let end = Instant::now() + time;
    together((0..connections).map(|_| async move {
        let mut tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        tcp.set_nodelay(true)?;
        let (mut done, mut back) = (Done::new(), [0; MESSAGE.len()]);
        while Instant::now() < end {
            let start = Instant::now();
            tcp.write_all(&MESSAGE).await?;
            tcp.read_exact(&mut back).await?;
            ensure!(back == MESSAGE, "other bytes came back");
            done.note(start.elapsed(), MESSAGE.len());
        }
        Ok(done)
    }))
}
