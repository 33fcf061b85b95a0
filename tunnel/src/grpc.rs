//! gRPC over one stream of a tunnel: the hub is the client, the agent the server.
use figspan_proto::pb;
use futures_util::stream::BoxStream;
use crate::stream::Stream;
/// Hub: calls Discovery.Watch on a stream it has opened; what it sends comes from `outgoing`. Message size bounded by
/// `figspan_proto::control::MAX_MESSAGE`. Drives the connection until the returned stream ends or is dropped.
pub async fn watch(stream: Stream, outgoing: BoxStream<'static, pb::HubMessage>) -> Result<BoxStream<'static, Result<pb::AgentMessage, tonic::Status>>, tonic::Status> { todo!() }
/// Agent: serves Discovery on the stream; `handler` maps the hub's messages to the agent's. Returns when the stream ends.
pub async fn serve<F>(stream: Stream, handler: F) -> Result<(), tonic::Status>
where F: FnOnce(BoxStream<'static, Result<pb::HubMessage, tonic::Status>>) -> BoxStream<'static, Result<pb::AgentMessage, tonic::Status>> + Send + 'static { todo!() }
