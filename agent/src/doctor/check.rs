//! What is looked at, and what a look led to. Pure; the names here are a promise to programs that read the JSON.

use serde::Serialize;

/// What a check led to; later ones are worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mark {
    /// Good.
    Pass,
    /// Could not be looked at, or need not be.
    Skip,
    /// Works, but not as well or not for long.
    Warn,
    /// Does not work.
    Fail,
}

impl Mark {
    /// The word in a report.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Skip => "SKIP",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

macro_rules! what {
    ($($variant:ident $name:literal $subject:literal $doc:literal,)*) => {
        /// What a check looks at. Names are kept from release to release.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub enum What {
            $(#[doc = $doc] #[serde(rename = $name)] $variant,)*
        }

        impl What {
            /// All of them, in the order of a report.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name in a report.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What its subject is.
            pub const fn subject(self) -> &'static str {
                match self { $(Self::$variant => $subject,)* }
            }

            /// What it looks at and what makes it warn or fail.
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)* }
            }
        }
    };
}

what! {
    Settings "settings" "file, or place of a mistake"
        "FAIL: agent.toml has mistakes (exit code 78, nothing else is looked at). WARN: no uplink is declared, or something is hardly as meant.",
    Descriptors "descriptors" "the agent's process, or this shell"
        "WARN: fewer than 4096 files and connections may be open. Each connection takes one.",
    UdpBuffers "udp-buffers" "receive, send"
        "WARN: the kernel gives sockets smaller buffers than tunnels ask for; bulk transfers cost more CPU.",
    Files "files" "path"
        "FAIL: others may read the key or the certificate, or the agent's user may not. WARN: others may write a settings file.",
    Disk "disk" "state directory"
        "WARN: less than 16 MiB or 16 files are left where renewed certificates are kept.",
    Identity "identity" "state directory"
        "FAIL: this VM has not joined, its files cannot be used, or its trust domain is not the one that the settings insist on.",
    NameResolution "name-resolution" "hub"
        "FAIL: a hub's name has no address, or no name server answers.",
    UdpPath "udp-path" "address of a hub"
        "A packet there and its answer back, without TLS. FAIL: no answer, or nobody listens. WARN: the same, but TCP passes and carries the tunnels, or another address of that hub answers. Over TCP the hub says which way is cut: there, or back.",
    PathMtu "path-mtu" "address of a hub"
        "WARN: packets of 1400 bytes do not get through; traffic works and costs more.",
    Ca "ca" "address of a hub"
        "FAIL: the hub's certificate is not of the CA that this VM has joined, or that the token names.",
    Clock "clock" "address of a hub"
        "This machine's clock against the hub's, also where it is too wrong for TLS. WARN from 30 s, FAIL from 5 min.",
    Certificate "certificate" "name of the agent's certificate"
        "By the hub's clock, where that is known. FAIL: expired or not begun. WARN: it should have been renewed.",
    Tunnel "tunnel" "address of a hub"
        "A tunnel with the agent's own certificate, and the hub's first word on it. FAIL: refused, revoked, or none within 5 s.",
    VersionSkew "version-skew" "replica, or the running agent"
        "FAIL: no version of the protocol in common. WARN: hub and agent are more than one minor version apart, or the running agent is not the program on the disk.",
    Agent "agent" "status socket"
        "FAIL: the running agent does not answer. WARN: none runs, it ends, or it refused the last change of its settings.",
    Coverage "coverage" "replica"
        "FAIL: the running agent has no tunnel although there is a way. WARN: it has none to some shards of a replica.",
    Renewal "renewal" "the running agent"
        "WARN: its last attempt to renew the certificate failed.",
    Uplink "uplink" "uplink"
        "FAIL: a hub refuses it.",
    Workload "workload" "uplink"
        "The uplink's own health check, once. FAIL: it does not pass.",
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: What,
    /// Which one of its kind.
    pub subject: String,
    /// What it led to.
    pub mark: Mark,
    /// What was seen.
    pub seen: String,
    /// How to mend it; empty when nothing has to be.
    pub mend: String,
}

impl Check {
    pub(super) fn pass(check: What, subject: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { check, subject: subject.into(), mark: Mark::Pass, seen: seen.into(), mend: String::new() }
    }

    pub(super) fn warn(check: What, subject: impl Into<String>, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, subject: subject.into(), mark: Mark::Warn, seen: seen.into(), mend: mend.into() }
    }

    pub(super) fn fail(check: What, subject: impl Into<String>, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, subject: subject.into(), mark: Mark::Fail, seen: seen.into(), mend: mend.into() }
    }

    pub(super) fn skip(check: What, subject: impl Into<String>, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, subject: subject.into(), mark: Mark::Skip, seen: seen.into(), mend: mend.into() }
    }

    /// Not looked at, because of what another check found.
    pub(super) fn after(check: What, subject: impl Into<String>, cause: What) -> Self {
        Self::skip(check, subject, format!("see {}", cause.as_str()), "")
    }
}
