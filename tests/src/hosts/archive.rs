//! A web server for an apt repository, in the network of one VM or of the hub: files of a folder, and a list of what was asked for.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Namespace;
use crate::web::{ANYWHERE, Workload};

/// A server of files.
#[derive(Debug)]
pub struct Archive {
    address: SocketAddr,
    _workload: Workload,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Archive {
    /// Serves a folder on the loopback of a VM.
    pub fn serve(namespace: &Namespace, folder: &Path) -> Self {
        Self::listen(namespace, ANYWHERE, folder)
    }

    /// The same for all who reach an address of a namespace.
    pub fn serve_at(namespace: &Namespace, address: SocketAddr, folder: &Path) -> Self {
        let own = Self::listen(namespace, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()), folder);
        Self { address, ..own }
    }

    fn listen(namespace: &Namespace, address: SocketAddr, folder: &Path) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (list, folder) = (Arc::clone(&asked), folder.to_owned());
        let workload = namespace.inside(|| {
            Workload::raw_at(address, move |mut connection| {
                while let Ok(Some(request)) = connection.message() {
                    list.lock().unwrap_or_else(PoisonError::into_inner).push(request.target().to_owned());
                    let path = folder.join(request.target().trim_start_matches('/'));
                    let (status, body) = std::fs::read(path).map_or(("404 Not Found", Vec::new()), |body| ("200 OK", body));
                    connection.send(&format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len()));
                    if std::io::Write::write_all(&mut connection.write, &body).is_err() {
                        return;
                    }
                }
            })
        });
        Self { address: workload.address, _workload: workload, asked }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Paths that were asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
