//! One HTTP/1.1 check on a fresh connection.

use std::ops::RangeInclusive;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::{CheckError, Connection};

/// Bytes of the answer's body that are read, so that an ordinary workload sees an ordinary end of its answer.
const BODY_READ: usize = 64 * 1024;

/// Gets a path; passes on a status of `pass`. `agent` is who asks, for the workload's log.
pub async fn check(io: impl Connection, path: &str, host: &str, pass: &[RangeInclusive<u16>], agent: &str) -> Result<(), CheckError> {
    let request = ::http::Request::get(path)
        .header("host", host)
        .header("user-agent", agent)
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| CheckError::Http(error.to_string()))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(|error| CheckError::Http(error.to_string()))?;
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
    let status = answer.map_err(|error| CheckError::Http(error.to_string()))?;
    if pass.iter().any(|range| range.contains(&status.as_u16())) { Ok(()) } else { Err(CheckError::Status(status)) }
}
