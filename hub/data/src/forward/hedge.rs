//! Hop: forward. A second try beside a slow first one: the first answer wins, the other try is reset.
//!
//! Only for requests that may be repeated and whose body will be kept whole; within the budget of retries, to an endpoint that
//! was not asked yet. Both tries run in the request's own task, so that they end with it. If both fail, the request may have
//! been seen if either may.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use figspan_proto::reset::Reason;

use super::Request;
use super::answer::Answer;
use super::ask::ask;
use super::pick::{Picked, pick_with_room};
use super::record::Record;
use crate::balance::Tried;
use crate::dial::Fault;
use crate::dial::upload::Upload;
use crate::metrics::{Limit, Retry};
use crate::reply::Failure;
use crate::retry::MAX_ATTEMPTS;

/// Who came first.
enum Came {
    First(Result<Box<Answer>, Fault>),
    Second(Result<Box<Answer>, Fault>),
}

/// What a race is run by.
pub(super) struct Terms {
    /// How long the first may take before another is asked.
    pub(super) delay: Duration,
    /// Whether another try may follow this one, so that a silent tunnel can be left.
    pub(super) may_leave: bool,
}

/// Asks `first`, and another endpoint as well if no answer came in time. `upload` then is what the winner has left to send.
pub(super) async fn race(
    request: &Request<'_>,
    first: Picked,
    terms: Terms,
    upload: &mut Upload,
    tried: &mut Tried,
    record: &mut Record,
) -> Result<Box<Answer>, Fault> {
    let (mut of_first, mut of_second) = (upload.fork(), upload.fork());
    // Silence is what the second try is for; a tunnel that was opened since is as good.
    let leave_first = |since| terms.may_leave && request.has_other_way(&first.place, Some(since));
    let (winner, outcome) = {
        let mut asking = pin!(ask(request, &first, &mut of_first, false, &leave_first));
        let early = tokio::time::timeout(terms.delay, asking.as_mut()).await;
        match early {
            Ok(outcome) => (Winner::First, outcome.inspect_err(|fault| forgive(request, &first, fault, tried))),
            Err(_) => match second(request, tried, record) {
                None => (Winner::First, asking.await.inspect_err(|fault| forgive(request, &first, fault, tried))),
                Some((second, _leave)) => {
                    let leave_second = |since| terms.may_leave && request.has_other_way(&second.place, Some(since));
                    let mut also = pin!(ask(request, &second, &mut of_second, false, &leave_second));
                    let came = both(asking.as_mut(), also.as_mut()).await;
                    let (winner, outcome) = match came {
                        Came::First(Ok(answer)) => (Winner::First, Ok(answer)),
                        Came::Second(Ok(answer)) => (Winner::Second, Ok(answer)),
                        Came::First(Err(fault)) => (Winner::Second, also.await.map_err(|last| [(&first, fault), (&second, last)])),
                        Came::Second(Err(fault)) => (Winner::First, asking.await.map_err(|last| [(&second, fault), (&first, last)])),
                    };
                    record.won(if winner == Winner::First { &first.place } else { &second.place });
                    // The loser is dropped with this block, and its workload hears that the hub gave it up.
                    request.dropped.set(Reason::Cancelled);
                    let outcome = outcome.map_err(|faults| {
                        faults.iter().for_each(|(picked, fault)| forgive(request, picked, fault, tried));
                        worse(faults[0].1, faults[1].1)
                    });
                    (winner, outcome)
                }
            },
        }
    };
    request.dropped.set(Reason::ClientGone);
    *upload = if winner == Winner::First { of_first } else { of_second };
    outcome
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Winner {
    First,
    Second,
}

/// Chooses another endpoint, where there is one and the budget allows.
fn second<'r>(request: &'r Request<'_>, tried: &mut Tried, record: &mut Record) -> Option<(Picked, crate::retry::Retrying<'r>)> {
    if record.attempts() >= MAX_ATTEMPTS || !request.has_other(tried, false) {
        return None;
    }
    let Some(leave) = request.shard.budget.retry(&request.snapshot.routing.limits) else {
        request.shard.metrics.limit_hit(Limit::Retries);
        return None;
    };
    let picked = pick_with_room(request, tried)?;
    record.picked(&picked.place);
    request.shard.metrics.retry(Retry::Hedge);
    Some((picked, leave))
}

async fn both(
    mut first: impl Future<Output = Result<Box<Answer>, Fault>> + Unpin,
    mut second: impl Future<Output = Result<Box<Answer>, Fault>> + Unpin,
) -> Came {
    poll_fn(|cx| {
        if let Poll::Ready(outcome) = pin!(&mut first).poll(cx) {
            return Poll::Ready(Came::First(outcome));
        }
        pin!(&mut second).poll(cx).map(Came::Second)
    })
    .await
}

/// Lets an endpoint be asked again of which only the tunnel failed and that has another one.
fn forgive(request: &Request<'_>, picked: &Picked, fault: &Fault, tried: &mut Tried) {
    let other_way = match fault.failure {
        Failure::TunnelLost => request.has_other_way(&picked.place, None),
        // It was left for that one.
        Failure::TunnelSilent => true,
        _ => false,
    };
    if other_way {
        tried.forgive(picked.place.state());
    }
}

/// What two failed tries at once mean together.
fn worse(one: Fault, last: Fault) -> Fault {
    Fault { failure: last.failure, seen: one.seen || last.seen }
}
