//! Bulk: one download stream, direct and through figspan in turn.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::{Chain, median};

const BYTES: usize = 1 << 30;

/// Gbit/s of one stream, and CPU seconds per GB.
pub fn measure(chain: &Chain, web: SocketAddr, rounds: usize, say: &mut impl FnMut(&str, String)) {
    let (mut direct, mut through, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.min(3) {
        direct.push(download(chain.workload.address));
        let before = chain.cpu();
        through.push(download(web));
        cpu.push((chain.cpu() - before) / (BYTES as f64 / 1e9));
    }
    let (direct, through) = (median(direct), median(through));
    say("one stream of 1 GiB, direct", format!("{direct:.1} Gbit/s"));
    say("one stream of 1 GiB, through hub and agent", format!("{through:.2} Gbit/s ({:.2} of direct)", through / direct));
    say("CPU per GB, hub and agent together", format!("{:.2} s", median(cpu)));
    say("hub, resident after the bulk", format!("{:.1} MiB", chain.hub.process.rss()));
    say("agent, resident after the bulk", format!("{:.1} MiB", chain.agent.rss()));
}

fn download(address: SocketAddr) -> f64 {
    let mut tcp = TcpStream::connect(address).expect("connect");
    write!(tcp, "GET /bytes/{BYTES} HTTP/1.1\r\nhost: figures\r\nconnection: close\r\n\r\n").expect("a request");
    let start = Instant::now();
    let (mut total, mut buffer) = (0, vec![0; 256 * 1024]);
    loop {
        match tcp.read(&mut buffer).expect("a body") {
            0 => break,
            n => total += n,
        }
    }
    assert!(total > BYTES, "only {total} of {BYTES} bytes came");
    BYTES as f64 * 8.0 / start.elapsed().as_secs_f64() / 1e9
}
