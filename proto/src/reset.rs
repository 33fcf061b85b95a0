//! Why a stream ended early, and whether the workload may have seen what was sent on it.
//!
//! Both fit into the 62-bit error code of RESET_STREAM and STOP_SENDING (RFC 9000, sections 19.4 and 19.5): the low eight
//! bits are the [`Reason`], the others the number of bytes behind the preamble that reached the workload. The hub compares
//! that number with where a request began on its stream; it never has to guess whether a request may go elsewhere.

/// Whose side failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The client of the hub.
    Client,
    /// The hub.
    Hub,
    /// The connection between hub and agent.
    Tunnel,
    /// The agent.
    Agent,
    /// The workload on the VM.
    Workload,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $side:ident, $text:literal;)*) => {
        /// Why a stream ended early. Codes are never given a second meaning; unknown ones read as [`Reason::Internal`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// All reasons, in the order of their codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason's code, the low byte of a reset.
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code,)* }
            }

            /// Whose side failed.
            pub const fn side(self) -> Side {
                match self { $(Self::$name => Side::$side,)* }
            }

            /// A word for logs, metric labels and Proxy-Status details.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            const fn from_code(code: u8) -> Self {
                match code { $($code => Self::$name,)* _ => Self::Internal }
            }
        }
    };
}

reasons! {
    /// A bug: nothing better is known.
    Internal = 0, Agent, "internal";
    /// The agent finishes what runs and takes nothing new.
    Draining = 1, Agent, "draining";
    /// The agent has as many streams as it allows itself.
    Limit = 2, Agent, "limit";
    /// The agent advertises no such uplink (any more).
    UnknownUplink = 3, Agent, "unknown-uplink";
    /// The preamble could not be read.
    BadPreamble = 4, Hub, "bad-preamble";
    /// The workload's address refused the connection.
    ConnectRefused = 5, Workload, "connect-refused";
    /// The workload's address did not answer in time.
    ConnectTimeout = 6, Workload, "connect-timeout";
    /// The connection to the workload failed otherwise.
    ConnectFailed = 7, Workload, "connect-failed";
    /// The workload ended its side in good order.
    WorkloadClosed = 8, Workload, "workload-closed";
    /// The workload's connection broke.
    WorkloadReset = 9, Workload, "workload-reset";
    /// Neither side moved a byte for the time allowed.
    Idle = 10, Agent, "idle";
    /// The client went away.
    ClientGone = 11, Client, "client-gone";
    /// The hub needs the stream no more: cancelled, timed out, lost a race.
    Cancelled = 12, Hub, "cancelled";
    /// What came over the stream broke the protocol.
    Malformed = 13, Hub, "malformed";
    /// The drain deadline passed.
    DrainDeadline = 14, Agent, "drain-deadline";
    /// No grant of the agent names the service that it calls.
    ServiceDenied = 15, Hub, "service-denied";
    /// The hub has no such service.
    UnknownService = 16, Hub, "unknown-service";
    /// The service speaks TCP and the call is HTTP, or the other way round.
    ServiceProtocol = 17, Hub, "service-protocol";
    /// No endpoint of the service can take the call.
    ServiceUnavailable = 18, Workload, "service-unavailable";
    /// The hub finishes what runs and takes nothing new.
    HubDraining = 19, Hub, "hub-draining";
    /// The hub has as many connections as it allows itself.
    HubLimit = 20, Hub, "hub-limit";
}

/// The error code of a reset stream, read or to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reset {
    /// Why.
    pub reason: Reason,
    /// Bytes behind the preamble that were given to the workload, at the most. Saturates at [`Reset::MAX_DELIVERED`].
    pub delivered: u64,
}

impl Reset {
    /// The largest count that a code can hold; it stands for itself and all above it.
    pub const MAX_DELIVERED: u64 = (1 << 54) - 1;

    /// A reset that says: nothing reached the workload.
    pub const fn not_delivered(reason: Reason) -> Self {
        Self { reason, delivered: 0 }
    }

    /// The 62-bit code for the wire.
    pub const fn code(self) -> u64 {
        let delivered = if self.delivered > Self::MAX_DELIVERED { Self::MAX_DELIVERED } else { self.delivered };
        (delivered << 8) | self.reason.code() as u64
    }

    /// Reads a code from the wire.
    pub const fn from_code(code: u64) -> Self {
        Self { reason: Reason::from_code((code & 0xff) as u8), delivered: code >> 8 }
    }

    /// Whether a request whose first byte was the stream's byte number `start` (0 is the first behind the preamble) may have
    /// been seen by the workload.
    pub const fn may_have_seen(self, start: u64) -> bool {
        self.delivered > start || self.delivered >= Self::MAX_DELIVERED
    }
}

/// Why a whole tunnel was closed: the application error codes of CONNECTION_CLOSE (RFC 9000, section 19.19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// In good order.
    Done,
    /// The process ends; its work is finished.
    Leaving,
    /// The identity was revoked.
    Revoked,
    /// The peer's certificate is missing, of another trust domain, or of the wrong role.
    Identity,
    /// No version of the control protocol is known to both.
    Version,
    /// The peer broke the protocol or its limits.
    Protocol,
    /// A newer tunnel of the same process took its place.
    Replaced,
    /// As many tunnels as the end allows itself.
    Limit,
    /// A code that this build does not know.
    Other(u32),
}

impl Close {
    /// The code for the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::Done => 0,
            Self::Leaving => 1,
            Self::Revoked => 2,
            Self::Identity => 3,
            Self::Version => 4,
            Self::Protocol => 5,
            Self::Replaced => 6,
            Self::Limit => 7,
            Self::Other(code) => code,
        }
    }

    /// Reads a code from the wire.
    pub const fn from_code(code: u32) -> Self {
        match code {
            0 => Self::Done,
            1 => Self::Leaving,
            2 => Self::Revoked,
            3 => Self::Identity,
            4 => Self::Version,
            5 => Self::Protocol,
            6 => Self::Replaced,
            7 => Self::Limit,
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn codes_differ_and_read_back() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(usize::from(reason.code()), index);
            assert_eq!(Reset::from_code(Reset::not_delivered(*reason).code()).reason, *reason);
        }
    }

    #[test]
    fn a_request_is_unseen_only_when_delivery_ended_before_it() {
        let closed = Reset { reason: Reason::WorkloadClosed, delivered: 300 };
        assert!(!closed.may_have_seen(300));
        assert!(closed.may_have_seen(299));
        assert!(!Reset::not_delivered(Reason::ConnectRefused).may_have_seen(0));
    }

    proptest! {
        #[test]
        fn a_count_too_large_never_reads_as_unseen(start: u64, above in 0u64..1 << 9) {
            let reset = Reset { reason: Reason::WorkloadReset, delivered: Reset::MAX_DELIVERED + above };
            prop_assert!(Reset::from_code(reset.code()).may_have_seen(start));
        }

        #[test]
        fn every_code_fits_a_varint_and_reads_back(delivered in 0u64..1 << 54, index in 0usize..Reason::ALL.len()) {
            let reset = Reset { reason: Reason::ALL[index], delivered };
            prop_assert!(reset.code() < 1 << 62);
            prop_assert_eq!(Reset::from_code(reset.code()), reset);
        }
    }
}
