//! QUIC's constants: congestion, windows, stream limits, buffers, MTU. One place, each with its reason.
