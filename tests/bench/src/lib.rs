//! figspan beside its peers on the same work, and what its parts cost: the parts of `figspan-bench`.
//!
//! `bed` and `origin` set up a run, `chains` starts figspan and its peers, `load` makes the work, `peers` measures all chains in turn;
//! `control` and `instructions` measure figspan alone; `table`, `picture` and `report` tell it.

pub mod bed;
pub mod chain;
pub mod chains;
pub mod control;
pub mod figure;
pub mod instructions;
pub mod keys;
pub mod load;
pub mod origin;
pub mod peers;
pub mod picture;
pub mod procs;
pub mod report;
pub mod table;
