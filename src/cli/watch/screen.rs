//! The terminal while we have it: the other screen, raw keys; given back on every way out, a panic included.

use std::io::{self, IsTerminal};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// Between two looks whether keys are still wanted.
const PAUSE: Duration = Duration::from_millis(100);
/// Keys that are pressed before they are minded.
const TYPED_AHEAD: usize = 64;

/// True if there is a terminal for keys and for a picture.
pub(super) fn there_is_one() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// See the module.
pub(super) struct Screen(Option<DefaultTerminal>);

impl Screen {
    /// Takes the terminal. A panic gives it back before it says its words.
    pub(super) fn open() -> io::Result<Screen> {
        ratatui::try_init().map(|terminal| Screen(Some(terminal))).inspect_err(|_| ratatui::restore())
    }

    /// Shows a picture, in the size that the terminal has now.
    pub(super) fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        match &mut self.0 {
            Some(terminal) => terminal.draw(picture).map(|_| ()),
            None => Ok(()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It shows the cursor as it goes, which is to happen before the other screen does.
        self.0 = None;
        ratatui::restore();
    }
}

/// What is typed, read by a thread of its own, which ends with this.
pub(super) struct Keys {
    typed: mpsc::Receiver<Event>,
    reader: Option<JoinHandle<()>>,
}

impl Keys {
    pub(super) fn listen() -> io::Result<Keys> {
        let (tell, typed) = mpsc::channel(TYPED_AHEAD);
        let read = move || {
            while !tell.is_closed() {
                let event = match event::poll(PAUSE) {
                    Ok(false) => continue,
                    Ok(true) => event::read(),
                    Err(e) => Err(e),
                };
                let Ok(event) = event else { return };
                if tell.blocking_send(event).is_err() {
                    return;
                }
            }
        };
        let reader = std::thread::Builder::new().name("keys".to_owned()).spawn(read)?;
        Ok(Keys { typed, reader: Some(reader) })
    }

    /// What is typed next, or a new size; `None`: the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<Event> {
        self.typed.recv().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.typed.close();
        // Nobody else may read what is typed from now on.
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
