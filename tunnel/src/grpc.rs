//! gRPC over one stream of a tunnel: the hub is the client, the agent the server.
//!
//! HTTP/2 on the stream is hyper's for the agent, who serves one, and our own for the hub, who calls thousands and lets them idle;
//! tonic does the rest. Promises that no task outlives the returned stream or future, and that a peer cannot make us hold more
//! than a few messages: frames, headers, streams and messages are bounded. The only module that knows tonic's transport side.

mod call;
mod http2;

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use figspan_proto::control::MAX_MESSAGE;
use figspan_proto::pb;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use pb::discovery_client::DiscoveryClient;
use pb::discovery_server::{Discovery, DiscoveryServer};
use tonic::codegen::Service;
use tonic::{Request, Response, Status, Streaming};

use crate::stream::Stream;
use crate::tasks::Tasks;
use call::Call;

/// Flow-control window of the call and its connection: a few messages of the largest size.
const WINDOW: u32 = 4 * MAX_MESSAGE as u32;
/// Most bytes of header fields; a gRPC call has a handful.
const MAX_HEADERS: u32 = 16 * 1024;
/// How long the agent may take to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Calls at a time on one control stream: the one `Watch`.
const MAX_CALLS: u32 = 2;

/// Hub: calls Discovery.Watch on a stream it has opened; what it sends comes from `outgoing`. Messages are at most
/// [`MAX_MESSAGE`] bytes, and the agent must begin to answer within 5 s. What `outgoing` gives is sent while somebody waits for the
/// next message, who therefore should not do anything else for long. Dropping the returned stream resets the tunnel's.
pub async fn watch(
    stream: Stream,
    outgoing: BoxStream<'static, pb::HubMessage>,
) -> Result<BoxStream<'static, Result<pb::AgentMessage, Status>>, Status> {
    let mut client = DiscoveryClient::with_origin(Call::on(stream), http::Uri::from_static("http://agent.figspan"))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let slow = |_| Status::deadline_exceeded(format!("control stream: the agent did not answer in {} s", ANSWER_TIMEOUT.as_secs()));
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.watch(Outgoing(outgoing))).await.map_err(slow)??;
    Ok(answer.into_inner().boxed())
}

/// What the hub says. A type of its own, because rustc cannot show that a call with a bare `BoxStream` is `Send`.
struct Outgoing(BoxStream<'static, pb::HubMessage>);

impl futures_util::Stream for Outgoing {
    type Item = pb::HubMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

/// Agent: serves Discovery on the stream; `handler` maps the hub's messages to the agent's. Returns when the stream ends. A
/// second call on the same stream is refused.
pub async fn serve<F>(stream: Stream, handler: F) -> Result<(), Status>
where
    F: FnOnce(BoxStream<'static, Result<pb::HubMessage, Status>>) -> BoxStream<'static, Result<pb::AgentMessage, Status>> + Send + 'static,
{
    let tasks = Tasks::new();
    let service =
        DiscoveryServer::new(Once(Mutex::new(Some(handler)))).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let service = hyper::service::service_fn(move |request: http::Request<Incoming>| {
        let mut service = service.clone();
        service.call(request)
    });
    hyper::server::conn::http2::Builder::new(tasks.starter())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_streams(MAX_CALLS)
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(|error| Status::unavailable(format!("control stream: {error}")))
}

/// A service that serves one call.
struct Once<F>(Mutex<Option<F>>);

#[tonic::async_trait]
impl<F> Discovery for Once<F>
where
    F: FnOnce(BoxStream<'static, Result<pb::HubMessage, Status>>) -> BoxStream<'static, Result<pb::AgentMessage, Status>> + Send + 'static,
{
    type WatchStream = BoxStream<'static, Result<pb::AgentMessage, Status>>;

    async fn watch(&self, request: Request<Streaming<pb::HubMessage>>) -> Result<Response<Self::WatchStream>, Status> {
        let handler = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let handler = handler.ok_or_else(|| Status::resource_exhausted("one Watch per control stream"))?;
        Ok(Response::new(handler(request.into_inner().boxed())))
    }
}

/// For fuzzing: an agent's bytes, behind its settings, whole and in pieces.
///
/// # Panics
/// Where what they mean depends on the split.
pub fn fuzz_call(data: &[u8]) {
    let bytes = [&[0, 0, 0, 4, 0, 0, 0, 0, 0], data].concat();
    let whole = http2::told([&bytes[..]]);
    for pieces in [1, 7, 1000] {
        assert_eq!(http2::told(bytes.chunks(pieces)), whole);
    }
}

#[cfg(test)]
mod tests;
