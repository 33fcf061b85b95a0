//! What can be typed, and what it comes to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use figspan_proto::name::UplinkName;
use figspan_proto::weight::Weight;

/// Share that the monolith begins with; `orders` has the rest of 100.
pub(crate) const FIRST_MONOLITH: u32 = 90;

/// Requests per second that go to our own workloads unless told otherwise: light enough for a small machine.
const OWN_RATE: u32 = 100;

/// Requests per second of `--once` unless told otherwise.
const ONCE_RATE: u32 = 300;

/// How long `--once` takes unless told otherwise.
const ONCE_TIME: Duration = Duration::from_secs(20);

/// Brings a figspan hub, agents and workloads up on this machine, joined over real QUIC with mutual TLS, and shows what the
/// weights do.
///
/// Without arguments it brings a small monolith on two agents and an `orders` service of its own, and sends a little load.
/// With --uplink and --service it bridges what you already run.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "figspan-try",
    version,
    after_help = "figspan-try ctl ... is the whole of figspanctl.\n\
                  Exit codes: 0 well (with --once: nothing was lost and the drain was proven), 1 otherwise, 2 wrong usage."
)]
pub(crate) struct Args {
    /// A workload reached through the agents; a name given again goes to the next agent; repeatable
    #[arg(long = "uplink", value_name = "NAME=HOST:PORT")]
    pub(crate) uplinks: Vec<Given>,
    /// A workload reached directly, as a service in the cluster would be; repeatable
    #[arg(long = "service", value_name = "NAME=HOST:PORT")]
    pub(crate) services: Vec<Given>,
    /// Where to listen for requests [default: 127.0.0.1, any free port]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// How many agents to start
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) agents: u8,
    /// The weight that an uplink or service begins with; repeatable
    #[arg(long = "weight", value_name = "NAME=N")]
    pub(crate) weights: Vec<Weighed>,
    /// Where state and logs go, and stay [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Ends by itself after this time; with --once, about how long the journey takes
    #[arg(long, value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) duration: Option<Duration>,
    /// Moves all traffic from the first uplink to the first service under load, drains it, and reports
    #[arg(long, conflicts_with = "weights")]
    pub(crate) once: bool,
    /// Requests per second to send; 0 sends none [default: 100, with --once 300, to your own workloads 0]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    pub(crate) rate: Option<u32>,
    /// With --once: about how many requests to send instead of a time
    #[arg(long, requires = "once", conflicts_with = "duration", value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(crate) requests: Option<u32>,
    /// The path to ask your own workloads for
    #[arg(long, default_value = "/", value_name = "PATH")]
    pub(crate) path: String,
    /// Writes the report as JSON too
    #[arg(long, requires = "once", value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// A line per second instead of the live view
    #[arg(long)]
    pub(crate) no_tui: bool,
}

/// `NAME=HOST:PORT`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: UplinkName,
    pub(crate) address: String,
}

impl FromStr for Given {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; use NAME=HOST:PORT"))?;
        let name = name.parse().map_err(|error: figspan_proto::name::NameError| error.to_string())?;
        let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
        // The address goes into a file as it is.
        let clean = address.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
        match port {
            Some(1..) if clean => Ok(Self { name, address: address.to_owned() }),
            _ => Err(format!("`{address}` is no address; use HOST:PORT")),
        }
    }
}

/// `NAME=N`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weighed {
    pub(crate) name: UplinkName,
    pub(crate) weight: Weight,
}

