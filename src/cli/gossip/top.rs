//! `bandy gossip top`: the members of a cluster as one node sees them, live or as tables.

use std::cell::RefCell;
use std::collections::VecDeque;

use crossterm::event::KeyCode;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::connect::Node;
use super::ls;
use crate::cli::app::App;
use crate::cli::connect::ConnectArgs;
use crate::cli::exit::{Exit, Failure};
use crate::cli::figures::counted;
use crate::cli::stage::live::{Key, View};
use crate::cli::stage::theme::Theme;
use crate::cli::stage::widgets::{Figures, graph};
use crate::cli::top::table::{self, Column, Filter, Order};
use crate::cli::top::{self, Parts, Top, TopArgs, remember};
use crate::gossip::agent::{Agent, ipc};
use crate::gossip::wire::ipc::MemberRow;

/// Arguments of `gossip top`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bandy gossip top                     # the members, live
  bandy gossip top -e serf://10.0.0.7  # as a Serf agent sees them
  bandy gossip top --once              # one table, as 'gossip ls'
  bandy gossip top -i 5s -n 12 --json  # twelve tables, five seconds apart, as NDJSON

Exit: 0 shown · 3 no node · 7 the node did not answer in between · see 'bandy help exit-codes'")]
pub struct Args {
    #[command(flatten)]
    top: TopArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What the members are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The name, from a to z.
    #[default]
    Name,
    /// Those that are gone first.
    Status,
    /// The slowest first.
    Rtt,
    /// What has been so for longest first.
    Age,
}

impl table::Sort for Sort {
    const ALL: &'static [(char, Self)] =
        &[('n', Self::Name), ('s', Self::Status), ('r', Self::Rtt), ('a', Self::Age)];
}

/// Runs the command.
///
/// # Errors
/// No node, output that cannot be written.
pub fn run(args: &Args, app: &App) -> anyhow::Result<Exit> {
    app.client(args.connect.timeout, async {
        let mut node = Node::open(&args.connect, app, "top").await?;
        let mut view = Picture::new(&node.url, false);
        view.news(ls::members(&mut node, &[]).await.map_err(|failure| failure.message));
        let node = RefCell::new(Some(node));
        // A node that has gone may be back later.
        let read = async || {
            let open = node.take();
            let mut open = match open {
                Some(open) => open,
                None => Node::open(&args.connect, app, "top").await.map_err(|error| format!("{error:#}"))?,
            };
            let members = ls::members(&mut open, &[]).await.map_err(|failure: Failure| failure.message)?;
            node.replace(Some(open));
            Ok(members)
        };
        top::show(&args.top, app, &mut view, read).await
    })
}

/// The node's own view in its own terminal: `gossip join --top`. Ends when the viewer wants the node to leave.
///
/// # Errors
/// A terminal that cannot be used.
pub async fn show_own(agent: &Agent, url: &str, theme: &Theme) -> anyhow::Result<Exit> {
    let mut view = Picture::new(url, true);
    view.news(ipc::members(agent).await);
    top::show_own(&mut view, async || ipc::members(agent).await, theme).await
}

/// The members, and how they are looked at.
struct Picture {
    url: String,
    members: Vec<MemberRow>,
    lost: Option<String>,
    order: Order<Sort, String>,
    filter: Filter,
    /// Those that answer, at each refresh.
    living: VecDeque<u64>,
    /// True in the node's own terminal: leaving stops it.
    own: bool,
}

fn rank(member: &MemberRow) -> u8 {
    match ls::status(member) {
        "failed" => 4,
        "suspect" => 3,
        "leaving" => 2,
        "alive" => 1,
        _ => 0,
    }
}

impl Picture {
    fn new(url: &str, own: bool) -> Self {
        Self {
            url: url.to_owned(),
            members: Vec::new(),
            lost: None,
            order: Order::default(),
            filter: Filter::default(),
            living: VecDeque::new(),
            own,
        }
    }

    fn count(&self, status: &str) -> usize {
        self.members.iter().filter(|member| ls::status(member) == status).count()
    }

