//! `smsd status --watch`: the same, live, with the last SMS and how fast they go.
//!
//! It looks and never touches: no key changes anything but what is shown. When the daemon or the queue goes away it stays,
//! says so, and shows what was seen last. Whatever ends it, the terminal is given back as it was.

mod board;
mod feed;
mod screen;
mod view;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use self::board::Board;
use self::feed::Look;
use self::screen::{Keys, Screen};
use super::{Globals, Session, Stop, block_on, output};

/// Between two pictures, while nothing happens: ages grow.
const TICK: Duration = Duration::from_secs(1);

/// Shows what runs until somebody quits.
pub(crate) fn run(globals: &Globals) -> anyhow::Result<ExitCode> {
    if !screen::there_is_one() {
        let words =
            "--watch needs a terminal for keys and picture; for programs there is `smsd status --json`";
        return Err(Stop::Usage(words.to_owned()).into());
    }
    let session = Session::load(globals)?;
    session.drop_root()?;
    block_on(async {
        let (publish, looks) = watch::channel(None);
        tokio::select! {
            ended = show(looks) => ended,
            () = feed::keep_looking(&session, publish) => Ok(ExitCode::SUCCESS),
        }
    })
}

async fn show(mut looks: watch::Receiver<Option<Look>>) -> anyhow::Result<ExitCode> {
    let mut ends = Ends::new().context("signals can not be waited for")?;
    let mut screen = Screen::open().context("the terminal can not be used")?;
    let mut keys = Keys::listen().context("no thread for the keys")?;
    let colour = output::colour_on_stdout();
    let mut board = Board::default();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.draw(|frame| view::draw(frame, &mut board, Timestamp::now(), colour))?;
        tokio::select! {
            event = keys.next() => match event {
                Some(Event::Key(key)) => match asked(key) {
                    Asked::Quit => break,
                    Asked::Scroll(rows) => board.scroll(rows),
                    Asked::Page(pages) => board.page(pages),
                    Asked::Nothing => {}
                },
                Some(_) => {}
                None => anyhow::bail!("the terminal is gone"),
            },
            Ok(()) = looks.changed() => {
                let look = looks.borrow_and_update().clone();
                board.learn(look);
            }
            () = ends.next() => break,
            _ = tick.tick() => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Quit,
    Scroll(isize),
    Page(isize),
    Nothing,
}

fn asked(key: KeyEvent) -> Asked {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Asked::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Asked::Quit,
        KeyCode::Up => Asked::Scroll(-1),
        KeyCode::Down => Asked::Scroll(1),
        KeyCode::PageUp => Asked::Page(-1),
        KeyCode::PageDown => Asked::Page(1),
        _ => Asked::Nothing,
    }
}

/// The signals that end it.
struct Ends {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Ends {
    fn new() -> std::io::Result<Ends> {
        Ok(Ends {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
            _ = self.hup.recv() => {}
        }
    }
}
