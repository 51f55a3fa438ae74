//! What a server of these tests has around it: nothing, and everybody may everything.

use rota_net::access::{Door, Grant, NotAdmitted};
use rota_net::http::{
    BadWebhook, Call, Called, Calling, Follower, Keeping, Kind, Place, Problem, Services, Snapshots, Taking, Webhook,
    Webhooks,
};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

pub(crate) fn services(follower: Option<Box<dyn Follower>>) -> Services {
    Services {
        snapshots: Arc::new(Nothing),
        webhooks: Arc::new(Nothing),
        door: Arc::new(Open(watch::channel(0).0)),
        follower,
        watcher: None,
    }
}

/// Everybody may everything.
struct Open(watch::Sender<u64>);

impl Door for Open {
    fn admit(&self, _: Option<&str>) -> Result<Grant, NotAdmitted> {
        Ok(Grant::everything())
    }

    fn renew(&self, grant: &Grant) -> Result<Grant, NotAdmitted> {
        Ok(grant.clone())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

/// There are neither snapshots nor webhooks.
struct Nothing;

impl Snapshots for Nothing {
    fn take(&self, _: Option<String>) -> Taking {
        Box::pin(async { Err(Problem::new(Kind::SnapshotFailed, "there are none here")) })
    }
}

impl Webhooks for Nothing {
    fn kept(&self) -> Vec<(Webhook, u64)> {
        Vec::new()
    }

    fn keep(&self, _: Vec<Webhook>) -> Keeping {
        Box::pin(async { Ok(()) })
    }

    fn keep_told(&self, _: Vec<Webhook>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }

    fn keep_places(&self, _: Vec<Place>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async {})
    }

    fn check_url(&self, _: &str) -> Result<(), BadWebhook> {
        Ok(())
    }

    fn random(&self) -> Result<[u8; 32], Problem> {
        Ok([7; 32])
    }

    fn call(&self, _: Call) -> Calling {
        Box::pin(async { Called::Unanswered(String::from("nobody is called here")) })
    }
}
