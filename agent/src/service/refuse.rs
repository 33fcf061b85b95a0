//! Answers a process whose connection no hub has taken.
//!
//! HTTP gets an answer that says so, because a process understands that better than a closed door: 503 with `Retry-After`, or
//! 403 where the agent may not call the service; HTTP/2 gets a GOAWAY that says that no request was looked at. TCP gets a
//! reset. All of it is written before a byte is understood: the first bytes only tell one HTTP from the other.

use std::time::Duration;

use figspan_proto::preamble::Kind;
use figspan_proto::reset::Reason;
use figspan_tunnel::splice::Local;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::call::Refusal;

/// How long a process may take to begin its request, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of the request that are read, so that the close does not reset the answer away.
const READ_AT_MOST: usize = 64 * 1024;
/// How HTTP/2 begins.
const HTTP2: &[u8] = b"PRI ";
/// An empty SETTINGS frame, and GOAWAY: no stream was looked at, no error (RFC 9113, sections 6.5 and 6.8).
const GOAWAY: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";

/// Answers, and closes.
pub(super) async fn answer(local: Local, kind: Kind, refusal: &Refusal) {
    match (local, kind) {
        (Local::Tcp(tcp), Kind::Tcp) => reset(&tcp),
        (Local::Unix(_), Kind::Tcp) => {}
        (Local::Tcp(mut tcp), Kind::Http) => http(&mut tcp, refusal).await,
        (Local::Unix(mut unix), Kind::Http) => http(&mut unix, refusal).await,
    }
}

/// Makes the close of a connection a reset.
pub(super) fn reset(tcp: &tokio::net::TcpStream) {
    // Fails only for a socket that is gone already.
    let _ = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

async fn http(io: &mut (impl AsyncRead + AsyncWrite + Unpin), refusal: &Refusal) {
    let answering = async {
        let mut first = [0; 4096];
        let mut read = 0;
        // Enough to tell, or the end.
        while read < HTTP2.len() {
            match io.read(&mut first[read..]).await? {
                0 => return Ok(()),
                count => read += count,
            }
        }
        let first = &first[..read];
        match first.starts_with(HTTP2) {
            true => io.write_all(GOAWAY).await?,
            false => io.write_all(http1(refusal, first.starts_with(b"HEAD ")).as_bytes()).await?,
        }
        io.shutdown().await?;
        let mut waste = [0; 4096];
        let mut wasted = 0;
        while wasted < READ_AT_MOST {
            match io.read(&mut waste).await? {
                0 => break,
                count => wasted += count,
            }
        }
        std::io::Result::Ok(())
    };
    // Who does not listen is not answered.
    let _ = tokio::time::timeout(PATIENCE, answering).await;
}

fn http1(refusal: &Refusal, head: bool) -> String {
    let (status, error) = match refusal {
        Refusal::Hub(_, Reason::ServiceDenied) => ("403 Forbidden", "http_request_denied"),
        Refusal::Hub(_, Reason::UnknownService) => ("502 Bad Gateway", "destination_not_found"),
        Refusal::Hub(_, Reason::ServiceProtocol | Reason::Malformed) => ("502 Bad Gateway", "proxy_configuration_error"),
        Refusal::Limit => ("503 Service Unavailable", "connection_limit_reached"),
        Refusal::Late => ("503 Service Unavailable", "connection_timeout"),
        _ => ("503 Service Unavailable", "destination_unavailable"),
    };
    let retry = if status.starts_with("503") { "retry-after: 1\r\n" } else { "" };
    let word = refusal.word();
    let body = format!("figspan-agent: the call was not taken: {word}\n");
    let shown = if head { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n{retry}proxy-status: figspan-agent; \
         error={error}; details=\"{word}\"\r\nfigspan-reason: {word}\r\n\r\n{shown}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_a_whole_response_and_says_when_to_come_back() {
        let denied = http1(&Refusal::Hub("hub-0".parse().unwrap(), Reason::ServiceDenied), false);
        assert!(denied.starts_with("HTTP/1.1 403 Forbidden\r\n") && !denied.contains("retry-after"), "{denied}");
        let away = http1(&Refusal::NoTunnel, false);
        let (head, body) = away.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nretry-after: 1\r\n") && head.contains(&format!("content-length: {}", body.len())), "{away}");
        assert!(head.contains("proxy-status: figspan-agent; error=destination_unavailable; details=\"no-tunnel\""), "{away}");
        assert!(http1(&Refusal::NoTunnel, true).ends_with("\r\n\r\n"), "HEAD has no body");
    }

    #[tokio::test]
    async fn http2_is_told_that_nothing_was_looked_at() {
        let (mut process, mut agent) = tokio::io::duplex(1024);
        process.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let reading = async {
            let mut answer = Vec::new();
            process.read_to_end(&mut answer).await.unwrap();
            drop(process);
            answer
        };
        let ((), answer) = tokio::join!(http(&mut agent, &Refusal::NoTunnel), reading);
        assert_eq!(answer.len(), 9 + 17);
        assert_eq!((answer[3], answer[12], &answer[18..22]), (4, 7, &[0; 4][..]), "SETTINGS, then GOAWAY with last stream 0");
    }
}
