//! The terminal: what [`View`] draws goes there, and keys come from it. However it ends, the terminal is as before.

use std::future::poll_fn;
use std::io::{self, Write};
use std::panic;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::style::{Attribute, Print, SetAttribute};
use crossterm::terminal::{self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{execute, queue};
use tokio::signal::unix::{SignalKind, signal};

use super::looker::Looked;
use super::view::{Key, Line, Style, View};
use crate::command::http::Unanswered;
use crate::report::Failure;

/// How long a key is waited for before looks are looked for.
const KEY_WAIT: Duration = Duration::from_millis(50);

/// Shows looks as they come, until a key ends it, or a signal from outside: then with the exit code that a shell gives whom
/// that signal ends.
///
/// # Errors
/// The server refuses to be looked at, or the terminal fails.
pub(super) fn show(mut view: View, looks: Receiver<Looked>) -> anyhow::Result<ExitCode> {
    let failed = |error| Failure::at_run_time("cannot use the terminal").caused_by(error).hint("try rota top --once");
    // Before the terminal is changed: from here on nothing ends the program that does not come by here.
    let ended = signals().map_err(failed)?;
    let _screen = Screen::open().map_err(failed)?;
    let mut is_drawn = false;
    loop {
        match looks.try_recv() {
            Ok(looked) => {
                match looked {
                    Ok(look) => view.take(look),
                    Err(Unanswered::Absent(failure)) => view.trouble(&failure.to_string()),
                    Err(Unanswered::Refused(failure)) => return Err(failure.into()),
                }
                is_drawn = false;
            }
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => {
                return Err(Failure::at_run_time("the server is not looked at any more").into());
            }
        }
        if !is_drawn {
            let (width, height) = terminal::size().map_err(failed)?;
            draw(&view.draw(usize::from(width), usize::from(height))).map_err(failed)?;
            is_drawn = true;
        }
        let has_key = match event::poll(KEY_WAIT) {
            Ok(has_key) => has_key,
            // A terminal that is gone can't be asked for keys; the signal that says so may still be under way.
            Err(error) => return ended.recv_timeout(KEY_WAIT).map_err(|_| failed(error).into()),
        };
        if let Ok(code) = ended.try_recv() {
            return Ok(code);
        }
        if has_key {
            match event::read().map_err(failed)? {
                Event::Key(pressed) if pressed.kind != KeyEventKind::Release => {
                    if view.press(key(pressed)) {
                        return Ok(ExitCode::SUCCESS);
                    }
                    is_drawn = false;
                }
                Event::Resize(..) => is_drawn = false,
                _ => {}
            }
        }
    }
}

/// What comes when the program is told to end: its exit code.
fn signals() -> io::Result<Receiver<ExitCode>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    let kinds = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
    let mut told = Vec::new();
    for kind in kinds {
        told.push((kind, signal(kind)?));
    }
    drop(entered);
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        let first = runtime.block_on(poll_fn(|context| {
            let come = told.iter_mut().find_map(|(kind, told)| told.poll_recv(context).is_ready().then_some(*kind));
            come.map_or(Poll::Pending, Poll::Ready)
        }));
        let number = u8::try_from(first.as_raw_value()).unwrap_or(0);
        // Nobody listens any more if a key was faster.
        let _ = sender.send(ExitCode::from(128 + number));
    });
    Ok(receiver)
}

fn key(pressed: KeyEvent) -> Key {
    match pressed.code {
        KeyCode::Char('c') if pressed.modifiers.contains(KeyModifiers::CONTROL) => Key::Interrupt,
        KeyCode::Char(c) if !pressed.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => Key::Char(c),
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Left => Key::Char('<'),
        KeyCode::Right => Key::Char('>'),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        _ => Key::Other,
    }
}

/// Puts the lines onto the screen, at once, so that it does not flicker.
fn draw(lines: &[Line]) -> io::Result<()> {
    let mut out = Vec::new();
    for (row, line) in (0..).zip(lines) {
        let attribute = match line.style {
            Style::Plain => Attribute::Reset,
            Style::Head => Attribute::Reverse,
            Style::Alarm => Attribute::Bold,
            Style::Faint => Attribute::Dim,
        };
        queue!(out, MoveTo(0, row), SetAttribute(attribute), Print(&line.text), SetAttribute(Attribute::Reset))?;
        // Behind a line that fills its row, the cursor still stands on its last column.
        if !line.is_full {
            queue!(out, Clear(ClearType::UntilNewLine))?;
        }
    }
    let mut terminal = io::stdout().lock();
    terminal.write_all(&out)?;
    terminal.flush()
}

/// The terminal while it is ours.
struct Screen;

impl Screen {
    fn open() -> io::Result<Screen> {
        terminal::enable_raw_mode()?;
        let screen = Screen;
        // A panic's message is to be read, below the prompt that started this.
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |what| {
            restore();
            before(what);
        }));
        execute!(io::stdout(), EnterAlternateScreen, Hide, Clear(ClearType::All))?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// The terminal as it was. A terminal that is gone needs none of it.
fn restore() {
    let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
}
