//! Webhooks, as far as they need the world outside: the files that keep them, and the calls.
//!
//! When an address is called, and with what, `rota-net` decides; see [`rota_net::http::Webhooks`]. With jobs in memory alone
//! webhooks are in memory alone, too. Nothing here prints a secret, or an address that may have one in it.

pub(crate) mod allowed;
pub(crate) mod call;
pub(crate) mod error;
pub(crate) mod file;
mod told;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rota_net::host::Host;
use rota_net::http::{BadWebhook, Call, Calling, Keeping, Kind, Place, Problem, Webhook, Webhooks};
use tokio::task::JoinHandle;

use crate::report;
use call::Caller;
use error::WebhooksError;

/// Who keeps and calls them for a server.
pub(crate) struct Outside {
    kept: Vec<(Webhook, u64)>,
    /// None where nothing is kept.
    path: Option<PathBuf>,
    caller: Arc<Caller>,
    /// Whether it was told that places cannot be written.
    is_told: Arc<AtomicBool>,
    /// Whether it was told that what the log was told cannot be written.
    is_telling_told: Arc<AtomicBool>,
}

impl Outside {
    /// Reads those that were kept in that file, if there is to be one, for `caller` to call.
    ///
    /// # Errors
    /// [`WebhooksError`]: the file is not what it has to be.
    pub(crate) fn open(path: Option<PathBuf>, caller: Arc<Caller>) -> Result<Outside, WebhooksError> {
        let kept = path.as_deref().map(read).transpose()?.unwrap_or_default();
        let (is_told, is_telling_told) = Default::default();
        Ok(Outside { kept, path, caller, is_told, is_telling_told })
    }

    /// Tells the log what became of webhooks that it was not told of.
    pub(crate) async fn tell(&self, host: &Host) {
        let Some(path) = &self.path else { return };
        let webhooks: Vec<Webhook> = self.kept.iter().map(|(webhook, _)| webhook.clone()).collect();
        let before = told::read(path).unwrap_or_else(|error| {
            let text = "what the log was told of webhooks cannot be read: it is told of all of them again";
            report::failure(&anyhow::Error::new(error).context(text), false);
            told::Told::new()
        });
        let notes = told::changes(&before, &told::of(&webhooks));
        if notes.is_empty() {
            return;
        }
        let (told, depends_on) = host.with_and_wait(|shared, now| {
            let mut told = notes.into_iter().map(|note| shared.engine.tell(note, None, now));
            (told.try_for_each(|told| told), true)
        });
        // Where the disk is full, the next start tells it.
        if told.is_ok() && host.left_behind(depends_on).await.is_ok() {
            self.keep_told(webhooks).await;
        }
    }

    /// Whether there were any.
    pub(crate) fn has_any(&self) -> bool {
        !self.kept.is_empty()
    }
}

/// The webhooks of a file, and how far each is.
fn read(path: &Path) -> Result<Vec<(Webhook, u64)>, WebhooksError> {
    let webhooks = file::read(path)?;
    let places = file::read_places(path).unwrap_or_else(|error| {
        let text =
            "how far webhooks are cannot be read: they are called again with what there is since they were set up";
        report::failure(&anyhow::Error::new(error).context(text), false);
        Vec::new()
    });
    let place = |webhook: &Webhook| {
        let kept = webhook.kept();
        let is_its_own = |place: &&Place| place.name == kept.name && place.set_at_ns == kept.set_at_ns;
        places.iter().find(is_its_own).map_or(kept.after, |place| place.seq)
    };
    Ok(webhooks.into_iter().map(|webhook| (webhook.clone(), place(&webhook))).collect())
}

impl Webhooks for Outside {
    fn kept(&self) -> Vec<(Webhook, u64)> {
        self.kept.clone()
    }

    fn keep(&self, webhooks: Vec<Webhook>) -> Keeping {
        let Some(path) = self.path.clone() else { return Box::pin(std::future::ready(Ok(()))) };
        let written = tokio::task::spawn_blocking(move || file::write(&path, &webhooks));
        Box::pin(async move {
            let written = written.await.map_err(|_| Problem::new(Kind::Stopping, "the server stops"))?;
            written.map_err(|error| {
                let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
                Problem::new(Kind::WebhooksNotKept, format!("{error}{cause}"))
            })
        })
    }

    fn keep_places(&self, places: Vec<Place>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Some(path) = self.path.clone() else { return Box::pin(std::future::ready(())) };
        let is_told = self.is_told.clone();
        let written = tokio::task::spawn_blocking(move || file::write_places(&path, &places));
        let text = "how far webhooks are is not written down: after a start some are called with events again";
        Box::pin(told_once(written, is_told, text))
    }

    fn keep_told(&self, webhooks: Vec<Webhook>) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Some(path) = self.path.clone() else { return Box::pin(std::future::ready(())) };
        let is_told = self.is_telling_told.clone();
        let written = tokio::task::spawn_blocking(move || told::write(&path, &told::of(&webhooks)));
        let text = "what the log was told of webhooks is not written down: the next start tells it again";
        Box::pin(told_once(written, is_told, text))
    }

    fn check_url(&self, url: &str) -> Result<(), BadWebhook> {
        let bad = |detail, hint| BadWebhook { field: String::from("url"), detail, hint };
        let parsed = reqwest::Url::parse(url);
        let parsed = parsed.map_err(|error| bad(format!("that is not the address of a page: {error}"), None))?;
        let host = parsed.host_str().ok_or_else(|| bad(String::from("the address names no host"), None))?;
        self.caller.allowed().check_host(host).map_err(|forbidden| {
            let hint = format!(
                "name what anybody can reach, or start the server with --webhook-allow {}; it takes networks and hosts, too",
                forbidden.address
            );
            bad(forbidden.to_string(), Some(hint))
        })
    }

    fn random(&self) -> Result<[u8; 32], Problem> {
        crate::serve::random().map_err(|error| Problem::new(Kind::Busy, error.to_string()))
    }

    fn call(&self, call: Call) -> Calling {
        let caller = self.caller.clone();
        Box::pin(async move { caller.call(call).await })
    }
}

/// Waits until that is written; says so once if it cannot be.
async fn told_once(written: JoinHandle<Result<(), WebhooksError>>, is_told: Arc<AtomicBool>, text: &'static str) {
    match written.await {
        Ok(Err(error)) if !is_told.swap(true, Ordering::Relaxed) => {
            report::failure(&anyhow::Error::new(error).context(text), false);
        }
        Ok(Ok(())) => is_told.store(false, Ordering::Relaxed),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
