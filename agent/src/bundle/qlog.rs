//! Records what the network does to a tunnel: opens one beside the agent's own, keeps it for a while, and writes its packets down.
//!
//! The tunnel has this agent's identity and offers nothing, so that the hub gives it no work. What is written are sizes, numbers and
//! times of packets, loss and round trips; never what is in them.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use figspan_proto::name::Role;
use figspan_proto::reset::Close;
use figspan_tunnel::agent::{DialOptions, Recording};
use figspan_tunnel::drain::Drain;
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::{Credentials, Tunnel, agent};
use tokio::sync::mpsc;

use crate::advertise::{Conversation, Heard, answer};
use crate::identity::files::Files;
use crate::settings::{DEFAULT_HUB_PORT, Settings};
use crate::uplinks::Uplinks;

/// Most bytes of a recording: minutes of a quiet tunnel.
const LIMIT: usize = 3 << 20;
/// Things heard that nobody has looked at yet; more wait.
const HEARD: usize = 16;
/// How long the last word may take to get out.
const GOODBYE: Duration = Duration::from_secs(1);

/// What was recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) bytes: Vec<u8>,
    /// Whether the limit cut it.
    pub(super) cut: bool,
}

/// Memory that takes no more than [`LIMIT`].
#[derive(Debug, Clone, Default)]
struct Paper(Arc<Mutex<(Vec<u8>, bool)>>);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut paper = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if paper.0.len() + bytes.len() <= LIMIT && !paper.1 {
            paper.0.extend_from_slice(bytes);
        } else {
            paper.1 = true;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Records a tunnel to the first address that answers, for `time`; an error says why there is none.
pub(super) async fn record(settings: &Settings, time: Duration) -> Result<Recorded, String> {
    let kept = Files::new(&settings.state_dir).read().map_err(|error| error.to_string())?.ok_or("this VM has not joined")?;
    let credentials = Credentials::new(kept.identity, kept.roots);
    let resolver = Resolver::system().map_err(|error| error.to_string())?;
    let paper = Paper::default();
    let mut last = "no hub is named".to_owned();
    for hub in &settings.hubs {
        let addresses = match resolver.lookup(hub, DEFAULT_HUB_PORT).await {
            Ok(answer) => answer.addresses,
            Err(error) => {
                last = error.to_string();
                continue;
            }
        };
        for address in addresses {
            let options =
                DialOptions { preference: settings.transport, recording: Some(Recording::new(paper.clone())), ..DialOptions::default() };
            match agent::dial_with(address, 0, &credentials, &options).await {
                Ok(tunnel) => {
                    let _ = tokio::time::timeout(time, hold(&tunnel)).await;
                    tunnel.close(Close::Done);
                    let _ = tokio::time::timeout(GOODBYE, tunnel.wait_idle()).await;
                    drop(tunnel);
                    let mut paper = paper.0.lock().unwrap_or_else(PoisonError::into_inner);
                    return Ok(Recorded { bytes: std::mem::take(&mut paper.0), cut: paper.1 });
                }
                Err(error) => last = error.to_string(),
            }
        }
    }
    Err(last)
}

/// Says to the hub what an agent without uplinks says, until the tunnel ends.
async fn hold(tunnel: &Tunnel) {
    let (Ok(control), Role::Hub(replica)) = (tunnel.accept().await, tunnel.peer().role.clone()) else { return };
    let (heard, mut hearing) = mpsc::channel(HEARD);
    let conversation = Conversation {
        tunnel: tunnel.id(),
        replica,
        instance: format!("qlog-{:016x}", rand::random::<u64>()).into(),
        uplinks: Arc::new(Uplinks::default()),
        work: Drain::new(),
        drain_ms: 0,
        zone: None,
        heard,
    };
    let listening = async {
        while let Some((_, heard)) = hearing.recv().await {
            if let Heard::Hello(_, keep) = heard {
                let _ = keep.send(true);
            }
        }
    };
    tokio::select! {
        _ = async { tokio::join!(answer(control, conversation), listening) } => {}
        _ = tunnel.closed() => {}
    }
}
