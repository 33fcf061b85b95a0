//! Checked forms of enrolment: the one pasted line, and what is asked and answered with it.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;

use crate::control::{MAX_ROOTS, plain};
use crate::name::{NameError, NamePattern, SpiffeError, SpiffeId};
use crate::pb;

/// What every join token begins with; the number is the layout's version.
pub const TOKEN_PREFIX: &str = "figspan1.";
/// Longest token in bytes.
pub const MAX_TOKEN: usize = 4096;
/// Most bytes of one enrolment message.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Most bytes of a certificate request.
pub const MAX_CSR: usize = 8 * 1024;
const MAX_HUBS: usize = 16;
/// Bytes with which the connection ids begin that a hub listens for; as many as an id has that nobody guesses (RFC 9000, section 7.2).
pub const MARK: usize = 8;

/// 256 random bits that redeem a grant. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// SHA-256 of a CA's public key (its SubjectPublicKeyInfo in DER): what the agent checks before it sends anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl FromStr for Pin {
    type Err = JoinError;
    fn from_str(text: &str) -> Result<Self, JoinError> {
        let digest = text.strip_prefix("sha256:").and_then(|rest| URL_SAFE_NO_PAD.decode(rest).ok());
        digest.and_then(|digest| digest.try_into().ok()).map(Self).ok_or(JoinError::Token("the pin is not sha256:<43 characters>"))
    }
}

/// The one line that an operator pastes on a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Where hubs listen: `host:port` each; a host without a port asks DNS for SRV records.
    pub hubs: Vec<String>,
    /// The grant to redeem.
    pub grant: String,
    /// What redeems it.
    pub secret: Secret,
    /// The CA to insist on.
    pub pin: Pin,
}

/// Why a token or an enrolment message is wrong.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The pasted line is no join token.
    #[error("this is not a join token: {0}; paste the whole line that `figspanctl grant create` printed")]
    Token(&'static str),
    /// A name in it is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The identity in it is not one of ours.
    #[error(transparent)]
    Spiffe(#[from] SpiffeError),
    /// A part is missing, or longer than allowed.
    #[error("enrolment message: {0} is missing or too long")]
    Shape(&'static str),
}

impl fmt::Display for Token {
    /// Writes the secret: this is the line to paste, not something to log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message =
            pb::JoinToken { hubs: self.hubs.clone(), grant: self.grant.clone(), secret: self.secret.0.to_vec(), pin: self.pin.0.to_vec() };
        write!(f, "{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(message.encode_to_vec()))
    }
}

impl FromStr for Token {
    type Err = JoinError;
    fn from_str(text: &str) -> Result<Self, JoinError> {
        let text = text.trim();
        if text.len() > MAX_TOKEN {
            return Err(JoinError::Token("it is too long"));
        }
        let body = text.strip_prefix(TOKEN_PREFIX).ok_or(JoinError::Token("it does not begin with `figspan1.`"))?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| JoinError::Token("it is cut off or has foreign characters"))?;
        let message = pb::JoinToken::decode(&bytes[..]).map_err(|_| JoinError::Token("it is cut off or altered"))?;
        if message.hubs.is_empty() || message.hubs.len() > MAX_HUBS || message.hubs.iter().any(|hub| hub.is_empty() || hub.len() > 300) {
            return Err(JoinError::Token("it names no hub"));
        }
        Ok(Self {
            hubs: message.hubs,
            grant: message.grant,
            secret: Secret(message.secret.try_into().map_err(|_| JoinError::Token("its secret is cut off"))?),
            pin: Pin(message.pin.try_into().map_err(|_| JoinError::Token("its pin is cut off"))?),
        })
    }
}

/// What an agent asks of the hub about its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityRequest {
    /// Redeem a grant.
    Join {
        /// The grant.
        grant: String,
        /// What redeems it.
        secret: Secret,
        /// The name that the VM would like, used only where the grant leaves it open.
        wanted_name: Option<String>,
        /// Certificate request, DER.
        csr: Vec<u8>,
        /// The agent's clock, Unix milliseconds.
        time_ms: u64,
    },
    /// Renew the certificate of the tunnel that the question came over.
    Renew {
        /// Certificate request, DER.
        csr: Vec<u8>,
        /// The agent's clock, Unix milliseconds.
        time_ms: u64,
    },
    /// The hub's clock, which anybody may ask for.
    Clock,
    /// Whether a first packet over UDP arrives whose connection id begins so, while the agent sends such.
    Listen {
        /// Its first bytes.
        mark: [u8; MARK],
    },
}

/// The hub's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubClock {
    /// Unix milliseconds.
    pub time_ms: u64,
    /// Name and version of the software, for people.
    pub software: String,
}

/// What the hub gave: a certificate and whom to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// Leaf first, then intermediates, in DER.
    pub chain: Vec<Vec<u8>>,
    /// Root certificates in DER.
    pub roots: Vec<Vec<u8>>,
    /// The identity in the leaf.
    pub spiffe_id: SpiffeId,
    /// Names that the agent may advertise.
    pub uplinks: Vec<NamePattern>,
    /// Services that it may call.
    pub services: Vec<NamePattern>,
}

