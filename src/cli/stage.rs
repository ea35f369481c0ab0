//! Plays a scene of a demo: full screen, inline, as lines, as JSON lines, or into a cast file.
//!
//! A [`Scene`] lives in virtual time, one tick at a time, and knows no clock and no terminal. So the same seed
//! gives the same story in every form, and a recording is a golden file.

mod cast;
pub mod chronicle;
mod lines;
pub mod live;
mod screen;
pub mod terminal;
pub mod theme;
pub mod widgets;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::widgets::{Paragraph, Wrap};

use super::app::App;
use super::exit::{Exit, Failure};
use crate::units;
use theme::Theme;

/// Virtual time of one tick.
pub const TICK: Duration = Duration::from_millis(50);

/// The smallest screen that every scene fits on, columns and rows.
pub const SIZE_MIN: (u16, u16) = (80, 24);

/// One thing that happened, for people (`text`) and for programs (`fields`).
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// One line: what happened.
    pub text: String,
    /// The same as JSON fields.
    pub fields: Vec<(&'static str, serde_json::Value)>,
}

impl Note {
    /// A note with its fields.
    pub fn new(text: impl Into<String>, fields: Vec<(&'static str, serde_json::Value)>) -> Self {
        Self { text: text.into(), fields }
    }
}

/// A story that can be drawn at every moment.
pub trait Scene {
    /// Pillar and name, such as `rpc · call`.
    fn title(&self) -> String;

    /// Right side of the title line: the numbers of this moment.
    fn figures(&self) -> String;

    /// Advances one [`TICK`] of virtual time and reports what happened in it.
    fn tick(&mut self) -> Vec<Note>;

    /// True when the story is told; ticks then change nothing.
    fn done(&self) -> bool;

    /// Starts again from the seed.
    fn restart(&mut self);

    /// The scene's own keys with what each does.
    fn keys(&self) -> &'static [(char, &'static str)] {
        &[]
    }

    /// One of its own keys was pressed.
    fn key(&mut self, _key: char) {}

    /// True while letters are text for [`Scene::typed`], and no keys.
    fn is_typing(&self) -> bool {
        false
    }

    /// A letter; Enter is a line feed, Esc and backspace are what ASCII has for them.
    fn typed(&mut self, _letter: char) {}

    /// What it has something to show on, columns and rows with the first and the last: a larger screen has it in its middle.
    fn size_max(&self) -> (u16, u16) {
        (u16::MAX, u16::MAX)
    }

    /// Draws this moment into `area`, which has at least [`SIZE_MIN`] less two rows.
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme);
}

/// How to play: the flags that every demo takes.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Playing")]
pub struct StageArgs {
    /// Same seed, same story
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub seed: u64,
    /// Faster or slower, such as 2x or 0.5x
    #[arg(long, value_name = "FACTOR", default_value = "1x", value_parser = parse_speed)]
    pub speed: f64,
    /// Stop after this long, in the story's own time
    #[arg(long = "for", value_name = "DURATION", value_parser = units::parse_duration)]
    pub for_: Option<Duration>,
    /// Wait for a key after each step
    #[arg(long)]
    pub step: bool,
    /// Plain ASCII instead of symbols
    #[arg(long)]
    pub ascii: bool,
    /// Draw in the scroll-back and leave the last picture there
    #[arg(long, conflicts_with = "cast")]
    pub inline: bool,
    /// Columns and rows of a cast or of an inline picture
    #[arg(long, value_name = "COLSxROWS", value_parser = parse_size)]
    pub size: Option<(u16, u16)>,
    /// Write an asciicast v2 recording to FILE instead of playing
    #[arg(long, value_name = "FILE")]
    pub cast: Option<PathBuf>,
}

pub(super) fn parse_speed(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
    number
        .filter(|speed| (0.05..=100.0).contains(speed))
        .ok_or_else(|| format!("{text:?} is not a speed: expected 2x or 0.5x, from 0.05x to 100x"))
}

fn parse_size(text: &str) -> Result<(u16, u16), String> {
    let size =
        text.split_once('x').and_then(|(columns, rows)| Some((columns.parse().ok()?, rows.parse().ok()?)));
    let fits = |(columns, rows): &(u16, u16)| {
        (SIZE_MIN.0..=500).contains(columns) && (SIZE_MIN.1..=200).contains(rows)
    };
    size.filter(fits).ok_or_else(|| {
        format!("{text:?} is not a size: expected COLSxROWS from {}x{} to 500x200", SIZE_MIN.0, SIZE_MIN.1)
    })
}

/// Where the story goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A terminal is there: draw.
    Terminal,
    /// A pipe: one line per note.
    Lines,
    /// One JSON object per note.
    Json,
}

impl Form {
    /// JSON if asked for, a picture on a terminal, lines otherwise.
    fn of(app: &App) -> Self {
        match (app.global.json, std::io::stdout().is_terminal() && !terminal::is_dumb()) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal,
            (false, false) => Self::Lines,
        }
    }
}

