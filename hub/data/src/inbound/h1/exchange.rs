//! Hop `inbound`: one request and its answer on an HTTP/1 connection.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use figspan_model::routing::Routing;
use figspan_tunnel::drain::Drain;
use http::{Method, Request, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::body::RequestBody;
use super::encode::{self, Connection, Sending};
use super::send::{flush, send};
use super::upgrade::{Upgraded, client_io};
use super::wire::{Continue, Next, Progress, Shared, Wire};
use crate::admission::head::RequestHead;
use crate::admission::host::LastAsked;
use crate::admission::request::{Admitted, Asked, admit, asks_for_websocket, expects_continue};
use crate::admission::{Reject, connection, framing};
use crate::body::Body;
use crate::client::Client;
use crate::exchange::{Inbound, Informational, WebSocket};
use crate::inbound::{Serve, broken, head_limits, pong, refusal};

/// A request that was admitted.
pub(super) struct Exchange<T: AsyncRead + AsyncWrite + Unpin> {
    wire: Shared<T>,
    method: Method,
    version: Version,
    /// Whether the client lets the connection live on.
    keeps: bool,
    /// `None`: the hub answers by itself.
    inbound: Option<Inbound>,
    /// Gives the connection to the WebSocket.
    upgrade: Option<oneshot::Sender<Upgraded<T>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Exchange<T> {
    /// Admits the request whose head this is.
    pub(super) fn open(
        wire: &Shared<T>,
        client: &Rc<Client>,
        routing: &Routing,
        last: &LastAsked,
        mut head: RequestHead,
    ) -> Result<Self, Reject> {
        let marks = head.marks;
        let framing = framing::of_request(head.version, &head.headers, marks)?;
        let websocket = asks_for_websocket(&head.method, head.version, &head.headers, marks, framing)?;
        let keeps = connection::stays(head.version, marks);
        let waits = expects_continue(&head.headers, marks)? && head.version == Version::HTTP_11;
        let asked = Asked { method: &head.method, target: &head.target, authority: None, headers: &mut head.headers, marks, last };
        let admitted = admit(asked, client, &routing.proxies, &routing.reserved)?;
        let number = {
            let mut wire = wire.borrow_mut();
            wire.exchange += 1;
            wire.interim = head.version == Version::HTTP_11;
            wire.expects = if waits { Continue::Wanted } else { Continue::Settled };
            wire.body = Progress::Done;
            wire.refused = None;
            wire.exchange
        };
        let body = RequestBody::open(wire, framing, head_limits(&routing.limits))?.map_or(Body::Empty, Body::stream);
        let (method, version) = (head.method.clone(), head.version);
        let (mut upgrade, mut inbound) = (None, None);
        if let Admitted::Forward { uri, client } = admitted {
            let mut request = Request::new(body);
            *request.method_mut() = head.method;
            *request.uri_mut() = uri;
            *request.version_mut() = head.version;
            *request.headers_mut() = head.headers;
            let websocket = websocket.then(|| {
                let (sender, receiver) = oneshot::channel();
                upgrade = Some(sender);
                WebSocket { client_io: Box::pin(client_io(receiver)) }
            });
            let informational = Informational::new(Rc::<RefCell<Wire<T>>>::clone(wire), number);
            inbound = Some(Inbound { request, client, informational, websocket });
        }
        Ok(Self { wire: wire.clone(), method, version, keeps, inbound, upgrade })
    }

    /// Gets the answer and sends it.
    pub(super) async fn run<S: Serve>(mut self, client: &Client, service: &S, drain: &Drain) -> Next {
        let response = match self.inbound.take() {
            None => pong(),
            Some(inbound) => match self.wait_for(pin!(service.serve(inbound))).await {
                Ok(response) => response,
                Err(_) => return Next::Abort,
            },
        };
        let refused = self.wire.borrow().refused;
        let response = match (response.status(), refused) {
            (_, Some(reject)) => {
                service.refused(client, reject);
                refusal(reject)
            }
            (StatusCode::SWITCHING_PROTOCOLS, None) => match self.upgrade.take() {
                Some(upgrade) => return self.switch(&response, upgrade).await,
                None => broken(),
            },
            (status, None) if status.is_informational() => broken(),
            (_, None) => response,
        };
        let stays = self.keeps && !drain.is_leaving() && refused.is_none();
        match send(&self.wire, response, &self.method, self.version, stays).await {
            Next::Close if !self.keeps && self.is_last() => Next::Part,
            next => next,
        }
    }

    /// Whether the client, which asked for the end, has said all: what would still come and cross our answer is none of HTTP's
    /// (RFC 9112, section 9.6). A body may have a line end behind it that old clients send, and no request counts it (section 2.2).
    fn is_last(&self) -> bool {
        let wire = self.wire.borrow();
        matches!(self.method, Method::GET | Method::HEAD) && wire.body == Progress::Done && wire.held.is_empty()
    }

    /// Waits for the answer; sends 1xx responses meanwhile. Fails when the client is gone.
    async fn wait_for(&self, mut answer: Pin<&mut impl Future<Output = Response<Body>>>) -> io::Result<Response<Body>> {
        std::future::poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(response));
            }
            let mut wire = self.wire.borrow_mut();
            wire.register(cx);
            if let Poll::Ready(Err(error)) = wire.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
            match wire.poll_watch(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Sends 101 and gives the connection away; returns when the WebSocket has ended, so that it counts as a connection.
    async fn switch(self, response: &Response<Body>, upgrade: oneshot::Sender<Upgraded<T>>) -> Next {
        let mut parts = Response::new(()).into_parts().0;
        parts.status = response.status();
        parts.headers.clone_from(response.headers());
        {
            let mut wire = self.wire.borrow_mut();
            wire.interim = false;
            wire.out.write(|out| encode::head(out, &parts, Sending::Nothing, Connection::Upgrades));
        }
        if flush(&self.wire).await.is_err() {
            return Next::Abort;
        }
        let (alive, ended) = oneshot::channel();
        let upgraded = {
            let mut wire = self.wire.borrow_mut();
            let Some(socket) = wire.socket.take() else { return Next::Abort };
            Upgraded::new(socket, wire.held.split().freeze(), alive)
        };
        // Nobody waits for it: then it is dropped, and closed by that.
        let _ = upgrade.send(upgraded);
        let _ = ended.await;
        Next::Close
    }
}
