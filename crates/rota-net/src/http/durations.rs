//! How long requests took until the head of their answer was ready, by page and by the hundreds of the status: for `/metrics`. Who
//! waited for a job, or for a snapshot, is in it with all that they waited.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rota_engine::spans::Spans;

/// Methods that are told apart. Whatever else there is counts as the last.
const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "HEAD", "other"];

/// The hundreds of a status, from 2 on: there is no answer below.
const CLASSES: usize = 4;

/// What is counted of one page.
type OfPage = [[Option<Box<Spans>>; CLASSES]; METHODS.len()];

/// How long requests took. There are as many pages as the server has, and one for what is none.
#[derive(Debug, Default)]
pub struct Durations(Mutex<BTreeMap<String, OfPage>>);

/// Those of one page, one method and one class.
#[derive(Debug)]
pub struct Took {
    /// The page's path, with the names of its parts; `none` for what is no page.
    pub route: String,
    /// The method.
    pub method: &'static str,
    /// The hundreds of the status: 2 to 5.
    pub class: usize,
    /// How long it took.
    pub spans: Spans,
}

impl Durations {
    /// Counts a request.
    pub(super) fn count(&self, route: Option<&str>, method: &str, status: u16, took: Duration) {
        let route = route.unwrap_or("none");
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        let Some(class) = usize::from(status / 100).checked_sub(2).filter(|class| *class < CLASSES) else { return };
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !pages.contains_key(route) {
            pages.insert(route.to_owned(), OfPage::default());
        }
        if let Some(page) = pages.get_mut(route) {
            page[method][class].get_or_insert_default().add(took);
        }
    }

    /// All that were counted.
    pub(crate) fn all(&self) -> Vec<Took> {
        let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for (route, methods) in &*pages {
            for (method, classes) in METHODS.iter().zip(methods) {
                let counted = classes.iter().enumerate().filter_map(|(at, spans)| Some((at + 2, spans.as_deref()?)));
                all.extend(counted.map(|(class, spans)| Took {
                    route: route.clone(),
                    method,
                    class,
                    spans: spans.clone(),
                }));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_methods_and_classes_are_told_apart_and_bounded() {
        let durations = Durations::default();
        let second = Duration::from_secs(1);
        for (route, method, status) in [
            (Some("/v1/jobs"), "POST", 201),
            (Some("/v1/jobs"), "POST", 200),
            (Some("/v1/jobs"), "POST", 409),
            (Some("/v1/jobs"), "BREW", 405),
            (None, "GET", 404),
            (None, "GET", 101),
            (None, "GET", 600),
        ] {
            durations.count(route, method, status, second);
        }
        let all: Vec<_> =
            durations.all().into_iter().map(|took| (took.method, took.class, took.spans.total())).collect();
        assert_eq!(all, [("POST", 2, 2), ("POST", 4, 1), ("other", 4, 1), ("GET", 4, 1)]);
    }
}
