//! Redeems a grant: the one pasted line becomes a key and a certificate.
//!
//! The hub's CA is checked against the token's pin before anything is sent; the secret goes to nobody else. A refusal is final,
//! except that a busy hub is asked again, and that of several hubs only the one that made the grant knows it. Where the answer
//! is lost, the same question is asked again with the same key, which gets the same answer for as long as the grant lives.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use figspan_proto::control::plain;
use figspan_proto::join::{IdentityRequest, Issued, Pin, Refused, RefusedReason, Token};
use figspan_proto::name::{AgentName, NamePattern, TrustDomain};
use figspan_tunnel::agent::{Proven, Trust};
use figspan_tunnel::backoff::Backoff;
use figspan_tunnel::identity::IdentityError;
use figspan_tunnel::lifetime::CLOCK_TOLERANCE;
use figspan_tunnel::resolve::Resolver;
use figspan_tunnel::{Identity, KeyPair, Roots, TunnelError, agent, exchange};

use super::{HolderError, Kept, agent_name};
use crate::advertise::unix_ms;
use crate::settings::DEFAULT_HUB_PORT;
use crate::settings::read::is_hub;

/// How often a busy hub is asked.
const TRIES: usize = 5;
/// How long a hub may take to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Why a VM did not become an agent.
#[derive(Debug, thiserror::Error)]
pub enum JoinFailure {
    /// No hub could be reached.
    #[error("cannot reach a hub: {}; see that UDP or TCP to it is open, or ask for a grant with other addresses (`figspanctl grant create`)", .0.join("; "))]
    Unreachable(Vec<String>),
    /// This clock is so wrong that the hub's certificate is not valid by it.
    #[error("{}; set it right (`timedatectl set-ntp true`) and join again: the grant is not used up", clock(*.0))]
    Clock(i64),
    /// Whoever answered is not the hub that the token names.
    #[error(
        "the hub at {0} is not the one that the token names: {1}. Nothing was sent to it; paste the whole line of `figspanctl grant create`, or create a new grant on that hub"
    )]
    Untrusted(SocketAddr, String),
    /// The hub said no.
    #[error("{}", refusal(.refused, *.skew_ms))]
    Refused {
        /// What it said.
        refused: Refused,
        /// The VM's clock less the hub's, in milliseconds.
        skew_ms: i64,
    },
    /// The answer was lost on its way, so nobody knows whether the grant is redeemed.
    #[error(
        "the hub at {0} was asked, but its answer did not arrive: {1}; run `join` again with the same line, which the grant allows while it lives"
    )]
    NoAnswer(SocketAddr, String),
    /// The answer makes no sense.
    #[error("the hub's answer cannot be used: {0}; look at the hub's log")]
    Answer(#[from] HolderError),
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Key(#[from] IdentityError),
    /// The token names a hub that no settings file could hold.
    #[error("the token names a hub that is no address: {0}; create a new grant, with tunnel.advertise corrected in the hub's settings")]
    Hub(String),
}

/// What a join gave.
#[derive(Debug)]
pub struct Joined {
    /// Key, certificate, roots.
    pub kept: Kept,
    /// The name that the hub certified.
    pub name: AgentName,
    /// The trust domain.
    pub trust_domain: TrustDomain,
    /// Hubs to dial.
    pub hubs: Vec<String>,
    /// Names that the agent may offer.
    pub uplinks: Vec<NamePattern>,
}

/// Redeems the token's grant with a key made here; `wanted_name` counts only where the grant leaves the name open.
pub async fn join(token: &Token, wanted_name: Option<AgentName>, resolver: &Resolver) -> Result<Joined, JoinFailure> {
    join_with(KeyPair::generate()?, token, wanted_name, resolver).await
}

/// The same with a key that the caller keeps, to ask again with where no answer came.
pub async fn join_with(key: KeyPair, token: &Token, wanted_name: Option<AgentName>, resolver: &Resolver) -> Result<Joined, JoinFailure> {
    if let Some(hub) = token.hubs.iter().find(|hub| !is_hub(hub)) {
        return Err(JoinFailure::Hub(plain(hub)));
    }
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
    let mut tries = 0;
    loop {
        tries += 1;
        match redeem(token, wanted_name.as_ref(), &key, resolver).await {
            Ok(issued) => return accept(issued, key, token),
            Err(JoinFailure::Refused { refused, .. }) if refused.reason == RefusedReason::Busy && tries < TRIES => {
                tokio::time::sleep(backoff.next(rand::random())).await;
            }
            Err(JoinFailure::NoAnswer(hub, why)) if tries < TRIES => {
                tracing::info!(%hub, %why, "no answer to the join; asking again");
                tokio::time::sleep(backoff.next(rand::random())).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn redeem(token: &Token, wanted: Option<&AgentName>, key: &KeyPair, resolver: &Resolver) -> Result<Issued, JoinFailure> {
    let (mut failures, mut unknown, mut distrusted) = (Vec::new(), None, None);
    for hub in &token.hubs {
        let addresses = match resolver.lookup(hub, DEFAULT_HUB_PORT).await {
            Ok(answer) => answer.addresses,
            Err(error) => {
                failures.push(format!("{hub}: {error}"));
                continue;
            }
        };
        for address in addresses {
            let dialled = match agent::dial_join(address, token.pin).await {
                Ok(dialled) => dialled,
                Err(error) => {
                    failures.push(format!("{address}: {error}"));
                    if let TunnelError::Identity(why) = error {
                        distrusted = Some((address, why));
                    }
                    continue;
                }
            };
            let question = IdentityRequest::Join {
                grant: token.grant.clone(),
                secret: token.secret.clone(),
                wanted_name: wanted.map(ToString::to_string),
                csr: key.csr()?,
                time_ms: unix_ms(SystemTime::now()),
            };
            // Once asked, no other hub is: the grant may be redeemed by now. But whoever does not know it has not redeemed it.
            let asked = tokio::time::timeout(ANSWER, exchange::ask(dialled.stream, question)).await;
            return match asked {
                Ok(Ok(Ok(issued))) => Ok(issued),
                Ok(Ok(Err(refused))) if refused.reason == RefusedReason::UnknownGrant => {
                    unknown = Some(refused_now(refused));
                    continue;
                }
                Ok(Ok(Err(refused))) => Err(refused_now(refused)),
                Ok(Err(error)) => Err(JoinFailure::NoAnswer(address, error.to_string())),
                Err(_) => Err(JoinFailure::NoAnswer(address, format!("nothing within {ANSWER:?}"))),
            };
        }
    }
    match unknown {
        Some(unknown) if failures.is_empty() => Err(unknown),
        Some(_) => {
            failures.push("the hubs that answered do not know the grant".to_owned());
            Err(JoinFailure::Unreachable(failures))
        }
        None => match distrusted {
            Some((address, why)) => Err(distrust(address, why, token.pin).await),
            None => Err(JoinFailure::Unreachable(failures)),
        },
    }
}

/// Why a hub could not be trusted: most often it is this machine's clock, and then the hub's says by how much.
async fn distrust(address: SocketAddr, why: String, pin: Pin) -> JoinFailure {
    if let Ok(Proven { clock: Ok((hub, ours)), .. }) = agent::ask_clock(address, Trust::Pin(pin)).await {
        let skew_ms = i64::try_from(i128::from(unix_ms(ours)) - i128::from(hub.time_ms)).unwrap_or(i64::MAX);
        if skew_ms.unsigned_abs() > CLOCK_TOLERANCE.as_millis() as u64 {
            return JoinFailure::Clock(skew_ms);
        }
    }
    JoinFailure::Untrusted(address, why)
}

fn accept(issued: Issued, key: KeyPair, token: &Token) -> Result<Joined, JoinFailure> {
    let usable = |error| JoinFailure::Answer(HolderError::Unusable(error));
    let identity = Identity::from_der(issued.chain, &key).map_err(usable)?;
    let roots = Roots::from_der(issued.roots).map_err(usable)?;
    let name = agent_name(&identity)?;
    let trust_domain = identity.id().trust_domain.clone();
    Ok(Joined { kept: Kept { key, identity, roots }, name, trust_domain, hubs: token.hubs.clone(), uplinks: issued.uplinks })
}

fn refused_now(refused: Refused) -> JoinFailure {
    let skew_ms = i128::from(unix_ms(SystemTime::now())) - i128::from(refused.hub_time_ms);
    JoinFailure::Refused { refused, skew_ms: i64::try_from(skew_ms).unwrap_or(i64::MAX) }
}

/// A refusal for people: what, and how to mend it.
fn refusal(refused: &Refused, skew_ms: i64) -> String {
    let said = if refused.message.is_empty() { String::new() } else { format!(" (the hub says: {})", refused.message) };
    let text = match refused.reason {
        RefusedReason::UnknownGrant => {
            "the hub knows no such grant, or the token was altered; paste the whole line that `figspanctl grant create` printed, or create a new grant".to_owned()
        }
        RefusedReason::Used => "the grant has been redeemed as often as it may be; create a new one with `figspanctl grant create`, and if none of you redeemed it, revoke the agent that did (`figspanctl get agents`)".to_owned(),
        RefusedReason::Expired => "the grant's time has passed; create a new one with `figspanctl grant create`, perhaps with a longer --ttl".to_owned(),
        RefusedReason::Revoked => "the grant was revoked; ask whoever runs the hub, or create a new one with `figspanctl grant create`".to_owned(),
        RefusedReason::Name => "the grant does not allow the name that this VM asks for; correct name in agent.toml, or create a grant for it".to_owned(),
        RefusedReason::Csr => "the hub does not accept this agent's kind of key; upgrade the older of hub and agent".to_owned(),
        RefusedReason::Clock => {
            format!("{}; set it right (`timedatectl set-ntp true`) and join again", clock(skew_ms))
        }
        RefusedReason::Busy => "the hub has too many joins at once; try again in a minute".to_owned(),
        RefusedReason::Other => "the hub refused for a reason that this agent does not know; upgrade the agent".to_owned(),
    };
    format!("{text}{said}")
}

/// How far this clock is off, for people.
fn clock(skew_ms: i64) -> String {
    let seconds = (skew_ms.unsigned_abs() + 500) / 1000;
    let side = if skew_ms < 0 { "behind" } else { "ahead of" };
    // Of days, seconds are no news.
    let amount = humantime::format_duration(Duration::from_secs(if seconds < 3600 { seconds } else { (seconds + 30) / 60 * 60 }));
    format!("this VM's clock is {amount} {side} the hub's, too much for a certificate")
}

#[cfg(test)]
mod tests;
