//! `rota top`: a server's rates and its queues, live in a terminal, or as a plain table or JSON.
//!
//! `look` asks and counts, `view` says what the screen has, `terminal` puts it there. Only the last knows of a terminal.

mod look;
mod terminal;
mod text;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use self::look::{Look, Looker};
use self::view::View;
use super::http::Unanswered;
use crate::cli::{Global, TopArgs};
use crate::report;

pub(crate) fn run(global: &Global, args: &TopArgs) -> anyhow::Result<ExitCode> {
    let mut looker = Looker::new(global, &args.server)?;
    // Without an answer to the first look the address is wrong, more likely than not.
    let first = looker.look().map_err(Unanswered::into_failure)?;
    if global.json {
        objects(looker, &first, (!args.once).then_some(args.every))?;
    } else if args.once || !io::stdout().is_terminal() {
        report::raw(View::new(&args.server.address().to_string(), first).plain().as_bytes())?;
    } else {
        let view = View::new(&args.server.address().to_string(), first);
        return terminal::show(view, looker::start(args.every, looker));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints an object, and one more each `every`, if that is given, until it is interrupted or refused.
fn objects(mut looker: Looker, first: &Look, every: Option<Duration>) -> anyhow::Result<()> {
    report::raw(format!("{}\n", first.json()).as_bytes())?;
    let Some(every) = every else { return Ok(()) };
    loop {
        thread::sleep(every);
        match looker.look() {
            Ok(look) => report::raw(format!("{}\n", look.json()).as_bytes())?,
            Err(Unanswered::Absent(failure)) => report::note(&failure.to_string()),
            Err(Unanswered::Refused(failure)) => return Err(failure.into()),
        }
    }
}

/// Looks beside the screen, so that a server that takes its time keeps no key waiting.
mod looker {
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::thread;
    use std::time::Duration;

    use super::look::{Look, Looker};
    use crate::command::http::Unanswered;

    /// A look, or why there is none; nothing comes after a refusal.
    pub(super) type Looked = Result<Look, Unanswered>;

    /// Looks once each `every`, in a thread that ends with the program.
    pub(super) fn start(every: Duration, mut looker: Looker) -> Receiver<Looked> {
        let (sender, receiver) = sync_channel(1);
        thread::spawn(move || {
            loop {
                thread::sleep(every);
                let looked = looker.look();
                let ends = matches!(looked, Err(Unanswered::Refused(_)));
                if sender.send(looked).is_err() || ends {
                    return;
                }
            }
        });
        receiver
    }
}
