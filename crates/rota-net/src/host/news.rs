//! News on their way out: who wants them is told that there are some, and gets them when they may leave.

use super::{CommitError, Host};
use rota_engine::news::Taken;

impl Host {
    /// Waits until something was taken down by the engine and not fetched. For one who fetches: it is told once for all
    /// that is there.
    pub async fn has_news(&self) {
        self.news.notified().await;
    }

    /// Fetches what was taken down, and waits until the log is as far as it depends on. What is fetched is gone from the
    /// engine, whether or not somebody waits for this to its end.
    ///
    /// # Errors
    /// [`CommitError`]: it never will be. Nothing may leave.
    pub async fn take_news(&self) -> Result<Taken, CommitError> {
        let (taken, depends_on) = self.with_and_wait(|shared, _| (shared.engine.take_news(), true));
        self.left_behind(depends_on).await?;
        Ok(taken)
    }
}
