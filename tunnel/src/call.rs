//! Streams that an agent opens: how it calls a service of the cluster, and how a hub sees what a stream is for.
//!
//! A call is answered before a byte of its client is sent: taken, or reset with a reason. So an agent that was refused may try
//! another replica whatever the bytes are, and keeps none of them for that. Bounded in size and time on both ends. A stream
//! that asks for an identity shares the way: see [`crate::exchange::question_begun`].

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use figspan_proto::preamble::call::{Call, Opening, TAKEN};
use figspan_proto::preamble::{MAX_LEN, Preamble, PreambleError};
use figspan_proto::reset::{Reason, Reset};

use crate::stream::{Stream, StreamError};
use crate::tunnel::{Tunnel, TunnelError};

/// How long an agent may take to say what a stream is for; it comes with the stream's first packet.
pub const HEADER_TIME: Duration = Duration::from_secs(5);

/// What a stream of an agent is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A question about its identity, of which two bytes are read.
    Identity,
    /// A call, or word that the agent ends.
    Header(Opening),
}

/// Why a stream's purpose could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// It is none that this build knows.
    #[error(transparent)]
    Malformed(#[from] PreambleError),
    /// The stream or its tunnel broke.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Nothing came.
    #[error("the agent did not say within {} s what its stream is for", HEADER_TIME.as_secs())]
    Late,
}

/// Hub: reads what a stream is for. At most [`HEADER_TIME`].
pub async fn read_header(stream: &mut Stream) -> Result<Opened, HeaderError> {
    let read = async {
        let mut field = [0; 2];
        stream.read_exact(&mut field).await?;
        if field == [0; 2] {
            return Ok(Opened::Identity);
        }
        let length = Preamble::length(field)?;
        let mut body = [0; MAX_LEN];
        let body = &mut body[..length];
        stream.read_exact(body).await?;
        Ok(Opened::Header(Opening::decode(body)?))
    };
    tokio::time::timeout(HEADER_TIME, read).await.unwrap_or(Err(HeaderError::Late))
}

/// Hub: takes the call that a stream brought; its bytes follow in both directions.
pub async fn take(stream: &mut Stream) -> Result<(), StreamError> {
    stream.write_chunk(Bytes::from_static(&[TAKEN])).await
}

/// Why a call was not taken. In every case nothing of it reached a service.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The hub said no, and why.
    #[error("the hub refuses: {}", .0.as_str())]
    Refused(Reason),
    /// The tunnel is gone, or went before the hub had answered.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The hub answered with something else.
    #[error("the hub's answer is not understood")]
    Answer,
}

/// Agent: calls a service, and waits until the hub has taken the call. Cancelled, the stream is reset.
pub async fn call(tunnel: &Tunnel, call: Call) -> Result<Stream, CallError> {
    let mut stream = tunnel.open().await?;
    let mut answer = [0];
    let answered = async {
        stream.write_chunk(header(&Opening::Call(call))).await?;
        stream.read_exact(&mut answer).await
    };
    match answered.await {
        Ok(()) if answer == [TAKEN] => Ok(stream),
        Ok(()) => {
            stream.reset(Reset::not_delivered(Reason::Malformed));
            Err(CallError::Answer)
        }
        Err(StreamError::Reset(reset)) => Err(CallError::Refused(reset.reason)),
        Err(StreamError::Lost(why)) => Err(CallError::Tunnel(TunnelError::Lost(why))),
        Err(StreamError::Ended | StreamError::Closed) => Err(CallError::Answer),
    }
}

/// Agent: says that it ends. Hubs that know nothing of calls have none to hear it for.
pub async fn say_leaving(tunnel: &Tunnel) -> Result<(), CallError> {
    let mut stream = tunnel.open().await?;
    stream.write_chunk(header(&Opening::Leaving)).await.map_err(|error| TunnelError::Lost(error.to_string()))?;
    stream.finish();
    // The hub ends its side once it has heard.
    let _ = stream.read_chunk(1).await;
    Ok(())
}

fn header(opening: &Opening) -> Bytes {
    let mut header = BytesMut::with_capacity(2 + MAX_LEN);
    opening.encode(&mut header);
    header.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pair;
    use figspan_proto::preamble::Kind;

    fn orders() -> Call {
        Call { kind: Kind::Http, service: "orders".parse().unwrap(), client: None }
    }

    #[tokio::test]
    async fn a_call_that_is_taken_carries_bytes_both_ways() {
        let (hub, agent) = pair("vm-1").await;
        let taking = async {
            let mut stream = hub.accept().await.unwrap();
            assert_eq!(read_header(&mut stream).await, Ok(Opened::Header(Opening::Call(orders()))));
            take(&mut stream).await.unwrap();
            stream.write_chunk(Bytes::from_static(b"first")).await.unwrap();
            stream
        };
        let (stream, called) = tokio::join!(taking, call(&agent, orders()));
        let mut called = called.unwrap();
        assert_eq!(called.read_chunk(9).await.unwrap().unwrap(), "first");
        drop(stream);
    }

    #[tokio::test]
    async fn a_refusal_says_why_and_a_hub_that_vanishes_is_a_lost_tunnel() {
        let (hub, agent) = pair("vm-1").await;
        let refusing = async {
            let mut stream = hub.accept().await.unwrap();
            read_header(&mut stream).await.unwrap();
            stream.reset(Reset::not_delivered(Reason::ServiceDenied));
        };
        let ((), called) = tokio::join!(refusing, call(&agent, orders()));
        assert!(matches!(called, Err(CallError::Refused(Reason::ServiceDenied))));
        let going = async {
            let mut stream = hub.accept().await.unwrap();
            read_header(&mut stream).await.unwrap();
            hub.close(figspan_proto::reset::Close::Leaving);
        };
        let ((), called) = tokio::join!(going, call(&agent, orders()));
        assert!(matches!(called, Err(CallError::Tunnel(_))));
    }

    #[tokio::test]
    async fn what_is_no_header_is_told_from_what_is() {
        let (hub, agent) = pair("vm-1").await;
        for (bytes, wanted) in [
            (&b"\x00\x00\x00\x09"[..], Ok(Opened::Identity)),
            (b"\x00\x02\x01\x04", Ok(Opened::Header(Opening::Leaving))),
            (b"GET / HTTP/1.1\r\n", Err(HeaderError::Malformed(PreambleError::Length(u16::from_be_bytes(*b"GE"))))),
            (b"\x00\x02\x01\x09", Err(HeaderError::Malformed(PreambleError::Unknown("kind")))),
        ] {
            let mut stream = agent.open().await.unwrap();
            stream.write_chunk(Bytes::from_static(bytes)).await.unwrap();
            let mut seen = hub.accept().await.unwrap();
            assert_eq!(read_header(&mut seen).await, wanted, "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn a_hub_hears_that_an_agent_ends() {
        let (hub, agent) = pair("vm-1").await;
        let hearing = async {
            let mut stream = hub.accept().await.unwrap();
            assert_eq!(read_header(&mut stream).await, Ok(Opened::Header(Opening::Leaving)));
        };
        let ((), said) = tokio::join!(hearing, say_leaving(&agent));
        said.unwrap();
    }
}
