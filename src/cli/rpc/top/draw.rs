//! The picture of `top`: totals, servers, a graph, and the table of methods.

use std::time::Duration;

use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table, TableState};

use super::board::{Board, Instance, Numbers, Reading, Row, Sort, total};
use super::report;
use crate::cli::app::App;
use crate::cli::figures::{age, count, per_second, percent, readable};
use crate::cli::stage::live::{Key, View};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{Figures, ending, graph, panel};
use crate::cli::top::table::{self, Column, Filter};
use crate::cli::top::{self, Parts, Span as Time};

/// Columns and rows without which there is no room for the table.
const SIZE_MIN: (u16, u16) = (60, 12);

/// Servers that are listed, at most, on a screen of that many rows.
fn servers_max(rows: u16) -> u16 {
    (rows / 4).max(2)
}

/// What a refresh brings.
pub struct News {
    /// What each server answered.
    pub readings: Vec<Reading>,
    /// The latest line of the log.
    pub log: Option<String>,
}

/// The board, to be looked at.
pub struct Picture {
    /// What is known.
    pub board: Board,
    /// True in the server's own terminal: leaving stops it.
    pub own: bool,
}

impl View for Picture {
    type News = News;

    fn news(&mut self, news: News) {
        self.board.take(news.readings);
        self.board.log = news.log;
    }

    fn title(&self) -> String {
        let board = &self.board;
        let what = match (board.instances.as_slice(), board.only) {
            ([one], _) => one.url.clone(),
            (all, Some(only)) => {
                format!("{} ({} of {})", all.get(only).map_or("", |it| &it.url), only + 1, all.len())
            }
            (all, None) => format!("{} servers", all.len()),
        };
        format!("rpc · top  {what}")
    }

    fn figures(&self) -> String {
        match self.board.instances.as_slice() {
            [one] => one.own().map_or_else(String::new, |own| format!("up {}", age(own.uptime))),
            _ => String::new(),
        }
    }

    fn keys(&self, theme: &Theme) -> Vec<Key> {
        let [sort, select, reverse] = table::keys(theme, "look at a method: its codes are below the table");
        let mut keys = vec![
            sort,
            Filter::help("only methods with a text in their name; Enter keeps it"),
            select,
            Key { name: "t", short: "total", long: "rates and times since the start, or of now" },
            reverse,
            Key { name: "n r f", short: "", long: "order by name, rate, calls in flight" },
            Key { name: "5 9 e c", short: "", long: "order by p50, p99, errors, calls" },
            Key { name: "PgUp PgDn", short: "", long: "ten methods up or down; Home, End" },
        ];
        if self.board.instances.len() > 1 {
            keys.insert(
                0,
                Key { name: "Tab", short: "server", long: "look at one server, or at all together" },
            );
        }
        keys
    }

    fn quit(&self) -> &'static str {
        crate::cli::top::quit(self.own)
    }

    fn is_lost(&self) -> bool {
        self.board.instances.iter().all(|instance| instance.lost.is_some())
    }

    fn is_typing(&self) -> bool {
        self.board.filter.typing
    }

    fn back(&mut self) -> bool {
        self.board.filter.clear()
    }

    fn key(&mut self, key: KeyCode) {
        let board = &mut self.board;
        match key {
            key if board.filter.typing => drop(board.key(key)),
            KeyCode::Tab => board.next_instance(),
            KeyCode::Char('t') => {
                board.span = match board.span {
                    Time::Interval => Time::Start,
                    Time::Start => Time::Interval,
                }
            }
            key => drop(board.key(key)),
        }
    }

    fn size_min(&self) -> (u16, u16) {
        SIZE_MIN
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let board = &self.board;
        let rows = board.rows();
        let remark = remark(board, theme);
        let several = board.instances.len() > 1;
        let listed = u16::try_from(board.instances.len()).unwrap_or(u16::MAX).min(servers_max(area.height));
        let above = if several { listed + 2 } else { 0 };
        let parts = Parts::new(area, above, remark.as_ref());
        frame.render_widget(totals_line(board, &rows, area.width, theme), parts.totals);
        if several {
            draw_servers(frame, parts.above, board, theme);
        }
        draw_graph(frame, parts.graph, board, theme);
        draw_methods(frame, parts.table, board, &rows, theme);
        frame.render_widget(detail_line(board, &rows, area.width, theme), parts.detail);
        if let Some(remark) = remark {
            crate::cli::top::draw_remark(frame, parts.remark, remark);
        }
    }
}

