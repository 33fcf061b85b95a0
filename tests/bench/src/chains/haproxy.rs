//! HAProxy to HAProxy: HTTP and TCP over mutual TLS, connections kept and shared (`http-reuse always`).

use crate::bed::{Bed, between, port};
use crate::chain::{Chain, Fronts, Kind};
use crate::keys::NAME;
use crate::origin::Addresses;

/// Starts the pair.
pub(super) fn start(bed: &Bed, origin: Addresses) -> anyhow::Result<Option<Chain>> {
    let Some(haproxy) = bed.find("haproxy") else { return Ok(None) };
    let folder = bed.path().display();
    let [http, https, h2, grpc, tcp, inner, inner_grpc, inner_tcp] =
        [port(), port(), port(), port(), port(), between(), between(), between()];
    let head = "global\n  nbthread 2\n  maxconn 4000\n  ssl-server-verify required\n  tune.ssl.lifetime 600\n\
                defaults\n  mode http\n  option http-keep-alive\n  http-reuse always\n  timeout connect 5s\n  timeout client 600s\n  timeout server 600s\n  timeout tunnel 600s\n  retries 0\n";
    let towards = format!(
        "ssl verify required ca-file {folder}/ca.pem crt {folder}/client-both.pem verifyhost {NAME} sni str({NAME}) ssl-min-ver TLSv1.3"
    );
    let gateway = bed.write(
        "haproxy-gateway.cfg",
        &format!(
            "{head}frontend web\n  bind {http}\n  bind {https} ssl crt {folder}/server-both.pem alpn http/1.1\n  default_backend vm\nfrontend h2\n  bind {h2} proto h2\n  default_backend vm\nfrontend calls\n  bind {grpc} proto h2\n  default_backend calls\n\
             backend vm\n  server vm {inner} {towards} pool-max-conn 512\nbackend calls\n  server vm {inner_grpc} {towards} alpn h2\n\
             frontend bytes\n  mode tcp\n  bind {tcp}\n  default_backend bytes\nbackend bytes\n  mode tcp\n  server vm {inner_tcp} {towards}\n"
        ),
    )?;
    let tls = format!("ssl crt {folder}/server-both.pem ca-file {folder}/ca.pem verify required ssl-min-ver TLSv1.3");
    let vm = bed.write(
        "haproxy-vm.cfg",
        &format!(
            "{head}frontend web\n  bind {inner} {tls}\n  use_backend messages if {{ path_beg /echo }}\n  default_backend web\nfrontend calls\n  bind {inner_grpc} {tls} alpn h2\n  default_backend calls\n\
             backend web\n  server web {} pool-max-conn 512\nbackend messages\n  server messages {}\nbackend calls\n  server calls {} proto h2\n\
             frontend bytes\n  mode tcp\n  bind {inner_tcp} {tls}\n  default_backend bytes\nbackend bytes\n  mode tcp\n  server bytes {}\n",
            origin.http, origin.websocket, origin.grpc, origin.tcp,
        ),
    )?;
    let mut far = bed.start("haproxy-vm", &haproxy, &["-db", "-f", &vm.display().to_string()])?;
    bed.listens(&mut far, inner)?;
    let mut near = bed.start("haproxy-gateway", &haproxy, &["-db", "-f", &gateway.display().to_string()])?;
    bed.listens(&mut near, http)?;
    let fronts = Fronts { http, https: Some(https), h2: Some(h2), websocket: Some(http), grpc: Some(grpc), tcp: Some(tcp) };
    Ok(Some(Chain::of("HAProxy pair, mTLS", Kind::Gateway, fronts, vec![near, far])))
}
