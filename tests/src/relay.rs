//! The network between an agent and a hub: a UDP relay that gives each agent's socket a port of its own, as a NAT does, and
//! that forgets its mappings or goes dark when told to; where asked for, TCP passes beside it, and stays when UDP goes dark.
//! Threads only, so that it does not share a runtime with what it carries.

use std::collections::HashMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::port;

/// How often a thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// The relay. Ends when dropped.
#[derive(Debug)]
pub struct Relay {
    /// What agents dial.
    pub address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    hub: SocketAddr,
    inside: UdpSocket,
    ended: AtomicBool,
    dark: AtomicBool,
    /// The agent's socket for which it stays light.
    light_for: Mutex<Option<SocketAddr>>,
    /// Whether what agents send is lost, and what the hub does.
    cut: [AtomicBool; 2],
    largest: AtomicUsize,
    mappings: Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>,
    /// When each socket of an agent was heard last.
    heard: Mutex<HashMap<SocketAddr, Instant>>,
}

impl Relay {
    /// Starts a relay to a hub's tunnel address.
    pub fn start(hub: SocketAddr) -> Self {
        let inside = UdpSocket::bind(port::kept()).expect("nobody is given it");
        inside.set_read_timeout(Some(LOOK)).expect("a socket option");
        let address = inside.local_addr().expect("bound");
        let state = Arc::new(State {
            hub,
            inside,
            ended: AtomicBool::new(false),
            dark: AtomicBool::new(false),
            light_for: Mutex::default(),
            cut: Default::default(),
            largest: AtomicUsize::new(usize::MAX),
            mappings: Mutex::default(),
            heard: Mutex::default(),
        });
        std::thread::spawn({
            let state = Arc::clone(&state);
            move || state.outwards()
        });
        Self { address, state }
    }

    /// The same with TCP beside it, on the same port.
    pub fn start_with_tcp(hub: SocketAddr) -> Self {
        let relay = Self::start(hub);
        let listener = TcpListener::bind(relay.address).expect("nobody is given it");
        listener.set_nonblocking(true).expect("a socket option");
        let state = Arc::clone(&relay.state);
        std::thread::spawn(move || state.connections(&listener));
        relay
    }

    /// Forgets all mappings: what agents send next comes from new ports, and what the hub sends to the old ones is lost.
    pub fn rebind(&self) {
        self.state.mappings.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Drops everything over UDP both ways, or no longer.
    pub fn dark(&self, dark: bool) {
        self.state.dark.store(dark, Ordering::SeqCst);
    }

    /// Drops everything over UDP but from and to one socket of an agent.
    pub fn dark_but_for(&self, agent: SocketAddr) {
        *self.state.light_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(agent);
        self.dark(true);
    }

    /// Drops what agents send over UDP.
    pub fn cut_out(&self) {
        self.state.cut[0].store(true, Ordering::SeqCst);
    }

    /// Drops what the hub sends over UDP.
    pub fn cut_back(&self) {
        self.state.cut[1].store(true, Ordering::SeqCst);
    }

    /// Drops whatever is larger, without a word, both ways.
    pub fn largest(&self, bytes: usize) {
        self.state.largest.store(bytes, Ordering::SeqCst);
    }

    /// The sockets that agents used so far, and when each spoke last.
    pub fn seen(&self) -> HashMap<SocketAddr, Instant> {
        self.state.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sockets of agents that were heard within the last second: those that tunnels use.
    pub fn speaking(&self) -> Vec<SocketAddr> {
        self.seen().into_iter().filter(|(_, at)| at.elapsed() < Duration::from_secs(1)).map(|(agent, _)| agent).collect()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
        self.rebind();
    }
}

impl State {
    fn outwards(self: Arc<Self>) {
        let mut buffer = vec![0; 65536];
        while !self.ended.load(Ordering::SeqCst) {
            let Ok((length, agent)) = self.inside.recv_from(&mut buffer) else { continue };
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(agent, Instant::now());
            if self.lets_pass(agent, length) && !self.cut[0].load(Ordering::SeqCst) {
                let _ = self.mapping(agent).send_to(&buffer[..length], self.hub);
            }
        }
    }

    fn lets_pass(&self, agent: SocketAddr, length: usize) -> bool {
        let light = || *self.light_for.lock().unwrap_or_else(PoisonError::into_inner) == Some(agent);
        (!self.dark.load(Ordering::SeqCst) || light()) && length <= self.largest.load(Ordering::SeqCst)
    }

    fn connections(self: Arc<Self>, listener: &TcpListener) {
        while !self.ended.load(Ordering::SeqCst) {
            let Ok((near, _)) = listener.accept() else {
                std::thread::sleep(LOOK / 10);
                continue;
            };
            let Ok(far) = TcpStream::connect(self.hub) else { continue };
            let ends = |end: &TcpStream| end.set_nonblocking(false).and_then(|()| end.try_clone()).expect("a socket can be shared");
            let (near_too, far_too) = (ends(&near), ends(&far));
            std::thread::spawn(move || pump(near, far));
            std::thread::spawn(move || pump(far_too, near_too));
        }
    }

    fn mapping(self: &Arc<Self>, agent: SocketAddr) -> Arc<UdpSocket> {
        let mut mappings = self.mappings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = mappings.get(&agent) {
            return Arc::clone(socket);
        }
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").expect("loopback"));
        socket.set_read_timeout(Some(LOOK)).expect("a socket option");
        mappings.insert(agent, Arc::clone(&socket));
        let (state, outside) = (Arc::clone(self), Arc::clone(&socket));
        std::thread::spawn(move || state.inwards(agent, &outside));
        socket
    }

    fn inwards(&self, agent: SocketAddr, outside: &Arc<UdpSocket>) {
        let mut buffer = vec![0; 65536];
        let current =
            || self.mappings.lock().unwrap_or_else(PoisonError::into_inner).get(&agent).is_some_and(|now| Arc::ptr_eq(now, outside));
        while current() {
            let Ok((length, _)) = outside.recv_from(&mut buffer) else { continue };
            if current() && self.lets_pass(agent, length) && !self.cut[1].load(Ordering::SeqCst) {
                let _ = self.inside.send_to(&buffer[..length], agent);
            }
        }
    }
}

/// Copies one way until it ends, and ends the other way with it.
fn pump(mut from: TcpStream, mut to: TcpStream) {
    let _ = from.set_nodelay(true).and_then(|()| to.set_nodelay(true));
    let _ = std::io::copy(&mut from, &mut to);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
