//! Names to addresses, by hickory-resolver: A, AAAA and SRV.
use std::net::SocketAddr;
use std::time::Duration;
/// x
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// x
    #[error("{0}")]
    Failed(String),
}
/// x
#[derive(Debug, Clone)]
pub struct Resolver;
/// All addresses and how long they hold.
#[derive(Debug, Clone)]
pub struct Answer {
    /// In the order to try: SRV priority and weight respected, families interleaved.
    pub addresses: Vec<SocketAddr>,
    /// TTL, at least 1 s, at most 5 min.
    pub valid_for: Duration,
}
impl Resolver {
    /// The system's configuration (/etc/resolv.conf, /etc/hosts).
    pub fn system() -> Result<Self, ResolveError> {
        todo!()
    }
    /// `ip:port`, `[v6]:port` and `localhost:port` at once; `host:port` by A/AAAA; `host` without a port by SRV `_figspan._udp.host`, else A/AAAA with `default_port`.
    pub async fn lookup(&self, target: &str, default_port: u16) -> Result<Answer, ResolveError> {
        todo!()
    }
}
