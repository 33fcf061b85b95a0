//! Checks of who this VM is: the identity that it keeps, and how long its certificate holds. Pure but for what it is given.

use std::time::{Duration, SystemTime};

use super::{Check, What};
use crate::identity::Kept;
use crate::identity::files::FileError;
use crate::identity::schedule::Schedule;
use crate::settings::Settings;

/// Whether there is an identity that can be used. Before a join with a token that is looked at, there need be none.
pub(super) fn identity(settings: &Settings, kept: &Result<Option<Kept>, FileError>, joining: bool) -> Check {
    let what = What::Identity;
    let subject = settings.state_dir.display().to_string();
    match kept {
        Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Check::skip(what, subject, "not for this user", "run doctor as root")
        }
        Err(error) => Check::fail(what, subject, error.to_string(), "run `figspan-agent join --again` with a new grant"),
        Ok(None) if joining => Check::skip(what, subject, "this VM has not joined yet", "run `figspan-agent join` with that token"),
        Ok(None) => {
            let mend = "run `figspan-agent join`; `doctor --token-file` looks at the way to the hub before that";
            Check::fail(what, subject, "this VM has not joined a hub", mend)
        }
        Ok(Some(kept)) => {
            let id = kept.identity.id();
            match settings.trust_domain.as_ref().filter(|wanted| **wanted != id.trust_domain) {
                Some(wanted) => Check::fail(
                    what,
                    subject,
                    format!("settings insist on trust domain {wanted}, the certificate is {id}"),
                    "correct trust_domain in agent.toml, or join a hub of that domain",
                ),
                None if id.agent().is_none() => {
                    Check::fail(what, subject, format!("{id} is no agent"), "run `figspan-agent join --again` with a grant for this VM")
                }
                None => Check::pass(what, subject, id.to_string()),
            }
        }
    }
}

/// How long the certificate holds; `skew_ms` is this clock less the hub's, whose word counts.
pub(super) fn life(not_before: SystemTime, not_after: SystemTime, now: SystemTime, skew_ms: Option<i64>) -> Check {
    let (what, subject) = (What::Certificate, "of this agent");
    let off = Duration::from_millis(skew_ms.unwrap_or(0).unsigned_abs());
    let now = if skew_ms.unwrap_or(0) > 0 { now.checked_sub(off) } else { now.checked_add(off) }.unwrap_or(now);
    let again = "`figspanctl grant create`, and `figspan-agent join --again`";
    if now < not_before {
        return Check::fail(what, subject, "begins in the future", format!("look at the clocks of this VM and of the hub; then {again}"));
    }
    let Ok(left) = not_after.duration_since(now) else {
        let since = now.duration_since(not_after).unwrap_or_default();
        return Check::fail(what, subject, format!("expired {} ago", coarse(since)), again);
    };
    let seen = format!("{} left", coarse(left));
    if now >= Schedule::of(not_before, not_after, 0.5).warn {
        let mend = "start the agent, or see its log for why it cannot renew";
        return Check::warn(what, subject, format!("{seen}, and it should have been renewed"), mend);
    }
    Check::pass(what, subject, seen)
}

/// Whole minutes, or seconds below one.
fn coarse(time: Duration) -> humantime::FormattedDuration {
    let seconds = time.as_secs();
    humantime::format_duration(Duration::from_secs(if seconds < 60 { seconds } else { seconds / 60 * 60 }))
}

#[cfg(test)]
mod tests {
    use super::super::Mark;
    use super::*;

    #[test]
    fn a_certificate_is_judged_by_the_hubs_clock() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let hours = |count: u64| Duration::from_secs(count * 3600);
        let mark = |after: Duration, skew: i64| life(begin, begin + hours(24), begin + after, Some(skew * 3_600_000)).mark;
        assert_eq!((mark(hours(1), 0), mark(hours(23), 0), mark(hours(25), 0)), (Mark::Pass, Mark::Warn, Mark::Fail));
        // Two days ahead, or behind: what this clock says of it does not count.
        assert_eq!(
            (mark(hours(49), 48), life(begin, begin + hours(24), begin - hours(47), Some(-48 * 3_600_000)).mark),
            (Mark::Pass, Mark::Pass)
        );
    }
}
