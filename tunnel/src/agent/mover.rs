//! Keeps a live tunnel on a transport that works: over to TCP when UDP falls silent, back when it answers again.
//!
//! Owns the decision, with its patience: a tunnel that is silent for a moment, a path that loses much, a NAT that forgets, a hub
//! that is gone must all not move a tunnel. UDP counts as blocked when the tunnel is silent, probes from a fresh socket are not
//! answered, and TCP is. Streams live on through every move (RFC 9000, section 9).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::link;
use crate::carrier::link::Link;
use crate::carrier::socket::Route;
use crate::carrier::{Moves, Preference, Transport, Why, probe};
use crate::identity::Credentials;
use crate::tls;
use crate::transport::INITIAL_RTT;
use crate::tunnel::WeakTunnel;

/// How often the tunnel is looked at.
///
/// A tunnel is suspect after [`crate::transport::SUSPECT_AFTER`]; then it is knocked at, twice in vain, while a TCP connection is
/// opened. So a blocked tunnel moves about 1.7 s after its last datagram; for a second or less of this the hub gives it no new
/// work, and after 5 s it would die.
const LOOK: Duration = Duration::from_millis(200);

/// Pause after an attempt that led nowhere.
const PAUSE: Duration = Duration::from_millis(500);

/// First pause between looks for UDP while on TCP, less up to a fifth at random, and how many times as long it may become. The
/// longest, with two looks and their answers, stays under the minute in which a tunnel shall be back.
pub(super) const LOOK_BACK: Duration = Duration::from_secs(10);
const LOOK_BACK_MOST: u32 = 4;

/// UDP must have answered twice, this long apart.
const TWICE: Duration = Duration::from_secs(2);

/// How long a tunnel that is back on UDP keeps its TCP connection, in case it falls silent again.
const TRIAL: Duration = Duration::from_secs(3);

/// A tunnel that falls silent this soon after it came back waits twice as long before it comes back the next time.
const STEADY: Duration = Duration::from_secs(300);

/// What is needed to move one tunnel.
#[derive(Debug)]
pub(super) struct Mover {
    pub(super) hub: SocketAddr,
    pub(super) shard: u8,
    pub(super) credentials: Arc<Credentials>,
    /// Not [`Preference::Quic`].
    pub(super) preference: Preference,
    pub(super) moves: Arc<Moves>,
    /// [`LOOK_BACK`].
    pub(super) look_back: Duration,
    pub(super) tunnel: WeakTunnel,
}

/// The tunnel has ended.
#[derive(Debug)]
struct Gone;

/// A link that is closed again unless it is taken.
#[derive(Debug)]
struct Fresh(Option<Arc<Link>>);

impl Fresh {
    fn take(mut self) -> Option<Arc<Link>> {
        self.0.take()
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.close();
        }
    }
}

/// How long a tunnel may take to be itself on the link that it has just moved to: until what it asked on the old path is answered
/// on the new one, it is now suspect and now not. QUIC asks again when its probe timer fires, which has doubled a few times by then.
const SETTLE: Duration = Duration::from_millis(1500);

/// When to look for UDP again.
#[derive(Debug)]
struct Patience {
    first: Duration,
    wait: Duration,
    back_since: Option<Instant>,
}

impl Patience {
    fn new(first: Duration) -> Self {
        Self { first, wait: first, back_since: None }
    }

    /// The tunnel left UDP.
    fn left(&mut self, now: Instant) {
        let soon = self.back_since.take().map(|since| now.duration_since(since) < STEADY);
        self.wait = match soon {
            Some(true) => (self.wait * 2).min(self.first * LOOK_BACK_MOST),
            Some(false) | None => self.first,
        };
    }

    fn back(&mut self, now: Instant) {
        self.back_since = Some(now);
    }

    fn next(&self, random: f64) -> Duration {
        self.wait.mul_f64(1.0 - random / 5.0)
    }
}

impl Mover {
    /// Moves the tunnel until it ends.
    pub(super) async fn keep(self, link: Option<Arc<Link>>) {
        let _: Result<(), Gone> = self.follow(link).await;
    }

    async fn follow(self, mut link: Option<Arc<Link>>) -> Result<(), Gone> {
        let mut patience = Patience::new(self.look_back);
        loop {
            link = match link {
                None => Some(self.leave_udp(&mut patience).await?),
                Some(link) => self.stay_on_tcp(link, &mut patience).await?,
            };
        }
    }

