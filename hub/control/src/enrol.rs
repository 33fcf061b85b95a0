//! Enrolment: how a VM becomes an agent, renews its identity, and loses it.
//!
//! The ledger is changed under one lock, on a copy that takes its place only once it is on the disk: a grant that is good
//! for one use is redeemed once, whoever races for it, and across a crash too. A certificate leaves the hub only after its
//! redemption was stored. Strangers get one answer for an unknown grant and a wrong secret, and only so often.

mod refusal;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use figspan_proto::admin::{self, Problem};
use figspan_proto::control::plain;
use figspan_proto::join::{IdentityRequest, Issued, Refused, RefusedReason, Secret, Token};
use figspan_proto::name::{AgentName, Role, SpiffeId};
use figspan_proto::permit::Permit;
use figspan_tunnel::ca::requested_key;
use figspan_tunnel::exchange;
use figspan_tunnel::hub::Joining;
use figspan_tunnel::identity::Leaf;
use figspan_tunnel::{Stream, Tunnel};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use crate::context::Context;
use crate::events::Note;
use crate::ledger::{Denial, Joined, Ledger, Revocation};
use crate::limiter::Limiter;
use crate::problem;
use crate::registry::Allowed;
use crate::shared::Shared;
use crate::store::{Store, StoreError};
use refusal::{ca_refusal, clock, clock_check, join_skew, refused};

const GRANTS: &str = "grants.json";
const AGENTS: &str = "agents.json";
const REVOKED: &str = "revoked.json";

/// How far the clock of a VM may be off at a renewal, in times of what it may be when it joins, which is how long before now
/// certificates begin: the agent works already, and its clock may be on its way to right.
const RENEW_SKEW: u32 = 2;
/// How long each step of a question may take: opening a stream, asking, reading the answer.
const QUESTION: Duration = Duration::from_secs(10);
/// Strangers served at once.
const STRANGERS: usize = 64;
/// Attempts to join from one address (IPv6: one /64), and from all: at once, and per second afterwards. A fleet behind one NAT is
/// one address; a secret of 256 bits is not guessed in ten attempts a second either.
const FROM_ONE: (u32, u32) = (100, 10);
const FROM_ALL: (u32, u32) = (500, 50);
/// Questions for the time from one address: a look at what is wrong asks once for each address of a hub. Apart from joins, which a
/// fleet that looks must not hinder.
const CLOCKS: (u32, u32) = (100, 10);
/// Renewals of one agent, at once and per second: a renewal is due every 16 hours.
const RENEWALS: (u32, u32) = (16, 1);

/// Enrolment's state.
#[derive(Debug)]
pub(crate) struct Enrolment {
    ledger: Mutex<Ledger>,
    /// Whether the ledger has learned what is not yet on the disk.
    unsaved: AtomicBool,
    strangers: Arc<Semaphore>,
    from_one: Limiter<IpAddr>,
    from_all: Limiter<()>,
    clocks: Limiter<IpAddr>,
    renewals: Limiter<AgentName>,
}

impl Enrolment {
    /// Reads the ledger back.
    pub(crate) fn open(store: &Store) -> Result<Self, StoreError> {
        let ledger = Ledger {
            grants: store.read(GRANTS)?.unwrap_or_default(),
            agents: store.read(AGENTS)?.unwrap_or_default(),
            revoked: store.read(REVOKED)?.unwrap_or_default(),
        };
        Ok(Self {
            ledger: Mutex::new(ledger),
            unsaved: AtomicBool::new(false),
            strangers: Arc::new(Semaphore::new(STRANGERS)),
            from_one: Limiter::new(FROM_ONE.0, FROM_ONE.1),
            from_all: Limiter::new(FROM_ALL.0, FROM_ALL.1),
            clocks: Limiter::new(CLOCKS.0, CLOCKS.1),
            renewals: Limiter::new(RENEWALS.0, RENEWALS.1),
        })
    }

    /// Agents that joined, and identities taken back, as they are at the start.
    pub(crate) fn known(&mut self) -> (&std::collections::BTreeMap<AgentName, Joined>, &std::collections::BTreeMap<AgentName, Revocation>) {
        let ledger = self.ledger.get_mut();
        (&ledger.agents, &ledger.revoked)
    }

    /// Takes the word of a verified certificate about the grant behind it, which another hub of this CA may have seen redeemed.
    pub(crate) async fn learn(&self, context: &Context, leaf: &Leaf) {
        let (Some(name), Some(permit)) = (leaf.id.agent(), &leaf.permit) else { return };
        let mut ledger = self.ledger.lock().await;
        if ledger.learn(name, permit, context.clock.stamp()).is_none() {
            return;
        }
        self.unsaved.store(true, Ordering::Release);
        let revocation = ledger.revoked.get(name).cloned();
        drop(ledger);
        let (agent, allowed) = (name.clone(), Allowed { uplinks: permit.uplinks.clone(), services: permit.services.clone() });
        context.writer.tell(move |core| core.learned(&agent, allowed, revocation)).await;
        tracing::info!(agent = %name, "agent {name} joined another hub of this CA; its certificate says what it may advertise");
    }

