//! A path that changes at the worst moment: the hub is busy elsewhere, a timer of the old path is overdue, and the first packet of the
//! new one waits in the socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use figspan_tunnel::agent;
use figspan_tunnel::testing::{Authority, accept};

/// A NAT before one agent, on threads of its own.
struct Nat {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    front: UdpSocket,
    hub: SocketAddr,
    /// What the hub sends is lost.
    deaf: AtomicBool,
    /// How often the mapping was forgotten.
    mappings: AtomicUsize,
    ended: AtomicBool,
}

impl Nat {
    fn before(hub: SocketAddr) -> Self {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        front.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let address = front.local_addr().unwrap();
        let state =
            Arc::new(State { front, hub, deaf: AtomicBool::new(false), mappings: AtomicUsize::new(0), ended: AtomicBool::new(false) });
        let outwards = Arc::clone(&state);
        std::thread::spawn(move || outwards.outwards());
        Self { address, state }
    }

    /// What the agent sends next comes from another port.
    fn forgets(&self) {
        self.state.mappings.fetch_add(1, Ordering::SeqCst);
    }

    fn deaf(&self, deaf: bool) {
        self.state.deaf.store(deaf, Ordering::SeqCst);
    }
}

impl Drop for Nat {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::SeqCst);
    }
}

impl State {
    fn outwards(self: Arc<Self>) {
        let (mut buffer, mut known, mut back) = (vec![0; 65536], usize::MAX, None);
        while !self.ended.load(Ordering::SeqCst) {
            let Ok((length, agent)) = self.front.recv_from(&mut buffer) else { continue };
            let mapping = self.mappings.load(Ordering::SeqCst);
            if std::mem::replace(&mut known, mapping) != mapping {
                let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
                socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                let (state, reader) = (Arc::clone(&self), Arc::clone(&socket));
                std::thread::spawn(move || state.inwards(&reader, mapping, agent));
                back = Some(socket);
            }
            let _ = back.as_ref().expect("there is a mapping").send_to(&buffer[..length], self.hub);
        }
    }

    fn inwards(&self, back: &UdpSocket, mapping: usize, agent: SocketAddr) {
        let mut buffer = vec![0; 65536];
        while !self.ended.load(Ordering::SeqCst) && self.mappings.load(Ordering::SeqCst) == mapping {
            let Ok(length) = back.recv(&mut buffer) else { continue };
            if !self.deaf.load(Ordering::SeqCst) {
                let _ = self.front.send_to(&buffer[..length], agent);
            }
        }
    }
}

#[test]
fn a_timer_of_the_path_before_does_no_harm_after_the_address_has_changed() {
    // The agent has a thread of its own: it speaks while the hub's is busy.
    let other = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rounds = async {
        let authority = Authority::new();
        let endpoint = authority.endpoints(1).remove(0);
        let nat = Nat::before(endpoint.local_address().unwrap());
        let (address, credentials) = (nat.address, authority.agent("vm-1"));
        let dialling = other.spawn(async move { agent::dial(address, 0, &credentials).await });
        let (hub, agent) = tokio::join!(accept(&endpoint), dialling);
        let agent = agent.unwrap().unwrap();
        let (mut near, mut far) = (hub.open().await.unwrap(), None);
        for round in 0..6u8 {
            // Under way on the old path, and lost: a timer runs.
            nat.deaf(true);
            near.write_chunk(vec![round; 1000].into()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
            nat.forgets();
            let mut asked = agent.open().await.unwrap();
            asked.write_chunk(vec![round; 100].into()).await.unwrap();
            asked.finish();
            // Long enough for the timer, and for the agent's packet to come.
            std::thread::sleep(Duration::from_millis(120));
            nat.deaf(false);
            let mut heard = hub.accept().await.unwrap();
            let mut word = [0; 100];
            heard.read_exact(&mut word).await.unwrap();
            assert_eq!(word, [round; 100]);
            let stream = match &mut far {
                Some(stream) => stream,
                far => far.insert(agent.accept().await.unwrap()),
            };
            let mut come = [0; 1000];
            stream.read_exact(&mut come).await.unwrap();
            assert_eq!(come, [round; 1000], "what was lost on the old path comes by the new one");
        }
        assert!(!hub.is_closed() && !agent.is_closed());
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), rounds).await }).expect("the tunnel lives");
}
