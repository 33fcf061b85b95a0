//! The least HTTP/1.1 that a load needs: one request at a time on a connection, answers with a length.

use anyhow::{Context, bail, ensure};
use figspan_tunnel::front_tls::Duplex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::front::Front;

/// What is asked on each connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    /// The path of every request.
    pub path: &'static str,
    /// Bytes of its body: none is a GET, any a POST.
    pub sent: usize,
    /// Whether the connection is kept for another.
    pub kept: bool,
}

/// One connection.
pub(super) struct Wire {
    /// Inside TLS or not.
    io: Box<dyn Duplex>,
    request: Vec<u8>,
    buffer: Vec<u8>,
    /// Whether its TLS session is one from before.
    pub(super) resumed: bool,
}

impl Wire {
    /// Connects.
    pub(super) async fn connect(front: &Front, asked: Asked) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(front.address()).await.with_context(|| format!("cannot connect to {}", front.address()))?;
        tcp.set_nodelay(true)?;
        let (io, resumed): (Box<dyn Duplex>, _) = match front {
            Front::Plain(_) => (Box::new(tcp), false),
            Front::Tls(_, client) => {
                let tls = client.handshake(tcp).await?;
                let resumed = tls.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
                (Box::new(tls), resumed)
            }
        };
        let Asked { path, sent, kept } = asked;
        let host = front.host();
        let close = if kept { "" } else { "connection: close\r\n" };
        let request = match sent {
            0 => format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{close}\r\n"),
            _ => format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{close}content-length: {sent}\r\n\r\n{}", "x".repeat(sent)),
        };
        Ok(Self { io, request: request.into_bytes(), buffer: vec![0; 64 * 1024], resumed })
    }

    /// Asks once, and reads the answer to its end: bytes of its body, which must be `length`.
    pub(super) async fn ask(&mut self, length: usize) -> anyhow::Result<usize> {
        self.io.write_all(&self.request).await?;
        self.io.flush().await?;
        let mut have = 0;
        let mut left = loop {
            let n = self.io.read(&mut self.buffer[have..]).await?;
            ensure!(n > 0, "the connection ended before an answer");
            have += n;
            if let Some(end) = self.buffer[..have].windows(4).position(|window| window == b"\r\n\r\n") {
                let head = std::str::from_utf8(&self.buffer[..end])?;
                ensure!(head.starts_with("HTTP/1.1 200"), "the answer is: {}", head.lines().next().unwrap_or_default());
                let told =
                    head.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")));
                let Some((_, told)) = told else { bail!("an answer without a length") };
                ensure!(told.trim() == length.to_string(), "an answer of {} bytes instead of {length}", told.trim());
                break length + end + 4 - have;
            }
            ensure!(have < self.buffer.len(), "a head without an end after {have} bytes");
        };
        while left > 0 {
            let room = left.min(self.buffer.len());
            let n = self.io.read(&mut self.buffer[..room]).await?;
            ensure!(n > 0, "the connection ended within an answer");
            left -= n;
        }
        Ok(length)
    }

    /// Waits until the other side closes, as it was asked to; so its work for this connection is in the figure.
    pub(super) async fn ended(mut self) -> anyhow::Result<()> {
        let n = self.io.read(&mut self.buffer).await.context("the connection was cut")?;
        ensure!(n == 0, "{n} bytes behind the answer");
        Ok(())
    }
}
