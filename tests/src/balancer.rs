//! What stands before several hubs: a load balancer that looks at `/readyz` and sends nothing to who is not ready, and clients
//! behind it that keep connections, ask with several methods, and count what becomes of each request.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::web::{Connection, Workload, ok};

/// How often the balancer looks. A kubelet looks every few seconds, and hubs serve on for longer; here all is faster.
const LOOK: Duration = Duration::from_millis(20);
/// Between two requests of a client: a pace that leaves a small machine time for the rest.
const PACE: Duration = Duration::from_millis(4);
/// The longest that a request may take.
const SLOW: Duration = Duration::from_secs(4);
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "PATCH"];

/// A workload's book of what arrived: how often, by id and method.
pub type Arrived = Arc<Mutex<HashMap<String, u32>>>;

/// A workload that enters each request's id before it answers with it.
pub fn bookkeeper(arrived: &Arrived) -> Workload {
    let arrived = Arc::clone(arrived);
    Workload::http(move |request| {
        let id = format!("{} {}", request.method(), request.field("x-id"));
        if request.target() != "/healthz" {
            *arrived.lock().unwrap_or_else(PoisonError::into_inner).entry(id.clone()).or_default() += 1;
        }
        ok(&id)
    })
}

/// One hub as the balancer sees it.
#[derive(Debug)]
struct Member {
    web: SocketAddr,
    ready: AtomicBool,
    /// Grows whenever it is left out: connections from before are not used again.
    epoch: AtomicU64,
}

/// Clients that ask through the balancer until they are stopped.
#[derive(Debug)]
pub struct Balanced {
    members: Arc<Vec<Member>>,
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<()>>,
    clients: Vec<JoinHandle<(Vec<String>, Vec<String>)>>,
}

impl Balanced {
    /// Starts that many clients over hubs, each given by its listener and by where it serves `/readyz`.
    pub fn start(hubs: &[(SocketAddr, SocketAddr)], clients: usize) -> Self {
        let member = |(web, _): &(SocketAddr, SocketAddr)| Member { web: *web, ready: AtomicBool::new(false), epoch: AtomicU64::new(0) };
        let members: Arc<Vec<Member>> = Arc::new(hubs.iter().map(member).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let watchers = hubs.iter().enumerate().map(|(index, (_, health))| {
            let (members, stop, health) = (Arc::clone(&members), Arc::clone(&stop), *health);
            std::thread::spawn(move || watch(&members[index], health, &stop))
        });
        let watchers = watchers.collect();
        let clients = (0..clients).map(|client| {
            let (members, stop) = (Arc::clone(&members), Arc::clone(&stop));
            std::thread::spawn(move || ask(client, &members, &stop))
        });
        let clients = clients.collect();
        Self { members, stop, watchers, clients }
    }

    /// Whether the balancer sends requests to that hub.
    pub fn ready(&self, hub: usize) -> bool {
        self.members[hub].ready.load(Ordering::SeqCst)
    }

    /// Stops; ids and methods of all requests, and what went wrong.
    pub fn end(self) -> (Vec<String>, Vec<String>) {
        self.stop.store(true, Ordering::SeqCst);
        let (mut asked, mut wrong) = (Vec::new(), Vec::new());
        for client in self.clients {
            let (ids, errors) = client.join().expect("a client ends");
            asked.extend(ids);
            wrong.extend(errors);
        }
        self.watchers.into_iter().for_each(|watcher| watcher.join().expect("a watcher ends"));
        (asked, wrong)
    }
}

fn watch(member: &Member, health: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::SeqCst) {
        let ready = Connection::try_open(health).and_then(|mut connection| connection.ask("GET", "/readyz", "", b""));
        let ready = ready.is_ok_and(|answer| answer.status() == 200);
        if member.ready.swap(ready, Ordering::SeqCst) && !ready {
            member.epoch.fetch_add(1, Ordering::SeqCst);
        }
        std::thread::sleep(LOOK);
    }
}

fn ask(client: usize, members: &[Member], stop: &AtomicBool) -> (Vec<String>, Vec<String>) {
    let mut kept: Vec<Option<(u64, Connection)>> = members.iter().map(|_| None).collect();
    let (mut asked, mut wrong) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::SeqCst) {
        std::thread::sleep(PACE);
        for (kept, member) in kept.iter_mut().zip(members) {
            kept.take_if(|(epoch, _)| *epoch != member.epoch.load(Ordering::SeqCst));
        }
        let turn = asked.len() + client;
        let Some(index) =
            (0..members.len()).map(|step| (turn + step) % members.len()).find(|&index| members[index].ready.load(Ordering::SeqCst))
        else {
            continue;
        };
        let (member, number) = (&members[index], asked.len());
        let (method, id) = (METHODS[number % METHODS.len()], format!("{client}-{number}"));
        let name = format!("{method} {id}");
        asked.push(name.clone());
        let epoch = member.epoch.load(Ordering::SeqCst);
        let start = Instant::now();
        let connection = match kept[index].take().filter(|(of, _)| *of == epoch) {
            Some((_, connection)) => Ok(connection),
            None => Connection::try_open(member.web),
        };
        let body: &[u8] = if method == "GET" { b"" } else { b"one of a kind" };
        let answer = connection.and_then(|mut connection| {
            let answer = connection.ask(method, "/", &format!("x-id: {id}\r\n"), body)?;
            if answer.field("connection") != "close" {
                kept[index] = Some((epoch, connection));
            }
            Ok(answer)
        });
        match answer {
            Ok(answer) if answer.status() == 200 && answer.text() == name && start.elapsed() < SLOW => {}
            Ok(answer) => wrong.push(format!("{name} at hub {index}: {} {:?} after {:?}", answer.first, answer.text(), start.elapsed())),
            Err(error) => wrong.push(format!("{name} at hub {index}: {error} after {:?}", start.elapsed())),
        }
    }
    (asked, wrong)
}
