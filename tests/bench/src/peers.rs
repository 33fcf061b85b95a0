//! The data path beside its peers: every chain does the same work in turn (A B C, A B C), and each program's CPU is read around it.

use std::time::Duration;

use crate::chain::{Chain, Kind};
use crate::figure::{Figure, Results};
use crate::load::{self, Client, Done, Front};
use crate::origin::{FEW, LARGE, MEDIUM, PART, SMALL};

/// Connections of a closed loop.
const CONNECTIONS: usize = 32;

/// The open loop lasts longer than a closed one, by this factor: the slowest request of a thousand is an accident where there are only
/// a few thousand.
pub const PACED: u32 = 3;

/// Bytes of a small body that is sent.
const POSTED: usize = 1024;

/// How much work.
#[derive(Debug, Clone)]
pub struct Work {
    /// Times that every chain does all of it.
    pub rounds: usize,
    /// How long a closed loop lasts.
    pub time: Duration,
    /// Requests a second in the open loop.
    pub rate: u32,
    /// Who asks where there is TLS.
    pub tls: Client,
    /// A network lies between the two ends of the chains.
    pub far: bool,
    /// Only pieces whose name contains one of these; all where it is empty.
    pub only: Vec<String>,
}

/// One piece of work of a chain: its name, and how it is done; `None` when the chain cannot carry it.
type Piece = (&'static str, fn(&Chain, &Work, &mut Notes<'_>) -> Option<anyhow::Result<()>>);

const NEAR: &[Piece] = &[
    ("small requests", |chain, work, notes| {
        let run = || load::closed(&Front::Plain(chain.fronts.http), "/small", SMALL, CONNECTIONS, work.time);
        Some(notes.around(run, |notes, done, cpu| {
            notes.requests(Figure::SmallRate, Figure::SmallCpu, &done, cpu);
            notes.note(Figure::SmallP99, done.quantile(0.99));
        }))
    }),
    ("small posts", |chain, work, notes| {
        let run = || load::posted(&Front::Plain(chain.fronts.http), "/small", POSTED, SMALL, CONNECTIONS, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::PostRate, Figure::PostCpu, &done, cpu)))
    }),
    ("HTTPS", |chain, work, notes| {
        let https = Front::Tls(chain.fronts.https?, work.tls.clone());
        let run = || load::closed(&https, "/small", SMALL, CONNECTIONS, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::HttpsRate, Figure::HttpsCpu, &done, cpu)))
    }),
    ("connections", |chain, work, notes| {
        let run = || load::fresh(&Front::Plain(chain.fronts.http), "/small", SMALL, CONNECTIONS, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::FreshRate, Figure::FreshCpu, &done, cpu)))
    }),
    ("TLS handshakes", |chain, work, notes| {
        let https = Front::Tls(chain.fronts.https?, work.tls.clone());
        let run = || load::fresh(&https, "/small", SMALL, CONNECTIONS, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::TlsRate, Figure::TlsCpu, &done, cpu)))
    }),
    ("resumed TLS sessions", |chain, work, notes| {
        let https = Front::Tls(chain.fronts.https?, work.tls.resuming());
        let run = || {
            let done = load::fresh(&https, "/small", SMALL, CONNECTIONS, work.time)?;
            anyhow::ensure!(done.resumed * 10 >= done.count * 9, "only {} of {} sessions were resumed", done.resumed, done.count);
            Ok(done)
        };
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::ResumedRate, Figure::ResumedCpu, &done, cpu)))
    }),
    ("requests at a fixed rate", |chain, work, notes| {
        let run = || load::paced(chain.fronts.http, "/small", SMALL, CONNECTIONS, work.rate, work.time * PACED);
        Some(notes.around(run, |notes, done, cpu| {
            notes.note(Figure::PacedP50, done.quantile(0.5));
            notes.note(Figure::PacedP99, done.quantile(0.99));
            notes.note(Figure::PacedP999, done.quantile(0.999));
            notes.note_cpu(Figure::PacedCpu, cpu / done.count as f64 * 1e6);
        }))
    }),
    ("HTTP/2", |chain, work, notes| {
        let address = chain.fronts.h2?;
        let run = || load::requests(address, "/small", SMALL, 4, 8, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::H2Rate, Figure::H2Cpu, &done, cpu)))
    }),
    ("gRPC", |chain, work, notes| {
        let address = chain.fronts.grpc?;
        let run = || load::calls(address, 4, 8, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::GrpcRate, Figure::GrpcCpu, &done, cpu)))
    }),
    ("WebSocket", |chain, work, notes| {
        let address = chain.fronts.websocket?;
        let run = || load::messages(address, CONNECTIONS, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::MessageRate, Figure::MessageCpu, &done, cpu)))
    }),
    ("TCP", |chain, work, notes| {
        let address = chain.fronts.tcp?;
        let run = || load::bytes(address, CONNECTIONS, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.requests(Figure::TcpRate, Figure::TcpCpu, &done, cpu)))
    }),
    ("100 KiB bodies", |chain, work, notes| {
        let run = || load::closed(&Front::Plain(chain.fronts.http), "/files/medium", MEDIUM, CONNECTIONS / 2, work.time);
        Some(notes.around(run, |notes, done, cpu| notes.note_cpu(Figure::MediumCpu, cpu / gigabytes(&done))))
    }),
    ("one long download", |chain, _, notes| {
        let run = || load::bulk(chain.fronts.http, "/files/large", LARGE, 1);
        Some(notes.around(run, |notes, done, cpu| {
            notes.note(Figure::BulkSpeed, speed(&done));
            notes.note_cpu(Figure::BulkCpu, cpu / gigabytes(&done));
        }))
    }),
    ("16 downloads", |chain, _, notes| {
        let run = || load::bulk(chain.fronts.http, "/files/part", PART, 16);
        Some(notes.around(run, |notes, done, cpu| {
            notes.note(Figure::ManySpeed, speed(&done));
            notes.note_cpu(Figure::ManyCpu, cpu / gigabytes(&done));
        }))
    }),
];

