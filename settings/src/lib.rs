//! Reads settings files, for the hub and the agent alike: what is not on either path, but decides about both.
//!
//! A file is TOML. [`Source`] keeps the text and collects *findings*; [`Section`] and [`Item`] are cursors over its tables
//! and values. Reading never stops at the first mistake, refuses unknown keys with a suggestion, and says for each mistake
//! where it is, what is wrong, why, and how to mend it. Which keys exist is written down once, in [`Table`]s, from which
//! the reference in `docs/` is made too. Pure: no I/O, no clock.
//!
//! ```
//! use figspan_settings::{Key, Source, Table};
//!
//! static AGENT: Table = Table { path: "", doc: "", keys: &[Key { name: "hubs", kind: "list of host:port", default: "", doc: "Hubs." }] };
//!
//! let source = Source::new("agent.toml", "hubs = [\"hub:7443\"]\nhub = 1\n");
//! let document = source.parse().expect("well-formed");
//! let root = document.section(&AGENT);
//! let hubs: Vec<&str> = root.get("hubs").map(|hubs| hubs.items().iter().filter_map(|hub| hub.text()).collect()).unwrap_or_default();
//! assert_eq!(hubs, ["hub:7443"]);
//! let (errors, _warnings) = source.findings();
//! assert_eq!(errors[0].to_string(), "agent.toml:2:1: hub: is not a key here; write hubs");
//! ```

mod document;
mod finding;
mod item;
mod quantity;
mod section;
mod source;
mod table;

pub use document::{Document, MAX_TEXT};
pub use finding::Finding;
pub use item::Item;
pub use quantity::{duration, size};
pub use section::Section;
pub use source::{MAX_FINDINGS, Place, Source};
pub use table::{Key, Table, nearest, reference};
