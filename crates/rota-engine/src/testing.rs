//! What tests of the engine are made of: a disk that can lose power, a plain model of what the engine must do, random
//! clients, and the simulator that puts them together. Feature `testing`; nothing of it is in a server.

pub mod calendar;
pub mod random;
pub mod storage;

#[cfg(test)]
pub(crate) mod server;

pub mod limit_keys;
pub mod lockstep;
pub mod model;
pub mod workload;

pub mod ledger;
pub mod simulator;
