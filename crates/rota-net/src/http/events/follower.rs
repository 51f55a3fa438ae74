//! A part of the program that listens, as clients do: from the ring, at its own pace, and nobody waits for it.

use super::super::api::Api;
use super::listener::HEARTBEAT;
use super::ring::{Joined, Read, Reader};
use rota_engine::news::News;

/// About how much is read at once, in bytes of its text.
const PART_BYTES: usize = 32 << 10;

/// What is told of all that happens.
///
/// It is called on the thread that serves everybody: it must not wait for anything.
pub trait Follower: Send {
    /// Something happened, and may leave the process.
    fn hear(&mut self, news: &News);

    /// All that happened so far was told, or nothing happened for a while.
    fn rest(&mut self);

    /// Some of what happened was not told: it went on too far behind, or no place to listen was left for a while. What
    /// is told next is told from now on.
    fn lose(&mut self);
}

/// Tells `follower` of all that happens until the server stops.
pub(in crate::http) async fn follow(api: &Api, follower: &mut dyn Follower) {
    loop {
        let (joined, _) = api.host.with(|shared, _| api.events.join(&mut shared.engine, None, Reader::Server));
        let has_place = joined.is_some();
        if let Some(joined) = joined {
            listen(api, follower, joined).await;
            api.events.leave(Reader::Server);
        }
        if *api.stop.borrow() {
            return;
        }
        follower.lose();
        if !has_place {
            tokio::select! {
                () = api.stops() => return,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
        }
    }
}

/// Listens until the server stops, or the ring is past it.
async fn listen(api: &Api, follower: &mut dyn Follower, joined: Joined) {
    let Joined { mut next, mut end, .. } = joined;
    loop {
        let passed = match api.events.read(next, |_| true, PART_BYTES) {
            Read::Next { chosen, next: behind, seen } => {
                chosen.iter().for_each(|told| follower.hear(&told.news));
                next = behind;
                seen.is_some()
            }
            Read::Lagged => return,
        };
        if passed {
            // Others want to go on, too.
            tokio::task::yield_now().await;
            continue;
        }
        follower.rest();
        tokio::select! {
            () = api.stops() => return,
            more = end.wait_for(|end| *end > next) => if more.is_err() { return },
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}
