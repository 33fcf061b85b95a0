//! Hop: mirror -> dial. One copy on its way: a task with its own endpoint, time and end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use figspan_model::routing::policy::{Compare, CompareBody, Mirror};
use figspan_model::routing::{HttpRule, MirrorTarget, Timeouts};
use figspan_model::state::{Copies, Example};
use figspan_proto::reset::Reason;
use http::{Response, request};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::affinity::Affinity;
use crate::balance::{self, Question, Tried};
use crate::body::Body;
use crate::client::Client;
use crate::dial::inflight::InFlight;
use crate::dial::upload::Upload;
use crate::forward::answer::{Answer, Rest};
use crate::forward::attempt::Try;
use crate::forward::compare::{Difference, Eye, Seen, difference};
use crate::forward::{Request, ask};
use crate::limit::backend::{Bound, Queues};
use crate::limit::copies::Slot;
use crate::reply::Failure;
use crate::shard::{Held, ShardRef};

/// Bytes of an answer that are read before it is cut off.
const MAX_ANSWER: usize = 16 << 20;

/// A copy before it begins.
pub(super) struct Copy {
    pub(super) shard: ShardRef,
    pub(super) _slot: Slot,
    pub(super) snapshot: Rc<Held>,
    pub(super) rule: Arc<HttpRule>,
    /// Which mirror of the rule.
    pub(super) index: usize,
    pub(super) parts: request::Parts,
    pub(super) client: Rc<Client>,
    pub(super) body: Body,
    /// What the client's answer was, where both are compared.
    pub(super) seen: Option<oneshot::Receiver<Seen>>,
}

impl Copy {
    /// Runs to its end, at the latest when its time is over or drain begins.
    pub(super) async fn run(mut self) {
        let (rule, shard) = (Arc::clone(&self.rule), Rc::clone(&self.shard));
        let (Some(mirror), Some(target)) =
            (rule.policy.as_ref().and_then(|policy| policy.mirrors.get(self.index)), rule.mirrors.get(self.index))
        else {
            return;
        };
        let (seen, deadline) = (self.seen.take(), Instant::now() + mirror.timeout);
        let outcome = tokio::select! {
            outcome = timeout_at(deadline, Box::pin(self.ask(mirror, target))) => outcome.unwrap_or(Err(Copies::Failed)),
            () = shard.drain.stopping() => Err(Copies::Failed),
        };
        let what = outcome.as_ref().map_or_else(|what| *what, |_| Copies::Answered);
        target.state.count(shard.shard, what);
        shard.metrics.copies(what);
        let (Ok(copied), Some(seen), Some(compare)) = (outcome, seen, &mirror.compare) else { return };
        // An answer to the client that takes longer, a stream perhaps, is not compared.
        tokio::select! {
            primary = timeout_at(deadline, seen) => {
                if let Ok(Ok(primary)) = primary {
                    self.compare(target, compare, &primary, &copied);
                }
            }
            () = shard.drain.stopping() => {}
        }
    }

    /// Brings the copy to its target and reads the answer.
    async fn ask(&mut self, mirror: &Mirror, target: &MirrorTarget) -> Result<Seen, Copies> {
        let shard = &self.shard;
        let tried = Tried::default();
        let question =
            Question::new(&self.snapshot, std::slice::from_ref(&target.backend), &target.cursor, &tried, shard.dialer.services()).now();
        let choice = balance::choose(question).map_err(|_| Copies::DroppedNobody)?;
        let place = self.snapshot.place(&choice.endpoint).ok_or(Copies::DroppedNobody)?;
        let in_flight = InFlight::picked(&place, shard.shard);
        if let Some(limits) = target.backend.policy.as_ref().and_then(|policy| policy.limits.as_ref()) {
            let permit = Queues::try_enter(&target.backend.state, Bound::Requests, limits).map_err(|_| Copies::DroppedFull)?;
            permit.into_iter().for_each(|permit| in_flight.hold(permit));
        }
        let timeouts = Timeouts { first_byte: None, ..self.rule.timeouts.clone() };
        let request = Request {
            shard,
            snapshot: &self.snapshot,
            rule: &self.rule,
            parts: &self.parts,
            client: &self.client,
            affinity: Affinity::default(),
            timeouts: &timeouts,
            informational: &|_: Response<()>| {},
            dropped: Cell::new(Reason::Cancelled),
            due: Cell::new(None),
            // Never again: places in the budget are for requests.
            repeated: Cell::new(u32::MAX),
            answered_by: RefCell::default(),
        };
        let mut upload = Upload::new(std::mem::take(&mut self.body), self.snapshot.routing.limits.replay_bytes);
        let mut eye = Eye::new(mirror.compare.as_ref().map_or(&CompareBody::Ignored, |compare| &compare.body));
        let of = Try {
            request: &request,
            place: &place,
            backend: &target.backend,
            in_flight: &in_flight,
            upgrade: false,
            leave: &|_| false,
            began: Cell::new(false),
        };
        let answer = ask::attempt_twice(&of, &mut upload).await.map_err(|fault| match fault.failure {
            Failure::ClientBody => Copies::DroppedBody,
            _ => Copies::Failed,
        })?;
        eye.answered(answer.head().status());
        match *answer {
            Answer::Whole { body, .. } => eye.passed(&body),
            // An answer that did not wait for its request says little, and sending on would outlive the copy.
            Answer::Streaming { rest: Rest::H1(..) | Rest::H2(..), .. } | Answer::Upgraded { .. } => {
                eye.close();
                answer.refuse();
            }
            Answer::Streaming { mut body, rest: Rest::Nothing, .. } => {
                let mut read = 0;
                while let Some(frame) = poll_fn(|cx| body.poll_next(cx)).await {
                    let frame = frame.map_err(|_| Copies::Failed)?;
                    let Some(data) = frame.data_ref() else { continue };
                    read += data.len();
                    if read > MAX_ANSWER {
                        body.cancel();
                        eye.close();
                        break;
                    }
                    eye.passed(data);
                }
            }
        }
        Ok(eye.seen())
    }

    fn compare(&self, target: &MirrorTarget, compare: &Compare, primary: &Seen, copied: &Seen) {
        let (state, shard) = (&target.state, self.shard.shard);
        state.count(shard, Copies::Compared);
        state.add(shard, Copies::PrimaryMicros, primary.micros);
        state.add(shard, Copies::MirrorMicros, copied.micros);
        if copied.micros > primary.micros {
            state.count(shard, Copies::Slower);
        }
        let metrics = &self.shard.metrics;
        let Some(difference) = difference(primary, copied, &compare.body) else {
            state.count(shard, Copies::Matched);
            metrics.copies(Copies::Matched);
            return;
        };
        let kind = if matches!(difference, Difference::Status(..)) { Copies::OtherStatus } else { Copies::OtherBody };
        state.count(shard, kind);
        metrics.copies(kind);
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let (method, path) = (self.parts.method.as_str().to_owned(), self.parts.uri.path().to_owned());
        state.example(shard, Example { at, method, path, difference: difference.to_string() });
    }
}
