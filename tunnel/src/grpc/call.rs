//! One call on an HTTP/2 connection of its own, driven by one task. A hub has one of these for each tunnel, and most of them idle:
//! a client for many calls keeps three tasks and queues between them, 6 KiB more of each tunnel.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::client::{Connection, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use hyper::body::{Body, Frame};
use tonic::codegen::Service;

use super::{MAX_CALLS, MAX_HEADERS, WINDOW};
use crate::stream::Stream;
use crate::tasks::Tasks;

/// A connection that waits for its one call.
pub(super) struct Call<'t> {
    ready: Option<(SendRequest<Bytes>, Connection<Stream, Bytes>)>,
    tasks: &'t Tasks,
}

impl<'t> Call<'t> {
    /// Begins HTTP/2 on a stream. What the call needs runs in `tasks`.
    pub(super) async fn on(stream: Stream, tasks: &'t Tasks) -> Result<Self, h2::Error> {
        let ready = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .max_concurrent_reset_streams(MAX_CALLS as usize)
            .enable_push(false)
            .handshake(stream)
            .await?;
        Ok(Self { ready: Some(ready), tasks })
    }
}

impl Service<http::Request<tonic::body::Body>> for Call<'_> {
    type Response = http::Response<Answer>;
    type Error = h2::Error;
    type Future = BoxFuture<'static, Result<Self::Response, h2::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        Poll::Ready(if self.ready.is_some() { Ok(()) } else { Err(Reason::REFUSED_STREAM.into()) })
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let (head, body) = request.into_parts();
        let begun = self.ready.take().ok_or(h2::Error::from(Reason::REFUSED_STREAM)).and_then(|(mut sender, connection)| {
            let (answer, stream) = sender.send_request(http::Request::from_parts(head, ()), false)?;
            self.tasks.spawn(drive(connection, body, stream));
            Ok(answer)
        });
        Box::pin(async { Ok(begun?.await?.map(Answer)) })
    }
}

/// Drives the connection to its end, and the request's body along with it.
async fn drive(connection: Connection<Stream, Bytes>, body: tonic::body::Body, mut stream: SendStream<Bytes>) {
    let mut connection = pin!(connection);
    // How either ends shows in the answer as well.
    tokio::select! {
        _ = connection.as_mut() => return,
        sent = send(body, &mut stream) => if sent.is_none() {
            stream.send_reset(Reason::CANCEL);
        },
    }
    drop(stream);
    let _ = connection.await;
}

/// Sends the request's body to its end; `None` where it or the stream failed before.
async fn send(body: tonic::body::Body, stream: &mut SendStream<Bytes>) -> Option<()> {
    let mut body = pin!(body);
    while let Some(frame) = poll_fn(|cx| match stream.poll_reset(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => body.as_mut().poll_frame(cx),
    })
    .await
    {
        let Ok(mut data) = frame.ok()?.into_data() else { continue };
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            let room = poll_fn(|cx| match stream.poll_capacity(cx) {
                // What was assigned has been taken back.
                Poll::Ready(Some(Ok(0))) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                room => room,
            });
            let room = room.await?.ok()?;
            let piece = data.split_to(room.min(data.len()));
            stream.send_data(piece, false).ok()?;
        }
    }
    stream.send_data(Bytes::new(), true).ok()
}

/// The body of the answer. What was read makes room for more.
pub(super) struct Answer(RecvStream);

impl Body for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match std::task::ready!(self.0.poll_data(cx)) {
            Some(Ok(data)) => {
                self.0.flow_control().release_capacity(data.len())?;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => self.0.poll_trailers(cx).map(|trailers| Some(trailers.transpose()?.map(Frame::trailers))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
