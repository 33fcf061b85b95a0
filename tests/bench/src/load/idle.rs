//! Connections that were used once and then say nothing, for what they hold.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::Message;

use super::LONGEST;
use super::front::Front;
use super::wire::{Asked, Wire};

/// What is sent on a connection that echoes.
const MESSAGE: &[u8] = b"a message";

/// Open connections, as long as this lives.
pub struct Idle<C> {
    connections: Vec<C>,
    // Last: connections end on it.
    _runtime: Runtime,
}

impl<C> Idle<C> {
    /// How many they are.
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    fn open<F: Future<Output = anyhow::Result<C>>>(count: usize, connect: impl Fn() -> F) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let all = async {
            let mut connections = Vec::with_capacity(count);
            for _ in 0..count {
                connections.push(connect().await?);
            }
            anyhow::Ok(connections)
        };
        let connections = runtime.block_on(async { tokio::time::timeout(LONGEST, all).await })?;
        Ok(Self { connections: connections?, _runtime: runtime })
    }
}

/// HTTP/1.1, after one answer of `length` bytes.
pub fn http(address: SocketAddr, path: &'static str, length: usize, count: usize) -> anyhow::Result<Idle<impl Sized>> {
    Idle::open(count, || async move {
        let mut wire = Wire::connect(&Front::Plain(address), Asked { path, sent: 0, kept: true }).await?;
        wire.ask(length).await?;
        Ok(wire)
    })
}

/// WebSockets, after one message and its echo.
pub fn websockets(address: SocketAddr, count: usize) -> anyhow::Result<Idle<impl Sized>> {
    Idle::open(count, || async move {
        let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        let (mut socket, _) = tokio_tungstenite::client_async(format!("ws://{address}/echo"), tcp).await?;
        socket.send(Message::binary(MESSAGE)).await?;
        let back = socket.next().await.context("the WebSocket ended")??;
        ensure!(back.into_data() == MESSAGE, "another message came back");
        Ok(socket)
    })
}

/// TCP, after some bytes and their echo.
pub fn tcp(address: SocketAddr, count: usize) -> anyhow::Result<Idle<impl Sized>> {
    Idle::open(count, || async move {
        let mut tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        let mut back = [0; MESSAGE.len()];
        tcp.write_all(MESSAGE).await?;
        tcp.read_exact(&mut back).await?;
        ensure!(back == MESSAGE, "other bytes came back");
        Ok(tcp)
    })
}
