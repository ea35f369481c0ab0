//! Draws the board of `log top`: totals, graphs, the table of topics and groups.

use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;

use super::board::{Board, Reading, Row, Sort};
use crate::cli::app::App;
use crate::cli::figures::{count, counted, per_second};
use crate::cli::stage::live::{Key, View};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{Figures, graph};
use crate::cli::top::table::{self, Column, Filter};
use crate::cli::top::{self, Parts, Top};

/// The smallest screen.
const SIZE_MIN: (u16, u16) = (60, 12);
/// Screens from here on have room for two graphs and all columns.
const WIDE: u16 = 100;

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
        format!("log · top  {}", self.board.url)
    }

    fn figures(&self) -> String {
        let (topics, groups) = self.board.counts();
        format!("{}  {}", counted(topics as u64, "topic"), counted(groups as u64, "group"))
    }

    fn keys(&self, theme: &Theme) -> Vec<Key> {
        let [sort, select, reverse] = table::keys(theme, "look at a row");
        vec![
            sort,
            Filter::help("only topics with a text in their name; Enter keeps it"),
            select,
            reverse,
            Key { name: "n e", short: "", long: "order by name, records" },
            Key { name: "i t l", short: "", long: "order by records in, records out, lag" },
            Key { name: "PgUp PgDn", short: "", long: "ten rows up or down; Home, End" },
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
        self.board.key(key);
    }

    fn size_min(&self) -> (u16, u16) {
        SIZE_MIN
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let board = &self.board;
        let remark = board.lost.as_ref().map(|reason| Line::styled(format!(" {reason}"), theme.bad()));
        let parts = Parts::new(area, 0, remark.as_ref());
        let mut totals = Figures::new(area.width, theme);
        totals.add("in", per_second(board.rate_in()), theme.strong());
        totals.add("out", per_second(board.rate_out()), theme.strong());
        let lag = board.lag();
        totals.add("lag", count(lag as f64), if lag > 0 { theme.warn() } else { theme.good() });
        frame.render_widget(totals.line, parts.totals);
        if parts.graph.height > 0 {
            graphs(frame, parts.graph, board, theme);
        }
        let title = match (board.filter.typing, board.filter.text.as_str()) {
            (true, filter) => format!("topics  /{filter}_"),
            (false, "") => "topics and groups".to_owned(),
            (false, filter) => format!("topics with '{filter}', {} rows hidden", board.hidden()),
        };
        let style = if board.filter.typing { theme.accent() } else { theme.dim() };
        let rows = board.rows();
        let table = table::Table {
            title: (title, style),
            columns: COLUMNS.iter().collect(),
            rows: &rows,
            order: &board.order,
            id: Row::id,
            is_idle: Row::is_idle,
        };
        table.draw(frame, parts.table, theme);
        if let Some(remark) = remark {
            top::draw_remark(frame, parts.remark, remark);
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

fn graphs(frame: &mut Frame<'_>, area: Rect, board: &Board, theme: &Theme) {
    let most = |history: &std::collections::VecDeque<u64>| history.iter().copied().max().unwrap_or(0) as f64;
    let rates = format!("records in per second, at most {}", per_second(most(&board.rates)));
    if area.width < WIDE {
        return graph(frame, area, &rates, &board.rates, theme);
    }
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(area);
    graph(frame, left, &rates, &board.rates, theme);
    let lags = format!("lag of all groups, at most {}", count(most(&board.lags)));
    graph(frame, right, &lags, &board.lags, theme);
}

/// What nobody has told is no 0.
fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".to_owned(), per_second)
}

const COLUMNS: [Column<Row, Sort>; 8] = [
    Column::name("TOPIC", |row: &Row, _| row.topic.clone()).by(Sort::Name),
    Column::word("GROUP", 16, |row: &Row, _| row.group.clone().unwrap_or_else(|| "-".to_owned())),
    Column::number("PARTS", 6, |row: &Row, _| row.parts.to_string()).from(WIDE),
    Column::number("RECORDS", 9, |row: &Row, _| count(row.records as f64)).by(Sort::Records).from(WIDE),
    Column::number("IN", 9, |row: &Row, _| rate(row.rate_in)).by(Sort::In),
    Column::number("OUT", 9, |row: &Row, _| rate(row.rate_out)).by(Sort::Out),
    Column::number("LAG", 8, |row: &Row, _| row.lag.map_or_else(|| "-".to_owned(), |lag| count(lag as f64)))
        .by(Sort::Lag)
        .styled(|row, theme| {
            // What waits without anybody to read it is what one looks for.
            let is_stuck = row.lag.is_some_and(|lag| lag > 0) && row.members == Some(0);
            if is_stuck { theme.warn() } else { Style::new() }
        }),
    Column::number("MEMBERS", 8, |row: &Row, _| {
        row.members.map_or_else(|| "-".to_owned(), |members| members.to_string())
    }),
];

#[cfg(test)]
mod tests {
    use super::super::board::tests::reading;
    use super::*;
    use crate::cli::stage::live::tests::picture;

    fn looked_at() -> Picture {
        let mut board = Board::new("kafka://h:9092");
        board.take(Ok(reading(0, 1_000_000, 50)));
        board.take(Ok(reading(2, 1_000_040, 130)));
        Picture { board, own: false }
    }

    #[test]
    fn topics_groups_and_the_graph_are_drawn() {
        let drawn = picture(&looked_at(), 80, 24, &Theme::unicode());
        let lines: Vec<&str> = drawn.lines().collect();
        assert!(lines[0].starts_with(" log · top  kafka://h:9092"), "{drawn}");
        assert!(lines[1].starts_with(" in 20.0/s  out 60.0/s  lag 999910"), "{drawn}");
        let header = lines.iter().position(|line| line.contains("TOPIC")).unwrap();
        assert!(lines[header].contains("IN▼") && !lines[header].contains("RECORDS"), "{drawn}");
        assert!(lines[header + 1].contains("orders") && lines[header + 1].contains("billing"), "{drawn}");
    }

    #[test]
    fn ascii_is_ascii_and_a_loss_is_told() {
        let mut looked_at = looked_at();
        looked_at.news(Err("cannot reach it".to_owned()));
        for (columns, rows) in [(60, 12), (80, 24), (120, 40)] {
            let drawn = picture(&looked_at, columns, rows, &Theme::ascii());
            assert!(
                drawn.is_ascii() && drawn.contains("cannot reach it") && drawn.contains("mail"),
                "{drawn}"
            );
        }
    }
}