    /// Waits until UDP carries the tunnel no longer, and returns the link that does.
    async fn leave_udp(&self, patience: &mut Patience) -> Result<Arc<Link>, Gone> {
        loop {
            self.suspect().await?;
            let dead = async { if self.answers(probe::UNANSWERED).await { Err(()) } else { Ok(()) } };
            let found = tokio::select! {
                recovered = self.recovered() => { recovered?; continue }
                found = futures_util::future::try_join(dead, self.link()) => found,
            };
            match found.ok().and_then(|((), link)| link.take()) {
                Some(link) => {
                    patience.left(Instant::now());
                    self.switch(Route::Link(Arc::clone(&link)), Transport::Tcp, Why::Silent)?;
                    return Ok(link);
                }
                None => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Stays on TCP until there is something better, or another link; returns what carries the tunnel then.
    async fn stay_on_tcp(&self, link: Arc<Link>, patience: &mut Patience) -> Result<Option<Arc<Link>>, Gone> {
        let wait = patience.next(rand::random());
        tokio::select! {
            () = link.closed() => self.relink(&link, patience).await,
            suspect = self.settled_suspect() => {
                suspect?;
                self.relink(&link, patience).await
            }
            () = self.udp_is_back(wait), if self.preference == Preference::Auto => {
                self.switch(Route::Udp, Transport::Quic, Why::Again)?;
                patience.back(Instant::now());
                match tokio::time::timeout(TRIAL, self.suspect()).await {
                    Err(_) => {
                        link.close();
                        Ok(None)
                    }
                    Ok(suspect) => {
                        suspect?;
                        patience.left(Instant::now());
                        self.switch(Route::Link(Arc::clone(&link)), Transport::Tcp, Why::Relapse)?;
                        Ok(Some(link))
                    }
                }
            }
        }
    }

    /// The link is lost or silent: whatever answers first takes its place.
    async fn relink(&self, old: &Arc<Link>, patience: &mut Patience) -> Result<Option<Arc<Link>>, Gone> {
        loop {
            let udp = async {
                if self.preference == Preference::Tcp || !self.answers(probe::UNANSWERED).await {
                    std::future::pending::<()>().await;
                }
            };
            let recovered = async {
                match old.is_closed() {
                    true => std::future::pending().await,
                    false => self.recovered().await,
                }
            };
            tokio::select! {
                recovered = recovered => {
                    recovered?;
                    return Ok(Some(Arc::clone(old)));
                }
                () = udp => {
                    old.close();
                    self.switch(Route::Udp, Transport::Quic, Why::Again)?;
                    patience.back(Instant::now());
                    return Ok(None);
                }
                link = self.link() => if let Some(link) = link.ok().and_then(Fresh::take) {
                    old.close();
                    self.switch(Route::Link(Arc::clone(&link)), Transport::Tcp, Why::Relinked)?;
                    return Ok(Some(link));
                },
            }
            tokio::time::sleep(PAUSE).await;
            self.tunnel.alive().ok_or(Gone)?;
        }
    }

    /// Completes when UDP has answered twice; looks for the first time after `wait`.
    async fn udp_is_back(&self, wait: Duration) {
        loop {
            tokio::time::sleep(wait).await;
            if !self.answers(1).await {
                continue;
            }
            tokio::time::sleep(TWICE).await;
            if self.answers(1).await {
                return;
            }
        }
    }

    /// Whether UDP is answered.
    async fn answers(&self, knocks: u32) -> bool {
        let rtt = self.tunnel.alive().map_or(INITIAL_RTT, |tunnel| tunnel.rtt());
        probe::answers(self.hub, knocks, rtt).await
    }

    /// A link to the hub at the other end of the tunnel, and no other.
    async fn link(&self) -> Result<Fresh, ()> {
        let tls = tls::agent_over_tcp(&self.credentials).map_err(|_| ())?;
        let (links, peer) = {
            let tunnel = self.tunnel.alive().ok_or(())?;
            (tunnel.links().ok_or(())?, tunnel.peer().clone())
        };
        let link = link::open(self.hub, self.shard, tls, &links).await.map_err(|error| {
            tracing::debug!(hub = %self.hub, %error, "no TCP connection for a tunnel that is silent");
        })?;
        let proven = link.peer() == Some(&peer);
        let fresh = Fresh(Some(link));
        // Behind a load balancer it may have reached another replica, which knows nothing of the tunnel.
        if proven { Ok(fresh) } else { Err(()) }
    }

    /// Waits until the tunnel is suspect.
    async fn suspect(&self) -> Result<(), Gone> {
        let mut before = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            // After a stall of this thread it is we who were silent.
            let stalled = before.elapsed() > 3 * LOOK;
            before = Instant::now();
            let tunnel = self.tunnel.alive().ok_or(Gone)?;
            tunnel.silent_for();
            if tunnel.suspect() && !stalled {
                return Ok(());
            }
        }
    }

    /// The same, once the tunnel has had the time to be heard on its link.
    async fn settled_suspect(&self) -> Result<(), Gone> {
        tokio::time::sleep(SETTLE).await;
        self.suspect().await
    }

    /// Waits until the tunnel speaks again.
    async fn recovered(&self) -> Result<(), Gone> {
        loop {
            tokio::time::sleep(LOOK / 5).await;
            let tunnel = self.tunnel.alive().ok_or(Gone)?;
            tunnel.silent_for();
            if !tunnel.suspect() {
                return Ok(());
            }
        }
    }

    fn switch(&self, route: Route, transport: Transport, why: Why) -> Result<(), Gone> {
        let tunnel = self.tunnel.alive().ok_or(Gone)?;
        match tunnel.switch(route, transport, why) {
            Ok(()) => {
                self.moves.count(why);
                tracing::info!(hub = %self.hub, shard = self.shard, %transport, "tunnel to {} is carried by {transport} now: {why}", tunnel.peer());
            }
            // It stays where it is, and is looked at again.
            Err(error) => tracing::warn!(hub = %self.hub, %error, "cannot move the tunnel to {transport}"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_falls_back_soon_waits_longer_but_never_too_long_for_the_minute() {
        let (mut patience, mut now) = (Patience::new(LOOK_BACK), Instant::now());
        patience.left(now);
        assert_eq!(patience.next(0.0), LOOK_BACK);
        for expected in [20, 40, 40] {
            patience.back(now);
            now += Duration::from_secs(5);
            patience.left(now);
            assert_eq!(patience.next(0.0), Duration::from_secs(expected));
        }
        assert_eq!(patience.next(1.0), Duration::from_secs(32));
        assert!(LOOK_BACK * LOOK_BACK_MOST + TWICE + Duration::from_secs(5) < Duration::from_secs(60));
        patience.back(now);
        patience.left(now + STEADY);
        assert_eq!(patience.next(0.0), LOOK_BACK);
    }
}
