//! Visitors of the shop that stay: carts that live in sessions, and WebSockets. Each goes on until it is told to leave, and remembers
//! what it was promised and when something broke off.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use figspan_tests::hosts::Namespace;
use figspan_tests::web::Connection;
use tokio_tungstenite::tungstenite::{self, Message};

/// Between two steps of a visitor.
const PACE: Duration = Duration::from_millis(100);
/// How the ids of sessions end, by VM; carts are opened on each in turn.
const VMS: [&str; 2] = [".vm-1", ".vm-2"];
/// The longest that a visitor waits for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a visitor saw.
#[derive(Debug, Default)]
pub struct Visit {
    /// Steps that were answered.
    pub answered: usize,
    /// What broke off, was refused, and when it began and ended.
    pub broken: Vec<(Instant, Instant, String)>,
    /// What must never be: another's answer, a thing that is not in its cart any more, a refusal without a reason.
    pub wrong: Vec<String>,
}

/// A cart in a session, kept by the VM that its cookie names.
#[derive(Debug)]
pub struct Cart {
    /// The session's id; ends with the name of its VM.
    pub session: String,
    promised: BTreeSet<String>,
    /// What it saw.
    pub visit: Visit,
}

impl Cart {
    /// Opens one on that VM: whoever comes without a session is given to either, so it may take a few tries.
    fn open(web: SocketAddr, vm: &str) -> Self {
        for _ in 0..64 {
            let answer = Connection::open(web).get("/shop/cart/");
            let session = answer.field("set-cookie").strip_prefix("JSESSIONID=").and_then(|rest| rest.split(';').next());
            let session = session.unwrap_or_else(|| panic!("no session: {answer:?}"));
            if session.ends_with(vm) {
                return Self { session: session.to_owned(), promised: BTreeSet::new(), visit: Visit::default() };
            }
        }
        panic!("of 64 new sessions none was on {vm}");
    }

    fn step(&mut self, web: SocketAddr, connection: &mut Option<Connection>, number: usize) {
        let (thing, start) = (format!("thing-{number}"), Instant::now());
        let cookie = format!("cookie: JSESSIONID={}\r\n", self.session);
        let answer = match connection.take().map_or_else(|| Connection::try_open(web), Ok) {
            Ok(mut open) => open.ask("PUT", &format!("/shop/cart/{thing}"), &cookie, b"one").map(|answer| (open, answer)),
            Err(error) => Err(error),
        };
        match answer {
            Ok((open, answer)) if answer.status() == 200 => {
                *connection = (answer.field("connection") != "close").then_some(open);
                self.promised.insert(thing);
                self.compare(&answer.text());
                self.visit.answered += 1;
            }
            Ok((_, answer)) => {
                if answer.field("proxy-status").is_empty() {
                    self.visit.wrong.push(format!("{} without a reason", answer.first));
                }
                self.visit.broken.push((start, Instant::now(), format!("{} {}", answer.status(), answer.field("figspan-reason"))));
            }
            Err(error) => self.visit.broken.push((start, Instant::now(), error.to_string())),
        }
    }

    /// Everything that was promised is in it. More may be: what was done while the answer was lost.
    fn compare(&mut self, text: &str) {
        let things: BTreeSet<&str> = text.split(',').collect();
        let missing = self.promised.iter().filter(|thing| !things.contains(thing.as_str())).count();
        if missing > 0 {
            self.visit.wrong.push(format!("{missing} of {} things are gone", self.promised.len()));
        }
    }
}

/// Visitors until they are told to leave.
pub struct Visitors {
    stop: Arc<AtomicBool>,
    carts: Vec<JoinHandle<Cart>>,
    sockets: Vec<JoinHandle<Visit>>,
}

impl Visitors {
    /// So many of each, from a namespace to a listener; the carts are spread over both VMs.
    pub fn start(from: &Namespace, web: SocketAddr, each: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let ended = || Arc::clone(&stop);
        let (carts, sockets) = from.inside(|| {
            let carts = (0..each)
                .map(|number| {
                    std::thread::spawn({
                        let ended = ended();
                        move || fill(web, VMS[number % VMS.len()], &ended)
                    })
                })
                .collect();
            let sockets = (0..each)
                .map(|_| {
                    std::thread::spawn({
                        let ended = ended();
                        move || talk(web, &ended)
                    })
                })
                .collect();
            (carts, sockets)
        });
        Self { stop, carts, sockets }
    }

    /// Asks them to leave; what each of them saw.
    pub fn leave(self) -> (Vec<Cart>, Vec<Visit>) {
        self.stop.store(true, Ordering::SeqCst);
        let carts = self.carts.into_iter().map(|cart| cart.join().expect("a cart is opened")).collect();
        (carts, self.sockets.into_iter().map(|socket| socket.join().expect("a socket's thread ends")).collect())
    }
}

fn fill(web: SocketAddr, vm: &str, stop: &AtomicBool) -> Cart {
    let (mut cart, mut connection) = (Cart::open(web, vm), None);
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        cart.step(web, &mut connection, number);
        std::thread::sleep(PACE);
    }
    cart
}

/// Echoes over one WebSocket, and another when it has broken off.
fn talk(web: SocketAddr, stop: &AtomicBool) -> Visit {
    let mut visit = Visit::default();
    while !stop.load(Ordering::SeqCst) {
        let start = Instant::now();
        if let Err(error) = echo(web, stop, &mut visit) {
            visit.broken.push((start.max(Instant::now() - PATIENCE), Instant::now(), error.to_string()));
        }
        std::thread::sleep(PACE);
    }
    visit
}

fn echo(web: SocketAddr, stop: &AtomicBool, visit: &mut Visit) -> Result<(), Box<tungstenite::Error>> {
    let tcp = TcpStream::connect(web).map_err(|error| Box::new(error.into()))?;
    tcp.set_read_timeout(Some(PATIENCE)).map_err(|error| Box::new(error.into()))?;
    let opened = tungstenite::client("ws://shop.example/examples/websocket/echoProgrammatic", tcp);
    let (mut socket, _) = opened.map_err(|error| Box::new(std::io::Error::other(error.to_string()).into()))?;
    while !stop.load(Ordering::SeqCst) {
        let said = format!("message {}", visit.answered);
        socket.send(Message::text(said.clone()))?;
        let heard = socket.read()?;
        if !heard.is_text() {
            return Err(Box::new(tungstenite::Error::ConnectionClosed));
        }
        if heard.to_text().ok() != Some(said.as_str()) {
            visit.wrong.push(format!("{said:?} was echoed as {heard:?}"));
        }
        visit.answered += 1;
        std::thread::sleep(PACE);
    }
    socket.close(None)?;
    Ok(())
}
