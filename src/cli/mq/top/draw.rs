//! Draws the board of `mq top`: totals, graphs, the table of queues.

use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use serde_json::Value;

use super::board::{Board, Reading, Sort, id, is_busy, number};
use crate::cli::app::App;
use crate::cli::figures::{self, per_second};
use crate::cli::mq::objects::Row;
use crate::cli::stage::live::{Key, View};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{Figures, graph};
use crate::cli::top::table::{self, Column, Filter};
use crate::cli::top::{self, Parts, Top};

/// The smallest screen.
const SIZE_MIN: (u16, u16) = (60, 12);

/// Screens from here on have room for memory and state, and for two graphs.
const WIDE: u16 = 100;
/// Screens from here on have room for everything.
const WIDER: u16 = 140;

/// What is looked at.
pub struct Picture {
    /// What is known.
    pub board: Board,
    /// True in the broker's own terminal: leaving stops it.
    pub own: bool,
}

impl View for Picture {
    type News = Result<Reading, String>;

    fn news(&mut self, news: Self::News) {
        self.board.take(news);
    }

    fn title(&self) -> String {
        let vhost = self
            .board
            .vhost
            .as_deref()
            .map_or_else(|| "all virtual hosts".to_owned(), |vhost| format!("vhost {vhost}"));
        format!("mq · top  {}  {vhost}", self.board.url)
    }

    fn figures(&self) -> String {
        let Some(overview) = &self.board.now.overview else { return String::new() };
        let text = |key: &str| overview[key].as_str().unwrap_or_default();
        let product = if text("product_name").is_empty() { "RabbitMQ" } else { text("product_name") };
        // A broker that is compatible says with which RabbitMQ, besides what it is itself.
        let version = text("product_version");
        let version = if version.is_empty() { text("rabbitmq_version") } else { version };
        format!("{product} {version}")
    }

    fn keys(&self, theme: &Theme) -> Vec<Key> {
        let [sort, select, reverse] = table::keys(theme, "look at a queue: its settings are below the table");
        vec![
            sort,
            Filter::help("only queues with a text in their name; Enter keeps it"),
            select,
            Key { name: "b", short: "busy", long: "only queues in which something is or happens" },
            reverse,
            Key { name: "n r u", short: "", long: "order by name, ready, unacked" },
            Key { name: "c i t", short: "", long: "order by consumers, messages in, messages out" },
            Key { name: "PgUp PgDn", short: "", long: "ten queues up or down; Home, End" },
        ]
    }

    fn quit(&self) -> &'static str {
        top::quit(self.own)
    }

    fn is_lost(&self) -> bool {
        self.board.lost.is_some()
    }

    fn is_typing(&self) -> bool {
        self.board.filter.typing
    }

    fn back(&mut self) -> bool {
        self.board.filter.clear()
    }

    fn key(&mut self, key: KeyCode) {
        let board = &mut self.board;
        if !board.key(key) && key == KeyCode::Char('b') {
            board.busy = !board.busy;
        }
    }

    fn size_min(&self) -> (u16, u16) {
        SIZE_MIN
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let board = &self.board;
        let rows = board.rows();
        let remark = remark(board, theme);
        let parts = Parts::new(area, 0, remark.as_ref());
        frame.render_widget(totals_line(board, area.width, theme), parts.totals);
        if parts.graph.height > 0 {
            draw_graphs(frame, parts.graph, board, theme);
        }
        draw_queues(frame, parts.table, board, &rows, theme);
        frame.render_widget(detail_line(board, &rows, area.width, theme), parts.detail);
        if let Some(remark) = remark {
            crate::cli::top::draw_remark(frame, parts.remark, remark);
        }
    }
}

impl Top for Picture {
    fn table(&self, app: &App, number: u64) -> anyhow::Result<()> {
        super::table(app, &self.board, number)
    }

    fn is_partly(&self) -> bool {
        self.board.lost.is_some()
    }
}

/// What nobody has told is no 0.
fn told(number: Option<f64>, text: fn(f64) -> String) -> String {
    number.map_or_else(|| "-".to_owned(), text)
}

fn count(number: Option<f64>) -> String {
    told(number, figures::count)
}

fn rate(rate: Option<f64>) -> String {
    told(rate, per_second)
}

fn bytes(bytes: Option<f64>) -> String {
    told(bytes, figures::bytes)
}

fn totals_line(board: &Board, width: u16, theme: &Theme) -> Line<'static> {
    let mut figures = Figures::new(width, theme);
    let plain = Style::new();
    figures.add("in", rate(board.sum("in")), theme.strong());
    figures.add("out", rate(board.sum("out")), theme.strong());
    figures.add("ready", count(board.sum("ready")), plain);
    figures.add("unacked", count(board.sum("unacked")), plain);
    figures.add("queues", board.now.queues.len().to_string(), plain);
    figures.add("consumers", count(board.sum("consumers")), plain);
    for (name, what) in [("conns", "connections"), ("channels", "channels")] {
        if let Some(number) = board.count(what) {
            figures.add(name, number.to_string(), plain);
        }
    }
    if let Some(memory) = board.memory() {
        figures.add("memory", bytes(Some(memory as f64)), plain);
    }
    figures.line
}

