//! Who may ask for which page, and how it is told to those who may not.
//!
//! [`super::guard`] asks here before any handler runs. What is not in the table is refused to everybody, so that a page that
//! was forgotten is closed and not open. Which queues a token is limited to is held against the path by `request`, and
//! against jobs and commands by `api`.

mod pages;

use pages::Reach;
pub(super) use pages::{OPEN, Page};

use super::problem::{Kind, Problem};
pub(super) use crate::access::{Door, Grant};
use crate::access::{NotAdmitted, Pattern};
use rota_engine::job::QueueName;

impl Grant {
    /// Refuses a queue that somebody named and this does not reach. It says nothing of whether the queue is there.
    pub(super) fn check_queue(&self, queue: &QueueName) -> Result<(), Problem> {
        if self.covers(queue) {
            return Ok(());
        }
        let patterns: Vec<&str> = self.patterns().map(Pattern::as_str).collect();
        let detail = format!("{queue} is not among the token's queues: {}", patterns.join(", "));
        Err(Problem::new(Kind::QueueNotAllowed, detail))
    }

    /// Refuses what is for admins alone on a page that is for others too.
    pub(super) fn check_admin(&self, what: &str) -> Result<(), Problem> {
        if self.has_role(&[]) {
            return Ok(());
        }
        let own = self.roles().iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
        let problem = Problem::new(Kind::NotAllowed, format!("{what} is not for the role {own}"));
        Err(problem.hint("ask with a token of the role admin, or leave it to the server"))
    }

    /// Refuses a page that this does not reach.
    pub(super) fn check_page(&self, page: &Page) -> Result<(), Problem> {
        let Page { method, path, roles, reach } = page;
        if !self.has_role(roles) {
            let own = self.roles().iter().map(|role| role.name()).collect::<Vec<_>>().join(", ");
            let problem = Problem::new(Kind::NotAllowed, format!("{method} {path} is not for the role {own}"));
            return Err(problem.hint(format!("ask with a token of the role {}", page.roles_in_words())));
        }
        if *reach == Reach::Server && self.is_limited() {
            let detail = format!("{method} {path} is about all queues, and the token is limited to some");
            return Err(Problem::new(Kind::NotAllowed, detail).hint("ask with a token that is for all queues"));
        }
        Ok(())
    }
}

impl From<NotAdmitted> for Problem {
    fn from(not: NotAdmitted) -> Problem {
        let kind = match not {
            NotAdmitted::NoToken => Kind::NoToken,
            NotAdmitted::Unknown | NotAdmitted::Expired { .. } | NotAdmitted::Revoked { .. } => Kind::BadToken,
            NotAdmitted::Unreadable => Kind::TokensUnreadable,
        };
        Problem::new(kind, not.to_string())
    }
}

#[cfg(test)]
mod tests;
