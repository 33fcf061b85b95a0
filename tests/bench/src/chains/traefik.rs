//! Traefik to Traefik over mutual TLS, as its multi-cluster pairs speak; once as it ships and once with its experimental fast proxy.

use crate::bed::{Bed, between, port};
use crate::chain::{Chain, Fronts, Kind};
use crate::keys::NAME;
use crate::origin::Addresses;

/// Starts the pair as it ships.
pub(super) fn start(bed: &Bed, origin: Addresses) -> anyhow::Result<Option<Chain>> {
    pair(bed, origin, "Traefik pair, mTLS", "traefik", "")
}

/// The same with `experimental.fastProxy` at both ends.
pub(super) fn start_fast(bed: &Bed, origin: Addresses) -> anyhow::Result<Option<Chain>> {
    pair(bed, origin, "Traefik pair, mTLS, fast proxy", "traefik-fast", "experimental:\n  fastProxy: {}\n")
}

fn pair(bed: &Bed, origin: Addresses, name: &'static str, prefix: &str, experimental: &str) -> anyhow::Result<Option<Chain>> {
    let Some(traefik) = bed.find("traefik") else { return Ok(None) };
    let folder = bed.path().display();
    let [http, https, grpc, tcp, inner, inner_grpc, inner_tcp] = [port(), port(), port(), port(), between(), between(), between()];
    let fixed = |end: &str, points: &[(&str, std::net::SocketAddr)]| {
        let points: String = points.iter().map(|(name, address)| format!("  {name}:\n    address: \"{address}\"\n")).collect();
        format!(
            "global: {{ checkNewVersion: false, sendAnonymousUsage: false }}\nlog: {{ level: ERROR }}\n{experimental}entryPoints:\n{points}providers:\n  file:\n    filename: {folder}/{prefix}-{end}-routes.yml\n    watch: false\n"
        )
    };
    let near_fixed = bed
        .write(&format!("{prefix}-gateway.yml"), &fixed("gateway", &[("web", http), ("secure", https), ("calls", grpc), ("bytes", tcp)]))?;
    let far_fixed = bed.write(&format!("{prefix}-vm.yml"), &fixed("vm", &[("web", inner), ("calls", inner_grpc), ("bytes", inner_tcp)]))?;
    let client = format!(
        "certificates: [{{ certFile: {folder}/client.pem, keyFile: {folder}/client.key }}], rootCAs: [{folder}/ca.pem], serverName: {NAME}"
    );
    bed.write(
        &format!("{prefix}-gateway-routes.yml"),
        &format!(
            "tls:\n  stores:\n    default:\n      defaultCertificate: {{ certFile: {folder}/server.pem, keyFile: {folder}/server.key }}\n\
             http:\n  routers:\n    web: {{ rule: \"PathPrefix(`/`)\", service: web, entryPoints: [web] }}\n    secure: {{ rule: \"PathPrefix(`/`)\", service: web, entryPoints: [secure], tls: {{}} }}\n    calls: {{ rule: \"PathPrefix(`/`)\", service: calls, entryPoints: [calls] }}\n\
             \x20 services:\n    web: {{ loadBalancer: {{ serversTransport: vm, passHostHeader: true, servers: [{{ url: \"https://{inner}\" }}] }} }}\n    calls: {{ loadBalancer: {{ serversTransport: calls, servers: [{{ url: \"https://{inner_grpc}\" }}] }} }}\n\
             \x20 serversTransports:\n    vm: {{ {client}, maxIdleConnsPerHost: 256, disableHTTP2: true }}\n    calls: {{ {client} }}\n\
             tcp:\n  routers:\n    bytes: {{ rule: \"HostSNI(`*`)\", service: bytes, entryPoints: [bytes] }}\n  services:\n    bytes: {{ loadBalancer: {{ serversTransport: vm, servers: [{{ address: \"{inner_tcp}\", tls: true }}] }} }}\n\
             \x20 serversTransports:\n    vm: {{ tls: {{ {client} }} }}\n"
        ),
    )?;
    bed.write(
        &format!("{prefix}-vm-routes.yml"),
        &format!(
            "tls:\n  stores:\n    default:\n      defaultCertificate: {{ certFile: {folder}/server.pem, keyFile: {folder}/server.key }}\n\
             \x20 options:\n    default: {{ minVersion: VersionTLS13, clientAuth: {{ caFiles: [{folder}/ca.pem], clientAuthType: RequireAndVerifyClientCert }} }}\n\
             http:\n  routers:\n    web: {{ rule: \"PathPrefix(`/`)\", service: web, entryPoints: [web], tls: {{}} }}\n    messages: {{ rule: \"PathPrefix(`/echo`)\", service: messages, entryPoints: [web], tls: {{}} }}\n    calls: {{ rule: \"PathPrefix(`/`)\", service: calls, entryPoints: [calls], tls: {{}} }}\n\
             \x20 services:\n    web: {{ loadBalancer: {{ serversTransport: web, servers: [{{ url: \"http://{}\" }}] }} }}\n    messages: {{ loadBalancer: {{ servers: [{{ url: \"http://{}\" }}] }} }}\n    calls: {{ loadBalancer: {{ servers: [{{ url: \"h2c://{}\" }}] }} }}\n\
             \x20 serversTransports:\n    web: {{ maxIdleConnsPerHost: 256 }}\n\
             tcp:\n  routers:\n    bytes: {{ rule: \"HostSNI(`*`)\", service: bytes, entryPoints: [bytes], tls: {{}} }}\n  services:\n    bytes: {{ loadBalancer: {{ servers: [{{ address: \"{}\" }}] }} }}\n",
            origin.http, origin.websocket, origin.grpc, origin.tcp,
        ),
    )?;
    let mut far = bed.start(&format!("{prefix}-vm"), &traefik, &[&format!("--configFile={}", far_fixed.display())])?;
    bed.listens(&mut far, inner)?;
    let mut near = bed.start(&format!("{prefix}-gateway"), &traefik, &[&format!("--configFile={}", near_fixed.display())])?;
    bed.listens(&mut near, http)?;
    let fronts = Fronts { http, https: Some(https), h2: Some(http), websocket: Some(http), grpc: Some(grpc), tcp: Some(tcp) };
    Ok(Some(Chain::of(name, Kind::Gateway, fronts, vec![near, far])))
}
