//! The words that metrics are labelled with, each a closed list: what is counted by them is an array, and no label is ever made up.

use figspan_proto::reset::Reason;

macro_rules! words {
    ($(#[$doc:meta])* $type:ident { $($(#[$item:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $type { $($(#[$item])* $name,)* }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The word in a metric label.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

words! {
    /// A bound that was reached.
    Limit {
        /// Bytes of a head.
        HeaderBytes = "header_bytes",
        /// Fields of a head.
        HeaderCount = "header_count",
        /// Time for a head.
        HeaderTime = "header_time",
        /// Idle time of a client's connection.
        KeepAlive = "keep_alive",
        /// HTTP/2 streams of a client.
        H2Streams = "h2_streams",
        /// HTTP/2 streams reset by a client.
        H2Resets = "h2_resets",
        /// HTTP/2 frames without content: endless CONTINUATION, empty DATA.
        H2Frames = "h2_frames",
        /// Client connections.
        Connections = "connections",
        /// Attempts that wait for a way to an endpoint.
        Pending = "pending",
        /// Idle connections to an endpoint.
        IdleStreams = "idle_streams",
        /// Idle time of a connection to an endpoint.
        IdleStreamTime = "idle_stream_time",
        /// Bytes kept of a request's body.
        Replay = "replay_bytes",
        /// Retries at once.
        Retries = "retries",
        /// Requests of a source in a time.
        Rate = "rate",
        /// Requests of a source under way.
        InFlight = "in_flight",
        /// Sources that are told apart.
        Sources = "sources",
        /// Requests of a backend under way.
        BackendRequests = "backend_requests",
        /// Connections to a backend.
        BackendConnections = "backend_connections",
        /// Compressed answers at once.
        Compressions = "compressions",
    }
}

words! {
    /// What became of a session.
    SessionEvent {
        /// A client got its first cookie.
        Started = "started",
        /// A request went where its session belongs.
        Kept = "kept",
        /// Its cookie was renewed.
        Renewed = "renewed",
        /// Its backend or endpoint could not keep it.
        Moved = "moved",
        /// Its cookie had ended.
        Expired = "expired",
        /// Its cookie was not made by this hub, or for another rule.
        Forged = "forged",
    }
}

words! {
    /// Where a choice led that prefers the hub's own zone.
    Zone {
        /// Into it.
        Near = "near",
        /// Out of it.
        Far = "far",
    }
}

words! {
    /// What came of a request's token, where its rule asks for one.
    TokenEvent {
        /// It counts; its signature was checked.
        Verified = "verified",
        /// It counts; its signature was checked before.
        Remembered = "remembered",
        /// There is none, and there need not be one.
        Absent = "absent",
        /// There is none.
        Missing = "missing",
        /// It is no signed token.
        Malformed = "malformed",
        /// It is too long.
        TooLarge = "too-large",
        /// It is signed in another way than the provider's are.
        Algorithm = "algorithm",
        /// The provider has no such key.
        UnknownKey = "unknown-key",
        /// It is not signed by that key.
        Signature = "signature",
        /// Somebody else issued it.
        Issuer = "issuer",
        /// It was made for somebody else.
        Audience = "audience",
        /// Its time has passed.
        Expired = "expired",
        /// Its time has not come.
        NotYet = "not-yet",
    }
}

words! {
    /// Why a request was tried again.
    Retry {
        /// Nothing of it had reached the workload.
        NotDelivered = "not_delivered",
        /// It may have been seen, and is idempotent.
        Idempotent = "idempotent",
        /// A pooled connection had ended before it was used.
        Stale = "stale",
        /// Its answer had a status that the rule tries again.
        Status = "status",
        /// No answer had come for a while: another endpoint was asked as well.
        Hedge = "hedge",
    }
}

words! {
    /// What outcomes changed about the health of a backend or an endpoint.
    Turned {
        /// A circuit breaker opened.
        BreakerOpened = "breaker_opened",
        /// A circuit breaker closed.
        BreakerClosed = "breaker_closed",
        /// An endpoint was ejected.
        Ejected = "ejected",
    }
}

words! {
    /// What became of an agent's call of a service.
    CallEvent {
        /// Taken.
        Taken = "taken",
        /// No grant of the agent names the service.
        Denied = "denied",
        /// There is no such service.
        Unknown = "unknown",
        /// It speaks another protocol.
        Protocol = "protocol",
        /// None of its endpoints could take it.
        Unavailable = "unavailable",
        /// The hub ends.
        Draining = "draining",
        /// The shard has as many connections as it may.
        Limit = "limit",
        /// The stream did not say what it is for, or not in time.
        Malformed = "malformed",
    }
}

impl CallEvent {
    /// What a refusal counts as.
    pub const fn of(reason: Reason) -> Self {
        match reason {
            Reason::ServiceDenied => Self::Denied,
            Reason::UnknownService => Self::Unknown,
            Reason::ServiceProtocol => Self::Protocol,
            Reason::HubDraining => Self::Draining,
            Reason::HubLimit => Self::Limit,
            Reason::BadPreamble => Self::Malformed,
            _ => Self::Unavailable,
        }
    }
}

words! {
    /// What became of a client's wish for a backend.
    PinEvent {
        /// The request went there.
        Used = "used",
        /// It was for a backend or by a key that the rule does not know.
        Elsewhere = "elsewhere",
        /// It was none.
        Malformed = "malformed",
        /// It was not signed by the rule's key.
        Forged = "forged",
        /// Its end had passed.
        Expired = "expired",
    }
}
