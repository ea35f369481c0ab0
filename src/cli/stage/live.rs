//! A picture of something that happens: drawn again when there is news, a key, or another size, and never otherwise.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Clear, Paragraph};
use tokio::time::Instant;

use super::terminal::{Place, Screen};
use super::theme::Theme;
use super::{too_small, widgets};
use crate::cli::exit::Exit;
use crate::wait::until;

/// An answer that takes longer is missed, and said to be.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// How far `+` and `-` go.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// A key of a view's own.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// What is written on it.
    pub name: &'static str,
    /// What it does, in a word.
    pub short: &'static str,
    /// What it does, in a sentence.
    pub long: &'static str,
}

/// What is looked at. It knows no clock and no terminal.
pub trait View {
    /// What a refresh brings.
    type News;

    /// Remembers what a refresh has brought.
    fn news(&mut self, news: Self::News);

    /// Pillar and name, such as `rpc · top`, and what it looks at.
    fn title(&self) -> String;

    /// Right side of the title line.
    fn figures(&self) -> String;

    /// Its own keys; those that are on the key line have a short name.
    fn keys(&self, theme: &Theme) -> Vec<Key>;

    /// What `q` does, in a word.
    fn quit(&self) -> &'static str {
        "quit"
    }

    /// True while text is typed into it: then every key is its own, but for Ctrl-C and Ctrl-Z.
    fn is_typing(&self) -> bool {
        false
    }

    /// Takes back what Esc takes back; false if there is nothing, and Esc is `q`.
    fn back(&mut self) -> bool {
        false
    }

    /// True if nobody of what is looked at has answered the last time: what is shown is what was.
    fn is_lost(&self) -> bool {
        false
    }

    /// A key was pressed that is not one of all views.
    fn key(&mut self, key: KeyCode);

    /// The smallest screen it can be drawn on, columns and rows.
    fn size_min(&self) -> (u16, u16);

    /// Draws this moment into the screen less its first and last row.
    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme);
}

/// How often to refresh, and when to stop.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two refreshes.
    pub interval: Duration,
    /// So many refreshes, and no more.
    pub count: Option<u64>,
    /// Stop after this long.
    pub duration: Option<Duration>,
}

/// Shows `view` until the viewer leaves or `pace` ends it; `source` brings the news. While it is shown, logs are
/// held back. Dropping the future gives the terminal back.
///
/// # Errors
/// No terminal, or one that cannot be used.
pub async fn show<V: View>(
    view: &mut V,
    source: impl AsyncFn() -> V::News,
    pace: Pace,
    theme: &Theme,
) -> anyhow::Result<Exit> {
    let started = Instant::now();
    let end = pace.duration.and_then(|duration| started.checked_add(duration));
    let mut screen = Screen::open(Place::Alone)?;
    let mut state = State { paused: false, help: false, interval: pace.interval, waited: Duration::ZERO };
    let mut left = pace.count;
    let mut last = started;
    // How long the question that is under way has been; when one was asked that was answered.
    let (mut silent, mut answered) = (Duration::ZERO, started);
    let mut reading: Option<Pin<Box<dyn Future<Output = V::News> + '_>>> = None;
    while left != Some(0) {
        screen.terminal.draw(|frame| draw(frame, view, &state, theme))?;
        tokio::select! {
            event = screen.event() => match state.event(event, view) {
                Wish::Nothing => {}
                Wish::Suspend => screen.suspend()?,
                Wish::Leave(exit) => return Ok(exit),
            },
            news = finished(&mut reading) => {
                reading = None;
                view.news(news);
                if !view.is_lost() {
                    answered = last;
                }
                state.waited = if view.is_lost() { answered.elapsed() } else { Duration::ZERO };
                left = left.map(|left| left - 1);
            }
            () = tokio::time::sleep_until(last + state.interval), if reading.is_none() && !state.paused => {
                (last, silent) = (Instant::now(), Duration::ZERO);
                reading = Some(Box::pin(source()));
            }
            // What is shown is old by now.
            () = tokio::time::sleep_until(last + silent + ANSWER_TIME), if reading.is_some() => {
                silent = last.elapsed();
                state.waited = answered.elapsed();
            }
            () = until(end) => break,
        }
    }
    Ok(Exit::Done)
}

async fn finished<T>(reading: &mut Option<Pin<Box<dyn Future<Output = T> + '_>>>) -> T {
    match reading {
        Some(reading) => reading.await,
        None => std::future::pending().await,
    }
}

enum Wish {
    Nothing,
    Suspend,
    Leave(Exit),
}

/// What is the same in all views.
struct State {
    paused: bool,
    help: bool,
    interval: Duration,
    /// For an answer that has not come; zero as long as that is usual.
    waited: Duration,
}

