//! How control starts: what is read, in which order, and which tasks there are.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use figspan_model::state::Shard;
use figspan_tunnel::drain::Drain;
use figspan_tunnel::hub::Established;
use figspan_tunnel::{Stream, Tunnel};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Control, Inner, StartError};
use crate::config::ControlConfig;
use crate::context::{Context, Writer};
use crate::core::Core;
use crate::discovery;
use crate::enrol::Enrolment;
use crate::events::{Audit, Events};
use crate::ledger::Joined;
use crate::limiter::{Limiter, Pace};
use crate::operate::{self, Operators};
use crate::publish::Publication;
use crate::registry::{Allowed, Registry};
use crate::shared::Shared;
use crate::store::{Store, StoreError};
use crate::trust::Trust;

const RESET_KEY: &str = "reset_key.json";
/// Connections on their way from shards to control.
const INTAKE: usize = 256;
/// Questions of agents that are answered at once; each is a signature, and agents pace their renewals.
const QUESTIONS: usize = 64;
/// Jobs on their way to the writer.
const JOBS: usize = 1024;
/// How often the CA is looked after, at the least; more often where certificates live for minutes.
const KEEP_UP: Duration = Duration::from_secs(30);
/// How long what certificates say may wait for the disk: ten thousand agents that come to a new hub are a few writes.
const SAVE_LEARNED: Duration = Duration::from_secs(1);
/// Looks in the life of a certificate. It is renewed at two thirds, and one look may be missed.
const LOOKS: u32 = 20;

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl Control {
    pub(crate) fn start_with(config: ControlConfig, pace: Pace) -> Result<Self, StartError> {
        let shards = u8::try_from(config.book.shards()).ok().filter(|shards| (1..=128).contains(shards));
        let shards = shards.ok_or_else(|| StartError(format!("{} shards; a hub has 1 to 128", config.book.shards())))?;
        let store = Store::open(&config.state_dir)?;
        let (audit, kept) = Audit::open(&store)?;
        let reset_key = reset_key(&store)?;
        let mut enrolment = Enrolment::open(&store)?;
        let overrides = store.read(operate::FILE)?.unwrap_or_default();
        let trust = Trust::open(
            &config.trust_domain,
            &config.replica,
            config.ca.as_ref(),
            &store,
            config.clock.clone(),
            config.certificate_lifetime,
        );
        let trust = trust.map_err(|error| StartError(error.to_string()))?;

        let (joined, revoked) = enrolment.known();
        let allowed = |joined: &Joined| Allowed { uplinks: joined.allowed.clone(), services: joined.services.clone() };
        let registry = Registry::new(overrides, joined.iter().map(|(name, joined)| (name.clone(), allowed(joined))));
        let callers: Vec<_> = joined.iter().map(|(name, joined)| (name.clone(), joined.services.clone())).collect();
        let counts = |name| revoked.get(name).is_none_or(|revocation| revocation.lifted.is_some());
        let awaited: BTreeSet<_> = joined.keys().filter(|name| counts(*name)).cloned().collect();
        let revoked = revoked.clone();

        let (events, lines) = Events::new(config.clock.clone(), kept);
        let (writer, jobs) = Writer::channel(JOBS);
        let shared = Arc::new(Shared {
            trust_domain: config.trust_domain,
            replica: config.replica,
            shards,
            software: config.software,
            advertise: config.advertise,
            direct: config.direct,
            clock: config.clock,
            events,
            trust,
            store,
            board: config.board,
            awaited: Mutex::new(awaited),
            started: Instant::now(),
        });
        let mut publication = Publication::new(config.publisher, config.book, config.routing);
        callers.iter().for_each(|(agent, services)| publication.set_caller(agent, services));
        publication.flush_callers();
        let core = Core::new(Arc::clone(&shared), registry, publication, revoked);
        let talk = Limiter::new(pace.burst, pace.per_second);
        let context = Arc::new(Context { shared, writer, work: Drain::new(), pace, talk });
        let enrolment = Arc::new(enrolment);
        let (intake, established) = mpsc::channel(INTAKE);
        let (questions, asked) = mpsc::channel(INTAKE);

        let service = Drain::new();
        service.spawn(core.run(jobs, service.clone()));
        service.spawn(audit.run(lines, service.clone()));
        context.work.spawn(take_in(Arc::clone(&context), Arc::clone(&enrolment), established));
        context.work.spawn(answer(Arc::clone(&context), Arc::clone(&enrolment), asked));
        context.work.spawn(keep_up(Arc::clone(&context)));
        context.work.spawn(save_learned(Arc::clone(&context), Arc::clone(&enrolment)));
        Ok(Self(Arc::new(Inner { context, enrolment, operators: Arc::new(Operators::default()), intake, questions, reset_key, service })))
    }
}

