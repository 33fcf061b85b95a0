//! A name server for a few names, whose answers change when a test says so. RFC 1035, one question at a time, TTL of one second.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const A: u16 = 1;
const SRV: u16 = 33;

type Zone = HashMap<(String, u16), Vec<Vec<u8>>>;

/// The name server. Ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    /// Where it answers.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    ended: Arc<AtomicBool>,
}

impl NameServer {
    /// Starts one that knows no name.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket option");
        let address = socket.local_addr().expect("bound");
        let (zone, ended) = (Arc::<Mutex<Zone>>::default(), Arc::new(AtomicBool::new(false)));
        let (known, end) = (Arc::clone(&zone), Arc::clone(&ended));
        std::thread::spawn(move || {
            let mut buffer = [0; 1500];
            while !end.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let answer = reply(&buffer[..length], &known.lock().unwrap_or_else(PoisonError::into_inner));
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { address, zone, ended }
    }

    /// The name has these addresses from now on.
    pub fn addresses(&self, name: &str, addresses: &[Ipv4Addr]) {
        let records = addresses.iter().map(|address| address.octets().to_vec()).collect();
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).insert((name.to_owned(), A), records);
    }

    /// The service has these targets from now on: priority, port, name.
    pub fn services(&self, name: &str, targets: &[(u16, u16, &str)]) {
        let record = |(priority, port, target): &(u16, u16, &str)| {
            [&priority.to_be_bytes()[..], &1_u16.to_be_bytes(), &port.to_be_bytes(), &encode(target)].concat()
        };
        let records = targets.iter().map(record).collect();
        self.zone.lock().unwrap_or_else(PoisonError::into_inner).insert((name.to_owned(), SRV), records);
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

fn encode(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[u8::try_from(label.len()).expect("a label")], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

fn reply(query: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    while *query.get(at)? != 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8(query.get(at + 1..=at + length)?.to_vec()).ok()?);
        at += 1 + length;
    }
    let kind = u16::from_be_bytes([*query.get(at + 1)?, *query.get(at + 2)?]);
    let question = query.get(12..at + 5)?;
    let name = labels.join(".").to_ascii_lowercase();
    let answers = zone.get(&(name.clone(), kind)).cloned().unwrap_or_default();
    let known = zone.keys().any(|(other, _)| *other == name);
    // An authoritative answer with recursion: found, or no such name (code 3).
    let mut out = query[..2].to_vec();
    out.extend_from_slice(&[0x85, if known { 0x80 } else { 0x83 }, 0, 1]);
    out.extend_from_slice(&u16::try_from(answers.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&[0, 0, 0, 0]);
    out.extend_from_slice(question);
    for data in answers {
        // A pointer to the question's name, type, class IN, TTL.
        out.extend_from_slice(&[0xc0, 12]);
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 1, 0, 0, 0, 1]);
        out.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&data);
    }
    Some(out)
}
