//! The one task of an endpoint: receive, let others speak, send.
//!
//! A round takes what has come and tells the connections; the tasks that this wakes run next, and write. Only then does the driver
//! send, once for each connection that has something to say: answers of many streams, acknowledgements and credit in one
//! flight. It never waits for a stream or a task, and each round is bounded, so that nobody else on its thread starves.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{ConnectionEvent, ConnectionHandle, DatagramEvent, Transmit};
use quinn_udp::RecvMeta;
use tokio::time::Sleep;

use crate::inbox::Inbox;
use crate::shared::{Shared, State};
use crate::socket::{BATCH, Socket, received_ecn};
use crate::state::{Core, State as Connection};
use crate::timers::Timers;
use crate::window;

/// System calls of reception in one round.
const ROUNDS: usize = 8;

/// Sends of one connection in one round; each is up to 64 KiB.
const BURST: usize = 10;

/// See the module. A future that ends when no handle and no connection is left.
#[derive(Debug)]
pub struct Driver {
    shared: Arc<Shared>,
    inbox: Inbox,
    timers: Timers,
    sleep: Pin<Box<Sleep>>,
    /// When `sleep` ends.
    alarm: Option<Instant>,
    /// Connections that were told something in this round.
    touched: Vec<Arc<Core>>,
    /// Connections that have something to send.
    queue: Vec<Arc<Core>>,
    /// Those that are left when the socket takes no more, in their order.
    waiting: VecDeque<Arc<Core>>,
    /// Those whose own way has no room.
    parked: Vec<Arc<Core>>,
    /// What the socket did not take.
    stuck: Option<(Transmit, Vec<u8>)>,
    /// Where flights are written before they are sent; one for all connections.
    flight: Vec<u8>,
    wakes: Vec<Waker>,
    /// The tasks woken in this round have had their turn.
    yielded: bool,
    /// Something is left to be sent in another round.
    again: bool,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, payload: usize) -> Self {
        let gro = shared.lock().socket.gro_segments();
        // The kernel joins at most 64 KiB.
        let each = payload.saturating_mul(gro).min(64 * 1024);
        Self {
            shared,
            inbox: Inbox::new(each),
            timers: Timers::default(),
            sleep: Box::pin(tokio::time::sleep_until(tokio::time::Instant::now())),
            alarm: None,
            touched: Vec::new(),
            queue: Vec::new(),
            waiting: VecDeque::new(),
            parked: Vec::new(),
            stuck: None,
            flight: Vec::new(),
            wakes: Vec::new(),
            yielded: false,
            again: false,
        }
    }

    /// Takes what has come; whether more may be there. Fails when the socket does.
    fn receive(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<bool> {
        let (socket, former) = {
            let state = self.shared.lock();
            (Arc::clone(&state.socket), state.former.clone())
        };
        if let Some(former) = former {
            // Whatever is wrong with it, the new one is there.
            let more = self.receive_from(&*former, cx, now, false);
            if more.is_err() {
                self.shared.lock().former = None;
            }
        }
        self.receive_from(&*socket, cx, now, true)
    }

    fn receive_from(&mut self, socket: &dyn Socket, cx: &mut Context<'_>, now: Instant, current: bool) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH];
        for _ in 0..ROUNDS {
            let count = match socket.poll_recv(cx, &mut self.inbox.buffers(), &mut metas) {
                Poll::Ready(count) => count?,
                Poll::Pending => return Ok(false),
            };
            let mut state = self.shared.lock();
            for (number, meta) in metas[..count].iter().enumerate() {
                // One allocation, or none, for all that the kernel joined.
                let mut rest = self.inbox.take(number, meta.len);
                while rest.len() > meta.stride.max(1) {
                    let datagram = rest.split_to(meta.stride.max(1));
                    take(&self.shared, &mut state, meta, datagram, now, current, &mut self.touched);
                }
                if !rest.is_empty() {
                    take(&self.shared, &mut state, meta, rest, now, current, &mut self.touched);
                }
            }
        }
        Ok(true)
    }

    /// Lets the timers fire that are due; whether any did. Only for connections that have said what they had to say: right after
    /// a change of path, a timer of the old one makes sense again only when the first packet is on the new one.
    fn fire(&mut self, now: Instant) -> bool {
        while let Some((at, number)) = self.timers.due(now) {
            let core = self.shared.lock().connections.get(&ConnectionHandle(number)).cloned();
            let Some(core) = core else { continue };
            let mut state = core.lock();
            if state.armed != Some(at) {
                // An earlier entry of the same connection has been here.
                continue;
            }
            state.armed = None;
            if core.is_queued() {
                // Armed again when it has spoken.
                continue;
            }
            if state.proto.poll_timeout().is_some_and(|deadline| deadline <= now) {
                state.proto.handle_timeout(now);
                drop(state);
                self.touched.push(core);
            } else {
                let deadline = state.proto.poll_timeout();
                self.timers.arm(number, deadline, &mut state.armed);
            }
        }
        !self.touched.is_empty()
    }

    /// Tells handles and streams what their connections have learned; whether anybody was woken.
    fn tell(&mut self) -> bool {
        for core in self.touched.drain(..) {
            core.tell(&mut core.lock(), &mut self.wakes);
            core.queue();
        }
        let woken = !self.wakes.is_empty();
        self.wakes.drain(..).for_each(Waker::wake);
        woken
    }

    /// Sends what connections have to say, as far as the socket takes it; whether it took all.
    fn send(&mut self, cx: &mut Context<'_>, now: Instant) -> io::Result<bool> {
        let socket = Arc::clone(&self.shared.lock().socket);
        self.shared.outbox.take(&mut self.queue);
        self.waiting.extend(self.queue.drain(..));
        // Few at most: whoever waits on a way of its own.
        self.waiting.extend(self.parked.drain(..));
        loop {
            if let Some((transmit, contents)) = &self.stuck {
                match socket.send(transmit, contents) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        // Registers for the moment when it does; ready means that it came meanwhile.
                        if socket.poll_writable(cx)?.is_pending() {
                            return Ok(false);
                        }
                        continue;
                    }
                    // Anything else counts as lost on the way.
                    _ => self.stuck = None,
                }
            }
            if let Some(answer) = self.shared.lock().answers.pop_front() {
                self.stuck = Some(answer);
                continue;
            }
            let Some(core) = self.waiting.pop_front() else { return Ok(true) };
            if self.send_of(&core, &*socket, cx, now) {
                // Its turn comes again, behind the others.
                core.queue();
                self.again = true;
            }
        }
    }

    /// Sends what one connection has to say; whether it has more and may go on. Leaves what the socket did not take in `stuck`.
    fn send_of(&mut self, core: &Arc<Core>, socket: &dyn Socket, cx: &mut Context<'_>, now: Instant) -> bool {
        // Before its state is looked at, so that whoever changes it afterwards is heard.
        core.unqueued();
        let mut state = core.lock();
        let segments = socket.gso_segments(state.proto.current_mtu());
        let mut more = true;
        for _ in 0..BURST {
            if socket.poll_room(cx, state.proto.remote_address()).is_pending() {
                if core.hold() {
                    self.parked.push(Arc::clone(core));
                }
                more = false;
                break;
            }
            self.flight.clear();
            let Some(transmit) = state.proto.poll_transmit(now, segments, &mut self.flight) else {
                more = false;
                break;
            };
            core.pass();
            match socket.send(&transmit, &self.flight) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stuck = Some((transmit, self.flight.clone()));
                    break;
                }
                // Anything else counts as lost on the way.
                _ => {}
            }
        }
        window::fit(core, &mut state);
        self.settle(core, &mut state);
        drop(state);
        self.wakes.drain(..).for_each(Waker::wake);
        more
    }

    /// After anything that moved a connection: ids, last words, the next deadline.
    fn settle(&mut self, core: &Arc<Core>, state: &mut Connection) {
        let mut drained = false;
        while let Some(event) = state.proto.poll_endpoint_events() {
            drained |= event.is_drained();
            let answer: Option<ConnectionEvent> = self.shared.lock().proto.handle_event(core.key, event);
            if let Some(answer) = answer {
                state.proto.handle_event(answer);
                core.queue();
                self.again = true;
            }
        }
        core.tell(state, &mut self.wakes);
        if drained {
            let mut endpoint = self.shared.lock();
            endpoint.connections.remove(&core.key);
            if endpoint.connections.is_empty() {
                self.shared.idle.notify_waiters();
            }
        } else {
            let deadline = state.proto.poll_timeout();
            self.timers.arm(core.key.0, deadline, &mut state.armed);
        }
    }

    /// Sets the one timer; whether it is over already.
    fn set_alarm(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(next) = self.timers.next() else { return false };
        if self.alarm != Some(next) {
            self.alarm = Some(next);
            self.sleep.as_mut().reset(next.into());
        }
        let over = self.sleep.as_mut().poll(cx).is_ready();
        if over {
            self.alarm = None;
        }
        over
    }

    fn is_finished(&self) -> bool {
        let state = self.shared.lock();
        state.forsaken && state.connections.is_empty() && state.answers.is_empty() && self.stuck.is_none()
    }
}

