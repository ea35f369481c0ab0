//! A scene on a terminal: full screen or inline, with keys.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, TerminalOptions, Viewport};

use super::theme::Theme;
use super::widgets::Playing;
use super::{SIZE_MIN, Scene, StageArgs, TICK, draw, ticks_max};
use crate::cli::exit::{Exit, Failure};

/// Plays until the viewer leaves, or, inline, until the story is told.
pub(super) fn play(scene: &mut dyn Scene, args: &StageArgs, theme: &Theme) -> anyhow::Result<Exit> {
    let (columns, rows) = crossterm::terminal::size()?;
    if columns < SIZE_MIN.0 || rows < SIZE_MIN.1 {
        let message =
            format!("this terminal has {columns}x{rows} cells; the demo needs {}x{}", SIZE_MIN.0, SIZE_MIN.1);
        return Err(Failure::new(Exit::Failed, message)
            .tip("make it larger, or read the story as lines: … | cat")
            .into());
    }
    // Keys need a terminal to come from; without one the story plays by itself.
    let keys = std::io::stdin().is_terminal();
    let inline_rows = args.inline.then(|| args.size.map_or(rows.min(30), |(_, wanted)| wanted.min(rows)));
    let mut terminal = match inline_rows {
        Some(rows) => ratatui::init_with_options(TerminalOptions { viewport: Viewport::Inline(rows) }),
        None => ratatui::init(),
    };
    let mut player = Player {
        scene,
        theme,
        keys,
        leave_at_end: args.inline || !keys,
        ticks_left: ticks_max(args),
        speed: args.speed,
        paused: args.step,
    };
    let result = player.run(&mut terminal);
    if inline_rows.is_some() {
        leave_picture(&mut terminal);
    }
    ratatui::restore();
    if inline_rows.is_some() {
        std::io::stdout().write_all(b"\r\n")?;
    }
    result
}

/// Puts the cursor on the last row of an inline picture, so that the prompt comes below it.
fn leave_picture(terminal: &mut DefaultTerminal) {
    let bottom = terminal.get_frame().area().bottom().saturating_sub(1);
    let _ = terminal.set_cursor_position((0, bottom));
}

struct Player<'a> {
    scene: &'a mut dyn Scene,
    theme: &'a Theme,
    keys: bool,
    leave_at_end: bool,
    ticks_left: u64,
    speed: f64,
    paused: bool,
}

enum Wish {
    Nothing,
    Draw,
    Step,
    Redraw,
    Leave(Exit),
}

impl Player<'_> {
    fn run(&mut self, terminal: &mut DefaultTerminal) -> anyhow::Result<Exit> {
        let mut next = Instant::now();
        loop {
            let playing = self.playing();
            terminal.draw(|frame| draw(frame, self.scene, self.theme, playing))?;
            if self.over() && self.leave_at_end {
                return Ok(Exit::Done);
            }
            next = (next + TICK.div_f64(self.speed)).max(Instant::now());
            match self.wait_until(next)? {
                Wish::Leave(exit) => return Ok(exit),
                Wish::Step => self.step(),
                Wish::Redraw => terminal.clear()?,
                Wish::Draw => {}
                Wish::Nothing if self.paused || self.over() => {}
                Wish::Nothing => self.tick(),
            }
        }
    }

    fn playing(&self) -> Playing {
        match (self.keys, self.over(), self.paused) {
            (false, ..) => Playing::Unattended,
            (true, true, _) => Playing::Over,
            (true, false, true) => Playing::Paused,
            (true, false, false) => Playing::Running,
        }
    }

    fn over(&self) -> bool {
        self.ticks_left == 0 || self.scene.done()
    }

    fn tick(&mut self) {
        self.ticks_left = self.ticks_left.saturating_sub(1);
        self.scene.tick();
    }

    /// Runs to the next thing that happens.
    fn step(&mut self) {
        while !self.over() {
            self.ticks_left -= 1;
            if !self.scene.tick().is_empty() {
                break;
            }
        }
    }

    fn wait_until(&mut self, until: Instant) -> anyhow::Result<Wish> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if !self.keys {
                std::thread::sleep(left);
                return Ok(Wish::Nothing);
            }
            if !event::poll(left)? {
                return Ok(Wish::Nothing);
            }
            match event::read()? {
                Event::Key(key) if key.kind == KeyEventKind::Press => match self.key(key) {
                    Wish::Nothing => {}
                    wish => return Ok(wish),
                },
                Event::Resize(..) => return Ok(Wish::Nothing),
                _ => {}
            }
        }
    }

    fn key(&mut self, key: KeyEvent) -> Wish {
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Wish::Leave(Exit::Signal(2));
            }
            KeyCode::Char('z') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                suspend();
                return Wish::Redraw;
            }
            code if self.scene.is_typing() => {
                match code {
                    KeyCode::Enter => self.scene.typed('\n'),
                    KeyCode::Esc => self.scene.typed('\x1b'),
                    KeyCode::Backspace => self.scene.typed('\x08'),
                    KeyCode::Char(letter) => self.scene.typed(letter),
                    _ => {}
                }
                // What is typed is seen at once, also while time stands still.
                return Wish::Draw;
            }
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Leave(Exit::Done),
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Right | KeyCode::Enter => {
                self.paused = true;
                return Wish::Step;
            }
            KeyCode::Char('+' | '=') => self.speed = (self.speed * 1.5).min(100.0),
            KeyCode::Char('-') => self.speed = (self.speed / 1.5).max(0.05),
            KeyCode::Char('r') => {
                self.scene.restart();
                self.paused = false;
            }
            KeyCode::Char(own) if self.scene.keys().iter().any(|(key, _)| *key == own) => self.scene.key(own),
            _ => {}
        }
        Wish::Nothing
    }
}

/// Ctrl-Z in raw mode: gives the terminal back, stops like any job, and takes it again on `fg`.
fn suspend() {
    ratatui::restore();
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP);
    // Job control needs a moment to stop us; after `fg` we go on here.
    std::thread::sleep(Duration::from_millis(20));
    let _ = crossterm::execute!(std::io::stdout(), crossterm::terminal::EnterAlternateScreen);
    let _ = crossterm::terminal::enable_raw_mode();
    let _ = crossterm::execute!(
        std::io::stdout(),
        crossterm::terminal::Clear(crossterm::terminal::ClearType::All)
    );
}
