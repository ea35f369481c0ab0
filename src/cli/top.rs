//! What the `top` of every pillar shares: its flags, the live view or tables one after the other; `table` draws rows.

pub mod table;

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Wrap};
use tokio::time::{Instant, MissedTickBehavior};

use super::app::App;
use super::exit::Exit;
use super::stage::live::{self, Pace, View};
use super::stage::terminal::is_dumb;
use super::stage::theme::Theme;
use crate::output::Format;
use crate::units::parse_duration;
use crate::wait::until;

/// Without `-i`.
const INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

/// Refreshes that a graph remembers: more than a screen has columns.
const HISTORY_MAX: usize = 400;

/// The flags of every `top`.
#[derive(Debug, Clone, clap::Args)]
pub struct TopArgs {
    /// Print one table and stop
    #[arg(long)]
    pub once: bool,
    /// Time between two refreshes [default: 1s]
    #[arg(short, long, value_name = "DURATION", value_parser = parse_interval)]
    pub interval: Option<Duration>,
    /// Stop after N refreshes
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "once", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Stop after this long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Plain ASCII instead of symbols
    #[arg(long)]
    pub ascii: bool,
}

pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(10) {
        return Err(format!("{text:?} is too short: at least 10ms"));
    }
    Ok(interval)
}

impl TopArgs {
    fn pace(&self) -> Pace {
        // The view begins with what is known already.
        let count = self.count.map(|count| count - 1);
        Pace { interval: self.interval.unwrap_or(INTERVAL_DEFAULT), count, duration: self.duration }
    }
}

/// A live view that can be written as tables, too.
pub trait Top: View {
    /// Writes what is known as one table, `number` counting from 0.
    ///
    /// # Errors
    /// Output that cannot be written.
    fn table(&self, app: &App, number: u64) -> anyhow::Result<()>;

    /// True if something of what is looked at did not answer the last time.
    fn is_partly(&self) -> bool;

    /// Whether tables are of the time since the start or since the refresh before, where that makes a difference.
    fn look_back(&mut self, span: Span) {
        let _ = span;
    }
}

/// The time that rates and latencies are of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    /// Between the last two readings.
    #[default]
    Interval,
    /// Since the server started.
    Start,
}

/// What the terminal takes.
pub fn theme(ascii: bool, app: &App) -> Theme {
    let theme = if ascii { Theme::ascii() } else { Theme::unicode() };
    theme.coloured(app.printer.look().out.colour || app.printer.look().err.colour)
}

/// Shows `view`, which has its first news already, live on a terminal and otherwise as tables; `read` brings the news.
///
/// # Errors
/// A terminal that cannot be used, output that cannot be written.
pub async fn show<V: Top>(
    args: &TopArgs,
    app: &App,
    view: &mut V,
    read: impl AsyncFn() -> V::News,
) -> anyhow::Result<Exit> {
    let is_live = !args.once
        && app.printer.look().format == Format::Auto
        && std::io::stdout().is_terminal()
        && !is_dumb();
    if is_live {
        return live::show(view, read, args.pace(), &theme(args.ascii, app)).await;
    }
    tables(args, app, view, read).await
}

/// Shows a server's own view in its own terminal. Ends when the viewer wants the server to end.
///
/// # Errors
/// See [`live::show`].
pub async fn show_own<V: View>(
    view: &mut V,
    read: impl AsyncFn() -> V::News,
    theme: &Theme,
) -> anyhow::Result<Exit> {
    let pace = Pace { interval: INTERVAL_DEFAULT, count: None, duration: None };
    live::show(view, read, pace, theme).await
}

/// What `q` does, in a word.
pub fn quit(is_own: bool) -> &'static str {
    if is_own { "stop the server" } else { "quit" }
}

/// Tables one after the other: of what is known at first, then of each interval.
async fn tables<V: Top>(
    args: &TopArgs,
    app: &App,
    view: &mut V,
    read: impl AsyncFn() -> V::News,
) -> anyhow::Result<Exit> {
    let pace = args.pace();
    let mut tick = tokio::time::interval_at(Instant::now() + pace.interval, pace.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = pace.duration.and_then(|duration| Instant::now().checked_add(duration));
    let mut left = if args.once { Some(0) } else { pace.count };
    let mut partly = false;
    if args.once && args.interval.is_some() {
        tick.tick().await;
        view.news(read().await);
    } else {
        view.look_back(Span::Start);
    }
    for number in 0.. {
        view.table(app, number)?;
        partly |= view.is_partly();
        if left == Some(0) {
            break;
        }
        left = left.map(|left| left - 1);
        tokio::select! {
            biased;
            () = until(end) => break,
            _ = tick.tick() => {}
        }
        view.look_back(Span::Interval);
        view.news(read().await);
    }
    Ok(if partly { Exit::Partly } else { Exit::Done })
}

/// Begins a table: true if a person reads it, for whom an empty line parts it from the one before.
///
/// # Errors
/// Output that cannot be written.
pub fn begin_table(app: &App, number: u64) -> anyhow::Result<bool> {
    let for_people = match app.printer.look().format {
        Format::Table => true,
        Format::Auto => app.printer.is_terminal(),
        Format::Plain | Format::Value | Format::Json | Format::Csv | Format::Template(_) => false,
    };
    if number > 0 && for_people {
        app.printer.line("")?;
    }
    Ok(for_people)
}

/// Rows that a remark may take from the table.
const REMARK_ROWS_MAX: u16 = 3;

/// The parts of the picture from top to bottom.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// A line of figures.
    pub totals: Rect,
    /// What a pillar has above its graph.
    pub above: Rect,
    /// No rows on a small screen.
    pub graph: Rect,
    /// The table.
    pub table: Rect,
    /// A line about the row that is looked at.
    pub detail: Rect,
    /// No rows without a remark.
    pub remark: Rect,
}

impl Parts {
    /// With so many rows above the graph, and with room for a remark if there is one.
    pub fn new(area: Rect, above: u16, remark: Option<&Line<'_>>) -> Self {
        let rows = remark.map_or(0, |remark| remark.width() / usize::from(area.width).max(1) + 1);
        let rows = u16::try_from(rows).unwrap_or(u16::MAX).min(REMARK_ROWS_MAX);
        let graph = if area.height < 18 { 0 } else { (area.height / 5).clamp(4, 10) };
        let [totals, above, graph, table, detail, remark] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(above),
            Constraint::Length(graph),
            Constraint::Min(4),
            Constraint::Length(1),
            Constraint::Length(rows),
        ])
        .areas(area);
        Self { totals, above, graph, table, detail, remark }
    }
}

/// A remark in its place: all of it, if it can be.
pub fn draw_remark(frame: &mut Frame<'_>, area: Rect, remark: Line<'_>) {
    frame.render_widget(Paragraph::new(remark).wrap(Wrap { trim: false }), area);
}

/// Remembers the latest of the values that a graph shows.
pub fn remember<T>(history: &mut VecDeque<T>, value: T) {
    if history.len() == HISTORY_MAX {
        history.pop_front();
    }
    history.push_back(value);
}

/// A rate or a count as a graph has it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate or a count")]
pub fn rounded(value: f64) -> u64 {
    value.round() as u64
}