    /// Brings what was learned to the disk. What is lost in a crash is learned again.
    pub(crate) async fn save_learned(&self, context: &Shared) {
        if !self.unsaved.swap(false, Ordering::AcqRel) {
            return;
        }
        // Held meanwhile, so that no older state is written over a newer one.
        let ledger = self.ledger.lock().await;
        let saved = async {
            context.store.save(REVOKED, ledger.revoked.clone()).await?;
            context.store.save(AGENTS, ledger.agents.clone()).await
        };
        if let Err(error) = saved.await {
            self.unsaved.store(true, Ordering::Release);
            tracing::error!(%error, "what certificates say of agents of other hubs is not on the disk");
        }
    }

    /// Serves a VM without a certificate: one question, one answer.
    pub(crate) async fn welcome(&self, context: &Arc<Context>, mut joining: Joining) {
        let Ok(_place) = self.strangers.try_acquire() else {
            tracing::warn!(remote = %joining.remote_address(), "{STRANGERS} VMs are joining; another one is turned away");
            return;
        };
        let remote = joining.remote_address().ip();
        if let Err(error) = self.answer_stranger(context, &mut joining, remote).await {
            tracing::info!(%remote, %error, "a VM that wanted to join went away");
            return;
        }
        joining.finish().await;
    }

    async fn answer_stranger(&self, context: &Arc<Context>, joining: &mut Joining, remote: IpAddr) -> Result<(), String> {
        let mut stream = in_time(joining.accept()).await?;
        // Only talking has a deadline: a redemption that began is never cut off between disk and memory.
        let answer = match in_time(exchange::question(&mut stream)).await? {
            IdentityRequest::Join { grant, secret, wanted_name, csr, time_ms } => {
                self.join(context, remote, &grant, &secret, wanted_name.as_deref(), &csr, time_ms).await
            }
            IdentityRequest::Clock => match self.clocks.check(&network(remote), 1) {
                Ok(()) => return in_time(exchange::answer_clock(stream, clock(context))).await,
                Err(_) => Err(refused(context, RefusedReason::Busy, "asked for the time too often; try again in a few seconds".to_owned())),
            },
            IdentityRequest::Renew { .. } | IdentityRequest::Listen { .. } => {
                Err(refused(context, RefusedReason::Other, "that is asked over a tunnel".to_owned()))
            }
        };
        in_time(exchange::answer(stream, answer)).await
    }

    /// Redeems a grant.
    #[allow(clippy::too_many_arguments, reason = "the fields of the one question, and who asks it")]
    pub(crate) async fn join(
        &self,
        context: &Arc<Context>,
        remote: IpAddr,
        grant: &str,
        secret: &Secret,
        wanted: Option<&str>,
        csr: &[u8],
        time_ms: u64,
    ) -> Result<Issued, Refused> {
        if self.from_one.check(&network(remote), 1).is_err() || self.from_all.check(&(), 1).is_err() {
            return Err(refused(context, RefusedReason::Busy, "too many attempts to join; try again in a few seconds".to_owned()));
        }
        // Looked into whether the grant is known or not, so that time does not tell. What is wrong with it is said below.
        let key = requested_key(csr).ok();
        let mut ledger = self.ledger.lock().await;
        let now = context.clock.stamp();
        let denied = |Denial(reason, message)| refused(context, reason, message);
        let ticket = ledger.redeemable(grant, secret, wanted, key, now).map_err(|denial| {
            tracing::warn!(%remote, grant, reason = ?denial.0, "a VM was not let in: {}", denial.1);
            denied(denial)
        })?;
        clock_check(context, time_ms, join_skew(context))?;
        let id = SpiffeId { trust_domain: context.trust_domain.clone(), role: Role::Agent(ticket.name.clone()) };
        let mut next = ledger.clone();
        let lifted = next.redeem(&ticket, now);
        let permit = next.renewable(&ticket.name).map_err(denied)?;
        let chain = context.trust.issue(&id, &permit, csr).map_err(|error| ca_refusal(context, &error))?;
        if ticket.again {
            tracing::info!(%remote, agent = %ticket.name, grant, "an agent asks again for the answer to its join");
            return Ok(issued(context, chain, id, permit));
        }
        // In this order: after a crash between two of them the grant is used up, and nothing was given for it.
        let stored = async {
            context.store.save(GRANTS, next.grants.clone()).await?;
            if lifted {
                context.store.save(REVOKED, next.revoked.clone()).await?;
            }
            context.store.save(AGENTS, next.agents.clone()).await
        };
        if let Err(error) = stored.await {
            tracing::error!(%error, agent = %ticket.name, "a grant could not be redeemed");
            return Err(refused(context, RefusedReason::Busy, "the hub cannot store the redemption; see its log".to_owned()));
        }
        *ledger = next;
        let revocation = ledger.revoked.get(&ticket.name).cloned();
        drop(ledger);
        let (name, allowed) = (ticket.name.clone(), Allowed { uplinks: ticket.allowed, services: ticket.services });
        let entered = context.writer.ask(move |core| core.joined(&name, allowed, revocation)).await;
        entered.map_err(|_| refused(context, RefusedReason::Busy, "the hub ends; try another".to_owned()))?;
        let message = format!("agent {} joined from {remote} with grant {}", ticket.name, ticket.grant);
        context.events.record(Note::new("join", &ticket.name, &ticket.name, message));
        Ok(issued(context, chain, id, permit))
    }

