//! Clients that people use: curl, h2load, a WebSocket client and gRPC's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::workloads::python;

pub struct Clients {
    web: SocketAddr,
}

impl Clients {
    pub fn new(web: &SocketAddr) -> Self {
        Self { web: *web }
    }

    fn curl(&self, arguments: &[&str], path: &str) -> String {
        let output = Command::new("curl")
            .args(["-sS", "--fail-with-body", "-i", "-m", "20"])
            .args(arguments)
            .arg(format!("http://{}{path}", self.web))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "curl {path}: {} {text}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Opens a session that remembers the item; its id ends with the VM's name.
    pub fn open_session(&self, path: &str, item: &str) -> String {
        let answer = self.curl(&[], &format!("{path}?dataname=item&datavalue={item}"));
        let cookie = answer
            .lines()
            .find_map(|line| line.strip_prefix("Set-Cookie: JSESSIONID=").or_else(|| line.strip_prefix("set-cookie: JSESSIONID=")));
        cookie.unwrap_or_else(|| panic!("no session in {answer}")).split(';').next().unwrap().to_owned()
    }

    /// Every session still knows its item.
    pub fn sessions_are_kept(&self, path: &str, sessions: &[String]) {
        for (number, session) in sessions.iter().enumerate() {
            let answer = self.curl(&["-H", &format!("Cookie: JSESSIONID={session}")], path);
            assert!(
                answer.contains(session.as_str()) && answer.contains(&format!("item-{number}")),
                "session {session} lost its item: {answer}"
            );
        }
    }

    /// Answers that come late and in chunks.
    pub fn async_and_chunked_answers(&self) {
        assert!(self.curl(&[], "/examples/async/async1").contains("200"));
        let numbers = self.curl(&[], "/examples/servlets/nonblocking/numberwriter");
        assert!(numbers.to_ascii_lowercase().contains("transfer-encoding: chunked") && numbers.len() > 10_000, "{} bytes", numbers.len());
        let trailers = self.curl(&["--http1.1", "-H", "TE: trailers"], "/examples/servlets/trailers/response");
        assert!(trailers.contains("200"), "{trailers}");
    }

    /// h2load over HTTP/2: every answer is a 2xx.
    pub fn burst(&self, path: &str, requests: u32) {
        let output = Command::new("h2load")
            .args(["-n", &requests.to_string(), "-c", "8", "-m", "10"])
            .arg(format!("http://{}{path}", self.web))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.contains(&format!("{requests} succeeded, 0 failed, 0 errored")) && text.contains(&format!("status codes: {requests} 2xx")),
            "{text}"
        );
    }

    pub fn grpc(&self) {
        let output = python("clients.py").args(["grpc", &self.web.to_string()]).output().unwrap();
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }

    /// A WebSocket that echoes until it is closed.
    pub fn websocket(&self) -> Socket {
        let url = format!("ws://{}/examples/websocket/echoProgrammatic", self.web);
        let mut child = python("clients.py").args(["websocket", &url]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "open\n");
        Socket { child, lines }
    }
}

pub struct Socket {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Socket {
    /// Closes in good order; how many messages were echoed.
    pub fn close(mut self) -> usize {
        self.child.stdin.take().unwrap().flush().unwrap();
        let mut text = String::new();
        self.lines.read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success(), "{text}");
        text.trim().strip_prefix("echoed=").unwrap_or_else(|| panic!("{text:?}")).parse().unwrap()
    }
}
