//! Tests of the engine through its public face. The simulator and the model that they use are in
//! `rota_engine::testing`.

mod actors;
mod durable;
mod followed;
mod journal;
mod left;
mod limit_keys;
mod log_bytes;
mod model;
mod news;
mod parents;
mod queues;
mod schedules;
mod simulation;
mod wall;
mod world;