/// Why the hub gave nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedReason {
    /// No grant of that id, or the secret is not its own. One answer for both, so that ids cannot be probed.
    UnknownGrant,
    /// Redeemed as often as it may be.
    Used,
    /// Past its time.
    Expired,
    /// Taken back.
    Revoked,
    /// The name wanted is not one that the grant allows.
    Name,
    /// The certificate request is malformed or of a kind that is not allowed.
    Csr,
    /// The clocks differ too much for a certificate to be of use.
    Clock,
    /// Too many at once; try again.
    Busy,
    /// One that this build does not know.
    Other,
}

/// The hub's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: RefusedReason,
    /// Why, for people.
    pub message: String,
    /// The hub's clock, Unix milliseconds.
    pub hub_time_ms: u64,
}

impl IdentityRequest {
    /// Checks a request.
    pub fn check(request: pb::IdentityRequest) -> Result<Self, JoinError> {
        use pb::identity_request::Body;
        let csr = |csr: Vec<u8>| if csr.is_empty() || csr.len() > MAX_CSR { Err(JoinError::Shape("csr")) } else { Ok(csr) };
        match request.body.ok_or(JoinError::Shape("request"))? {
            Body::Join(join) => {
                if join.grant.is_empty() || join.grant.len() > 64 {
                    return Err(JoinError::Shape("grant"));
                }
                Ok(Self::Join {
                    grant: plain(&join.grant),
                    secret: Secret(join.secret.try_into().map_err(|_| JoinError::Shape("secret"))?),
                    wanted_name: (!join.wanted_name.is_empty()).then(|| plain(&join.wanted_name)),
                    csr: csr(join.csr)?,
                    time_ms: join.time_ms,
                })
            }
            Body::Renew(renew) => Ok(Self::Renew { csr: csr(renew.csr)?, time_ms: renew.time_ms }),
            Body::Clock(pb::ClockRequest {}) => Ok(Self::Clock),
            Body::Listen(listen) => Ok(Self::Listen { mark: listen.mark.try_into().map_err(|_| JoinError::Shape("mark"))? }),
        }
    }
}

impl From<IdentityRequest> for pb::IdentityRequest {
    fn from(request: IdentityRequest) -> Self {
        use pb::identity_request::Body;
        let body = match request {
            IdentityRequest::Join { grant, secret, wanted_name, csr, time_ms } => {
                Body::Join(pb::JoinRequest { grant, secret: secret.0.to_vec(), wanted_name: wanted_name.unwrap_or_default(), csr, time_ms })
            }
            IdentityRequest::Renew { csr, time_ms } => Body::Renew(pb::RenewRequest { csr, time_ms }),
            IdentityRequest::Clock => Body::Clock(pb::ClockRequest {}),
            IdentityRequest::Listen { mark } => Body::Listen(pb::ListenRequest { mark: mark.to_vec() }),
        };
        Self { body: Some(body) }
    }
}

/// Checks a reply.
pub fn check_reply(reply: pb::IdentityReply) -> Result<Result<Issued, Refused>, JoinError> {
    use pb::identity_reply::Body;
    match reply.body.ok_or(JoinError::Shape("reply"))? {
        Body::Issued(issued) => {
            if issued.chain.is_empty() || issued.chain.len() > MAX_ROOTS {
                return Err(JoinError::Shape("chain"));
            }
            if issued.roots.is_empty() || issued.roots.len() > MAX_ROOTS {
                return Err(JoinError::Shape("roots"));
            }
            let patterns = |texts: &[String]| texts.iter().take(crate::control::MAX_UPLINKS).map(|text| text.parse()).collect();
            let uplinks: Result<_, NameError> = patterns(&issued.uplinks);
            let services: Result<_, NameError> = patterns(&issued.services);
            Ok(Ok(Issued {
                chain: issued.chain,
                roots: issued.roots,
                spiffe_id: issued.spiffe_id.parse()?,
                uplinks: uplinks?,
                services: services?,
            }))
        }
        Body::Refused(refused) => {
            use pb::refused::Reason;
            let reason = match refused.reason() {
                Reason::UnknownGrant => RefusedReason::UnknownGrant,
                Reason::Used => RefusedReason::Used,
                Reason::Expired => RefusedReason::Expired,
                Reason::Revoked => RefusedReason::Revoked,
                Reason::Name => RefusedReason::Name,
                Reason::Csr => RefusedReason::Csr,
                Reason::Clock => RefusedReason::Clock,
                Reason::Busy => RefusedReason::Busy,
                Reason::Unspecified => RefusedReason::Other,
            };
            Ok(Err(Refused { reason, message: plain(&refused.message), hub_time_ms: refused.hub_time_ms }))
        }
        Body::Clock(_) | Body::Heard(_) => Err(JoinError::Shape("identity")),
    }
}

