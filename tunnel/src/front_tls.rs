//! TLS of the hub's own listeners: certificates by SNI, replaced while connections live; SNI read without ending TLS.
use bytes::Bytes;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
/// x
#[derive(Debug, thiserror::Error)]
pub enum FrontTlsError {
    /// x
    #[error("{0}")]
    Invalid(String),
}
/// One chain and key in PEM, with a name for errors (the file).
#[derive(Debug, Clone)]
pub struct PemPair {
    /// For errors.
    pub source: String,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
}
/// A TLS server: TLS 1.2 and 1.3, ALPN h2 and http/1.1. Names are read from each leaf; the first pair is the default.
#[derive(Debug)]
pub struct FrontTls;
impl FrontTls {
    /// All errors at once.
    pub fn new(pairs: &[PemPair]) -> Result<Arc<Self>, Vec<FrontTlsError>> {
        todo!()
    }
    /// Replaces the certificates for new handshakes; on error nothing changes.
    pub fn replace(&self, pairs: &[PemPair]) -> Result<(), Vec<FrontTlsError>> {
        todo!()
    }
    /// Handshake.
    pub async fn accept(&self, tcp: TcpStream) -> std::io::Result<FrontStream> {
        todo!()
    }
}
/// A client's TLS connection.
#[derive(Debug)]
pub struct FrontStream {
    /// x
    pub io: tokio_rustls::server::TlsStream<TcpStream>,
    /// ALPN chose h2.
    pub h2: bool,
    /// SNI, lower case.
    pub server_name: Option<String>,
}
/// Reads a ClientHello (bounded 16 KiB) without answering: server name (lower case), and the bytes read, to be forwarded first.
pub async fn client_hello<T: AsyncRead + Unpin>(io: &mut T) -> std::io::Result<(Option<String>, Bytes)> {
    todo!()
}
/// `AsyncRead + AsyncWrite` in one bound.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}
