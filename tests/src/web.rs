//! Workloads and clients in plain bytes, so that nothing between the test and the wire hides what is said.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A port of the loopback that nobody has.
pub(crate) const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Longest time that a test waits for bytes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request as a workload reads it, or an answer as a client does.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// Request line or status line.
    pub first: String,
    /// Fields by lower-case name; several lines are joined by `, `.
    pub fields: BTreeMap<String, String>,
    /// The body, chunks put together.
    pub body: Vec<u8>,
    /// Trailers, like fields.
    pub trailers: BTreeMap<String, String>,
}

impl Message {
    /// The status of an answer; 0 if it is none.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The target of a request.
    pub fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    /// A field, or nothing.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One side of an HTTP/1.1 connection.
#[derive(Debug)]
pub struct Connection {
    read: BufReader<TcpStream>,
    /// For writing raw bytes.
    pub write: TcpStream,
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}")))
    }

    /// Connects, where somebody listens.
    pub fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        TcpStream::connect(address).map(Self::of)
    }

    /// Sends a request with more header lines (each with its line end) and a body, and reads the answer.
    pub fn ask(&mut self, method: &str, target: &str, fields: &str, body: &[u8]) -> std::io::Result<Message> {
        let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        self.send(&format!("{method} {target} HTTP/1.1\r\nhost: shop.example\r\n{fields}{length}\r\n"));
        let _ = self.write.write_all(body);
        self.answer(true)
    }

    /// Takes a socket over.
    pub fn of(tcp: TcpStream) -> Self {
        tcp.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        tcp.set_nodelay(true).expect("a socket option");
        Self { read: BufReader::new(tcp.try_clone().expect("a socket can be shared")), write: tcp }
    }

    /// Sends a request without a body and reads the answer.
    pub fn get(&mut self, target: &str) -> Message {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\n\r\n"));
        self.answer(true).expect("a whole answer")
    }

    /// Sends a request with a body and reads the answer.
    pub fn post(&mut self, target: &str, body: &[u8]) -> Message {
        self.send(&format!("POST {target} HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {}\r\n\r\n", body.len()));
        let _ = self.write.write_all(body);
        self.answer(true).expect("a whole answer")
    }

    /// Writes text; a peer that has gone shows when reading.
    pub fn send(&mut self, text: &str) {
        let _ = self.write.write_all(text.as_bytes());
    }

    /// Reads one message with its body; an error when it ends early. `None` at the end of the connection.
    pub fn message(&mut self) -> std::io::Result<Option<Message>> {
        self.head()?.map(|head| self.body(head, true)).transpose()
    }

    /// Reads a final answer; 1xx are skipped. `body`: whether one may follow (not for HEAD).
    pub fn answer(&mut self, body: bool) -> std::io::Result<Message> {
        loop {
            let head = self.head()?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                return self.body(head, body);
            }
        }
    }

    /// Reads a head alone.
    pub fn head(&mut self) -> std::io::Result<Option<Message>> {
        let mut message = Message { first: self.line()?, ..Message::default() };
        if message.first.is_empty() {
            return Ok(None);
        }
        message.fields = self.fields()?;
        Ok(Some(message))
    }

    fn body(&mut self, mut message: Message, may: bool) -> std::io::Result<Message> {
        let is_answer = message.first.starts_with("HTTP/");
        if !may || matches!(message.status(), 101 | 204 | 304) {
            return Ok(message);
        }
        if message.field("transfer-encoding") == "chunked" {
            loop {
                let size = usize::from_str_radix(self.line()?.split(';').next().unwrap_or_default(), 16)
                    .map_err(|_| std::io::ErrorKind::InvalidData)?;
                if size == 0 {
                    message.trailers = self.fields()?;
                    return Ok(message);
                }
                let start = message.body.len();
                message.body.resize(start + size, 0);
                self.read.read_exact(&mut message.body[start..])?;
                self.line()?;
            }
        }
        match message.fields.get("content-length") {
            Some(length) => {
                message.body = vec![0; length.parse().map_err(|_| std::io::ErrorKind::InvalidData)?];
                self.read.read_exact(&mut message.body)?;
            }
            None if is_answer => {
                self.read.read_to_end(&mut message.body)?;
            }
            None => {}
        }
        Ok(message)
    }

    /// Reads one chunk of a chunked body; empty after the last one, with its trailers read.
    pub fn chunk(&mut self) -> std::io::Result<Vec<u8>> {
        let size = usize::from_str_radix(&self.line()?, 16).map_err(|_| std::io::ErrorKind::InvalidData)?;
        if size == 0 {
            self.fields()?;
            return Ok(Vec::new());
        }
        let chunk = self.exactly(size)?;
        self.line()?;
        Ok(chunk)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.read.read_line(&mut line)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    fn fields(&mut self) -> std::io::Result<BTreeMap<String, String>> {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { return Ok(fields) };
            let value = value.trim();
            fields.entry(name.to_ascii_lowercase()).and_modify(|all| *all = format!("{all}, {value}")).or_insert_with(|| value.to_owned());
        }
    }

    /// Reads what is there, up to that many bytes; empty at the end.
    pub fn some(&mut self, most: usize) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0; most];
        let read = self.read.read(&mut buffer)?;
        buffer.truncate(read);
        Ok(buffer)
    }

    /// Reads exactly that many bytes.
    pub fn exactly(&mut self, count: usize) -> std::io::Result<Vec<u8>> {
        let mut buffer = vec![0; count];
        self.read.read_exact(&mut buffer)?;
        Ok(buffer)
    }
}