/// Plays `scene` to its end or until the viewer leaves.
///
/// # Errors
/// A terminal that is too small or cannot be used, a cast file that cannot be written.
pub fn play(scene: &mut dyn Scene, args: &StageArgs, app: &App) -> anyhow::Result<Exit> {
    let theme = if args.ascii { Theme::ascii() } else { Theme::unicode() };
    if let Some(path) = &args.cast {
        // A recording has its colours wherever it is made.
        crossterm::style::force_color_output(true);
        let recording = cast::record(scene, args, &theme)?;
        if path.as_os_str() == "-" {
            app.printer.own(&recording)?;
            return Ok(Exit::Done);
        }
        std::fs::write(path, recording).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write {}: {error}", path.display()))
        })?;
        return Ok(Exit::Done);
    }
    match Form::of(app) {
        form @ (Form::Lines | Form::Json) => lines::play(scene, args, form),
        Form::Terminal => {
            crossterm::style::force_color_output(app.printer.look().out.colour);
            app.client(None, screen::play(scene, args, &theme, app))
        }
    }
}

/// Counts virtual time against `--for`.
fn ticks_max(args: &StageArgs) -> u64 {
    let bound = args.for_.unwrap_or(Duration::from_secs(24 * 3600));
    u64::try_from(bound.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX)
}

/// What of a picture is not the scene's.
struct Shown {
    playing: widgets::Playing,
    speed: f64,
    help: bool,
    columns_max: u16,
}

impl Shown {
    /// Of a recording: nobody can press a key.
    fn unattended() -> Self {
        Self { playing: widgets::Playing::Unattended, speed: 1.0, help: false, columns_max: u16::MAX }
    }

    /// What is out of the ordinary.
    fn remark(&self) -> String {
        match self.playing {
            widgets::Playing::Paused => "paused".to_owned(),
            widgets::Playing::Over => "end".to_owned(),
            widgets::Playing::Running if self.speed != 1.0 => {
                let speed = format!("{:.2}", self.speed);
                format!("{}x", speed.trim_end_matches('0').trim_end_matches('.'))
            }
            widgets::Playing::Running | widgets::Playing::Unattended => String::new(),
        }
    }
}

/// Draws title line, scene and key line, or says how large the terminal has to be.
fn draw(frame: &mut Frame<'_>, scene: &dyn Scene, theme: &Theme, shown: &Shown) {
    let mut area = frame.area();
    if area.width < SIZE_MIN.0 || area.height < SIZE_MIN.1 {
        return too_small(frame, SIZE_MIN, "quit");
    }
    area.width = area.width.min(shown.columns_max);
    let area = middle(area, scene.size_max());
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    let title = widgets::Title { title: &scene.title(), state: &shown.remark(), figures: &scene.figures() };
    widgets::title_line(frame, top, &title, theme);
    scene.draw(frame, body, theme);
    if shown.playing == widgets::Playing::Unattended {
        return;
    }
    if scene.is_typing() {
        let keys = live::TYPING.map(|(key, what)| (key.to_owned(), what));
        return widgets::key_line(frame, bottom, keys, theme);
    }
    let owned = |(key, what): (&str, &'static str)| (key.to_owned(), what);
    let own: Vec<_> = scene.keys().iter().map(|(key, what)| (key.to_string(), *what)).collect();
    let first = [("q", "quit"), ("?", "help"), ("space", "pause")].map(owned);
    let last = [(theme.key_step, "step"), ("+/-", "speed"), ("r", "restart")].map(owned);
    widgets::key_line(frame, bottom, first.into_iter().chain(own.clone()).chain(last), theme);
    if shown.help {
        let first =
            [("q, Esc", "quit"), ("?", "show or hide this"), ("space", "pause, and go on")].map(owned);
        let step = format!("{}, Enter", theme.key_step);
        let last = [(&*step, "to the next thing that happens"), ("+ -", "faster, slower"), ("r", "restart")];
        live::help(frame, body, first.into_iter().chain(own).chain(last.map(owned)), theme);
    }
}

/// So much of the middle of an area.
fn middle(area: Rect, (columns, rows): (u16, u16)) -> Rect {
    let (width, height) = (area.width.min(columns), area.height.min(rows));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

/// A sentence in place of a broken picture; `quit` is what `q` does.
fn too_small(frame: &mut Frame<'_>, (columns, rows): (u16, u16), quit: &str) {
    let area = frame.area();
    let text = format!(
        "this terminal has {}x{} cells; {columns}x{rows} are needed: make it larger, or q to {quit}",
        area.width, area.height
    );
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }), area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_stands_in_the_middle_of_a_screen_that_is_too_large() {
        let screen = Rect::new(0, 0, 200, 50);
        assert_eq!(middle(screen, (120, 30)), Rect::new(40, 10, 120, 30));
        assert_eq!(middle(screen, (u16::MAX, 30)), Rect::new(0, 10, 200, 30));
        assert_eq!(middle(Rect::new(0, 0, 80, 24), (120, 30)), Rect::new(0, 0, 80, 24));
    }

    #[test]
    fn speeds_and_sizes_are_parsed_or_explained() {
        assert_eq!(parse_speed("2x"), Ok(2.0));
        assert_eq!(parse_speed("0.5"), Ok(0.5));
        assert!(parse_speed("0").is_err() && parse_speed("fast").is_err());
        assert_eq!(parse_size("100x30"), Ok((100, 30)));
        assert!(parse_size("10x10").is_err() && parse_size("x").is_err());
    }
}
