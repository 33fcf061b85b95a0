//! A moment that one task waits for and that mostly moves on before it comes: the end of an idle time, a clock of a request.
//!
//! To set a timer takes a lock and a walk through the timers. So it stays where it is while the moment moves on, and is set anew
//! when it strikes too early: once in an idle time, and not with every request.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer, made with its first use. Wakes the task that polled last.
#[derive(Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready at that moment or later; the task may be woken before it too. The moment may be another one each time.
    pub(crate) fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if at <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }

    /// Whether it will strike at that moment or before.
    fn is_set(&self, at: Instant) -> bool {
        self.0.as_ref().is_some_and(|timer| timer.deadline() <= at && !timer.is_elapsed())
    }
}

/// The same for a moment that one task alone waits for, and asks about often: while the timer is set for it, that costs nothing.
#[derive(Default)]
pub(crate) struct TaskAlarm {
    alarm: Alarm,
    task: Option<Waker>,
}

impl TaskAlarm {
    /// See [`Alarm::poll`].
    pub(crate) fn poll(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let same = self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()));
        if same && self.alarm.is_set(at) {
            return Poll::Pending;
        }
        if !same {
            self.task = Some(cx.waker().clone());
        }
        // A task that has used up its turn is put off before the timer knows it, and would not be heard of again.
        pin!(unconstrained(poll_fn(|cx| self.alarm.poll(at, cx)))).poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_moves_is_met_neither_early_nor_late() {
        let (mut alarm, mut of_task, begun) = (Alarm::default(), TaskAlarm::default(), Instant::now());
        // Later, earlier, later than what it was set to, and past.
        for (at, met) in [(5, 5), (9, 9), (30, 30), (31, 31), (2, 31)] {
            let at = begun + SECOND * at;
            poll_fn(|cx| alarm.poll(at, cx)).await;
            poll_fn(|cx| of_task.poll(at, cx)).await;
            assert_eq!(begun.elapsed().as_secs(), met);
            assert!(begun.elapsed() < SECOND * met as u32 + SECOND / 100);
        }
        assert!(futures_util::poll!(poll_fn(|cx| alarm.poll(begun + SECOND * 90, cx))).is_pending());
        assert!(futures_util::poll!(poll_fn(|cx| of_task.poll(begun + SECOND * 90, cx))).is_pending());
        poll_fn(|cx| alarm.poll(begun + SECOND * 40, cx)).await;
        poll_fn(|cx| of_task.poll(begun + SECOND * 40, cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 40);
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_moves_on_leaves_the_timer_alone() {
        let (mut alarm, begun) = (TaskAlarm::default(), Instant::now());
        for milli in 0..1000 {
            let at = begun + SECOND * 5 + Duration::from_millis(milli);
            assert!(futures_util::poll!(poll_fn(|cx| alarm.poll(at, cx))).is_pending());
        }
        assert_eq!(alarm.alarm.0.as_ref().unwrap().deadline(), begun + SECOND * 5);
        poll_fn(|cx| alarm.poll(begun + SECOND * 6, cx)).await;
        assert_eq!(begun.elapsed().as_secs(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_used_up_its_turn_is_woken_too() {
        let (mut alarm, begun) = (TaskAlarm::default(), Instant::now());
        // The first time it is set, the second time set anew.
        for at in [begun + SECOND, begun + SECOND * 3] {
            let waits = poll_fn(|cx| {
                while tokio::task::coop::has_budget_remaining() {
                    assert!(pin!(tokio::task::coop::consume_budget()).poll(cx).is_ready());
                }
                alarm.poll(at, cx)
            });
            tokio::time::timeout(SECOND * 9, waits).await.expect("woken");
            assert_eq!(begun.elapsed().as_secs(), (at - begun).as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_task_that_asks_is_woken_in_its_place() {
        let (alarm, at) = (Rc::new(RefCell::new(TaskAlarm::default())), Instant::now() + SECOND);
        let waits = |alarm: Rc<RefCell<TaskAlarm>>| async move { poll_fn(|cx| alarm.borrow_mut().poll(at, cx)).await };
        let local = tokio::task::LocalSet::new();
        let (first, second) = (local.spawn_local(waits(Rc::clone(&alarm))), local.spawn_local(waits(alarm)));
        local.run_until(async { tokio::time::timeout(SECOND * 9, second).await.expect("woken").unwrap() }).await;
        assert!(!first.is_finished());
    }
}
