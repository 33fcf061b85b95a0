//! Connects to a declared workload: the one place where the agent dials anything but a hub.
//!
//! The address always comes from the agent's own settings, never from a network, so that a hub can turn no agent into an
//! open proxy.

use std::io;
use std::time::Duration;

use figspan_proto::reset::Reason;
use figspan_tunnel::resolve::Resolver;
use tokio::net::TcpStream;

use crate::settings::Address;

/// Why there is no connection to a workload.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens there.
    #[error("connection refused")]
    Refused,
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The name has no address.
    #[error("its name cannot be resolved: {0}")]
    Name(String),
    /// This process may open no more files.
    #[error("too many open files ({0}); raise LimitNOFILE in the unit")]
    Descriptors(io::Error),
    /// Anything else.
    #[error("{0}")]
    Failed(io::Error),
}

impl ConnectError {
    /// The word for it on a stream.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused => Reason::ConnectRefused,
            Self::Timeout(_) => Reason::ConnectTimeout,
            Self::Descriptors(_) => Reason::Limit,
            Self::Name(_) | Self::Failed(_) => Reason::ConnectFailed,
        }
    }

    fn from_io(error: io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::ConnectionRefused, _) => Self::Refused,
            (_, Some(libc::EMFILE | libc::ENFILE)) => Self::Descriptors(error),
            _ => Self::Failed(error),
        }
    }
}

/// Connects within `timeout`; where a name has several addresses, to the first that answers.
pub async fn connect(address: &Address, timeout: Duration, resolver: &Resolver) -> Result<TcpStream, ConnectError> {
    tokio::time::timeout(timeout, dial(address, resolver)).await.unwrap_or(Err(ConnectError::Timeout(timeout)))
}

async fn dial(address: &Address, resolver: &Resolver) -> Result<TcpStream, ConnectError> {
    let tcp = match address {
        Address::Ip(address) => TcpStream::connect(address).await.map_err(ConnectError::from_io)?,
        Address::Name(name, port) => {
            let answer = resolver.lookup(name, *port).await.map_err(|error| ConnectError::Name(error.to_string()))?;
            let mut last = ConnectError::Name("it has no address".to_owned());
            let mut connected = None;
            for address in answer.addresses {
                match TcpStream::connect(address).await {
                    Ok(tcp) => {
                        connected = Some(tcp);
                        break;
                    }
                    Err(error) => last = ConnectError::from_io(error),
                }
            }
            connected.ok_or(last)?
        }
    };
    // Small writes are whole requests here; waiting for more would only cost a round trip.
    tcp.set_nodelay(true).map_err(ConnectError::Failed)?;
    Ok(tcp)
}