/// A workload: a listener whose connections are served by a function, each on a thread of its own. Stops accepting when dropped.
#[derive(Debug)]
pub struct Workload {
    /// Where it listens.
    pub address: SocketAddr,
    /// Connections accepted so far.
    pub connections: Arc<AtomicUsize>,
    /// Requests answered so far, where the workload counts them.
    pub requests: Arc<AtomicUsize>,
    stop: Arc<std::sync::atomic::AtomicBool>,
}

impl Workload {
    /// Serves each connection with the function.
    pub fn raw(serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        Self::raw_at(ANYWHERE, serve)
    }

    /// The same at an address of this machine.
    pub fn raw_at(address: SocketAddr, serve: impl Fn(Connection) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().expect("bound");
        let (serve, connections) = (Arc::new(serve), Arc::new(AtomicUsize::new(0)));
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (count, end) = (Arc::clone(&connections), Arc::clone(&stop));
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (serve, Ok(tcp)) = (Arc::clone(&serve), tcp) else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || serve(Connection::of(tcp)));
            }
        });
        Self { address, connections, requests: Arc::default(), stop }
    }

    /// Answers each request with what the function makes of it, over kept connections.
    pub fn http(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        Self::http_at(ANYWHERE, answer)
    }

    /// The same at an address of this machine.
    pub fn http_at(address: SocketAddr, answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let mut workload = Self::raw_at(address, move |mut connection| {
            while let Ok(Some(request)) = connection.message() {
                // The agents' own checks are no requests of clients.
                if request.target() != "/healthz" {
                    count.fetch_add(1, Ordering::SeqCst);
                }
                if connection.write.write_all(answer(&request).as_bytes()).is_err() {
                    return;
                }
            }
        });
        workload.requests = requests;
        workload
    }

    /// Answers every request with its own name.
    pub fn named(name: &'static str) -> Self {
        Self::http(move |_| ok(name))
    }

    /// Requests so far.
    pub fn seen(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// An `[[uplink]]` of this workload.
    pub fn uplink(&self, name: &str, more: &str) -> String {
        format!("[[uplink]]\nname = \"{name}\"\naddress = \"{}\"\n{more}\n", self.address)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread, which then closes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

/// The answer that accepts a WebSocket (RFC 6455, section 4.2.2).
pub fn accept_websocket(request: &Message) -> String {
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(request.field("sec-websocket-key").as_bytes());
    format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n")
}

/// A 200 with that text.
pub fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}
