//! nginx to nginx: HTTP over mutual TLS with kept-alive connections, gRPC over HTTP/2, TCP by `stream` where that module is built in.

use crate::bed::{Bed, between, port};
use crate::chain::{Chain, Fronts, Kind};
use crate::keys::NAME;
use crate::origin::Addresses;

/// Starts the pair.
pub(super) fn start(bed: &Bed, origin: Addresses) -> anyhow::Result<Option<Chain>> {
    let Some(nginx) = bed.find("nginx") else { return Ok(None) };
    let folder = bed.path().display();
    let [http, https, h2, grpc, inner, inner_grpc] = [port(), port(), port(), port(), between(), between()];
    let common = |name: &str| {
        format!(
            "worker_processes 2; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err warn;\nevents {{ worker_connections 8192; }}\n\
             http {{ access_log off; sendfile on; tcp_nodelay on; proxy_buffering off; client_max_body_size 0; keepalive_requests 1000000000; keepalive_timeout 600s;\n\
             client_body_temp_path {folder}/{name}-body; proxy_temp_path {folder}/{name}-proxy;\n\
             map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n"
        )
    };
    let pass = "proxy_http_version 1.1; proxy_set_header Connection $connection_upgrade; proxy_set_header Upgrade $http_upgrade; proxy_set_header Host $host;";
    let client = |prefix: &str| {
        format!(
            "{prefix}_ssl_certificate {folder}/client.pem; {prefix}_ssl_certificate_key {folder}/client.key; {prefix}_ssl_trusted_certificate {folder}/ca.pem; \
             {prefix}_ssl_verify on; {prefix}_ssl_name {NAME}; {prefix}_ssl_server_name on; {prefix}_ssl_session_reuse on; {prefix}_ssl_protocols TLSv1.3;"
        )
    };
    let gateway = bed.write(
        "nginx-gateway.conf",
        &format!(
            "{}upstream vm {{ server {inner}; keepalive 256; keepalive_requests 1000000000; }}\nupstream calls {{ server {inner_grpc}; keepalive 64; keepalive_requests 1000000000; }}\n\
             server {{ listen {http} reuseport backlog=4096; location / {{ proxy_pass https://vm; {pass} {} }} }}\n\
             server {{ listen {https} ssl reuseport backlog=4096; ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key; ssl_protocols TLSv1.3; location / {{ proxy_pass https://vm; {pass} {} }} }}\n\
             server {{ listen {h2} http2 reuseport backlog=4096; http2_max_requests 1000000000; location / {{ proxy_pass https://vm; {pass} {} }} }}\n\
             server {{ listen {grpc} http2 reuseport backlog=4096; http2_max_requests 1000000000; location / {{ grpc_pass grpcs://calls; {} }} }} }}\n",
            common("nginx-gateway"),
            client("proxy"),
            client("proxy"),
            client("proxy"),
            client("grpc"),
        ),
    )?;
    let tls = format!(
        "ssl_certificate {folder}/server.pem; ssl_certificate_key {folder}/server.key; ssl_client_certificate {folder}/ca.pem; ssl_verify_client on; ssl_protocols TLSv1.3;"
    );
    let vm = bed.write(
        "nginx-vm.conf",
        &format!(
            "{}upstream web {{ server {}; keepalive 256; keepalive_requests 1000000000; }}\nupstream calls {{ server {}; keepalive 64; keepalive_requests 1000000000; }}\n\
             server {{ listen {inner} ssl reuseport backlog=4096; {tls} location / {{ proxy_pass http://web; {pass} }} location /echo {{ proxy_pass http://{}; {pass} }} }}\n\
             server {{ listen {inner_grpc} ssl http2 reuseport backlog=4096; http2_max_requests 1000000000; {tls} location / {{ grpc_pass grpc://calls; }} }} }}\n",
            common("nginx-vm"),
            origin.http,
            origin.grpc,
            origin.websocket,
        ),
    )?;
    let mut far = bed.start("nginx-vm", &nginx, &["-e", "stderr", "-c", &vm.display().to_string()])?;
    bed.listens(&mut far, inner)?;
    let mut near = bed.start("nginx-gateway", &nginx, &["-e", "stderr", "-c", &gateway.display().to_string()])?;
    bed.listens(&mut near, http)?;
    let fronts = Fronts { http, https: Some(https), h2: Some(h2), websocket: Some(http), grpc: Some(grpc), tcp: None };
    Ok(Some(Chain::of("nginx pair, mTLS", Kind::Gateway, fronts, vec![near, far])))
}
