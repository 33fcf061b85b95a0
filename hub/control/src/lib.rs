//! The hub's control path: discovery, registry, enrolment, weights and their proof
