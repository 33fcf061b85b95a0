//! rathole: bytes of a port, over TLS or Noise on TCP.

use std::process::Command;

use anyhow::{Context, ensure};

use crate::bed::{Bed, between, port};
use crate::chain::{Chain, Fronts, Kind};
use crate::keys::NAME;
use crate::origin::Addresses;

/// Over TLS.
pub(super) fn start_tls(bed: &Bed, origin: Addresses) -> anyhow::Result<Option<Chain>> {
    let Some(rathole) = bed.find("rathole") else { return Ok(None) };
    let folder = bed.path().display();
    let bundled = Command::new("openssl")
        .args([
            "pkcs12",
            "-export",
            "-passout",
            "pass:bench",
            "-out",
            "server.p12",
            "-in",
            "server.pem",
            "-inkey",
            "server.key",
            "-certfile",
            "ca.pem",
        ])
        .current_dir(bed.path())
        .output()
        .context("openssl does not run")?;
    ensure!(bundled.status.success(), "openssl pkcs12: {}", String::from_utf8_lossy(&bundled.stderr));
    let server = format!(
        "[server.transport]\ntype = \"tls\"\n[server.transport.tls]\npkcs12 = \"{folder}/server.p12\"\npkcs12_password = \"bench\"\n"
    );
    let client =
        format!("[client.transport]\ntype = \"tls\"\n[client.transport.tls]\ntrusted_root = \"{folder}/ca.pem\"\nhostname = \"{NAME}\"\n");
    pair(bed, origin, &rathole, "rathole, TLS", "rathole-tls", &server, &client).map(Some)
}

/// Over Noise.
pub(super) fn start_noise(bed: &Bed, origin: Addresses) -> anyhow::Result<Option<Chain>> {
    let Some(rathole) = bed.find("rathole") else { return Ok(None) };
    let made = Command::new(&rathole).arg("--genkey").output().context("rathole --genkey")?;
    let text = String::from_utf8_lossy(&made.stdout).into_owned();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| line.ends_with('=')).collect();
    let [private, public] = lines[..] else { anyhow::bail!("rathole --genkey said: {text}") };
    let server = format!("[server.transport]\ntype = \"noise\"\n[server.transport.noise]\nlocal_private_key = \"{private}\"\n");
    let client = format!("[client.transport]\ntype = \"noise\"\n[client.transport.noise]\nremote_public_key = \"{public}\"\n");
    pair(bed, origin, &rathole, "rathole, Noise", "rathole-noise", &server, &client).map(Some)
}

fn pair(
    bed: &Bed,
    origin: Addresses,
    rathole: &std::path::Path,
    name: &'static str,
    prefix: &str,
    server: &str,
    client: &str,
) -> anyhow::Result<Chain> {
    let [http, websocket, grpc, tcp, control] = [port(), port(), port(), port(), between()];
    let services =
        [("http", http, origin.http), ("websocket", websocket, origin.websocket), ("grpc", grpc, origin.grpc), ("tcp", tcp, origin.tcp)];
    let near: String = services
        .iter()
        .map(|(name, front, _)| format!("[server.services.{name}]\ntoken = \"bench\"\nbind_addr = \"{front}\"\nnodelay = true\n"))
        .collect();
    let far: String = services
        .iter()
        .map(|(name, _, at)| format!("[client.services.{name}]\ntoken = \"bench\"\nlocal_addr = \"{at}\"\nnodelay = true\n"))
        .collect();
    let near_file = bed.write(&format!("{prefix}-server.toml"), &format!("[server]\nbind_addr = \"{control}\"\n{server}{near}"))?;
    let far_file = bed.write(&format!("{prefix}-client.toml"), &format!("[client]\nremote_addr = \"{control}\"\n{client}{far}"))?;
    let mut near = bed.start(&format!("{prefix}-server"), rathole, &["--server", &near_file.display().to_string()])?;
    bed.listens(&mut near, control)?;
    let far = bed.start(&format!("{prefix}-client"), rathole, &["--client", &far_file.display().to_string()])?;
    bed.listens(&mut near, http)?;
    let fronts = Fronts { http, https: None, h2: None, websocket: Some(websocket), grpc: Some(grpc), tcp: Some(tcp) };
    Ok(Chain::of(name, Kind::Bytes, fronts, vec![near, far]))
}
