//! journald as the hub sees it: a socket of the test's own, put where journald's is in a mount namespace of the hub's own.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::time::Duration;

use figspan_tests::process::{binary, eventually};
use figspan_tests::web::Connection;

/// A child that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fields of an entry in journald's native protocol: `NAME=value`, or the name alone, a length and that many bytes.
fn fields(mut entry: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    while let Some(end) = entry.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = (&entry[..end], &entry[end + 1..]);
        let (name, value) = match line.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                entry = rest;
                (&line[..at], &line[at + 1..])
            }
            None => {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                entry = &rest[8 + length + 1..];
                (line, &rest[8..8 + length])
            }
        };
        found.insert(String::from_utf8(name.to_vec()).unwrap(), value.to_vec());
    }
    found
}

#[test]
fn journald_gets_every_field_and_no_control_character_of_a_client() {
    let folder = tempfile::Builder::new().prefix("figspan-").tempdir().unwrap();
    let path = folder.path();
    let journal = path.join("journal");
    std::fs::create_dir(&journal).unwrap();
    let socket = UnixDatagram::bind(journal.join("socket")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let config = format!(
        "[hub]\nreplica = \"hub-0\"\nlame_duck = \"0s\"\nstate_dir = \"{0}/state\"\nshards = 1\n\n[tunnel]\naddress = \"127.0.0.1:0\"\n\n\
         [admin]\nsocket = \"{0}/admin.sock\"\n\n[log]\nformat = \"journald\"\n\n\
         [[listener]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nprotocol = \"HTTP\"\n",
        path.display()
    );
    std::fs::write(path.join("hub.toml"), config).unwrap();
    let script = format!(
        "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind {} /run/systemd/journal && exec {} run --config {}/hub.toml",
        journal.display(),
        binary("figspan-hub").display(),
        path.display()
    );
    let _hub =
        Ends(Command::new("unshare").args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).spawn().expect("unshare runs"));

    let next = || {
        let mut entry = vec![0; 65_536];
        let length = socket.recv(&mut entry).expect("an entry in time");
        fields(&entry[..length])
    };
    let text = |entry: &BTreeMap<String, Vec<u8>>, name: &str| String::from_utf8(entry.get(name).cloned().unwrap_or_default()).unwrap();
    let admin = format!("unix:{}/admin.sock", path.display());
    let status = || Command::new(binary("figspanctl")).args(["--hub", &admin, "status", "-o", "json"]).output().unwrap();
    eventually("the hub answers", Duration::from_secs(20), || status().status.success());
    let status: serde_json::Value = serde_json::from_slice(&status().stdout).unwrap();
    let web = status["listeners"][0]["address"].as_str().unwrap().parse().unwrap();

    // What is refused, and what is not: a terminal's control sequences, once as bytes and once as HTTP lets them pass.
    let mut client = Connection::open(web);
    client.send("GET /\u{1b}[2J HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer(true).unwrap().status(), 400);
    let mut client = Connection::open(web);
    client.send("GET /a?%1b%5b2J%0aMESSAGE=forged HTTP/1.1\r\nhost: a\r\nuser-agent: x\u{9b}2J\r\n\r\n");
    assert_eq!(client.answer(true).unwrap().status(), 404);

    let (mut refused, mut answered) = (false, false);
    while !(refused && answered) {
        let entry = next();
        if entry.is_empty() {
            // The first one only asks whether anybody listens.
            continue;
        }
        for (name, value) in &entry {
            let value = String::from_utf8(value.clone()).expect("journald gets text");
            assert!(!value.contains(char::is_control), "{name}: {value:?}");
            let known = ["PRIORITY", "MESSAGE", "SYSLOG_IDENTIFIER", "SYSLOG_PID", "CODE_FILE", "CODE_LINE", "CODE_MODULE", "TARGET"];
            assert!(known.contains(&name.as_str()) || name.starts_with("FIGSPAN_"), "{name}");
        }
        assert_eq!(text(&entry, "SYSLOG_IDENTIFIER"), "figspan-hub");
        if text(&entry, "TARGET") == "figspan::access" {
            assert_eq!((text(&entry, "PRIORITY").as_str(), text(&entry, "FIGSPAN_LISTENER").as_str()), ("5", "web"));
            refused |= text(&entry, "FIGSPAN_STATUS") == "400";
            answered |= text(&entry, "FIGSPAN_STATUS") == "404";
        }
    }
}
