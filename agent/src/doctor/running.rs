//! Checks of the agent that runs, by its own word: does it answer, what does it reach, what do hubs say to it.

use std::collections::BTreeMap;

use super::{Check, Mark, What};
use crate::advertise::SOFTWARE;
use crate::settings::Settings;
use crate::status::Status;
use crate::status::ask::{self, AskError};

/// Why there is no word of a running agent.
#[derive(Debug)]
pub(super) enum Silent {
    /// The settings give it no socket.
    NoSocket,
    /// It was asked in vain.
    Asked(AskError),
}

/// The running agent's status.
pub(super) async fn ask(settings: &Settings) -> Result<Status, Silent> {
    let Some(socket) = &settings.status_socket else { return Err(Silent::NoSocket) };
    ask::ask(socket).await.map_err(Silent::Asked)
}

/// All checks of it; `before` are those made so far.
pub(super) fn look(settings: &Settings, status: Result<Status, Silent>, joined: bool, before: &[Check]) -> Vec<Check> {
    let subject = settings.status_socket.as_ref().map_or_else(|| "status socket".to_owned(), |path| path.display().to_string());
    let status = match status {
        Ok(status) => status,
        Err(silent) => return vec![unanswered(subject, &silent, joined)],
    };
    let mut checks = vec![agent(subject, &status)];
    if status.software != SOFTWARE {
        let seen = format!("{} runs, the program on the disk is {SOFTWARE}", status.software);
        checks.push(Check::warn(What::VersionSkew, "the running agent", seen, "systemctl restart figspan-agent, or SIGUSR2 to hand over"));
    }
    let way = before.iter().any(|check| check.check == What::Tunnel && check.mark == Mark::Pass);
    checks.extend(coverage(&status, way));
    checks.push(match &status.certificate.error {
        Some(error) => Check::warn(What::Renewal, "the running agent", error, "see its log; the certificate still holds, see certificate"),
        None => Check::pass(What::Renewal, "the running agent", format!("{} renewals since its start", status.certificate.renewed)),
    });
    checks.extend(status.uplinks.iter().map(|uplink| match &uplink.refused {
        Some(why) => {
            let mend = "a grant that allows it and `figspan-agent join --again`, or remove it from agent.toml";
            Check::fail(What::Uplink, &uplink.name, format!("refused by {why}"), mend)
        }
        None => match uplink.weight_in_force {
            Some(weight) => Check::pass(What::Uplink, &uplink.name, format!("taken, with weight {weight}")),
            None => Check::skip(What::Uplink, &uplink.name, "no hub has said anything of it yet", ""),
        },
    }));
    checks
}

fn unanswered(subject: String, silent: &Silent, joined: bool) -> Check {
    match silent {
        Silent::NoSocket => Check::skip(What::Agent, subject, "it has none", "set status.socket in agent.toml"),
        Silent::Asked(AskError::Denied(_)) => Check::skip(What::Agent, subject, "not for this user", "run doctor as root"),
        Silent::Asked(AskError::Connect { .. }) if !joined => Check::after(What::Agent, subject, What::Identity),
        Silent::Asked(AskError::Connect { .. }) => {
            let mend = "systemctl start figspan-agent; if it ends again, journalctl -u figspan-agent says why";
            Check::warn(What::Agent, subject, "no agent runs", mend)
        }
        Silent::Asked(error @ (AskError::Answer(..) | AskError::Refused(_))) => {
            Check::fail(What::Agent, subject, error.to_string(), "systemctl restart figspan-agent, after `figspan-agent support-bundle`")
        }
    }
}

fn agent(subject: String, status: &Status) -> Check {
    match &status.reload.error {
        Some(error) => {
            let first = error.lines().next().unwrap_or_default();
            Check::warn(What::Agent, subject, format!("refused the last change of its settings: {first}"), "see `figspan-agent check`")
        }
        None if status.draining => Check::warn(What::Agent, subject, "it ends: it takes no new work", "nothing, if somebody stopped it"),
        None => Check::pass(What::Agent, subject, format!("{} runs, process {}", status.software, status.process.id)),
    }
}

/// Tunnels of the running agent, replica by replica; `way` says whether a tunnel could be opened just now.
fn coverage(status: &Status, way: bool) -> Vec<Check> {
    let mut replicas: BTreeMap<&str, (usize, u8)> = BTreeMap::new();
    for tunnel in &status.tunnels {
        let (up, shards) = replicas.entry(&tunnel.replica).or_default();
        *up += 1;
        *shards = tunnel.shards;
    }
    if replicas.is_empty() {
        let (subject, seen) = ("all replicas", "the running agent has no tunnel");
        return vec![match way {
            true => Check::fail(What::Coverage, subject, seen, "see its log; systemctl restart figspan-agent"),
            false => Check::skip(What::Coverage, subject, seen, "see the checks above"),
        }];
    }
    let check = |(replica, (up, shards)): (&str, (usize, u8))| {
        let seen = format!("tunnels to {up} of {shards} shards");
        if up < usize::from(shards) {
            let mend = "traffic flows, over other shards; raise tunnels_per_hub in agent.toml, or see the agent's log for why one cannot be opened";
            return Check::warn(What::Coverage, replica, seen, mend);
        }
        Check::pass(What::Coverage, replica, seen)
    };
    replicas.into_iter().map(check).collect()
}