impl top::Top for Picture {
    fn table(&self, app: &App, number: u64) -> anyhow::Result<()> {
        report::table(app, &self.board, number)
    }

    fn is_partly(&self) -> bool {
        self.board.instances.iter().any(|instance| instance.lost.is_some())
    }

    fn look_back(&mut self, span: Time) {
        self.board.span = span;
    }
}

fn time(time: Option<Duration>, theme: &Theme) -> String {
    time.map_or_else(|| "-".to_owned(), |time| readable(time).replace('µ', theme.micro))
}

fn totals_line(board: &Board, rows: &[Row], width: u16, theme: &Theme) -> Line<'static> {
    let mut figures = Figures::new(width, theme);
    let plain = Style::new();
    let own = || board.shown().filter_map(Instance::own);
    let is_own = own().next().is_some();
    if is_own {
        let sum = total(rows);
        figures.add("calls", per_second(sum.rate), theme.strong());
        figures.add("in flight", sum.in_flight.to_string(), plain);
        figures.add("p50", time(sum.times.quantile(0.5), theme), plain);
        figures.add("p99", time(sum.times.quantile(0.99), theme), plain);
        let failed = percent(sum.failed, sum.times.count());
        figures.add("errors", failed, if sum.failed > 0 { theme.bad() } else { plain });
        let connections: u64 = own().map(|own| own.connections.0).sum();
        figures.add("conns", connections.to_string(), plain);
        figures.add("ended", sum.calls().to_string(), plain);
        let memory: u64 = own().map(|own| own.memory_bytes >> 20).sum();
        figures.add("memory", format!("{memory} MiB"), plain);
    }
    if let ([one], false) = (board.instances.as_slice(), is_own) {
        health(&mut figures, one, theme);
        trips(&mut figures, one, theme);
    }
    figures.line
}

fn health(figures: &mut Figures<'_>, instance: &Instance, theme: &Theme) {
    let word = instance.foreign().map_or("", |foreign| foreign.health.as_str());
    let (symbol, style) = symbol(word, theme);
    figures.add("health", format!("{symbol} {word}"), style);
}

fn trips(figures: &mut Figures<'_>, instance: &Instance, theme: &Theme) {
    figures.add("round trip", time(instance.trips.back().copied(), theme), Style::new());
    figures.add("p50", time(instance.trip(0.5), theme), Style::new());
    figures.add("p99", time(instance.trip(0.99), theme), Style::new());
    figures.add("probes", instance.trips.len().to_string(), Style::new());
}

fn symbol(health: &str, theme: &Theme) -> (&'static str, Style) {
    match health {
        "SERVING" => (theme.done, theme.good()),
        "NOT_SERVING" => (theme.lost, theme.bad()),
        "" => (" ", Style::new()),
        _ => (theme.doubt, theme.warn()),
    }
}

/// What stands above the numbers of a server, and how wide they are.
const SERVER_COLUMNS: [(&str, u16); 5] = [("conns", 6), ("rate", 8), ("flight", 6), ("p99", 8), ("trip", 8)];
/// Columns of a server's state.
const STATE_WIDTH: u16 = 11;

