//! What a VM is told instead of a certificate, the hub's clock with it, and how far the two clocks may be apart.

use std::time::Duration;

use figspan_proto::join::{HubClock, Refused, RefusedReason};
use figspan_tunnel::ca::CaError;
use figspan_tunnel::lifetime::clock_tolerance;

use crate::shared::Shared;

/// Least of these, however short certificates live.
const MIN_SKEW: Duration = Duration::from_secs(1);

pub(super) fn clock(context: &Shared) -> HubClock {
    HubClock { time_ms: now_ms(context), software: context.software.clone() }
}

fn now_ms(context: &Shared) -> u64 {
    u64::try_from(context.clock.stamp().as_millisecond()).unwrap_or(0)
}

pub(super) fn refused(context: &Shared, reason: RefusedReason, message: String) -> Refused {
    Refused { reason, message, hub_time_ms: now_ms(context) }
}

pub(super) fn ca_refusal(context: &Shared, error: &CaError) -> Refused {
    match error {
        CaError::Csr(why) => refused(context, RefusedReason::Csr, format!("the certificate request is not accepted: {why}")),
        CaError::Ca(why) => {
            tracing::error!(%why, "the CA cannot sign");
            refused(context, RefusedReason::Busy, "the hub's CA cannot sign; see the hub's log".to_owned())
        }
    }
}

pub(super) fn join_skew(context: &Shared) -> Duration {
    clock_tolerance(context.trust.lifetime()).max(MIN_SKEW)
}

pub(super) fn clock_check(context: &Shared, time_ms: u64, allowed: Duration) -> Result<(), Refused> {
    let ours = context.clock.stamp().as_millisecond();
    let skew = i64::try_from(time_ms).unwrap_or(i64::MAX).saturating_sub(ours);
    let off = Duration::from_millis(skew.unsigned_abs());
    if off <= allowed {
        return Ok(());
    }
    let (seconds, way) = (off.as_secs(), if skew < 0 { "behind" } else { "ahead of" });
    let mend = "set it (`timedatectl set-ntp true`) and try again";
    Err(refused(
        context,
        RefusedReason::Clock,
        format!("this VM's clock is {seconds} s {way} the hub's, more than {} s; {mend}", allowed.as_secs()),
    ))
}
