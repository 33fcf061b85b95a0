//! One question, one answer, on a stream that the agent opened: length-prefixed protobuf, bounded in size and time.
use figspan_proto::join::{IdentityRequest, Issued, Refused};
use crate::stream::Stream;
/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError { /// x
    #[error("{0}")] Failed(String) }
/// Agent: asks.
pub async fn ask(stream: Stream, request: IdentityRequest) -> Result<Result<Issued, Refused>, ExchangeError> { todo!() }
/// Hub: reads the question...
pub async fn question(stream: &mut Stream) -> Result<IdentityRequest, ExchangeError> { todo!() }
/// ...and answers it.
pub async fn answer(stream: Stream, answer: Result<Issued, Refused>) -> Result<(), ExchangeError> { todo!() }