/// Starts what each connection needs.
async fn take_in(context: Arc<Context>, enrolment: Arc<Enrolment>, mut established: mpsc::Receiver<(Shard, Established)>) {
    loop {
        let next = tokio::select! {
            next = established.recv() => next,
            () = context.work.stopping() => None,
        };
        let Some((shard, connection)) = next else { return };
        let (shared, enrolment) = (Arc::clone(&context), Arc::clone(&enrolment));
        match connection {
            Established::Tunnel(tunnel) => {
                context.work.spawn(async move {
                    enrolment.learn(&shared, tunnel.peer_leaf()).await;
                    discovery::serve(Arc::clone(&shared), shard, tunnel).await;
                });
            }
            Established::Joining(joining) => context.work.spawn(async move { enrolment.welcome(&shared, joining).await }),
        }
    }
}

/// Answers what agents ask about their identities.
async fn answer(context: Arc<Context>, enrolment: Arc<Enrolment>, mut asked: mpsc::Receiver<(Tunnel, Stream)>) {
    let places = Arc::new(Semaphore::new(QUESTIONS));
    loop {
        let next = tokio::select! {
            next = asked.recv() => next,
            () = context.work.stopping() => None,
        };
        let Some((tunnel, stream)) = next else { return };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (shared, enrolment) = (Arc::clone(&context), Arc::clone(&enrolment));
        context.work.spawn(async move {
            tokio::select! {
                () = enrolment.answer_agent(&shared, &tunnel, stream) => {}
                _ = tunnel.closed() => {}
            }
            drop(place);
        });
    }
}

/// Brings what certificates say to the disk, for many agents at once.
async fn save_learned(context: Arc<Context>, enrolment: Arc<Enrolment>) {
    let mut every = tokio::time::interval(SAVE_LEARNED);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => enrolment.save_learned(&context).await,
            () = context.work.stopping() => return enrolment.save_learned(&context).await,
        }
    }
}

/// Keeps the hub's own certificate and the roots up to date.
async fn keep_up(context: Arc<Context>) {
    let every = KEEP_UP.min(context.trust.lifetime() / LOOKS);
    let mut seconds = tokio::time::interval(every);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = seconds.tick() => {}
            () = context.work.stopping() => return,
        }
        let trusted = Arc::clone(&context);
        match tokio::task::spawn_blocking(move || trusted.trust.keep_up()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => context.writer.tell(Core::tell_roots_to_all).await,
            Ok(Err(error)) => tracing::error!(%error, "the CA cannot be kept up to date; the hub tries again in {every:?}"),
            Err(_) => return,
        }
    }
}

fn reset_key(store: &Store) -> Result<[u8; 64], StoreError> {
    if let Some(text) = store.read::<String>(RESET_KEY)? {
        let damaged = || StoreError::Damaged { path: store.path(RESET_KEY), why: "it does not hold 64 bytes in base64".to_owned() };
        return STANDARD.decode(text).ok().and_then(|key| key.try_into().ok()).ok_or_else(damaged);
    }
    let mut key = [0; 64];
    for chunk in key.chunks_mut(32) {
        chunk.copy_from_slice(&rand::random::<[u8; 32]>());
    }
    store.write(RESET_KEY, &STANDARD.encode(key))?;
    Ok(key)
}