/// What is done where a network lies between the two ends: less, since it takes longer.
const FAR: &[Piece] = &[
    ("one download of 8 MiB", |chain, _, notes| {
        let run = || load::bulk(chain.fronts.http, "/files/few", FEW, 1);
        Some(notes.around(run, |notes, done, cpu| {
            notes.note(Figure::FarSpeed, speed(&done) * 1000.0);
            notes.note_cpu(Figure::FarCpu, cpu / gigabytes(&done));
        }))
    }),
    ("16 of 100 KiB at a time", |chain, work, notes| {
        let run = || load::closed(&Front::Plain(chain.fronts.http), "/files/medium", MEDIUM, CONNECTIONS / 2, work.time);
        Some(notes.around(run, |notes, done, _| {
            notes.note(Figure::FarRate, done.rate());
            notes.note(Figure::FarP50, done.quantile(0.5));
            notes.note(Figure::FarP99, done.quantile(0.99));
        }))
    }),
    ("requests at a fixed rate", |chain, work, notes| {
        let run = || load::paced(chain.fronts.http, "/small", SMALL, CONNECTIONS, work.rate, work.time * PACED);
        Some(notes.around(run, |notes, done, _| {
            notes.note(Figure::PacedP50, done.quantile(0.5));
            notes.note(Figure::PacedP99, done.quantile(0.99));
            notes.note(Figure::PacedP999, done.quantile(0.999));
        }))
    }),
];

fn gigabytes(done: &Done) -> f64 {
    done.bytes as f64 / 1e9
}

fn speed(done: &Done) -> f64 {
    done.bytes as f64 * 8.0 / done.took.as_secs_f64() / 1e9
}

/// Where values of a chain go.
struct Notes<'a> {
    chain: &'a Chain,
    results: &'a mut Results,
}

impl Notes<'_> {
    /// Runs a load and hands on what it did and the CPU seconds that the chain's programs spent on it.
    fn around(&mut self, run: impl FnOnce() -> anyhow::Result<Done>, then: impl FnOnce(&mut Self, Done, f64)) -> anyhow::Result<()> {
        let before = self.chain.cost().cpu;
        let done = run()?;
        let cpu = self.chain.cost().cpu - before;
        anyhow::ensure!(done.count > 0, "nothing was answered");
        then(self, done, cpu);
        Ok(())
    }

    fn note(&mut self, figure: Figure, value: f64) {
        self.results.note(self.chain.name, figure, value);
    }

    /// How many a second, and what each cost.
    fn requests(&mut self, rate: Figure, each: Figure, done: &Done, cpu: f64) {
        self.note(rate, done.rate());
        self.note_cpu(each, cpu / done.count as f64 * 1e6);
    }

    /// Direct has no program of its own, so no CPU to tell.
    fn note_cpu(&mut self, figure: Figure, value: f64) {
        if self.chain.kind != Kind::Direct {
            self.note(figure, value);
        }
    }
}

/// What did not go well: chain, work, why.
pub type Failed = (&'static str, &'static str, String);

/// How long programs may take to give back what the load needed.
const SETTLED: Duration = Duration::from_secs(15);

/// Does all the work with all chains. `say` hears of progress.
pub fn measure(chains: &[Chain], work: &Work, say: &mut dyn FnMut(&str)) -> (Results, Vec<Failed>) {
    let (mut results, mut failed) = (Results::default(), Vec::new());
    for chain in chains.iter().filter(|chain| chain.kind != Kind::Direct) {
        results.note(chain.name, Figure::IdleMemory, chain.cost().rss);
    }
    for round in 0..work.rounds {
        for (name, piece) in if work.far { FAR } else { NEAR } {
            if !work.only.is_empty() && !work.only.iter().any(|part| name.contains(part.as_str())) {
                continue;
            }
            say(&format!("round {} of {}: {name}", round + 1, work.rounds));
            for chain in chains {
                // What failed once is told once, and not tried again.
                if failed.iter().any(|(of, what, _)| *of == chain.name && what == name) {
                    continue;
                }
                if let Some(Err(error)) = piece(chain, work, &mut Notes { chain, results: &mut results }) {
                    failed.push((chain.name, *name, format!("{error:#}")));
                }
            }
        }
    }
    say("memory after the load");
    std::thread::sleep(SETTLED);
    for chain in chains.iter().filter(|chain| chain.kind != Kind::Direct) {
        let cost = chain.cost();
        results.note(chain.name, Figure::BusyMemory, cost.rss);
        results.note(chain.name, Figure::Descriptors, cost.descriptors as f64);
    }
    (results, failed)
}
