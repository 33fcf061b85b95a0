//! TLS from the hub to a backend that asks for it. Verification cannot be turned off.
use crate::front_tls::Duplex;
/// x
#[derive(Debug, Clone)]
pub struct BackendTlsClient;
impl BackendTlsClient {
    /// `roots_pem`: None = system store. `h2`: offer h2 by ALPN, else http/1.1; `None` = no ALPN (TCP).
    pub fn new(hostname: &str, roots_pem: Option<&str>, alpn_h2: Option<bool>) -> Result<Self, String> {
        todo!()
    }
    /// Handshake over any stream.
    pub async fn connect<T: Duplex>(&self, io: T) -> std::io::Result<tokio_rustls::client::TlsStream<T>> {
        todo!()
    }
}
