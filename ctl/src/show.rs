//! What answers look like for people. JSON and YAML are the admin API's own and pass by here.

pub(crate) mod agent;
pub(crate) mod backend;
pub(crate) mod ca;
pub(crate) mod grant;
pub(crate) mod hub;
pub(crate) mod mirror;
pub(crate) mod route;
pub(crate) mod service;
pub(crate) mod uplink;