/// Checks a reply to [`IdentityRequest::Clock`].
pub fn check_clock(reply: pb::IdentityReply) -> Result<HubClock, JoinError> {
    match reply.body {
        Some(pb::identity_reply::Body::Clock(clock)) => Ok(HubClock { time_ms: clock.time_ms, software: plain(&clock.software) }),
        _ => Err(JoinError::Shape("clock")),
    }
}

/// That reply for the wire.
pub fn clock_reply(clock: HubClock) -> pb::IdentityReply {
    let clock = pb::HubClock { time_ms: clock.time_ms, software: clock.software };
    pb::IdentityReply { body: Some(pb::identity_reply::Body::Clock(clock)) }
}

/// Checks a reply to [`IdentityRequest::Listen`]: whether the hub heard something.
pub fn check_heard(reply: pb::IdentityReply) -> Result<bool, JoinError> {
    match reply.body {
        Some(pb::identity_reply::Body::Heard(heard)) => Ok(heard.heard),
        _ => Err(JoinError::Shape("heard")),
    }
}

/// That reply for the wire.
pub fn heard_reply(heard: bool) -> pb::IdentityReply {
    pb::IdentityReply { body: Some(pb::identity_reply::Body::Heard(pb::Heard { heard })) }
}

/// The reply for the wire.
pub fn reply(answer: Result<Issued, Refused>) -> pb::IdentityReply {
    use pb::identity_reply::Body;
    let body = match answer {
        Ok(issued) => Body::Issued(pb::Issued {
            chain: issued.chain,
            roots: issued.roots,
            spiffe_id: issued.spiffe_id.to_string(),
            uplinks: issued.uplinks.iter().map(ToString::to_string).collect(),
            services: issued.services.iter().map(ToString::to_string).collect(),
        }),
        Err(refused) => {
            use pb::refused::Reason;
            let reason = match refused.reason {
                RefusedReason::UnknownGrant => Reason::UnknownGrant,
                RefusedReason::Used => Reason::Used,
                RefusedReason::Expired => Reason::Expired,
                RefusedReason::Revoked => Reason::Revoked,
                RefusedReason::Name => Reason::Name,
                RefusedReason::Csr => Reason::Csr,
                RefusedReason::Clock => Reason::Clock,
                RefusedReason::Busy => Reason::Busy,
                RefusedReason::Other => Reason::Unspecified,
            };
            Body::Refused(pb::Refused { reason: reason.into(), message: refused.message, hub_time_ms: refused.hub_time_ms })
        }
    };
    pb::IdentityReply { body: Some(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token() -> Token {
        Token { hubs: vec!["hub.example:7443".into()], grant: "g1".into(), secret: Secret([7; 32]), pin: Pin([9; 32]) }
    }

    #[test]
    fn a_token_is_one_line_that_reads_back() {
        let line = token().to_string();
        assert!(line.starts_with("figspan1.") && !line.contains(char::is_whitespace));
        assert_eq!(format!(" {line}\n").parse::<Token>().unwrap(), token());
        assert_eq!(Pin([9; 32]).to_string().parse::<Pin>().unwrap(), Pin([9; 32]));
    }

    #[test]
    fn a_token_cut_anywhere_is_refused_and_never_shown() {
        let line = token().to_string();
        for end in 0..line.len() {
            assert!(line[..end].parse::<Token>().is_err(), "cut at {end}");
        }
        assert!(!format!("{:?}", token()).contains("7, 7"));
    }

    #[test]
    fn requests_and_replies_read_back_as_written() {
        let request = IdentityRequest::Join { grant: "g".into(), secret: Secret([1; 32]), wanted_name: None, csr: vec![1], time_ms: 3 };
        assert_eq!(IdentityRequest::check(request.clone().into()).unwrap(), request);
        let listen = IdentityRequest::Listen { mark: [1; MARK] };
        assert_eq!(IdentityRequest::check(listen.clone().into()).unwrap(), listen);
        for length in [0, MARK - 1, MARK + 1] {
            let body = pb::identity_request::Body::Listen(pb::ListenRequest { mark: vec![1; length] });
            assert!(IdentityRequest::check(pb::IdentityRequest { body: Some(body) }).is_err(), "{length} bytes");
        }
        assert!(check_heard(heard_reply(true)).unwrap() && !check_heard(heard_reply(false)).unwrap());
        assert!(check_reply(heard_reply(true)).is_err());
        let issued = Issued {
            chain: vec![vec![1]],
            roots: vec![vec![2]],
            spiffe_id: "spiffe://d/agent/a".parse().unwrap(),
            uplinks: vec!["a-*".parse().unwrap()],
            services: vec!["b".parse().unwrap()],
        };
        assert_eq!(check_reply(reply(Ok(issued.clone()))).unwrap(), Ok(issued));
        let refused = Refused { reason: RefusedReason::Used, message: "m".into(), hub_time_ms: 4 };
        assert_eq!(check_reply(reply(Err(refused.clone()))).unwrap(), Err(refused));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_token_reader_panic(text in "(figspan1\\.)?[A-Za-z0-9_-]{0,120}") {
            let _ = text.parse::<Token>();
        }
    }
}