/// The first of two units.
fn short(age: &str) -> String {
    age.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn draw_servers(frame: &mut Frame<'_>, area: Rect, board: &Board, theme: &Theme) {
    let inner = panel(frame, area, "servers", theme, theme.dim());
    let fixed: u16 = SERVER_COLUMNS.iter().map(|(_, width)| width + 1).sum();
    let room = usize::from(inner.width.saturating_sub(fixed + STATE_WIDTH + 3));
    let row = |(at, instance): (usize, &Instance)| {
        let (symbol, style) = match (&instance.lost, &instance.now) {
            (Some(_), _) => (theme.lost, theme.bad()),
            (None, None) => (theme.doubt, theme.warn()),
            (None, Some(_)) => match instance.foreign() {
                Some(foreign) => symbol(&foreign.health, theme),
                None => (theme.done, theme.good()),
            },
        };
        let sum = instance.total(board.span);
        let number = |text: fn(&Numbers) -> String| sum.as_ref().map_or_else(|| "-".to_owned(), text);
        let state = match (&instance.lost, instance.own()) {
            (Some(_), _) => "no answer".to_owned(),
            (None, Some(own)) => format!("up {}", short(&age(own.uptime))),
            (None, None) => instance.foreign().map_or_else(String::new, |foreign| foreign.health.clone()),
        };
        let connections = instance.own().map_or_else(|| "-".to_owned(), |own| own.connections.0.to_string());
        let cells = [
            Line::styled(symbol, style),
            Line::raw(ending(&instance.url, room, theme)),
            Line::raw(state),
            Line::raw(connections).right_aligned(),
            Line::raw(number(|sum| per_second(sum.rate))).right_aligned(),
            Line::raw(number(|sum| sum.in_flight.to_string())).right_aligned(),
            Line::raw(time(sum.as_ref().and_then(|sum| sum.times.quantile(0.99)), theme)).right_aligned(),
            Line::raw(time(instance.trips.back().copied(), theme)).right_aligned(),
        ];
        let style = if board.only == Some(at) { theme.accent() } else { Style::new() };
        Cells::new(cells.map(Cell::from)).style(style)
    };
    let widths = [Constraint::Length(1), Constraint::Fill(1), Constraint::Length(STATE_WIDTH)];
    let widths = widths.into_iter().chain(SERVER_COLUMNS.map(|(_, width)| Constraint::Length(width)));
    // The table has no room for a header of its own: the border has.
    let heads: String = SERVER_COLUMNS
        .iter()
        .map(|(head, width)| format!(" {head:>width$}", width = usize::from(*width)))
        .collect();
    let place =
        Rect { x: inner.right().saturating_sub(fixed), width: fixed.min(inner.width), height: 1, ..area };
    frame.render_widget(Paragraph::new(heads).style(theme.dim()), place);
    let mut state = TableState::new().with_selected(board.only);
    frame.render_stateful_widget(
        Table::new(board.instances.iter().enumerate().map(row), widths).column_spacing(1),
        inner,
        &mut state,
    );
}

fn draw_graph(frame: &mut Frame<'_>, area: Rect, board: &Board, theme: &Theme) {
    if area.height == 0 {
        return;
    }
    let is_own = board.instances.iter().any(|instance| instance.own().is_some());
    let most = board.history.iter().copied().max().unwrap_or(0);
    let title = if is_own {
        format!("calls per second, at most {}", per_second(most as f64))
    } else {
        format!("round trips, at most {}", time(Some(Duration::from_micros(most)), theme))
    };
    graph(frame, area, &title, &board.history, theme);
}

/// Screens from here on have room for the columns that nothing is ordered by.
const WIDE: u16 = 100;
/// Screens from here on say the health in words.
const WIDER: u16 = 120;

const COLUMNS: [Column<Row, Sort>; 11] = [
    Column::word("", 1, |row: &Row, theme| symbol(&row.health, theme).0.to_owned())
        .styled(|row, theme| symbol(&row.health, theme).1),
    Column::name("METHOD", |row: &Row, _| {
        row.method.clone().unwrap_or_else(|| "(its methods are not known)".to_owned())
    })
    .by(Sort::Name),
    Column::word("HEALTH", 15, |row: &Row, _| row.health.clone())
        .from(WIDER)
        .styled(|row, theme| symbol(&row.health, theme).1),
    Column::number("RATE", 8, |row: &Row, _| counted(row, |it| per_second(it.rate))).by(Sort::Rate),
    Column::number("FLIGHT", 7, |row: &Row, _| counted(row, |it| count(it.in_flight as f64)))
        .by(Sort::InFlight),
    Column::number("P50", 8, |row: &Row, theme| quantile(row, 0.5, theme)).by(Sort::P50),
    Column::number("P90", 8, |row: &Row, theme| quantile(row, 0.9, theme)).from(WIDE),
    Column::number("P99", 8, |row: &Row, theme| quantile(row, 0.99, theme)).by(Sort::P99),
    Column::number("MAX", 8, |row: &Row, theme| quantile(row, 1.0, theme)).from(WIDE),
    Column::number("ERRORS", 7, |row: &Row, _| counted(row, |it| count(it.errors() as f64)))
        .by(Sort::Errors)
        .styled(|row, theme| {
            let failing = row.numbers.as_ref().is_some_and(|it| it.failed > 0);
            if failing { theme.bad() } else { Style::new() }
        }),
    Column::number("CALLS", 8, |row: &Row, _| counted(row, |it| count(it.calls() as f64))).by(Sort::Calls),
];

fn counted(row: &Row, text: impl Fn(&Numbers) -> String) -> String {
    row.numbers.as_ref().map_or_else(|| "-".to_owned(), text)
}

fn quantile(row: &Row, quantile: f64, theme: &Theme) -> String {
    time(row.numbers.as_ref().and_then(|it| it.times.quantile(quantile)), theme)
}

fn draw_methods(frame: &mut Frame<'_>, area: Rect, board: &Board, rows: &[Row], theme: &Theme) {
    let since = match board.span {
        Time::Interval => "",
        Time::Start => ", rates and times since the start",
    };
    let title = match (board.filter.typing, board.filter.text.as_str()) {
        (true, filter) => format!("methods  /{filter}_"),
        (false, "") => format!("methods{since}"),
        (false, filter) => format!("methods with '{filter}'{since}"),
    };
    let style = if board.filter.typing { theme.accent() } else { theme.dim() };
    let rows: Vec<&Row> = rows.iter().collect();
    let table = table::Table {
        title: (title, style),
        columns: COLUMNS.iter().collect(),
        rows: &rows,
        order: &board.order,
        id: |row| row.method.clone(),
        is_idle: |row| row.numbers.as_ref().is_some_and(|it| it.rate == 0.0 && it.in_flight == 0),
    };
    table.draw(frame, area, theme);
}

/// The statuses of the method that is looked at, or how to look at one.
fn detail_line(board: &Board, rows: &[Row], width: u16, theme: &Theme) -> Line<'static> {
    let chosen = rows.iter().find(|row| Some(&row.method) == board.order.selected.as_ref());
    let Some(Row { method: Some(method), numbers: Some(numbers), .. }) = chosen else {
        return Line::raw("");
    };
    let mut figures = Figures::new(width, theme);
    figures.line.push_span(Span::styled(format!("{method}  "), theme.strong()));
    for (code, count) in &numbers.ended {
        figures.add(code, count.to_string(), if code == "OK" { Style::new() } else { theme.bad() });
    }
    figures.add("max", time(numbers.times.quantile(1.0), theme), Style::new());
    figures.line
}

