//! Checks of the way to one address of a hub, below any certificate of ours: packets, their size, whose hub it is, its clock.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use figspan_tunnel::TunnelError;
use figspan_tunnel::agent::{Proven, Trust, ask_clock};
use figspan_tunnel::carrier::Preference;
use figspan_tunnel::knock::{SMALLEST, Silence, knock};
use figspan_tunnel::transport::MTU;

use super::{Check, Mark, What};
use crate::advertise::unix_ms;

/// Clocks that differ more are worth a word; certificates bear 5 minutes.
const SKEW_WARN: u64 = 30_000;
const SKEW_FAIL: u64 = 300_000;
/// Sizes that are tried, in bytes of UDP payload: what QUIC needs, what narrow paths of this world carry, and what tunnels use.
const SIZES: [u16; 5] = [SMALLEST, 1280, 1350, SMALL_MTU, MTU];
/// Path MTU below which something on the way eats large packets.
const SMALL_MTU: u16 = 1400;
/// How long answers are waited for: three tries over paths of up to half a second.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What was found on the way to one address.
#[derive(Debug)]
pub(super) struct Way {
    /// The hub's name.
    pub(super) hub: String,
    /// Its address.
    pub(super) address: SocketAddr,
    /// What was seen.
    pub(super) checks: Vec<Check>,
    /// The check that a tunnel there need not be tried for, because it failed.
    pub(super) blocked: Option<What>,
    /// This clock less the hub's.
    pub(super) skew_ms: Option<i64>,
    /// Whether the hub answered over something; where that was not UDP, it was TCP.
    answered: bool,
    /// Whether nothing came back over UDP, and TCP passes.
    pub(super) one_way: bool,
}

/// Looks at the way to one address. Without anybody to trust, only packets are looked at. Where TCP may carry tunnels, silence over UDP
/// is a failure only where TCP passes as little.
pub(super) async fn look(hub: String, address: SocketAddr, trust: Option<Trust>, preference: Preference) -> Way {
    let subject = address.to_string();
    let mut way = Way::new(hub, address);
    if preference == Preference::Tcp {
        way.checks.push(Check::skip(What::UdpPath, &subject, "transport = \"tcp\" in agent.toml", ""));
        way.checks.push(Check::after(What::PathMtu, &subject, What::UdpPath));
        way.prove(trust).await;
        return way;
    }
    match knock(address, &SIZES, PATIENCE).await {
        Ok(heard) => {
            let seen = format!("answered after {:.1} ms", heard.rtt.as_secs_f64() * 1e3);
            way.checks.push(Check::pass(What::UdpPath, &subject, seen));
            way.checks.push(path_mtu(&subject, heard.largest));
        }
        Err(silence) => {
            let mut told = silent(&subject, &silence);
            if preference == Preference::Auto {
                way.prove(trust).await;
            }
            if way.answered {
                told.mark = Mark::Warn;
                told.seen.push_str("; TCP passes, and carries the tunnels");
                way.one_way = matches!(silence, Silence::Nothing(_));
            } else {
                way.checks = [What::Ca, What::Clock].map(|what| Check::after(what, &subject, What::UdpPath)).into();
                way.blocked = Some(What::UdpPath);
            }
            way.checks.splice(0..0, [told, Check::after(What::PathMtu, &subject, What::UdpPath)]);
            return way;
        }
    }
    way.prove(trust).await;
    way
}

impl Way {
    /// Looks whose hub it is, over whatever passes, and at its clock.
    async fn prove(&mut self, trust: Option<Trust>) {
        let subject = self.address.to_string();
        let Some(trust) = trust else {
            self.checks.extend([What::Ca, What::Clock].map(|what| Check::after(what, &subject, What::Identity)));
            self.blocked = Some(What::Identity);
            return;
        };
        match ask_clock(self.address, trust).await {
            Ok(proven) => {
                self.answered = true;
                self.proven(proven);
            }
            Err(TunnelError::Identity(why)) => {
                let mend = "somebody is in between, or the hub has another CA now: ask its operator; then a new grant and `join --again`";
                self.checks.push(Check::fail(What::Ca, &subject, why, mend));
                self.checks.push(Check::after(What::Clock, &subject, What::Ca));
                self.blocked = Some(What::Ca);
                self.answered = true;
            }
            // Packets pass and the handshake does not end: a tunnel will meet the same, and say so.
            Err(error) => {
                self.checks.extend([What::Ca, What::Clock].map(|what| Check::skip(what, &subject, error.to_string(), "")));
            }
        }
    }

    pub(super) fn new(hub: String, address: SocketAddr) -> Self {
        Self { hub, address, checks: Vec::new(), blocked: None, skew_ms: None, answered: false, one_way: false }
    }

    fn proven(&mut self, proven: Proven) {
        let subject = self.address.to_string();
        self.checks.push(Check::pass(What::Ca, &subject, format!("{} is of the CA that is trusted", proven.leaf.id)));
        // A hub that does not know the question tells its clock in its hello, on a tunnel.
        let Ok((clock, ours)) = proven.clock else { return };
        self.clock(unix_ms(ours), clock.time_ms);
    }