fn draw_graphs(frame: &mut Frame<'_>, area: Rect, board: &Board, theme: &Theme) {
    let most = |history: &std::collections::VecDeque<u64>| history.iter().copied().max().unwrap_or(0) as f64;
    let rates = format!("messages in per second, at most {}", per_second(most(&board.rates)));
    let backlog = format!("messages ready, at most {}", count(Some(most(&board.backlog))));
    if area.width < WIDE {
        return graph(frame, area, &rates, &board.rates, theme);
    }
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    graph(frame, left, &rates, &board.rates, theme);
    graph(frame, right, &backlog, &board.backlog, theme);
}

const COLUMNS: [Column<Row, Sort>; 11] = [
    Column::name("QUEUE", |row: &Row, _| word(row, "name")).by(Sort::Name),
    Column::word(VHOST, 12, |row: &Row, _| word(row, "vhost")).from(WIDE),
    Column::word("TYPE", 8, |row: &Row, _| word(row, "type")).from(WIDER),
    Column::word("STATE", 9, |row: &Row, _| word(row, "state")).from(WIDER),
    Column::number("READY", 8, |row: &Row, _| count(number(row, "ready"))).by(Sort::Ready).styled(
        |row, theme| {
            // What waits without anybody to take it is what one looks for.
            let stuck = number(row, "consumers") == Some(0.0)
                && number(row, "ready").is_some_and(|ready| ready > 0.0);
            if stuck { theme.warn() } else { Style::new() }
        },
    ),
    Column::number("UNACKED", 8, |row: &Row, _| count(number(row, "unacked"))).by(Sort::Unacked),
    Column::number("CONS", 6, |row: &Row, _| count(number(row, "consumers"))).by(Sort::Consumers),
    Column::number("IN", 8, |row: &Row, _| rate(number(row, "in"))).by(Sort::In),
    Column::number("OUT", 8, |row: &Row, _| rate(number(row, "out"))).by(Sort::Out),
    Column::number("MEMORY", 9, |row: &Row, _| bytes(number(row, "memory"))).from(WIDE),
    Column::number("BYTES", 9, |row: &Row, _| bytes(number(row, "bytes"))).from(WIDER),
];

/// What stands above the column that is there only if queues of several virtual hosts are.
const VHOST: &str = "VHOST";

fn word(row: &Row, key: &str) -> String {
    row.get(key).and_then(Value::as_str).unwrap_or("-").to_owned()
}

fn draw_queues(frame: &mut Frame<'_>, area: Rect, board: &Board, rows: &[&Row], theme: &Theme) {
    let hidden = board.now.queues.len() - rows.len();
    let title = match (board.filter.typing, board.filter.text.as_str(), hidden) {
        (true, filter, _) => format!("queues  /{filter}_"),
        (false, "", 0) => "queues".to_owned(),
        (false, "", hidden) => format!("queues, {hidden} idle ones hidden"),
        (false, filter, hidden) => format!("queues with '{filter}', {hidden} hidden"),
    };
    let style = if board.filter.typing { theme.accent() } else { theme.dim() };
    let table = table::Table {
        title: (title, style),
        columns: COLUMNS.iter().filter(|column| !column.is(VHOST) || board.vhost.is_none()).collect(),
        rows,
        order: &board.order,
        id,
        is_idle: |row| !is_busy(row),
    };
    table.draw(frame, area, theme);
}

/// The settings of the queue that is looked at.
fn detail_line(board: &Board, rows: &[&Row], width: u16, theme: &Theme) -> Line<'static> {
    let Some(row) = rows.iter().find(|row| board.order.selected.as_ref() == Some(&id(row))) else {
        return Line::raw("");
    };
    let mut figures = Figures::new(width, theme);
    figures.line.push_span(Span::styled(format!("{}  ", id(row).0), theme.strong()));
    let features = row.get("features").and_then(Value::as_array).cloned().unwrap_or_default();
    for (name, value) in
        [("vhost", word(row, "vhost")), ("type", word(row, "type")), ("state", word(row, "state"))]
    {
        figures.add(name, value, Style::new());
    }
    for feature in features.iter().filter_map(Value::as_str) {
        let (name, value) = feature.split_once('=').unwrap_or(("", feature));
        figures.add(name, value.to_owned(), Style::new());
    }
    figures.line
}

