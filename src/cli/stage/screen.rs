//! A scene on a terminal: full screen or inline, with keys.

use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::time::{Instant, sleep_until};

use super::terminal::{Place, Screen};
use super::theme::Theme;
use super::widgets::Playing;
use super::{SIZE_MIN, Scene, Shown, StageArgs, TICK, draw, ticks_max};
use crate::cli::app::App;
use crate::cli::errors::word;
use crate::cli::exit::{Exit, Failure};

/// Between two pictures of a story that is told fast.
const FRAME: Duration = Duration::from_millis(33);
/// Rows of an inline picture, unless others are asked for.
const INLINE_ROWS: u16 = 30;

/// Plays until the viewer leaves, or, inline, without keys or with an end, until the story is told.
pub(super) async fn play(
    scene: &mut dyn Scene,
    args: &StageArgs,
    theme: &Theme,
    app: &App,
) -> anyhow::Result<Exit> {
    let (columns, rows) = crossterm::terminal::size()?;
    if columns < SIZE_MIN.0 || rows < SIZE_MIN.1 {
        let message =
            format!("this terminal has {columns}x{rows} cells; the demo needs {}x{}", SIZE_MIN.0, SIZE_MIN.1);
        return Err(Failure::new(Exit::Failed, message)
            .tip(format!("{} | cat    tells the story as lines; or make the terminal larger", line(app)))
            .into());
    }
    let place = match args.inline {
        true => Place::Inline(args.size.map_or(INLINE_ROWS, |(_, wanted)| wanted).min(rows)),
        false => Place::Alone,
    };
    let mut screen = Screen::open(place)?;
    // Keys need a terminal to come from; without one the story plays by itself.
    let keys = screen.has_keys();
    let mut player = Player {
        scene,
        theme,
        keys,
        leave_at_end: args.inline || !keys || args.for_.is_some(),
        columns_max: args.size.filter(|_| args.inline).map_or(u16::MAX, |(columns, _)| columns),
        ticks_max: ticks_max(args),
        ticks_left: ticks_max(args),
        speed: args.speed,
        starts_paused: args.step && keys,
        paused: args.step && keys,
        help: false,
    };
    let exit = player.run(&mut screen).await?;
    if args.inline {
        // What stays in the scroll-back takes no keys any more.
        player.help = false;
        player.draw(&mut screen, Playing::Unattended)?;
    }
    Ok(exit)
}

/// The command as it was typed.
fn line(app: &App) -> String {
    let words = app.words.iter().skip(1).map(|given| word(&given.to_string_lossy()));
    ["bandy".to_owned()].into_iter().chain(words).collect::<Vec<_>>().join(" ")
}

struct Player<'a> {
    scene: &'a mut dyn Scene,
    theme: &'a Theme,
    keys: bool,
    leave_at_end: bool,
    columns_max: u16,
    ticks_max: u64,
    ticks_left: u64,
    speed: f64,
    starts_paused: bool,
    paused: bool,
    help: bool,
}

enum Wish {
    Nothing,
    Suspend,
    Leave(Exit),
}

impl Player<'_> {
    async fn run(&mut self, screen: &mut Screen) -> anyhow::Result<Exit> {
        let mut next = Instant::now() + self.tick_time();
        loop {
            self.draw(screen, self.playing())?;
            let drawn = Instant::now();
            if self.over() && self.leave_at_end {
                return Ok(Exit::Done);
            }
            let still = self.paused || self.over();
            let event = tokio::select! {
                event = screen.event() => Some(event),
                () = sleep_until(next.max(drawn + FRAME)), if !still => None,
            };
            match event.map(|event| self.event(&event)) {
                Some(Wish::Leave(exit)) => return Ok(exit),
                Some(Wish::Suspend) => screen.suspend()?,
                Some(Wish::Nothing) => {}
                None => {
                    while next <= Instant::now() && !self.over() {
                        self.tick();
                        next += self.tick_time();
                    }
                }
            }
            // What was missed, stopped or behind the time, is not made up for.
            next = next.max(Instant::now() - FRAME);
        }
    }

    fn draw(&self, screen: &mut Screen, playing: Playing) -> std::io::Result<()> {
        let shown = Shown { playing, speed: self.speed, help: self.help, columns_max: self.columns_max };
        screen.terminal.draw(|frame| draw(frame, self.scene, self.theme, &shown))?;
        Ok(())
    }

    fn tick_time(&self) -> Duration {
        TICK.div_f64(self.speed)
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

    fn event(&mut self, event: &Event) -> Wish {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(*key),
            // Another size is drawn in the next round.
            _ => Wish::Nothing,
        }
    }

    fn key(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return match key.code {
                KeyCode::Char('c') => Wish::Leave(Exit::Signal(2)),
                KeyCode::Char('z') => Wish::Suspend,
                _ => Wish::Nothing,
            };
        }
        match key.code {
            code if self.scene.is_typing() => match code {
                KeyCode::Enter => self.scene.typed('\n'),
                KeyCode::Esc => self.scene.typed('\x1b'),
                KeyCode::Backspace => self.scene.typed('\x08'),
                KeyCode::Char(letter) => self.scene.typed(letter),
                _ => {}
            },
            KeyCode::Char('?') => self.help = !self.help,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Leave(Exit::Done),
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Right | KeyCode::Enter => {
                self.paused = true;
                self.step();
            }
            KeyCode::Char('+' | '=') => self.speed = (self.speed * 1.5).min(100.0),
            KeyCode::Char('-') => self.speed = (self.speed / 1.5).max(0.05),
            KeyCode::Char('r') => {
                self.scene.restart();
                self.ticks_left = self.ticks_max;
                self.paused = self.starts_paused;
            }
            KeyCode::Char(own) if self.scene.keys().iter().any(|(key, _)| *key == own) => self.scene.key(own),
            _ => {}
        }
        Wish::Nothing
    }
}