    /// Notes what the hub's clock says.
    pub(super) fn clock(&mut self, own_ms: u64, hub_ms: u64) {
        let check = clock(&self.address.to_string(), own_ms, hub_ms);
        if check.mark == Mark::Fail {
            self.blocked = Some(What::Clock);
        }
        self.skew_ms = i64::try_from(i128::from(own_ms) - i128::from(hub_ms)).ok();
        self.checks.push(check);
    }
}

/// One address that does not answer costs nothing while another one of the same hub does.
pub(super) fn forgive(ways: &mut [Way]) {
    let answering: Vec<String> = ways.iter().filter(|way| way.blocked != Some(What::UdpPath)).map(|way| way.hub.clone()).collect();
    for way in ways.iter_mut().filter(|way| answering.contains(&way.hub)) {
        for check in way.checks.iter_mut().filter(|check| check.check == What::UdpPath && check.mark == Mark::Fail) {
            check.mark = Mark::Warn;
            check.seen.push_str(&format!("; another address of {} answers", way.hub));
        }
    }
}

/// What the hub said over TCP of what was sent to it over UDP, where nothing came back.
pub(super) fn direction(checks: &mut [Check], address: SocketAddr, arrives: bool) {
    let subject = address.to_string();
    let of_it = |check: &&mut Check| check.check == What::UdpPath && check.subject == subject && check.mark == Mark::Warn;
    let Some(check) = checks.iter_mut().find(of_it) else { return };
    let (seen, mend) = match arrives {
        true => (
            "UDP is cut on the way back: the hub hears this VM, and its answers do not come; TCP passes, and carries the tunnels",
            "let UDP from that port back in: look at what the firewalls between do with answers, at the hub's own rules for what it sends, and at the hub's Service",
        ),
        false => (
            "UDP is cut on the way there: the hub hears nothing of this VM; TCP passes, and carries the tunnels",
            "let UDP to that port pass out: look at the VM's firewall, then at those between, then at the hub's Service",
        ),
    };
    (check.seen, check.mend) = (seen.to_owned(), mend.to_owned());
}

fn silent(subject: &str, silence: &Silence) -> Check {
    let mend = match silence {
        Silence::Nothing(_) => {
            "let UDP to that port pass out and its answers in: look at the VM's firewall, then at those between, then at the hub's Service"
        }
        Silence::Refused => "start the hub there, or correct hubs in agent.toml",
        Silence::Unsent(_) => "see the routes and the firewall of this VM (`ip route get`)",
    };
    let seen = match silence {
        Silence::Nothing(time) => format!("no answer within {time:?}: UDP is blocked on the way there or back, or nobody is there"),
        Silence::Refused => "the machine answers that nobody listens on that port".to_owned(),
        Silence::Unsent(error) => format!("nothing can be sent there: {error}"),
    };
    Check::fail(What::UdpPath, subject, seen, mend)
}

fn path_mtu(subject: &str, largest: u16) -> Check {
    let seen = format!("{largest} bytes of UDP payload");
    if largest < SMALL_MTU {
        let mend =
            "something on the path eats larger packets: traffic works, but costs more; look for a VPN, or a wrong MTU of an interface";
        return Check::warn(What::PathMtu, subject, seen, mend);
    }
    Check::pass(What::PathMtu, subject, seen)
}

fn clock(subject: &str, own_ms: u64, hub_ms: u64) -> Check {
    let apart = own_ms.abs_diff(hub_ms);
    let side = if own_ms > hub_ms { "ahead of" } else { "behind" };
    let amount = if apart < 60_000 {
        format!("{:.1} s", apart as f64 / 1e3)
    } else {
        humantime::format_duration(Duration::from_secs((apart + 30_000) / 60_000 * 60)).to_string()
    };
    let seen = format!("this clock is {amount} {side} the hub's");
    let mend = "set the wrong one right (timedatectl set-ntp true)";
    match apart {
        SKEW_FAIL.. => Check::fail(What::Clock, subject, format!("{seen}, too much for certificates"), mend),
        SKEW_WARN.. => Check::warn(What::Clock, subject, seen, mend),
        _ => Check::pass(What::Clock, subject, seen),
    }
}

/// This machine's clock.
pub(super) fn now_ms() -> u64 {
    unix_ms(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_both_ways_and_told_in_words() {
        let (hub, second) = (1_800_000_000_000, 1000);
        assert_eq!(clock("a", hub + 2 * second, hub).mark, Mark::Pass);
        assert_eq!(clock("a", hub - 40 * second, hub).mark, Mark::Warn);
        let far = clock("a", hub - 86_400 * second, hub);
        assert!(far.mark == Mark::Fail && far.seen.starts_with("this clock is 1day behind the hub's"), "{far:?}");
    }

    #[test]
    fn a_dead_address_of_a_hub_that_answers_elsewhere_is_no_failure() {
        let way = |hub: &str, address: &str, blocked| Way {
            checks: vec![silent(address, &Silence::Refused)],
            blocked,
            ..Way::new(hub.into(), address.parse().unwrap())
        };
        let dead = Some(What::UdpPath);
        let mut ways = [way("a", "127.0.0.1:1", dead), way("a", "127.0.0.2:1", None), way("b", "127.0.0.3:1", dead)];
        forgive(&mut ways);
        assert_eq!((ways[0].checks[0].mark, ways[2].checks[0].mark), (Mark::Warn, Mark::Fail));
    }
}
