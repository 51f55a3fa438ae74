//! `rota serve` from outside: how it starts, refuses to start, serves bad and slow peers, keeps time, and stops.
//!
//! Every test starts the real binary on a folder of its own and ends it; whatever is waited for is looked at until it is
//! there or a deadline passes.

mod batches;
mod compaction;
mod damage;
mod full;
mod lazy;
mod load;
mod mapped;
pub(crate) mod metrics;
mod peers;
mod salvage;
mod start;
mod stop;
mod time;
