//! The terminal, while a picture is on it, and how it is given back.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute, terminal};
use futures_util::StreamExt as _;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Position, Rect};
use ratatui::{Terminal, TerminalOptions, Viewport};

use crate::cli::exit::{Exit, Failure};
use crate::cli::logging::Hold;

/// True if there is a terminal that pictures can be drawn on.
pub fn can_draw() -> bool {
    (io::stdout().is_terminal() || io::stderr().is_terminal()) && !is_dumb()
}

/// True for a terminal that knows no more than lines.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|name| name == "dumb")
}

/// Where on the terminal the picture is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On a screen of its own, which is gone afterwards.
    Alone,
    /// On so many rows of the scroll-back, where the last picture stays.
    Inline(u16),
}

/// The terminal, while it is ours. Dropping it gives it back.
pub(super) struct Screen {
    /// What is drawn on.
    pub terminal: Terminal<CrosstermBackend<File>>,
    out: File,
    place: Place,
    /// `None` if there is nobody to press them.
    keys: Option<EventStream>,
    _hold: Hold,
}

impl Screen {
    /// Takes the terminal. Logs are held back meanwhile.
    ///
    /// # Errors
    /// No terminal, or one that cannot be used.
    pub fn open(place: Place) -> anyhow::Result<Self> {
        // Where stdout is a file, stderr is where a person looks.
        let copy = if io::stdout().is_terminal() {
            io::stdout().as_fd().try_clone_to_owned()?
        } else if io::stderr().is_terminal() {
            io::stderr().as_fd().try_clone_to_owned()?
        } else {
            return Err(Failure::new(Exit::Usage, "a live view needs a terminal").into());
        };
        let out = File::from(copy);
        restore_at_panic();
        let terminal = Terminal::new(CrosstermBackend::new(out.try_clone()?))?;
        let mut screen = Self { terminal, out, place, keys: None, _hold: Hold::start() };
        screen.enter(true)?;
        Ok(screen)
    }

    /// True if somebody can press keys.
    pub fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// The next thing that the viewer does; never, without keys.
    pub async fn event(&mut self) -> Event {
        if let Some(stream) = &mut self.keys {
            if let Some(Ok(event)) = stream.next().await {
                return event;
            }
            // The terminal is gone; a signal says so too.
            self.keys = None;
        }
        std::future::pending().await
    }

    fn enter(&mut self, is_first: bool) -> io::Result<()> {
        let has_keys = io::stdin().is_terminal();
        match self.place {
            Place::Alone => {
                if has_keys {
                    terminal::enable_raw_mode()?;
                }
                execute!(self.out, EnterAlternateScreen, cursor::Hide)?;
                // Clears, and forgets what was drawn. Terminal::clear asks the terminal where its cursor is: the answer
                // would be among the keys.
                let area = Rect::from((Position::ORIGIN, self.terminal.size()?));
                self.terminal.resize(area)?;
            }
            // At the bottom, for which nothing has to be asked: the answer would be among the keys.
            Place::Inline(rows) if !is_first => {
                terminal::enable_raw_mode()?;
                let (columns, height) = terminal::size()?;
                let rows = rows.min(height);
                self.out.write_all(&b"\r\n".repeat(usize::from(rows)))?;
                let viewport = Viewport::Fixed(Rect::new(0, height - rows, columns, rows));
                let backend = CrosstermBackend::new(self.out.try_clone()?);
                self.terminal = Terminal::with_options(backend, TerminalOptions { viewport })?;
                execute!(self.out, cursor::Hide)?;
            }
            Place::Inline(rows) => {
                // It asks the terminal where its cursor is, and the answer is not to be seen.
                terminal::enable_raw_mode()?;
                let backend = CrosstermBackend::new(self.out.try_clone()?);
                let options = TerminalOptions { viewport: Viewport::Inline(rows) };
                self.terminal = Terminal::with_options(backend, options)?;
                execute!(self.out, cursor::Hide)?;
                if !has_keys {
                    terminal::disable_raw_mode()?;
                }
            }
        }
        self.keys = has_keys.then(EventStream::new);
        Ok(())
    }

    /// Ctrl-Z in raw mode: gives the terminal back, stops like any job, and takes it again on `fg`.
    pub fn suspend(&mut self) -> io::Result<()> {
        self.leave();
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP);
        // Job control needs a moment to stop us; after `fg` we go on here.
        std::thread::sleep(Duration::from_millis(20));
        self.enter(false)
    }

    fn leave(&mut self) {
        self.keys = None;
        match self.place {
            Place::Alone => leave(&mut self.out),
            Place::Inline(_) => {
                // The prompt comes below the picture.
                let bottom = self.terminal.get_frame().area().bottom().saturating_sub(1);
                let _ = self.terminal.set_cursor_position((0, bottom));
                let _ = terminal::disable_raw_mode();
                let _ = execute!(self.out, cursor::Show);
                let _ = self.out.write_all(b"\r\n");
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn leave(out: &mut impl Write) {
    let _ = terminal::disable_raw_mode();
    let _ = execute!(out, LeaveAlternateScreen, cursor::Show);
}

/// A panic of ours is to be readable. One in another thread, such as a handler's, does not end the picture.
fn restore_at_panic() {
    let (previous, ours) = (std::panic::take_hook(), std::thread::current().id());
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().id() == ours {
            leave(&mut io::stderr());
        }
        previous(panic);
    }));
}
