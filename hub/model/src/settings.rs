//! Settings as typed, read from TOML.
