//! figspan's harness, end-to-end behaviours and architecture checks
