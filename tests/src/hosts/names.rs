//! A name server that knows one name, and falls silent when told to (RFC 1035, section 4).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Namespace;

/// A name server; ends when dropped.
#[derive(Debug)]
pub struct Names {
    silent: Arc<AtomicBool>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Names {
    /// Answers for `name` with that address, on port 53 of it, in a namespace that has it.
    pub fn serve(namespace: &Namespace, name: &str, address: Ipv4Addr) -> Self {
        let socket = namespace.inside(|| UdpSocket::bind((address, 53))).unwrap_or_else(|error| panic!("{address}:53: {error}"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket option");
        let (silent, end) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (quiet, ended, name) = (Arc::clone(&silent), Arc::clone(&end), name.to_owned());
        let thread = std::thread::spawn(move || {
            let mut bytes = [0; 512];
            while !ended.load(Ordering::SeqCst) {
                let Ok((count, from)) = socket.recv_from(&mut bytes) else { continue };
                if !quiet.load(Ordering::SeqCst)
                    && let Some(answer) = answer(&bytes[..count], &name, address)
                {
                    reply(&socket, &answer, from);
                }
            }
        });
        Self { silent, end, thread: Some(thread) }
    }

    /// Says nothing any more, or speaks again.
    pub fn silent(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }
}

fn reply(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    // Who asked may have gone.
    let _ = socket.send_to(answer, to);
}

/// An answer to a query: the address for A of the name, nothing for its other types, and no such name for others.
fn answer(query: &[u8], name: &str, address: Ipv4Addr) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let question = query.get(12..at + 4)?;
    let ours = labels.join(".") == name;
    let wants_address = question[question.len() - 4..] == [0, 1, 0, 1];
    let answers = u8::from(ours && wants_address);
    let mut out = vec![query[0], query[1], 0x85, if ours { 0 } else { 3 }, 0, 1, 0, answers, 0, 0, 0, 0];
    out.extend_from_slice(question);
    if answers == 1 {
        // The name of the question, A, IN, ten seconds, four bytes.
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 10, 0, 4]);
        out.extend_from_slice(&address.octets());
    }
    Some(out)
}

impl Drop for Names {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
