//! What systemd is told (sd_notify(3)). Without systemd all of it does nothing.

use std::time::Duration;

use sd_notify::{NotifyState, notify};

/// The service manager, as far as the agent talks to it.
#[derive(Debug)]
pub(super) struct Systemd {
    watchdog: Option<Duration>,
    said: String,
}

impl Systemd {
    pub(super) fn new() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), said: String::new() }
    }

    /// Whether it waits for signs of life.
    pub(super) fn has_watchdog(&self) -> bool {
        self.watchdog.is_some()
    }

    /// How often to give one: three in the time after which it would kill.
    pub(super) fn watchdog_every(&self) -> Duration {
        self.watchdog.map_or(Duration::from_secs(10), |time| (time / 3).max(Duration::from_millis(10)))
    }

    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    pub(super) fn alive(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// Another process is the unit's main one from now on: what this one says no longer counts.
    pub(super) fn hand_over(&self, to: u32) {
        tell(&[NotifyState::MainPid(to)]);
    }

    pub(super) fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// One line for `systemctl status`, when it is another than before.
    pub(super) fn status(&mut self, line: &str) {
        if self.said != line {
            tell(&[NotifyState::Status(line)]);
            line.clone_into(&mut self.said);
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
