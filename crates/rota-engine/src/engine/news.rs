//! What happens, taken down for who listens.

use super::Engine;
use crate::log::{Lsn, Pending};
use crate::news::{News, NewsKind, Taken};

impl Engine {
    /// Takes down what happens from now on, to be fetched with [`Engine::take_news`]. Returns whether that
    /// begins now.
    pub fn listen(&mut self) -> bool {
        let begins = self.news.is_none();
        if begins {
            self.news = Some(Box::default());
        }
        begins
    }

    /// Takes down nothing any more, and forgets what was not fetched.
    pub fn stop_listening(&mut self) {
        self.news = None;
    }

    /// Whether something was taken down and not fetched.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.news.as_ref().is_some_and(|news| !news.is_empty())
    }

    /// What was taken down since the last call. It depends on the log as answers do.
    pub fn take_news(&mut self) -> Taken {
        self.news.as_mut().map_or_else(Taken::default, |news| news.take())
    }

    /// The number of the next event.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.state.numbers().next_seq
    }

    /// The number of the newest of what was taken down since that began, be it fetched already.
    #[must_use]
    pub fn newest_news(&self) -> Option<u64> {
        self.news.as_ref().and_then(|news| news.newest())
    }

    /// The place of the newest record, be it written or not; 0 if nothing is logged. All events so far that are in the log stand
    /// there or before.
    #[must_use]
    pub fn last_record(&self) -> Lsn {
        self.pending.as_ref().map_or(Lsn(0), Pending::last_lsn)
    }

    /// That this start of the engine happened, which was before anybody could listen.
    #[must_use]
    pub fn started(&self) -> News {
        let (seq, at) = self.started;
        let news = News::new(seq, at, self.state.wall_time(at), NewsKind::ServerStarted);
        News { epoch: Some(self.epoch()), ..news }
    }
}