/// Takes one datagram.
fn take(
    shared: &Shared,
    state: &mut State,
    meta: &RecvMeta,
    datagram: BytesMut,
    now: Instant,
    current: bool,
    touched: &mut Vec<Arc<Core>>,
) {
    let mut answer = Vec::new();
    let ecn = meta.ecn.map(received_ecn);
    match state.proto.handle(now, meta.addr, meta.dst_ip, ecn, datagram, &mut answer) {
        None => {}
        Some(DatagramEvent::ConnectionEvent(key, event)) => {
            if current {
                state.former = None;
            }
            let Some(core) = state.connections.get(&key) else { return };
            let mut connection = core.lock();
            connection.heard = now;
            connection.proto.handle_event(event);
            drop(connection);
            core.pass();
            if touched.last().is_none_or(|last| !Arc::ptr_eq(last, core)) {
                touched.push(Arc::clone(core));
            }
        }
        Some(DatagramEvent::NewConnection(attempt)) => {
            if state.closed.is_some() {
                let transmit = state.proto.refuse(attempt, &mut answer);
                state.answer(transmit, answer);
            } else {
                // Bounded by `ServerConfig::max_incoming`.
                state.attempts.push_back(attempt);
                shared.attempted.notify_waiters();
            }
        }
        Some(DatagramEvent::Response(transmit)) => state.answer(transmit, answer),
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.outbox.driver.register(cx.waker());
        let now = Instant::now();
        let more = match this.receive(cx, now) {
            Ok(more) => more,
            Err(error) => return this.fail(&error),
        };
        this.inbox.settle();
        if this.tell() && !std::mem::replace(&mut this.yielded, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.yielded = false;
        loop {
            match this.send(cx, now) {
                Ok(_) => {}
                Err(error) => return this.fail(&error),
            }
            if !this.fire(now) {
                break;
            }
            this.tell();
        }
        if this.is_finished() {
            return Poll::Ready(());
        }
        if more | this.set_alarm(cx) | std::mem::take(&mut this.again) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Driver {
    /// The socket is gone for good: so are all connections.
    fn fail(&mut self, error: &io::Error) -> Poll<()> {
        tracing::error!(%error, "the UDP socket of an endpoint failed; all its connections are lost");
        let connections: Vec<_> = {
            let mut state = self.shared.lock();
            state.closed.get_or_insert((quinn_proto::VarInt::from_u32(0), bytes::Bytes::new()));
            state.connections.drain().map(|(_, core)| core).collect()
        };
        for core in connections {
            core.end(&mut core.lock(), quinn_proto::ConnectionError::LocallyClosed, &mut self.wakes);
        }
        self.wakes.drain(..).for_each(Waker::wake);
        self.shared.attempted.notify_waiters();
        self.shared.idle.notify_waiters();
        Poll::Ready(())
    }
}
