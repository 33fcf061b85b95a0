//! The parts of the walk-through, each a real program: Tomcat, the extracted service, figspan's binaries, and clients.

mod clients;
mod figspan;
mod load;
mod workloads;

pub use clients::Clients;
pub use figspan::Figspan;
pub use load::Load;
pub use workloads::{Orders, Tomcat};

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use figspan_tests::process::eventually;

/// Waits until something listens.
pub fn listening(what: &str, address: SocketAddr, deadline: Duration) {
    eventually(what, deadline, || TcpStream::connect(address).is_ok());
}

/// Where this run keeps its files; made anew.
pub fn folder(name: &str) -> PathBuf {
    let folder = figspan_tests::architecture::root().join("target/monolith").join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