/// What the viewer should know besides: a broker that does not answer, an alarm, that nobody tells more.
fn remark(board: &Board, theme: &Theme) -> Option<Line<'static>> {
    if let Some(reason) = &board.lost {
        return Some(Line::styled(format!(" {reason}"), theme.bad()));
    }
    if let Some(alarm) = board.alarm() {
        return Some(Line::styled(format!(" {alarm}"), theme.bad()));
    }
    let text = " without a management API: ready and consumers of the queues that were named";
    board.now.overview.is_none().then(|| Line::styled(text, theme.warn()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::board::tests::queue;
    use super::*;
    use crate::cli::stage::live::tests::{picture, picture_with_help};

    fn looked_at() -> Picture {
        let mut board = Board::new("amqp://h:5672", Some("/".to_owned()));
        let mut stuck = queue("a.very.long.name.of.a.queue.in.which.letters.lie.dead", 1_234_567, 0.0);
        stuck.insert("consumers".to_owned(), json!(0));
        let overview = json!({"product_name": "RabbitMQ", "rabbitmq_version": "3.10.8",
            "object_totals": {"connections": 3, "channels": 4}});
        let nodes = vec![json!({"name": "rabbit@h", "mem_used": 150 << 20, "mem_alarm": false})];
        let queues = vec![queue("jobs", 7, 12.5), stuck];
        board.take(Ok(Reading { queues, overview: Some(overview), nodes }));
        Picture { board, own: false }
    }

    #[test]
    fn queues_totals_and_the_graph_are_drawn() {
        let drawn = picture(&looked_at(), 80, 24, &Theme::unicode());
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines[0].starts_with(" mq · top  amqp://h:5672  vhost /"), "{drawn}");
        assert!(lines[0].ends_with("RabbitMQ 3.10.8  every 1s"), "{drawn}");
        assert!(lines[1].starts_with(" in 12.5/s  out 12.5/s  ready 1.23M  unacked 2  queues 2"), "{drawn}");
        assert!(drawn.contains("messages in per second, at most 13.0/s"), "{drawn}");
        let header = lines.iter().position(|line| line.contains("QUEUE")).unwrap();
        assert!(lines[header].contains("IN▼") && !lines[header].contains("MEMORY"), "{drawn}");
        assert!(lines[header + 1].starts_with("│jobs"), "{drawn}");
        assert!(lines[header + 2].contains("….a.queue.in.which.letters.lie.dead"), "{drawn}");
        assert!(lines[header + 2].contains("1.23M        1      0"), "{drawn}");
        assert!(lines[23].contains("←→ sort  / filter"), "{drawn}");
    }

    #[test]
    fn wider_screens_tell_more() {
        let drawn = picture(&looked_at(), 100, 30, &Theme::unicode());
        assert!(drawn.contains("MEMORY") && drawn.contains("messages ready, at most 1.23M"), "{drawn}");
        assert!(!drawn.contains("VHOST") && !drawn.contains("STATE"), "{drawn}");
        let mut all = looked_at();
        all.board.vhost = None;
        let drawn = picture(&all, 200, 50, &Theme::unicode());
        assert!(
            drawn.contains("VHOST") && drawn.contains("STATE") && drawn.contains("all virtual hosts"),
            "{drawn}"
        );
    }

    #[test]
    fn ascii_is_ascii_at_every_size() {
        let mut looked_at = looked_at();
        looked_at.key(KeyCode::Down);
        for (columns, rows) in [(60, 12), (80, 24), (100, 30), (200, 50)] {
            let drawn = picture(&looked_at, columns, rows, &Theme::ascii());
            assert!(drawn.is_ascii(), "{drawn}");
            assert!(picture_with_help(&looked_at, columns, rows, &Theme::ascii()).is_ascii());
            assert!(drawn.contains("jobs") && drawn.contains("INv"), "{drawn}");
        }
    }

    #[test]
    fn a_filter_is_typed_and_letters_are_no_keys_meanwhile() {
        let mut looked_at = looked_at();
        looked_at.key(KeyCode::Char('/'));
        assert!(looked_at.is_typing());
        for letter in "job".chars() {
            looked_at.key(KeyCode::Char(letter));
        }
        let drawn = picture(&looked_at, 80, 24, &Theme::unicode());
        assert!(drawn.contains("queues  /job_") && !drawn.contains("lie.dead"), "{drawn}");
        looked_at.key(KeyCode::Enter);
        assert!(!looked_at.is_typing());
        let drawn = picture(&looked_at, 80, 24, &Theme::unicode());
        assert!(drawn.contains("queues with 'job', 1 hidden"), "{drawn}");
        looked_at.key(KeyCode::Down);
        let drawn = picture(&looked_at, 80, 24, &Theme::unicode());
        assert!(drawn.contains(" jobs  vhost /  type classic  state running"), "{drawn}");
    }

    #[test]
    fn a_loss_and_an_alarm_are_told() {
        let mut looked_at = looked_at();
        looked_at.board.now.nodes[0]["mem_alarm"] = json!(true);
        let drawn = picture(&looked_at, 80, 24, &Theme::unicode());
        assert!(drawn.contains("rabbit@h is short of memory: publishers have to wait"), "{drawn}");
        looked_at.news(Err("cannot reach it".to_owned()));
        let drawn = picture(&looked_at, 80, 24, &Theme::unicode());
        assert!(drawn.contains("cannot reach it") && drawn.contains("jobs"), "{drawn}");
    }

    #[test]
    fn names_of_others_cannot_drive_the_terminal() {
        let mut looked_at = looked_at();
        looked_at.board.now.queues.push(queue("\u{1b}[2J", 99_999_999, 0.0));
        looked_at.key(KeyCode::Down);
        assert!(!picture(&looked_at, 80, 24, &Theme::unicode()).contains('\u{1b}'));
    }
}
