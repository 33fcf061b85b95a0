//! A tunnel whose packets are written down as qlog (draft-ietf-quic-qlog): for finding out what a network does to it.
//!
//! Recording belongs to a connection from its first packet on, so it is a tunnel of its own; all others pay one look at an
//! option that is empty. What is written are facts about packets: never what is in them.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use quinn_proto::{QlogConfig, TransportConfig};

/// Where a tunnel's packets are written down. Clones share it.
#[derive(Clone)]
pub struct Recording(Arc<Mutex<dyn Write + Send>>);

impl Recording {
    /// Writes qlog to `writer`, on the tunnel's own task: it must not block for long, and what it keeps is its own affair to bound.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(writer)))
    }

    /// Has a connection of that configuration recorded.
    pub(super) fn of(&self, config: &mut TransportConfig) {
        let mut qlog = QlogConfig::default();
        qlog.writer(Box::new(self.clone())).title(Some("figspan-agent".to_owned()));
        config.qlog_stream(qlog.into_stream());
    }
}

impl Write for Recording {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recording")
    }
}