/// What the viewer should know besides: a server that does not answer, one that tells nothing, the log.
fn remark(board: &Board, theme: &Theme) -> Option<Line<'static>> {
    if let Some(instance) = board.shown().find(|instance| instance.lost.is_some()) {
        let reason = instance.lost.as_deref().unwrap_or_default();
        let text = if board.instances.len() > 1 {
            format!(" {}: {reason}", instance.url)
        } else {
            format!(" {reason}")
        };
        return Some(Line::styled(text, theme.bad()));
    }
    if let Some(log) = &board.log {
        return Some(Line::styled(format!(" {log}"), theme.warn()));
    }
    let (url, foreign) = board.shown().find_map(|it| Some((&it.url, it.foreign()?)))?;
    let text = super::only_seen_from_here(foreign);
    let text = if board.instances.len() > 1 { format!(" {url}: {text}") } else { format!(" {text}") };
    Some(Line::styled(text, theme.warn()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::board::tests::{method, own};
    use super::super::board::{Foreign, Seen};
    use super::*;
    use crate::cli::stage::live::tests::{picture, picture_with_help};

    fn calls(count: usize, micros: u64, errors: usize) -> Vec<(&'static str, u64)> {
        let mut calls = vec![("OK", micros); count - errors];
        calls.extend(vec![("NOT_FOUND", micros); errors]);
        calls
    }

    /// Two readings a second apart.
    fn board() -> Board {
        let mut board = Board::new(["grpc://127.0.0.1:50051"]);
        let methods = |more: usize, errors: usize| {
            vec![
                method("demo.Greeter/Hello", 0, &calls(100 + 50 * more, 250, errors)),
                method("demo.Calc/Add", 2, &calls(10 + 5 * more, 40_000, 0)),
                method("demo.Clock/Watch", 1, &[]),
            ]
        };
        board.take(vec![own(1, 60, methods(0, 0))]);
        board.take(vec![own(1, 61, methods(1, 3))]);
        board
    }

    fn shown(board: Board) -> Picture {
        Picture { board, own: false }
    }

    #[test]
    fn methods_totals_and_the_graph_are_drawn() {
        let drawn = picture(&shown(board()), 80, 24, &Theme::unicode());
        let lines: Vec<&str> = drawn.lines().collect();
        assert_eq!(
            lines[0].trim_end(),
            format!(" rpc · top  grpc://127.0.0.1:50051{:>45}", "up 1 min 1 s  every 1s")
        );
        assert!(lines[1].starts_with(" calls 55.0/s  in flight 3  p50 "), "{drawn}");
        assert!(lines[1].contains("errors 5.5 %  conns 2"), "{drawn}");
        let graph = lines.iter().position(|line| line.contains("calls per second, at most 55.0/s")).unwrap();
        assert!(lines[graph + 1].trim_end_matches('│').ends_with('█'), "{drawn}");
        let header = lines.iter().position(|line| line.contains("METHOD")).unwrap();
        assert!(lines[header].contains("RATE▼") && !lines[header].contains("P90"), "{drawn}");
        let rows = [
            ("● demo.Greeter/Hello", "50.0/s       0   235 µs   250 µs       3      150"),
            ("● demo.Calc/Add", "5.00/s       2 40.40 ms"),
            ("● demo.Clock/Watch", "0/s       1        -        -       0        0"),
        ];
        for (line, (start, part)) in lines[header + 1..].iter().zip(rows) {
            assert!(line.contains(start) && line.contains(part), "{part}\n{drawn}");
        }
        let keys = " q quit  ? help  space pause  +/- speed  ←→ sort  / filter  ↑↓ select";
        assert!(lines[23].starts_with(keys), "{drawn}");
    }

    #[test]
    fn a_wide_screen_has_more_columns() {
        let drawn = picture(&shown(board()), 100, 30, &Theme::unicode());
        assert!(drawn.contains("P90") && drawn.contains("MAX") && !drawn.contains("HEALTH"), "{drawn}");
        let drawn = picture(&shown(board()), 200, 50, &Theme::unicode());
        assert!(drawn.contains("HEALTH") && drawn.contains("SERVING"), "{drawn}");
    }

    #[test]
    fn ascii_is_ascii_at_every_size() {
        let mut looked_at = shown(board());
        looked_at.key(KeyCode::Down);
        for (columns, rows) in [(60, 12), (80, 24), (100, 30), (200, 50)] {
            let drawn = picture(&looked_at, columns, rows, &Theme::ascii());
            assert!(drawn.is_ascii(), "{drawn}");
            assert!(picture_with_help(&looked_at, columns, rows, &Theme::ascii()).is_ascii());
            assert!(drawn.contains("demo.Greeter/Hello") && drawn.contains("250 us"), "{drawn}");
        }
    }

    #[test]
    fn the_selected_method_tells_its_codes() {
        let mut looked_at = shown(board());
        looked_at.key(KeyCode::Down);
        let drawn = picture(&looked_at, 80, 24, &Theme::unicode());
        assert!(drawn.contains(" demo.Greeter/Hello  NOT_FOUND 3  OK 147  max 250 µs"), "{drawn}");
        looked_at.key(KeyCode::Char('n'));
        assert!(picture(&looked_at, 80, 24, &Theme::unicode()).contains("METHOD▲"));
        looked_at.key(KeyCode::Right);
        looked_at.key(KeyCode::Char('o'));
        assert!(picture(&looked_at, 80, 24, &Theme::unicode()).contains("RATE▲"));
        looked_at.key(KeyCode::Char('t'));
        assert!(picture(&looked_at, 80, 24, &Theme::unicode()).contains("since the start"));
    }

    #[test]
    fn the_last_row_can_be_reached_on_a_small_screen() {
        let mut board = Board::new(["a"]);
        let many = (0..50).map(|number| method(&format!("d.E/Method{number:02}"), 0, &[])).collect();
        board.take(vec![own(1, 60, many)]);
        let mut looked_at = shown(board);
        assert!(!picture(&looked_at, 60, 12, &Theme::unicode()).contains("Method49"));
        looked_at.key(KeyCode::Down);
        looked_at.key(KeyCode::End);
        assert!(picture(&looked_at, 60, 12, &Theme::unicode()).contains("Method49"));
        looked_at.key(KeyCode::Home);
        assert!(picture(&looked_at, 60, 12, &Theme::unicode()).contains("Method00"));
    }

    #[test]
    fn several_servers_have_a_row_each_and_share_the_table() {
        let mut board = Board::new(["grpc://a:1", "grpc://b:2", "grpc://c:3"]);
        let say = || vec![method("d.E/Say", 0, &calls(20, 300, 0))];
        let lost = || Reading { trip: Duration::ZERO, seen: Err("cannot reach grpc://c:3".to_owned()) };
        board.take(vec![own(1, 10, say()), own(2, 10, say()), lost()]);
        let drawn = picture(&shown(board.clone()), 80, 24, &Theme::unicode());
        assert!(drawn.starts_with(" rpc · top  3 servers"), "{drawn}");
        assert!(drawn.contains("● grpc://a:1") && drawn.contains("up 10 s"), "{drawn}");
        let head =
            drawn.lines().find(|line| line.contains("conns     rate flight      p99     trip")).unwrap();
        let row = drawn.lines().find(|line| line.contains("grpc://a:1")).unwrap();
        let end = |line: &str, text: &str| line[..line.find(text).unwrap() + text.len()].chars().count();
        assert_eq!(
            (end(head, " rate"), end(head, " trip")),
            (end(row, "2.00/s"), end(row, "300 µs│") - 1),
            "{drawn}"
        );
        assert!(drawn.contains("✕ grpc://c:3") && drawn.contains("no answer"), "{drawn}");
        assert!(drawn.contains("cannot reach grpc://c:3"), "{drawn}");
        assert!(drawn.contains("4.00/s"), "{drawn}");
        let mut looked_at = shown(board);
        looked_at.key(KeyCode::Tab);
        let drawn = picture(&looked_at, 80, 24, &Theme::unicode());
        assert!(drawn.starts_with(" rpc · top  grpc://a:1 (1 of 3)"), "{drawn}");
    }

    #[test]
    fn of_a_foreign_server_it_is_said_that_its_counts_are_not_known() {
        let mut board = Board::new(["grpc://h:1"]);
        let foreign = Foreign {
            health: "SERVING".to_owned(),
            methods: vec![("x.Y/Z".to_owned(), "NOT_SERVING".to_owned())],
            unlisted: None,
        };
        board.take(vec![Reading { trip: Duration::from_micros(420), seen: Ok(Seen::Foreign(foreign)) }]);
        let drawn = picture(&shown(board), 80, 24, &Theme::unicode());
        assert!(drawn.contains("health ● SERVING  round trip 420 µs"), "{drawn}");
        assert!(drawn.contains("✕ x.Y/Z") && drawn.contains("round trips, at most 420 µs"), "{drawn}");
        assert!(
            drawn.contains(" no counters from this server; health, methods, round trips as seen from here\n"),
            "{drawn}"
        );
    }

    #[test]
    fn names_of_others_cannot_drive_the_terminal() {
        let mut board = Board::new(["a"]);
        let mut evil = method("d.E/\u{1b}[2J\u{202e}", 0, &[]);
        evil.ended = BTreeMap::from([("\u{1b}[31m".to_owned(), 1)]);
        board.take(vec![own(1, 1, vec![evil])]);
        let mut looked_at = shown(board);
        looked_at.key(KeyCode::Down);
        assert!(!picture(&looked_at, 80, 24, &Theme::unicode()).contains('\u{1b}'));
    }
}
