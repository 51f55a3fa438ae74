//! What a job is, and what happens to it.
//!
//! ```text
//!            command ──► decide ──► events ──► apply ──► state
//!                                     │                    │
//!                                     ▼                    ▼
//!                                    log          answers, deliveries
//! ```
//!
//! The engine is one deterministic state machine. It has no socket, clock, thread or randomness inside: it is told the
//! time, and whoever embeds it writes its records and sends its answers. The rules that hold at every moment:
//!
//! - a job is in one state, and every line it could stand in agrees;
//! - a job is held by at most one session, and only its holder completes or releases it;
//! - who reserves gets the least (priority, run_at, id) of the queues it watches;
//! - nobody waits while a job that they could have is ready;
//! - replaying the log, or any prefix of it, gives the state of that moment, but for leases that are not durable;
//! - ids are never issued twice, across restarts too.
//!
//! # Example
//!
//! ```
//! use rota_engine::command::{Answer, Command, Due, Held, NewJob, OnConflict, Target};
//! use rota_engine::engine::{Engine, Options};
//! use rota_engine::job::{Priority, QueueName, Time};
//! use std::time::Duration;
//!
//! let mut now = Time(0);
//! let mut engine = Engine::in_memory(Options::default(), now, Time(0));
//! let mail = QueueName::new("mail")?;
//!
//! let producer = engine.open_session().ok_or("too many sessions")?;
//! let job = NewJob {
//!     priority: Priority(10),
//!     due: Due::In(Duration::from_secs(5)),
//!     key: Some(b"welcome-42"),
//!     ..NewJob::new(Target::Named(&mail), (*b"send the welcome mail").into())
//! };
//! let Answer::Put(id) = engine.execute(producer, Command::Put(job), now)? else { unreachable!() };
//!
//! let worker = engine.open_session().ok_or("too many sessions")?;
//! engine.execute(worker, Command::Watch(&mail), now)?;
//! let reserve = Command::Reserve { wait: Some(Duration::ZERO) };
//! assert_eq!(engine.execute(worker, reserve, now)?, Answer::TimedOut);
//!
//! now = now.after(Duration::from_secs(5));
//! engine.tick(now);
//! let reserve = Command::Reserve { wait: Some(Duration::ZERO) };
//! assert!(matches!(engine.execute(worker, reserve, now)?, Answer::Reserved(job, _) if job == id));
//! assert_eq!(engine.job(id).ok_or("gone")?.body.in_memory(), Some(&b"send the welcome mail"[..]));
//! engine.execute(worker, Command::Complete { held: Held::by_me(id), result: None }, now)?;
//! assert!(engine.job(id).is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bodies;
pub mod clock;
pub mod command;
pub mod engine;
pub mod event;
pub mod far;
mod groups;
mod ids;
mod index;
pub mod job;
pub mod journal;
mod lease;
pub mod limits;
pub mod lines;
pub mod log;
pub mod news;
pub mod note;
mod pages;
pub mod queue;
pub mod reason;
pub mod refused;
pub mod schedule;
pub mod session;
mod snapshot;
pub mod spans;
mod state;
pub mod storage;
pub mod terms;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod wheel;

pub use snapshot::SnapshotCounts;
pub use state::Totals;