    fn rows(&self) -> Vec<&MemberRow> {
        let mut rows: Vec<&MemberRow> =
            self.members.iter().filter(|member| self.filter.shows(&member.name)).collect();
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        self.order.arrange(&mut rows, |sort, member| match sort {
            Sort::Name => 0.0,
            Sort::Status => f64::from(rank(member)),
            Sort::Rtt => member.rtt_us.map_or(-1.0, |rtt| rtt as f64),
            Sort::Age => member.age_ms.map_or(-1.0, |age| age as f64),
        });
        rows
    }
}

const COLUMNS: [Column<MemberRow, Sort>; 7] = [
    Column::name("NODE", |member: &MemberRow, _| member.name.clone()).by(Sort::Name),
    Column::word("ADDR", 21, |member: &MemberRow, _| {
        member.address.map_or_else(|| "-".to_owned(), |address| address.to_string())
    }),
    Column::word("STATUS", 10, |member: &MemberRow, theme: &Theme| {
        let symbol = match rank(member) {
            4 => theme.lost,
            2 | 3 => theme.doubt,
            1 => theme.done,
            _ => theme.empty,
        };
        format!("{symbol} {}", ls::status(member))
    })
    .by(Sort::Status)
    .styled(|member, theme| match rank(member) {
        4 => theme.bad(),
        2 | 3 => theme.warn(),
        1 => theme.good(),
        _ => theme.dim(),
    }),
    Column::number("INC", 5, |member: &MemberRow, _| {
        member.incarnation.map_or_else(|| "-".to_owned(), |incarnation| incarnation.to_string())
    }),
    Column::number("RTT", 9, |member: &MemberRow, _| {
        member.rtt_us.map_or_else(|| "-".to_owned(), |rtt| format!("{:.1} ms", rtt as f64 / 1_000.0))
    })
    .by(Sort::Rtt),
    Column::number("SINCE", 8, |member: &MemberRow, _| {
        member.age_ms.map_or_else(|| "-".to_owned(), ls::age_text)
    })
    .by(Sort::Age),
    Column::word("TAGS", 40, |member: &MemberRow, _| {
        let tags: Vec<String> = member.tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
        tags.join(" ")
    })
    .from(120),
];

impl View for Picture {
    type News = Result<Vec<MemberRow>, String>;

    fn news(&mut self, news: Self::News) {
        match news {
            Ok(members) => {
                (self.members, self.lost) = (members, None);
                let living = self.count("alive") as u64;
                remember(&mut self.living, living);
            }
            Err(reason) => self.lost = Some(reason),
        }
    }

    fn title(&self) -> String {
        format!("gossip · top  {}", self.url)
    }

    fn figures(&self) -> String {
        counted(self.members.len() as u64, "member")
    }

    fn keys(&self, theme: &Theme) -> Vec<Key> {
        let [sort, select, reverse] = table::keys(theme, "look at a member: its tags are below the table");
        vec![
            sort,
            Filter::help("only members with a text in their name; Enter keeps it"),
            select,
            reverse,
            Key { name: "n s r a", short: "", long: "order by name, status, round trip time, age" },
        ]
    }

