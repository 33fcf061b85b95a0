//! One gRPC health check (grpc.health.v1.Health/Check) over HTTP/2 without TLS, on a fresh connection.
//!
//! Both messages have one field, so they are written and read here by hand:
//! `HealthCheckRequest { string service = 1 }`, `HealthCheckResponse { ServingStatus status = 1 }`.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{CheckError, Connection};

/// Longest answer that is read, in bytes; a right one has 7.
const MAX_ANSWER: usize = 4096;

/// Asks `grpc.health.v1` about a service, or about the server as a whole where that is empty. `agent` is who asks.
pub async fn check(io: impl Connection, authority: &str, service: &str, agent: &str) -> Result<(), CheckError> {
    let fail = |error: h2::Error| CheckError::Grpc(error.to_string());
    let (client, connection) = h2::client::handshake(io).await.map_err(fail)?;
    let exchange = exchange(client, authority, service, agent);
    tokio::pin!(connection, exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = &mut connection => exchange.await,
    }
}

async fn exchange(client: h2::client::SendRequest<Bytes>, authority: &str, service: &str, agent: &str) -> Result<(), CheckError> {
    let fail = |error: h2::Error| CheckError::Grpc(error.to_string());
    let request = http::Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", agent)
        .body(())
        .map_err(|error| CheckError::Grpc(error.to_string()))?;
    let mut client = client.ready().await.map_err(fail)?;
    let (response, mut body) = client.send_request(request, false).map_err(fail)?;
    body.send_data(question(service), true).map_err(fail)?;
    let response = response.await.map_err(fail)?;
    if response.status() != http::StatusCode::OK {
        return Err(CheckError::Grpc(format!("answered HTTP status {}", response.status())));
    }
    if let Some(status) = response.headers().get("grpc-status") {
        grpc_status(status, response.headers().get("grpc-message"))?;
    }
    let mut answer = response.into_body();
    let mut bytes = BytesMut::new();
    while let Some(chunk) = answer.data().await {
        let chunk = chunk.map_err(fail)?;
        let _ = answer.flow_control().release_capacity(chunk.len());
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return Err(CheckError::Grpc("answered with too many bytes".to_owned()));
        }
        bytes.extend_from_slice(&chunk);
    }
    if let Some(trailers) = answer.trailers().await.map_err(fail)?
        && let Some(status) = trailers.get("grpc-status")
    {
        grpc_status(status, trailers.get("grpc-message"))?;
    }
    verdict(&bytes)
}

fn grpc_status(status: &http::HeaderValue, message: Option<&http::HeaderValue>) -> Result<(), CheckError> {
    if status == "0" {
        return Ok(());
    }
    let what = match status.as_bytes() {
        b"5" => "5 (the server does not know the service)".to_owned(),
        b"12" => "12 (the server has no health service)".to_owned(),
        other => String::from_utf8_lossy(other).into_owned(),
    };
    let message = message.map(|message| format!(": {}", String::from_utf8_lossy(message.as_bytes()))).unwrap_or_default();
    Err(CheckError::Grpc(format!("answered gRPC status {what}{message}")))
}

/// The request in its gRPC frame.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::with_capacity(message.len() + 5);
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    framed.freeze()
}

/// Reads the answer in its gRPC frame.
fn verdict(framed: &[u8]) -> Result<(), CheckError> {
    let malformed = || CheckError::Grpc("answered with no health message".to_owned());
    let (head, message) = framed.split_at_checked(5).ok_or_else(malformed)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return Err(malformed());
    }
    // Proto3 leaves a zero out, so an empty message says UNKNOWN.
    match message {
        [] | [0x08, 0] => Err(CheckError::NotServing("UNKNOWN")),
        [0x08, 1, ..] => Ok(()),
        [0x08, 2, ..] => Err(CheckError::NotServing("NOT_SERVING")),
        [0x08, 3, ..] => Err(CheckError::NotServing("SERVICE_UNKNOWN")),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_names_the_service_in_one_frame() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(200));
        assert_eq!(&long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01]);
    }

    #[test]
    fn only_serving_passes_and_no_bytes_panic() {
        assert!(verdict(&[0, 0, 0, 0, 2, 8, 1]).is_ok());
        for bad in
            [&[][..], &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 2, 8, 2], &[0, 0, 0, 0, 2, 8, 3], &[1, 0, 0, 0, 2, 8, 1], &[0, 0, 0, 0, 9, 8, 1]]
        {
            assert!(verdict(bad).is_err(), "{bad:?}");
        }
    }
}
