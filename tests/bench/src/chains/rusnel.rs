//! rusnel: bytes of a port over QUIC, with mutual TLS.

use crate::bed::{Bed, between, port};
use crate::chain::{Chain, Fronts, Kind};
use crate::keys::NAME;
use crate::origin::Addresses;

/// Starts the pair: the server near the client, reverse forwards to the workload.
pub(super) fn start(bed: &Bed, origin: Addresses) -> anyhow::Result<Option<Chain>> {
    let Some(rusnel) = bed.find("rusnel") else { return Ok(None) };
    let [http, websocket, grpc, tcp, control] = [port(), port(), port(), port(), between()];
    let near = bed.start(
        "rusnel-server",
        &rusnel,
        &[
            "server",
            "--host",
            &control.ip().to_string(),
            "--port",
            &control.port().to_string(),
            "--allow-reverse",
            "--tls-cert",
            "server.pem",
            "--tls-key",
            "server.key",
            "--tls-ca",
            "ca.pem",
        ],
    )?;
    let remote = |front: std::net::SocketAddr, at: std::net::SocketAddr| format!("R:{front}:{at}");
    let remotes = [remote(http, origin.http), remote(websocket, origin.websocket), remote(grpc, origin.grpc), remote(tcp, origin.tcp)];
    let server = control.to_string();
    let mut arguments =
        vec!["client", "--tls-ca", "ca.pem", "--tls-cert", "client.pem", "--tls-key", "client.key", "--tls-server-name", NAME, &server];
    arguments.extend(remotes.iter().map(String::as_str));
    let mut far = bed.start("rusnel-client", &rusnel, &arguments)?;
    bed.listens(&mut far, http)?;
    let fronts = Fronts { http, https: None, h2: None, websocket: Some(websocket), grpc: Some(grpc), tcp: Some(tcp) };
    Ok(Some(Chain::of("rusnel, QUIC", Kind::Bytes, fronts, vec![near, far])))
}