    /// Answers what an agent asks over its tunnel. Two bytes of the question are read.
    pub(crate) async fn answer_agent(&self, context: &Arc<Context>, tunnel: &Tunnel, mut stream: Stream) {
        let served = async {
            let answer = match in_time(exchange::question_begun(&mut stream)).await? {
                IdentityRequest::Renew { csr, time_ms } => self.renew(context, tunnel, &csr, time_ms).await,
                IdentityRequest::Clock => return in_time(exchange::answer_clock(stream, clock(context))).await,
                IdentityRequest::Listen { mark } => match tunnel.hears(mark).await {
                    Some(heard) => return in_time(exchange::answer_heard(stream, heard)).await,
                    None => Err(refused(context, RefusedReason::Busy, "too many listen; try again in a few seconds".to_owned())),
                },
                IdentityRequest::Join { .. } => {
                    Err(refused(context, RefusedReason::Other, "this tunnel has an identity already".to_owned()))
                }
            };
            in_time(exchange::answer(stream, answer)).await
        };
        if let Err(error) = served.await {
            tracing::info!(peer = %tunnel.peer(), %error, "a question about an identity failed");
        }
    }

    /// Renews the identity of a tunnel.
    async fn renew(&self, context: &Arc<Context>, tunnel: &Tunnel, csr: &[u8], time_ms: u64) -> Result<Issued, Refused> {
        let id = tunnel.peer().clone();
        let Some(name) = id.agent().cloned() else {
            return Err(refused(context, RefusedReason::Other, "only agents renew here".to_owned()));
        };
        if self.renewals.check(&name, 1).is_err() {
            return Err(refused(context, RefusedReason::Busy, "too many renewals; try again in a few seconds".to_owned()));
        }
        let denied = |Denial(reason, message)| refused(context, reason, message);
        let permit = self.ledger.lock().await.renewable(&name).map_err(denied)?;
        clock_check(context, time_ms, join_skew(context) * RENEW_SKEW)?;
        let chain = context.trust.issue(&id, &permit, csr).map_err(|error| ca_refusal(context, &error))?;
        if let Some(leaf) = chain.first().and_then(|leaf| Leaf::read(leaf).ok()) {
            let tunnel = tunnel.id();
            context.writer.tell(move |core| core.renewed(tunnel, &leaf)).await;
        }
        context.events.record(Note::new("renew", &name, &name, format!("agent {name} renewed its certificate")));
        Ok(issued(context, chain, id, permit))
    }

    /// Makes a grant.
    pub(crate) async fn create(&self, context: &Context, ask: admin::CreateGrant, who: &str) -> Result<admin::CreatedGrant, Problem> {
        let title = "cannot make the grant";
        let hubs = if ask.hubs.is_empty() { context.advertise.clone() } else { ask.hubs.clone() };
        check_hubs(&hubs).map_err(|why| problem::invalid(title, why))?;
        let mut ledger = self.ledger.lock().await;
        let now = context.clock.stamp();
        ledger.check(&ask, now).map_err(|why| problem::invalid(title, why))?;
        let (id, secret) = (format!("g-{:012x}", rand::random::<u64>() >> 16), Secret(rand::random()));
        let mut next = ledger.clone();
        let grant = next.create(id.clone(), &ask, &secret, who, now);
        if ask.dry_run {
            return Ok(admin::CreatedGrant { grant, token: String::new() });
        }
        let token = Token { hubs, grant: id.clone(), secret, pin: context.trust.pin() }.to_string();
        if token.len() > figspan_proto::join::MAX_TOKEN {
            return Err(problem::invalid(title, "its line would be too long; name fewer or shorter hubs"));
        }
        context.store.save(GRANTS, next.grants.clone()).await.map_err(|error| problem::storage(&error))?;
        *ledger = next;
        drop(ledger);
        let uplinks: Vec<String> = grant.uplinks.iter().map(ToString::to_string).collect();
        let agent = match (&grant.agent, &grant.name_template) {
            (Some(agent), _) => format!("agent {agent}"),
            (None, Some(template)) => format!("{} agents {template}", grant.uses),
            (None, None) => "any new agent".to_owned(),
        };
        let services: Vec<String> = grant.services.iter().map(ToString::to_string).collect();
        let services = if services.is_empty() { String::new() } else { format!(", services {}", services.join(", ")) };
        let message = format!("{who} made grant {id} for {agent}, uplinks {}{services}, until {}", uplinks.join(", "), grant.expires);
        context.events.record_on_disk(Note::new("grant", &id, who, message)).await;
        Ok(admin::CreatedGrant { grant, token })
    }