impl State {
    /// What is out of the ordinary.
    fn remark(&self) -> String {
        if self.waited > Duration::ZERO {
            format!("no answer for {} s", self.waited.as_secs().max(1))
        } else if self.paused {
            "paused".to_owned()
        } else {
            String::new()
        }
    }

    fn event<V: View>(&mut self, event: Event, view: &mut V) -> Wish {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key, view),
            // Another size is drawn in the next round.
            _ => Wish::Nothing,
        }
    }

    fn key<V: View>(&mut self, key: KeyEvent, view: &mut V) -> Wish {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Wish::Leave(Exit::Signal(2)),
            KeyCode::Char('z') if control => return Wish::Suspend,
            // A letter with Ctrl is no letter.
            _ if control => {}
            code if view.is_typing() => view.key(code),
            KeyCode::Char('?' | 'h') => self.help = !self.help,
            KeyCode::Esc if self.help => self.help = false,
            KeyCode::Esc if view.back() => {}
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Leave(Exit::Done),
            KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Char('+' | '=') => self.interval = (self.interval / 2).max(INTERVALS.0),
            KeyCode::Char('-') => self.interval = (self.interval * 2).min(INTERVALS.1),
            code => view.key(code),
        }
        Wish::Nothing
    }
}

/// Draws title line, view and key line, or says how large the terminal has to be.
fn draw<V: View>(frame: &mut Frame<'_>, view: &V, state: &State, theme: &Theme) {
    let area = frame.area();
    let (columns, rows) = view.size_min();
    if area.width < columns || area.height < rows {
        return too_small(frame, (columns, rows), view.quit());
    }
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)]).areas(area);
    let figures = format!("{}  every {:?}", view.figures(), state.interval);
    let title =
        widgets::Title { title: &view.title(), state: &state.remark(), figures: figures.trim_start() };
    widgets::title_line(frame, top, &title, theme);
    view.draw(frame, body, theme);
    if state.waited > Duration::ZERO {
        // What is old is not called good.
        for place in body.positions() {
            let cell = &mut frame.buffer_mut()[place];
            if cell.fg == Color::Green {
                cell.set_style(Style::new().fg(Color::Reset).add_modifier(Modifier::DIM));
            }
        }
    }
    if view.is_typing() {
        let keys = TYPING.map(|(key, what)| (key.to_owned(), what));
        return widgets::key_line(frame, bottom, keys, theme);
    }
    let common = [("q", view.quit()), ("?", "help"), ("space", "pause"), ("+/-", "speed")];
    let own = view.keys(theme).into_iter().filter(|key| !key.short.is_empty());
    let own = own.map(|key| (key.name.to_owned(), key.short));
    let keys = common.into_iter().map(|(key, what)| (key.to_owned(), what)).chain(own);
    widgets::key_line(frame, bottom, keys, theme);
    if state.help {
        let common = [
            Key { name: "q, Esc", short: "", long: view.quit() },
            Key { name: "?, h", short: "", long: "show or hide this" },
            Key { name: "space", short: "", long: "hold the picture, and go on" },
            Key { name: "+ -", short: "", long: "refresh more often, less often" },
        ];
        let keys = common.into_iter().chain(view.keys(theme));
        help(frame, body, keys.map(|key| (key.name.to_owned(), key.long)), theme);
    }
}

/// What ends typing.
pub(super) const TYPING: [(&str, &str); 2] = [("Enter", "done"), ("Esc", "cancel")];

