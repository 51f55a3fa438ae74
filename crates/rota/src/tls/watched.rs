//! Files of TLS that are read again when they change, by whoever knows what is in them.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use super::error::TlsError;
use crate::files::Stamp;
use crate::report;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Files that belong together, and how they were.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    /// At least one; by the first of them they are told of.
    paths: Vec<PathBuf>,
    /// How they were when they were read last.
    read: Stamps,
    /// How they were when they were looked at last.
    seen: Stamps,
}

/// The states of files; none for one that is not there.
type Stamps = Vec<Option<Stamp>>;

impl Watched {
    /// Looks at files that are read next: what is changed from here on is seen.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Watched {
        let read = look(&paths);
        Watched { paths, seen: read.clone(), read }
    }

    /// Has them read again whenever they have changed, and at once whenever `again` says so, for ever. Files that do not do have
    /// to change nothing, and are told of.
    pub(crate) async fn watch(mut self, mut again: watch::Receiver<()>, read: impl Fn() -> Result<(), TlsError>) {
        loop {
            self.changed(&mut again).await;
            match read() {
                Ok(()) => {
                    let first = self.paths.first().map(|path| path.display().to_string()).unwrap_or_default();
                    rota_net::note!("rota: TLS: read {first} again");
                }
                Err(error) => {
                    let error = anyhow::Error::new(error).context("TLS goes on with what it had: new files do not do");
                    report::failure(&error, false);
                }
            }
        }
    }

    /// Waits until they are to be read.
    async fn changed(&mut self, again: &mut watch::Receiver<()>) {
        loop {
            let is_told = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                Ok(()) = again.changed() => true,
            };
            let before = std::mem::replace(&mut self.seen, look(&self.paths));
            // A certificate and its key are written one after the other: they are read once they have come to rest, unless
            // somebody says that they are as they should be.
            let rests = self.seen == before;
            if is_told || (rests && self.seen != self.read) {
                self.read.clone_from(&self.seen);
                return;
            }
        }
    }
}

fn look(paths: &[PathBuf]) -> Stamps {
    paths.iter().map(|path| Stamp::look(path).ok().flatten()).collect()
}
