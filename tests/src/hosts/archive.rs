//! A web server for an apt repository, in the network of one VM: files of a folder, and a list of what was asked for.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Namespace;
use crate::web::Workload;

/// A server of files.
#[derive(Debug)]
pub struct Archive {
    workload: Workload,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Archive {
    /// Serves a folder on the loopback of a VM.
    pub fn serve(namespace: &Namespace, folder: &Path) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (list, folder) = (Arc::clone(&asked), folder.to_owned());
        let workload = namespace.inside(|| {
            Workload::raw(move |mut connection| {
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
        Self { workload, asked }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.workload.address
    }

    /// Paths that were asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
