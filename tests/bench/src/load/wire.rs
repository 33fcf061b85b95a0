//! The least HTTP/1.1 that a load needs: one request at a time on a kept connection, answers with a length.

use std::net::SocketAddr;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// One connection.
pub(super) struct Wire {
    tcp: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Wire {
    /// Connects; every request asks for that path, with so many bytes of a body: none is a GET, any a POST.
    pub(super) async fn connect(address: SocketAddr, path: &str, sent: usize) -> anyhow::Result<Self> {
        let tcp = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
        tcp.set_nodelay(true)?;
        let request = match sent {
            0 => format!("GET {path} HTTP/1.1\r\nhost: bench.example\r\n\r\n"),
            _ => format!("POST {path} HTTP/1.1\r\nhost: bench.example\r\ncontent-length: {sent}\r\n\r\n{}", "x".repeat(sent)),
        };
        Ok(Self { tcp, request: request.into_bytes(), buffer: vec![0; 64 * 1024] })
    }

    /// Asks once, and reads the answer to its end: bytes of its body, which must be `length`.
    pub(super) async fn ask(&mut self, length: usize) -> anyhow::Result<usize> {
        self.tcp.write_all(&self.request).await?;
        let mut have = 0;
        let mut left = loop {
            let n = self.tcp.read(&mut self.buffer[have..]).await?;
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
            let n = self.tcp.read(&mut self.buffer[..room]).await?;
            ensure!(n > 0, "the connection ended within an answer");
            left -= n;
        }
        Ok(length)
    }
}
