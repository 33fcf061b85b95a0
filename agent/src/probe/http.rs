//! One HTTP/1.1 check on a fresh connection.

use std::ops::RangeInclusive;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub(super) use ::http::StatusCode;

use super::ProbeError;

/// Bytes of the answer's body that are read, so that an ordinary workload sees an ordinary end of its answer.
const BODY_READ: usize = 64 * 1024;

pub(super) async fn check(tcp: TcpStream, path: &str, host: &str, pass: &[RangeInclusive<u16>]) -> Result<(), ProbeError> {
    let request = ::http::Request::get(path)
        .header("host", host)
        .header("user-agent", concat!("figspan-agent/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| ProbeError::Http(error.to_string()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await.map_err(|error| ProbeError::Http(error.to_string()))?;
    let exchange = async {
        let mut response = sender.send_request(request).await?;
        let status = response.status();
        let mut read = 0;
        // Headers decide; how the body ends does not.
        while let Some(Ok(frame)) = response.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read >= BODY_READ {
                break;
            }
        }
        Ok::<_, hyper::Error>(status)
    };
    tokio::pin!(connection, exchange);
    let answer = tokio::select! {
        answer = &mut exchange => answer,
        // The connection's end may come before the exchange has seen what it brought.
        _ = &mut connection => exchange.await,
    };
    let status = answer.map_err(|error| ProbeError::Http(error.to_string()))?;
    if pass.iter().any(|range| range.contains(&status.as_u16())) { Ok(()) } else { Err(ProbeError::Status(status)) }
}
