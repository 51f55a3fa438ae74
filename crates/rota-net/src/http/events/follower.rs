//! A part of the program that listens, as clients do: from the ring, at its own pace, and nobody waits for it.

use super::super::api::Api;
use super::choice::{Choice, Wants};
use super::listener::{Heard, Listener};
use super::ring::Reader;
use crate::limits::HEARTBEAT;
use rota_engine::news::News;
use std::sync::Arc;

/// What is told of all that happens.
///
/// It is called on the thread that serves everybody: it must not wait for anything.
pub trait Follower: Send {
    /// Something happened, and may leave the process.
    fn hear(&mut self, news: &News);

    /// Some of what happened was told, or nothing happened for a while.
    fn rest(&mut self);

    /// Some of what happened was not told: it went on too far behind, or no place to listen was left for a while. What
    /// is told next is told from now on.
    fn lose(&mut self);
}

/// Tells `follower` of all that happens until the server stops.
pub(in crate::http) async fn follow(api: &Arc<Api>, follower: &mut dyn Follower) {
    loop {
        let (joined, _) =
            api.host.with(|shared, _| api.events.join(&mut shared.engine, None, Reader::Server, Wants::ALL));
        if let Some(joined) = joined {
            let listener = Listener::new(Arc::clone(api), None, Choice::default(), joined);
            if !listen(listener, follower).await {
                return;
            }
            follower.lose();
        } else {
            follower.lose();
            tokio::select! {
                () = api.stops() => return,
                () = tokio::time::sleep(HEARTBEAT) => {}
            }
        }
    }
}

/// Listens until the ring is past it, or the server stops. Returns whether it was the former.
async fn listen(mut listener: Listener, follower: &mut dyn Follower) -> bool {
    while let Some(heard) = listener.hear().await {
        match heard {
            Heard::Events(told) => {
                told.iter().for_each(|told| follower.hear(&told.news));
                follower.rest();
                // Others want to go on, too.
                tokio::task::yield_now().await;
            }
            Heard::Quiet(_) => follower.rest(),
            Heard::Opening(_) => {}
            Heard::Lagged(_) | Heard::End(_) => return true,
        }
    }
    false
}
