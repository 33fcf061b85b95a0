//! What settings mean: listeners, routes and backends, checked and immutable. Names follow Gateway API v1.

pub mod backend;
pub mod call;
pub mod draft;
pub mod fields;
pub mod limits;
pub mod listener;
pub mod matcher;
pub mod policy;
pub mod reserved;
pub mod route;
pub mod target;

use std::collections::HashMap;
use std::sync::Arc;

pub use backend::{Backend, BackendTls, BackendTlsRoots, Service, ServiceAddress};
pub use call::CallRoute;
pub use limits::{ForwardedHeaders, Limits, Proxies, Timeouts};
pub use listener::{Certificate, Listener, ListenerName, ListenerProtocol};
pub use matcher::{Matched, Matcher};
pub use policy::{
    BackendPolicy, Coding, Compression, Cors, ErrorAnswer, Filters, GrpcCodes, HashOn, HeaderEdit, LoadBalancing, MediaPattern, Method,
    Mirror, Origin, PathEdit, Redirect, RetryPolicy, Rewrite, RulePolicy, SameSite, SessionPersistence,
};
pub use reserved::Reserved;
pub use route::{
    HeaderMatch, HttpRoute, HttpRule, MirrorTarget, PathMatch, RouteMatch, RouteName, RuleName, Sources, StreamRoute, ValueMatch,
};
pub use target::{ServiceName, Target};

use figspan_proto::name::{UplinkName, Zone};

use crate::jwt::JwtProvider;
use crate::state::RuleState;

/// Everything that one configuration says about traffic. Replaced as a whole by each reload; never changed in place.
#[derive(Debug, Default)]
pub struct Routing {
    /// Where the hub is, for backends that prefer what is near.
    pub zone: Option<Zone>,
    /// Listeners, in the order of the file.
    pub listeners: Vec<Arc<Listener>>,
    /// HTTP routes (Gateway API: HTTPRoute and GRPCRoute), in the order of the file, which breaks ties of precedence.
    pub http_routes: Vec<Arc<HttpRoute>>,
    /// TCP and TLS-passthrough routes (Gateway API: TCPRoute, TLSRoute).
    pub stream_routes: Vec<Arc<StreamRoute>>,
    /// Services in the cluster, by name.
    pub services: HashMap<ServiceName, Arc<Service>>,
    /// The ways of calls that agents make, one for each service.
    pub calls: HashMap<ServiceName, CallRoute>,
    /// How the hub checks the addresses of services.
    pub health_checks: HashMap<ServiceName, policy::HealthCheck>,
    /// How the hub speaks TLS to uplinks' workloads, where it does (Gateway API: BackendTLSPolicy).
    pub uplink_tls: HashMap<UplinkName, Arc<BackendTls>>,
    /// Who signs tokens.
    pub jwt_providers: Vec<Arc<JwtProvider>>,
    /// Fields of claims, which no client may send.
    pub reserved: Reserved,
    /// Bounds on what clients and workloads may send.
    pub limits: Limits,
    /// Whose forwarded headers are believed, and which are written.
    pub proxies: Proxies,
    /// Cursors among the addresses of each service (`service/<name>`); survive reloads.
    pub service_states: HashMap<ServiceName, Arc<RuleState>>,
    /// The routes, compiled once for each configuration; see [`Routing::matcher`].
    pub compiled: matcher::Compiled,
}

impl Routing {
    /// The matcher of these routes. The first call compiles it; readers make that call before they publish.
    pub fn matcher(&self) -> &Matcher {
        self.compiled.matcher_of(self)
    }
}