    /// All grants.
    pub(crate) async fn grants(&self, context: &Context) -> Vec<admin::Grant> {
        self.ledger.lock().await.view(context.clock.stamp())
    }

    /// Takes a grant back.
    pub(crate) async fn revoke_grant(
        &self,
        context: &Context,
        id: &str,
        revoke: admin::Revoke,
        who: &str,
    ) -> Result<admin::Revoked, Problem> {
        let mut ledger = self.ledger.lock().await;
        let now = context.clock.stamp();
        let Some(grant) = ledger.grants.get(id) else {
            return Err(problem::unknown("no such grant", format!("there is no grant {id}; see `figspanctl grant list`")));
        };
        let old = grant.state(now);
        if !revoke.dry_run {
            let mut next = ledger.clone();
            next.revoke_grant(id);
            context.store.save(GRANTS, next.grants.clone()).await.map_err(|error| problem::storage(&error))?;
            *ledger = next;
            drop(ledger);
            let note = Note::new("grant", id, who, format!("{who} revoked grant {id}: {}", revoke.reason));
            context.events.record_on_disk(note.change(old, "revoked")).await;
        }
        Ok(admin::Revoked { subject: id.to_owned(), tunnels_closed: 0, dry_run: revoke.dry_run })
    }

    /// Takes an identity back, and cuts its tunnels.
    pub(crate) async fn revoke_agent(
        &self,
        context: &Arc<Context>,
        name: &AgentName,
        revoke: admin::Revoke,
        who: &str,
    ) -> Result<admin::Revoked, Problem> {
        let subject = name.to_string();
        let mut ledger = self.ledger.lock().await;
        let agent = name.clone();
        let open =
            context.writer.ask(move |core| core.registry.agents().contains_key(&agent).then(|| core.tunnels_of(&agent).len())).await?;
        if open.is_none() && !ledger.agents.contains_key(name) {
            return Err(problem::unknown("no such agent", format!("no agent {name} joined; see `figspanctl get agents`")));
        }
        if revoke.dry_run {
            return Ok(admin::Revoked { subject, tunnels_closed: open.unwrap_or(0), dry_run: true });
        }
        let mut next = ledger.clone();
        next.revoke_agent(name, who, &plain(&revoke.reason), context.clock.stamp());
        context.store.save(REVOKED, next.revoked.clone()).await.map_err(|error| problem::storage(&error))?;
        *ledger = next;
        let revocation = ledger.revoked.get(name).cloned();
        let agent = name.clone();
        let tunnels_closed = context.writer.ask(move |core| revocation.map_or(0, |revocation| core.revoke(&agent, revocation))).await?;
        drop(ledger);
        let message = format!("{who} revoked agent {name}, {tunnels_closed} tunnels cut: {}", revoke.reason);
        context.events.record_on_disk(Note::new("revoke", name, who, message)).await;
        Ok(admin::Revoked { subject, tunnels_closed, dry_run: false })
    }
}

fn issued(context: &Shared, chain: Vec<Vec<u8>>, spiffe_id: SpiffeId, permit: Permit) -> Issued {
    Issued { chain, roots: context.trust.roots_der(), spiffe_id, uplinks: permit.uplinks, services: permit.services }
}

async fn in_time<T, E: std::fmt::Display>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match timeout(QUESTION, work).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took longer than {} s", QUESTION.as_secs())),
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of the size that one customer gets.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !(u128::from(u64::MAX))).into(),
        v4 => v4,
    }
}

fn check_hubs(hubs: &[String]) -> Result<(), String> {
    if hubs.is_empty() || hubs.len() > 16 {
        return Err("a grant names 1 to 16 hubs; set tunnel.advertise in the hub's settings, or say where agents shall dial".to_owned());
    }
    for hub in hubs {
        let host = hub.rsplit_once(':').map_or(hub.as_str(), |(host, _)| host);
        if ["0.0.0.0", "[::]", "::", ""].contains(&host) {
            return Err(format!("`{hub}` is no address that an agent can dial; set tunnel.advertise in the hub's settings"));
        }
        if hub.len() > 300 || hub.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("`{}` is not host:port", plain(hub)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
