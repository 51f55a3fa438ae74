//! Who takes the snapshots of a server: one at a time, each on a thread of its own.
//!
//! `serve` makes one, gives it to the HTTP side, and asks it for the last snapshot on SIGUSR1.

use std::sync::Arc;

use rota_net::host::Host;
use rota_net::http::{Kind, Problem, SnapshotTaken, Snapshots, Taking};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::address::Address;
use super::error::TakeError;
use super::place::PlaceFault;
use super::write::{self, Taken};

/// Takes the snapshots of one server.
pub(crate) struct Taker {
    host: Arc<Host>,
    /// Where they go if nobody says anything else.
    to: Address,
    /// One permit: whoever has it takes one.
    turn: Arc<Semaphore>,
}

/// Leave to take one.
pub(crate) struct Turn(OwnedSemaphorePermit);

impl Taker {
    pub(crate) fn new(host: Arc<Host>, to: Address) -> Taker {
        Taker { host, to, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Has none begin from now on; `None` while one is under way.
    pub(crate) fn turn(&self) -> Option<Turn> {
        self.turn.clone().try_acquire_owned().ok().map(Turn)
    }

    /// The same, once the one that is under way is over.
    ///
    /// # Errors
    /// [`TakeError::Interrupted`]: the server ends.
    pub(crate) async fn wait_for_turn(&self) -> Result<Turn, TakeError> {
        self.turn.clone().acquire_owned().await.map(Turn).map_err(|_| TakeError::Interrupted)
    }

    /// Takes the last one of this process. Nothing is decided any more when it is taken; if it fails, the server goes on.
    ///
    /// # Errors
    /// [`TakeError`].
    pub(crate) async fn take_last(&self, turn: Turn) -> Result<Taken, TakeError> {
        let Turn(turn) = turn;
        let taken = begin(self.host.clone(), self.to.clone(), true, turn).await;
        if taken.is_err() {
            self.host.thaw();
        }
        taken
    }
}

/// Takes a snapshot on a thread of its own, which goes on if nobody waits for it any more.
async fn begin(host: Arc<Host>, to: Address, last: bool, turn: OwnedSemaphorePermit) -> Result<Taken, TakeError> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name("rota-snapshot".into());
    let spawned = thread.spawn(move || {
        let taken = write::take(&host, &to, last);
        host.with(|shared, _| match &taken {
            Ok(taken) => {
                shared.snapshots.taken += 1;
                shared.snapshots.newest_bytes = taken.manifest.bytes();
            }
            Err(_) => shared.snapshots.failed += 1,
        });
        drop(turn);
        let _ = sender.send(taken);
    });
    spawned.map_err(|source| TakeError::System { doing: "start a thread", source })?;
    receiver.await.map_err(|_| TakeError::Interrupted)?
}

impl Snapshots for Taker {
    fn take(&self, to: Option<String>) -> Taking {
        let to = to.map_or(Ok(self.to.clone()), |text| text.parse().map(Address::absolute));
        let turn = self.turn.clone().try_acquire_owned();
        let host = self.host.clone();
        Box::pin(async move {
            let to = to.map_err(|error| Problem::new(Kind::SnapshotAddress, format!("\"to\": {error}")))?;
            let turn = turn.map_err(|_| problem(&TakeError::Busy))?;
            let taken = begin(host, to, false, turn).await.map_err(|error| problem(&error))?;
            Ok(SnapshotTaken {
                name: taken.manifest.name.clone(),
                address: taken.address.to_string(),
                jobs: taken.manifest.all_jobs(),
                bytes: taken.manifest.bytes(),
            })
        })
    }
}

fn problem(error: &TakeError) -> Problem {
    use std::error::Error;
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        detail.push_str(": ");
        detail.push_str(&error.to_string());
        cause = error.source();
    }
    let kind = match error {
        TakeError::Busy => Kind::SnapshotUnderWay,
        TakeError::Place(place) if matches!(place.source, PlaceFault::Store(_)) => Kind::SnapshotStore,
        TakeError::TooFarBehind { .. } => Kind::SnapshotTooSlow,
        _ => Kind::SnapshotFailed,
    };
    let problem = Problem::new(kind, detail);
    match error.hint() {
        Some(hint) => problem.hint(hint),
        None => problem,
    }
}