impl FromStr for Weighed {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, weight) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`; use NAME=N"))?;
        Ok(Self { name: name.parse().map_err(|error: figspan_proto::name::NameError| error.to_string())?, weight: weight.parse()? })
    }
}

/// Settings as meant: every default filled in, nothing contradictory left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Uplinks with their addresses, one for each agent in turn. Empty addresses are to be filled in: our own monolith.
    pub(crate) uplinks: Vec<(UplinkName, Vec<String>)>,
    /// Services with their addresses.
    pub(crate) services: Vec<(UplinkName, Vec<String>)>,
    /// Whether the workloads are ours: they then keep a ledger.
    pub(crate) own: bool,
    pub(crate) listen: SocketAddr,
    pub(crate) agents: usize,
    pub(crate) weights: Vec<Weighed>,
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) duration: Option<Duration>,
    pub(crate) rate: u32,
    pub(crate) path: String,
    pub(crate) once: Option<Once>,
    pub(crate) no_tui: bool,
}

/// An unattended journey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Once {
    pub(crate) time: Duration,
    pub(crate) report: Option<PathBuf>,
}

impl Args {
    /// What the arguments come to, or why they make no sense together.
    pub(crate) fn plan(self) -> Result<Plan, String> {
        let own = self.uplinks.is_empty() && self.services.is_empty();
        if self.path.is_empty() || !self.path.starts_with('/') || self.path.bytes().any(|b| b <= b' ' || b >= 0x7f) {
            return Err(format!("--path `{}` is no path; it begins with `/` and has neither spaces nor other than ASCII", self.path));
        }
        let (uplinks, services) = if own {
            (vec![(name("monolith"), vec![])], vec![(name("orders"), vec![])])
        } else {
            (by_name(&self.uplinks), by_name(&self.services))
        };
        if let Some((both, _)) = uplinks.iter().find(|(uplink, _)| services.iter().any(|(service, _)| service == uplink)) {
            return Err(format!("`{both}` is an uplink and a service; give them different names"));
        }
        let mut weights = self.weights;
        if let Some(unknown) = weights.iter().find(|weighed| !uplinks.iter().chain(&services).any(|(name, _)| *name == weighed.name)) {
            return Err(format!("--weight names `{}`, which is neither an uplink nor a service here", unknown.name));
        }
        if own {
            // What was typed stands first and wins.
            weights.push(Weighed { name: name("monolith"), weight: weight(FIRST_MONOLITH) });
            weights.push(Weighed { name: name("orders"), weight: weight(100 - FIRST_MONOLITH) });
        }
        if self.once && (uplinks.len() != 1 || services.len() != 1) {
            return Err("--once moves one uplink to one service; give --uplink and --service with one name each, or neither".to_owned());
        }
        let rate = self.rate.unwrap_or(if self.once { ONCE_RATE } else { OWN_RATE * u32::from(own) });
        if self.once && rate == 0 {
            return Err("--once needs load; give a --rate above 0".to_owned());
        }
        let time = match self.requests {
            Some(requests) => Duration::from_secs_f64(f64::from(requests) / f64::from(rate)),
            None => self.duration.unwrap_or(ONCE_TIME),
        };
        let listen = self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        Ok(Plan {
            uplinks,
            services,
            own,
            listen,
            agents: self.agents.into(),
            weights,
            state_dir: self.state_dir,
            duration: self.duration,
            rate,
            path: self.path,
            once: self.once.then_some(Once { time, report: self.report }),
            no_tui: self.no_tui,
        })
    }
}

impl Plan {
    /// The weight that a name begins with.
    pub(crate) fn weight(&self, name: &UplinkName) -> Weight {
        self.weights.iter().find(|weighed| weighed.name == *name).map_or(Weight::DEFAULT, |weighed| weighed.weight)
    }
}

fn by_name(given: &[Given]) -> Vec<(UplinkName, Vec<String>)> {
    let mut names: Vec<(UplinkName, Vec<String>)> = Vec::new();
    for given in given {
        match names.iter_mut().find(|(name, _)| *name == given.name) {
            Some((_, addresses)) => addresses.push(given.address.clone()),
            None => names.push((given.name.clone(), vec![given.address.clone()])),
        }
    }
    names
}

fn name(text: &str) -> UplinkName {
    text.parse().expect("the names of our own workloads are names")
}

fn weight(n: u32) -> Weight {
    Weight::try_from(n).expect("our own weights are in range")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(args: &[&str]) -> Result<Plan, String> {
        let args = Args::try_parse_from(std::iter::once(&"figspan-try").chain(args)).map_err(|error| error.to_string())?;
        args.plan()
    }

    #[test]
    fn without_arguments_it_brings_workloads_of_its_own_and_light_load() {
        let plan = plan(&[]).unwrap();
        assert!(plan.own && plan.once.is_none());
        assert_eq!((plan.agents, plan.rate), (2, 100));
        assert_eq!((plan.weight(&name("monolith")).get(), plan.weight(&name("orders")).get()), (90, 10));
        assert!(plan.listen.ip().is_loopback() && plan.listen.port() == 0);
    }

    #[test]
    fn your_own_workloads_get_no_load_unless_asked_for() {
        let plan =
            plan(&["--uplink", "shop=127.0.0.1:8080", "--uplink", "shop=127.0.0.1:8081", "--service", "cart=cart.local:80"]).unwrap();
        assert!(!plan.own && plan.rate == 0);
        assert_eq!(plan.uplinks, [(name("shop"), vec!["127.0.0.1:8080".to_owned(), "127.0.0.1:8081".to_owned()])]);
        assert_eq!(plan.weight(&name("cart")), Weight::DEFAULT);
    }

    #[test]
    fn a_weight_that_was_typed_wins() {
        assert_eq!(plan(&["--weight", "monolith=25"]).unwrap().weight(&name("monolith")).get(), 25);
        assert!(plan(&["--weight", "other=25"]).unwrap_err().contains("neither an uplink nor a service"));
    }

    #[test]
    fn once_moves_one_uplink_to_one_service_and_needs_load() {
        let once = plan(&["--once", "--requests", "3000", "--rate", "300", "--report", "r.json"]).unwrap().once.unwrap();
        assert_eq!(once, Once { time: Duration::from_secs(10), report: Some("r.json".into()) });
        assert!(plan(&["--once", "--uplink", "a=h:1"]).unwrap_err().contains("one service"));
        assert!(plan(&["--once", "--rate", "0"]).unwrap_err().contains("--rate"));
        assert!(plan(&["--report", "r.json"]).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_right_shape() {
        for (args, hint) in [
            (["--uplink", "monolith"], "NAME=HOST:PORT"),
            (["--uplink", "Mono=h:1"], "a-z"),
            (["--service", "a=h"], "HOST:PORT"),
            (["--service", "a=h:\"1"], "HOST:PORT"),
            (["--weight", "monolith=-1"], "0 (drain)"),
            (["--path", "no slash"], "begins with `/`"),
        ] {
            let error = plan(&args).unwrap_err();
            assert!(error.contains(hint), "{args:?}: {error}");
        }
        assert!(plan(&["--uplink", "a=h:1", "--service", "a=h:2"]).unwrap_err().contains("different names"));
    }
}
