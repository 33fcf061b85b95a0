//! A workload that dies as a process does, with all of its connections, and may be started again at its address.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::port::Refusing;
use crate::web::{Connection, ok};

/// The workload. Answers every request with its own name while it lives.
#[derive(Debug)]
pub struct Mortal {
    /// Where it listens.
    pub address: SocketAddr,
    name: &'static str,
    seen: Arc<AtomicUsize>,
    life: Option<Life>,
    /// Its address, also while it is dead.
    _place: Refusing,
}

#[derive(Debug)]
struct Life {
    over: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    accepting: JoinHandle<()>,
}

impl Mortal {
    /// Starts it somewhere on loopback.
    pub fn start(name: &'static str) -> Self {
        let place = Refusing::anywhere();
        let address = place.address;
        let listener = TcpListener::bind(address).expect("its address is held");
        let seen = Arc::new(AtomicUsize::new(0));
        Self { address, name, life: Some(Life::begin(listener, name, &seen)), seen, _place: place }
    }

    /// Ends it at once: whoever is connected sees that, and nobody listens.
    pub fn kill(&mut self) {
        let Some(Life { over, open, accepting }) = self.life.take() else { return };
        over.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then closes the listener.
        let _ = TcpStream::connect(self.address);
        accepting.join().expect("it ends");
        open.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(|tcp| drop(tcp.shutdown(Shutdown::Both)));
    }

    /// Starts it again at its address.
    pub fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).expect("its address is held");
        self.life = Some(Life::begin(listener, self.name, &self.seen));
    }

    /// Requests of clients so far, those of checks left aside.
    pub fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// An `[[uplink]]` of it.
    pub fn uplink(&self, name: &str, more: &str) -> String {
        format!("[[uplink]]\nname = \"{name}\"\naddress = \"{}\"\n{more}\n", self.address)
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Life {
    fn begin(listener: TcpListener, name: &'static str, seen: &Arc<AtomicUsize>) -> Self {
        let (over, open) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (end, list, seen) = (Arc::clone(&over), Arc::clone(&open), Arc::clone(seen));
        let accepting = std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let other = tcp.try_clone().expect("a socket can be shared");
                list.lock().unwrap_or_else(PoisonError::into_inner).push(other);
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || serve(tcp, name, &seen));
            }
        });
        Self { over, open, accepting }
    }
}

fn serve(tcp: TcpStream, name: &str, seen: &AtomicUsize) {
    let own = tcp.try_clone().expect("a socket can be shared");
    let mut connection = Connection::of(tcp);
    while let Ok(Some(request)) = connection.message() {
        if request.target() != "/healthz" {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        connection.send(&ok(name));
    }
    // The list of all holds the socket open.
    let _ = own.shutdown(Shutdown::Both);
}
