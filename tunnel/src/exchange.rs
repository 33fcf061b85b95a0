//! One question, one answer, on a stream that the agent opened: length-prefixed protobuf, bounded in size and time.
//!
//! Carries joins (before an identity exists) and renewals (over a tunnel). Frames are a big-endian u32 and at most
//! [`MAX_MESSAGE`] bytes; what does not decode or check is refused before anybody acts on it.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use figspan_proto::join::{
    HubClock, IdentityRequest, Issued, JoinError, MARK, MAX_MESSAGE, Refused, check_clock, check_heard, check_reply, clock_reply,
    heard_reply, reply,
};
use figspan_proto::pb;
use prost::Message;

use crate::stream::{Stream, StreamError};

/// How long each side waits for the other. The hub may have to store a redeemed grant before it answers.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the hub waits for its answer to be taken.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The stream broke.
    #[error("identity exchange: {0}")]
    Stream(#[from] StreamError),
    /// The peer took too long.
    #[error("identity exchange: no word from the peer within {} s", EXCHANGE_TIMEOUT.as_secs())]
    Timeout,
    /// The frame is longer than allowed.
    #[error("identity exchange: a message of {0} bytes; the limit is {MAX_MESSAGE}")]
    Long(u32),
    /// The bytes are not the message expected.
    #[error("identity exchange: message cannot be read: {0}")]
    Decode(#[from] prost::DecodeError),
    /// The message is wrong.
    #[error("identity exchange: {0}")]
    Check(#[from] JoinError),
}

/// Agent: asks, and reads the answer. At most [`EXCHANGE_TIMEOUT`].
pub async fn ask(stream: Stream, request: IdentityRequest) -> Result<Result<Issued, Refused>, ExchangeError> {
    Ok(check_reply(exchange(stream, request).await?)?)
}

/// Agent: asks for the hub's clock. At most [`EXCHANGE_TIMEOUT`]. Hubs that do not know the question break the stream off.
pub async fn ask_clock(stream: Stream) -> Result<HubClock, ExchangeError> {
    Ok(check_clock(exchange(stream, IdentityRequest::Clock).await?)?)
}

/// Agent: asks whether first packets over UDP arrive whose connection ids begin so. At most [`EXCHANGE_TIMEOUT`]. Hubs that do not know
/// the question break the stream off.
pub async fn ask_heard(stream: Stream, mark: [u8; MARK]) -> Result<bool, ExchangeError> {
    Ok(check_heard(exchange(stream, IdentityRequest::Listen { mark }).await?)?)
}

async fn exchange(mut stream: Stream, request: IdentityRequest) -> Result<pb::IdentityReply, ExchangeError> {
    bounded(async {
        stream.write_chunk(frame(&pb::IdentityRequest::from(request))).await?;
        stream.finish();
        let answer: pb::IdentityReply = read(&mut stream).await?;
        // Reading to the end acknowledges the answer; what follows it, if anything, is nobody's.
        let _ = stream.read_chunk(1).await;
        Ok(answer)
    })
    .await
}

/// Hub: reads the question. At most [`EXCHANGE_TIMEOUT`].
pub async fn question(stream: &mut Stream) -> Result<IdentityRequest, ExchangeError> {
    bounded(async { Ok(IdentityRequest::check(read::<pb::IdentityRequest>(stream).await?)?) }).await
}

/// The same where two bytes were read to see what the stream is for; both were 0.
pub async fn question_begun(stream: &mut Stream) -> Result<IdentityRequest, ExchangeError> {
    bounded(async {
        let mut rest = [0; 2];
        stream.read_exact(&mut rest).await?;
        Ok(IdentityRequest::check(body::<pb::IdentityRequest>(stream, u16::from_be_bytes(rest).into()).await?)?)
    })
    .await
}

/// Hub: answers it, and waits up to 1 s for the answer to have arrived.
pub async fn answer(stream: Stream, answer: Result<Issued, Refused>) -> Result<(), ExchangeError> {
    say(stream, reply(answer)).await
}

/// Hub: tells its clock, in the same way.
pub async fn answer_clock(stream: Stream, clock: HubClock) -> Result<(), ExchangeError> {
    say(stream, clock_reply(clock)).await
}

/// Hub: tells whether it heard something, in the same way.
pub async fn answer_heard(stream: Stream, heard: bool) -> Result<(), ExchangeError> {
    say(stream, heard_reply(heard)).await
}

async fn say(mut stream: Stream, reply: pb::IdentityReply) -> Result<(), ExchangeError> {
    bounded(async {
        stream.write_chunk(frame(&reply)).await?;
        stream.finish();
        stream.acknowledged(FAREWELL).await;
        Ok(())
    })
    .await
}

async fn bounded<T>(work: impl Future<Output = Result<T, ExchangeError>>) -> Result<T, ExchangeError> {
    tokio::time::timeout(EXCHANGE_TIMEOUT, work).await.unwrap_or(Err(ExchangeError::Timeout))
}

fn frame(message: &impl Message) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + message.encoded_len());
    // A message that does not fit a u32 is far above what the other side accepts; it will say so.
    out.put_u32(u32::try_from(message.encoded_len()).unwrap_or(u32::MAX));
    out.extend_from_slice(&message.encode_to_vec());
    out.freeze()
}

async fn read<M: Message + Default>(stream: &mut Stream) -> Result<M, ExchangeError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    body(stream, u32::from_be_bytes(length)).await
}

async fn body<M: Message + Default>(stream: &mut Stream, length: u32) -> Result<M, ExchangeError> {
    if length as usize > MAX_MESSAGE {
        return Err(ExchangeError::Long(length));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok(M::decode(&body[..])?)
}

#[cfg(test)]
mod tests;