    fn quit(&self) -> &'static str {
        if self.own { "leave" } else { "quit" }
    }

    fn is_lost(&self) -> bool {
        self.lost.is_some()
    }

    fn is_typing(&self) -> bool {
        self.filter.typing
    }

    fn back(&mut self) -> bool {
        self.filter.clear()
    }

    fn key(&mut self, key: KeyCode) {
        let names: Vec<String> = self.rows().into_iter().map(|member| member.name.clone()).collect();
        let _ = self.filter.key(key) || self.order.key(key, &names);
    }

    fn size_min(&self) -> (u16, u16) {
        (72, 12)
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, theme: &Theme) {
        let remark = self.lost.as_ref().map(|reason| Line::styled(format!(" {reason}"), theme.bad()));
        let parts = Parts::new(area, 0, remark.as_ref());
        let mut figures = Figures::new(area.width, theme);
        for (status, style) in [
            ("alive", theme.good()),
            ("suspect", theme.warn()),
            ("failed", theme.bad()),
            ("left", Style::new()),
        ] {
            figures.add(status, self.count(status).to_string(), style);
        }
        frame.render_widget(figures.line, parts.totals);
        if parts.graph.height > 0 {
            graph(frame, parts.graph, "members alive", &self.living, theme);
        }
        let rows = self.rows();
        let title = match (self.filter.typing, self.filter.text.as_str()) {
            (true, filter) => format!("members  /{filter}_"),
            (false, "") => "members".to_owned(),
            (false, filter) => format!("members with '{filter}'"),
        };
        let table = table::Table {
            title: (title, if self.filter.typing { theme.accent() } else { theme.dim() }),
            columns: COLUMNS.iter().collect(),
            rows: &rows,
            order: &self.order,
            id: |member| member.name.clone(),
            is_idle: |member| rank(member) == 0,
        };
        table.draw(frame, parts.table, theme);
        let looked_at = |member: &&&MemberRow| self.order.selected.as_ref() == Some(&member.name);
        if let Some(member) = rows.iter().find(looked_at) {
            let mut figures = Figures::new(area.width, theme);
            figures.line.push_span(Span::styled(format!("{}  ", member.name), theme.strong()));
            for (tag, value) in &member.tags {
                figures.add(tag, value.clone(), Style::new());
            }
            frame.render_widget(figures.line, parts.detail);
        }
        if let Some(remark) = remark {
            top::draw_remark(frame, parts.remark, remark);
        }
    }
}

impl Top for Picture {
    fn table(&self, app: &App, number: u64) -> anyhow::Result<()> {
        if let Some(reason) = &self.lost {
            app.printer.note(reason);
            return Ok(());
        }
        top::begin_table(app, number)?;
        ls::print(app, &self.rows(), Some(jiff::Timestamp::now().as_millisecond()))
    }

    fn is_partly(&self) -> bool {
        self.lost.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::stage::live::tests::picture;

    fn member(name: &str, status: &str, rtt_us: Option<u64>) -> MemberRow {
        MemberRow {
            name: name.to_owned(),
            address: Some("127.0.0.1:7946".parse().unwrap()),
            tags: BTreeMap::from([("role".to_owned(), "web".to_owned())]),
            status: status.to_owned(),
            versions: crate::gossip::wire::VERSIONS,
            incarnation: Some(3),
            suspect: false,
            age_ms: Some(61_000),
            rtt_us,
        }
    }

    fn looked_at() -> Picture {
        let mut view = Picture::new("local:n1", false);
        let suspect = MemberRow { suspect: true, ..member("c", "alive", None) };
        view.news(Ok(vec![member("b", "failed", None), suspect, member("a", "alive", Some(1_500))]));
        view
    }

    #[test]
    fn members_are_drawn_with_what_became_of_them() {
        for (columns, rows) in [(80, 24), (100, 30), (200, 50)] {
            let drawn = picture(&looked_at(), columns, rows, &Theme::ascii());
            assert!(drawn.is_ascii(), "{drawn}");
            for part in ["alive 1", "suspect 1", "failed 1", "x failed", "? suspect", "1.5 ms", "3 members"] {
                assert!(drawn.contains(part), "{part} is missing: {drawn}");
            }
            assert_eq!(drawn.contains("role=web"), columns >= 120, "{drawn}");
        }
    }

    #[test]
    fn what_is_gone_comes_first_if_asked_and_a_loss_is_told() {
        let mut view = looked_at();
        view.key(KeyCode::Char('s'));
        let names: Vec<&str> = view.rows().into_iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "a"]);
        view.key(KeyCode::Down);
        view.news(Err("cannot reach the node".to_owned()));
        let drawn = picture(&view, 80, 24, &Theme::unicode());
        assert!(drawn.contains("cannot reach the node") && drawn.contains(" b  role web"), "{drawn}");
    }
}
