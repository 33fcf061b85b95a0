//! Maps that are asked on the way of every request.

/// A hash map with a hasher several times faster than the standard one. Seeded at random; not made for keys that an attacker may
/// *insert*: what goes in comes from the configuration, from agents within their grants, or from the hub itself. Looking for
/// hostile keys is harmless.
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// A set of the same kind.
pub type Set<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