/// All keys, in a box over the picture.
pub(super) fn help<'a>(
    frame: &mut Frame<'_>,
    area: Rect,
    keys: impl Iterator<Item = (String, &'a str)>,
    theme: &Theme,
) {
    let lines: Vec<Line<'_>> = keys.map(|(key, what)| Line::from(format!(" {key:<12} {what} "))).collect();
    let width = lines.iter().map(Line::width).max().unwrap_or(0) + 2;
    let width = u16::try_from(width).unwrap_or(u16::MAX).min(area.width);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let place =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let inner = widgets::panel(frame, place, "keys", theme, theme.accent());
    frame.render_widget(Paragraph::new(lines), inner);
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    /// What `view` looks like on a screen of that size, without blanks at the ends of lines.
    pub fn picture<V: View>(view: &V, columns: u16, rows: u16, theme: &Theme) -> String {
        render(
            view,
            columns,
            rows,
            &State { paused: false, help: false, interval: SECOND, waited: Duration::ZERO },
            theme,
        )
    }

    /// The same with the help over it.
    pub fn picture_with_help<V: View>(view: &V, columns: u16, rows: u16, theme: &Theme) -> String {
        render(
            view,
            columns,
            rows,
            &State { paused: true, help: true, interval: SECOND, waited: Duration::ZERO },
            theme,
        )
    }

    const SECOND: Duration = Duration::from_secs(1);

    fn render<V: View>(view: &V, columns: u16, rows: u16, state: &State, theme: &Theme) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, view, state, theme)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |row| (0..columns).map(|column| buffer[(column, row)].symbol()).collect::<String>();
        (0..rows).map(|row| line(row).trim_end().to_owned() + "\n").collect()
    }

    struct Counter(u32);

    impl View for Counter {
        type News = u32;
        fn news(&mut self, news: u32) {
            self.0 += news;
        }
        fn title(&self) -> String {
            "test · counter".to_owned()
        }
        fn figures(&self) -> String {
            format!("{} so far", self.0)
        }
        fn keys(&self, _: &Theme) -> Vec<Key> {
            vec![Key { name: "x", short: "ten", long: "add ten" }]
        }
        fn key(&mut self, key: KeyCode) {
            self.0 += if key == KeyCode::Char('x') { 10 } else { 0 };
        }
        fn size_min(&self) -> (u16, u16) {
            (60, 10)
        }
        fn draw(&self, frame: &mut Frame<'_>, area: Rect, _: &Theme) {
            frame.render_widget(Paragraph::new("body"), area);
        }
    }

    #[test]
    fn a_view_has_a_title_its_body_and_its_keys() {
        let drawn = picture(&Counter(3), 60, 10, &Theme::ascii());
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(lines[0], format!(" test - counter{:>44}", "3 so far  every 1s"));
        assert_eq!(lines[1], "body");
        assert_eq!(lines[9], " q quit  ? help  space pause  +/- speed  x ten");
        let helped = picture_with_help(&Counter(3), 60, 12, &Theme::ascii());
        assert!(helped.contains("[paused]") && helped.contains("| x            add ten"), "{helped}");
    }

    #[test]
    fn what_nobody_answers_for_is_not_green() {
        struct Green;
        impl View for Green {
            type News = ();
            fn news(&mut self, (): ()) {}
            fn title(&self) -> String {
                "test".to_owned()
            }
            fn figures(&self) -> String {
                String::new()
            }
            fn keys(&self, _: &Theme) -> Vec<Key> {
                Vec::new()
            }
            fn key(&mut self, _: KeyCode) {}
            fn size_min(&self) -> (u16, u16) {
                (60, 10)
            }
            fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
                frame.render_widget(Paragraph::new(Line::styled("alive", theme.good())), area);
            }
        }
        let colour = |waited| {
            let state = State { paused: false, help: false, interval: SECOND, waited };
            let mut terminal = Terminal::new(TestBackend::new(60, 10)).unwrap();
            terminal.draw(|frame| draw(frame, &Green, &state, &Theme::ascii())).unwrap();
            terminal.backend().buffer()[(0, 1)].fg
        };
        assert_eq!(colour(Duration::ZERO), Color::Green);
        assert_eq!(colour(SECOND * 3), Color::Reset);
        let state = State { paused: false, help: false, interval: SECOND, waited: SECOND * 3 };
        assert!(render(&Green, 60, 10, &state, &Theme::ascii()).contains("[no answer for 3 s]"));
    }

    #[test]
    fn a_terminal_that_is_too_small_is_told_what_is_needed() {
        let drawn = picture(&Counter(0), 40, 9, &Theme::ascii());
        let text = drawn.replace('\n', " ");
        assert!(
            text.contains("this terminal has 40x9 cells; 60x10 are") && text.contains("q to quit"),
            "{drawn}"
        );
        picture(&Counter(0), 1, 1, &Theme::ascii());
    }

    #[test]
    fn keys_do_what_they_say() {
        let (mut state, mut view) =
            (State { paused: false, help: false, interval: SECOND, waited: Duration::ZERO }, Counter(0));
        let mut press = |code, modifiers| {
            let wish = state.event(Event::Key(KeyEvent::new(code, modifiers)), &mut view);
            (wish, state.paused, state.help, state.interval)
        };
        let none = KeyModifiers::NONE;
        assert!(matches!(press(KeyCode::Char(' '), none), (Wish::Nothing, true, _, _)));
        assert!(matches!(press(KeyCode::Char('?'), none), (Wish::Nothing, _, true, _)));
        assert!(matches!(press(KeyCode::Esc, none), (Wish::Nothing, _, false, _)));
        for _ in 0..20 {
            press(KeyCode::Char('+'), none);
        }
        assert_eq!(press(KeyCode::Char('x'), none).3, INTERVALS.0);
        for _ in 0..20 {
            press(KeyCode::Char('-'), none);
        }
        assert_eq!(press(KeyCode::Char('x'), none).3, INTERVALS.1);
        assert!(matches!(press(KeyCode::Char('z'), KeyModifiers::CONTROL).0, Wish::Suspend));
        assert!(matches!(press(KeyCode::Char('c'), KeyModifiers::CONTROL).0, Wish::Leave(Exit::Signal(2))));
        assert!(matches!(press(KeyCode::Char('q'), none).0, Wish::Leave(Exit::Done)));
        assert_eq!(view.0, 20);
    }
}
