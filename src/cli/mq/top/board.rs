//! What `mq top` knows of a broker: readings go in, rows come out. No clock, no broker, no terminal.

use std::collections::VecDeque;

use crossterm::event::KeyCode;
use serde_json::Value;

use crate::cli::mq::objects::Row;
use crate::cli::top::table::{self, Filter, Order};
use crate::cli::top::{remember, rounded};

/// What one refresh has brought.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// The queues, as `mq ls` has them.
    pub queues: Vec<Row>,
    /// The broker as a whole; none where only AMQP tells.
    pub overview: Option<Value>,
    /// Its nodes; none for who may not know.
    pub nodes: Vec<Value>,
}

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The name, from a to z; all others begin with the most.
    Name,
    /// Messages that wait.
    Ready,
    /// Messages on their way.
    Unacked,
    /// Consumers.
    Consumers,
    /// Messages in per second.
    #[default]
    In,
    /// Messages out per second.
    Out,
}

impl table::Sort for Sort {
    const ALL: &'static [(char, Self)] = &[
        ('n', Self::Name),
        ('r', Self::Ready),
        ('u', Self::Unacked),
        ('c', Self::Consumers),
        ('i', Self::In),
        ('t', Self::Out),
    ];
}

impl Sort {
    /// The key of the rows that it looks at.
    pub fn key(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Ready => "ready",
            Self::Unacked => "unacked",
            Self::Consumers => "consumers",
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// The broker, and how it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// How it is named.
    pub url: String,
    /// The virtual host that is looked at; none for all.
    pub vhost: Option<String>,
    /// The latest answer.
    pub now: Reading,
    /// Why there was no answer the last time.
    pub lost: Option<String>,
    /// The order of the queues, and the one that is looked at, by name and virtual host.
    pub order: Order<Sort, (String, String)>,
    /// Only queues with this in their name.
    pub filter: Filter,
    /// Only queues in which something is or happens.
    pub busy: bool,
    /// Messages in per second at each refresh.
    pub rates: VecDeque<u64>,
    /// Messages that wait at each refresh.
    pub backlog: VecDeque<u64>,
}

fn text(row: &Row, key: &str) -> String {
    row.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A number of a row; none if nobody has told.
pub fn number(row: &Row, key: &str) -> Option<f64> {
    row.get(key).and_then(Value::as_f64)
}

/// Name and virtual host.
pub fn id(row: &Row) -> (String, String) {
    (text(row, "name"), text(row, "vhost"))
}

/// True if something is in it or happens to it.
pub fn is_busy(row: &Row) -> bool {
    ["ready", "unacked", "in", "out"].iter().any(|key| number(row, key).is_some_and(|number| number > 0.0))
}

impl Board {
    /// A broker that nobody has asked yet.
    pub fn new(url: &str, vhost: Option<String>) -> Self {
        Self { url: url.to_owned(), vhost, ..Self::default() }
    }

    /// Remembers what it answered.
    pub fn take(&mut self, answer: Result<Reading, String>) {
        match answer {
            Ok(reading) => (self.now, self.lost) = (reading, None),
            Err(reason) => {
                self.lost = Some(reason);
                return;
            }
        }
        let (rate, ready) = (self.sum("in"), self.sum("ready"));
        remember(&mut self.rates, rounded(rate.unwrap_or(0.0)));
        remember(&mut self.backlog, rounded(ready.unwrap_or(0.0)));
    }

    /// The sum of all queues; none if no queue tells.
    pub fn sum(&self, key: &str) -> Option<f64> {
        let told = self.now.queues.iter().filter_map(|row| number(row, key));
        told.fold(None, |sum: Option<f64>, number| Some(sum.unwrap_or(0.0) + number))
    }

    /// How many of something the broker has.
    pub fn count(&self, what: &str) -> Option<u64> {
        self.now.overview.as_ref()?["object_totals"][what].as_u64()
    }

    /// Memory of all nodes in bytes.
    pub fn memory(&self) -> Option<u64> {
        let told = self.now.nodes.iter().filter_map(|node| node["mem_used"].as_u64());
        told.fold(None, |sum: Option<u64>, bytes| Some(sum.unwrap_or(0).saturating_add(bytes)))
    }

    /// Why publishers have to wait, if they have to.
    pub fn alarm(&self) -> Option<String> {
        let alarm = |node: &Value| {
            let name = node["name"].as_str().unwrap_or("a node");
            match (node["mem_alarm"] == true, node["disk_free_alarm"] == true) {
                (true, _) => Some(format!("{name} is short of memory: publishers have to wait")),
                (_, true) => Some(format!("{name} is short of disk: publishers have to wait")),
                _ => None,
            }
        };
        self.now.nodes.iter().find_map(alarm)
    }

    /// The queues that are looked at, in their order.
    pub fn rows(&self) -> Vec<&Row> {
        let wanted = |row: &&Row| self.filter.shows(&text(row, "name")) && (!self.busy || is_busy(row));
        let mut rows: Vec<&Row> = self.now.queues.iter().filter(wanted).collect();
        rows.sort_by_cached_key(|row| id(row));
        if self.order.sort != Sort::Name {
            // Of those that are equal, the longest.
            let ready = |row| number(row, "ready").unwrap_or(-1.0);
            rows.sort_by(|a, b| ready(b).total_cmp(&ready(a)));
        }
        self.order.arrange(&mut rows, |sort, row| match sort {
            Sort::Name => 0.0,
            sort => number(row, sort.key()).unwrap_or(-1.0),
        });
        rows
    }

    /// Takes a key of every table; false if it is none.
    pub fn key(&mut self, key: KeyCode) -> bool {
        let queues: Vec<_> = self.rows().into_iter().map(id).collect();
        self.filter.key(key) || self.order.key(key, &queues)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub fn queue(name: &str, ready: u64, rate: f64) -> Row {
        let row = json!({"name": name, "vhost": "/", "ready": ready, "unacked": 1, "consumers": 2, "in": rate,
            "out": rate, "memory": 4096, "state": "running", "type": "classic", "features": ["durable"]});
        row.as_object().unwrap().clone()
    }

    fn board(queues: Vec<Row>) -> Board {
        let mut board = Board::new("amqp://h", None);
        board.take(Ok(Reading { queues, ..Reading::default() }));
        board
    }

    fn names(board: &Board) -> Vec<String> {
        board.rows().into_iter().map(|row| id(row).0).collect()
    }

    #[test]
    fn the_busiest_queue_comes_first_then_the_longest_then_by_name() {
        let mut board = board(vec![queue("b", 1, 5.0), queue("c", 9, 0.0), queue("a", 1, 7.0)]);
        assert_eq!(names(&board), ["a", "b", "c"]);
        board.order.sort = Sort::Ready;
        assert_eq!(names(&board), ["c", "a", "b"]);
        board.order.reversed = true;
        assert_eq!(names(&board), ["b", "a", "c"]);
        board.order.sort = Sort::Unacked;
        assert_eq!(names(&board), ["b", "a", "c"]);
        board.order.sort = Sort::Name;
        assert_eq!(names(&board), ["c", "b", "a"]);
    }

    #[test]
    fn a_filter_and_idleness_hide_queues() {
        let mut idle = queue("idle", 0, 0.0);
        idle.insert("unacked".to_owned(), json!(0));
        let mut board = board(vec![queue("orders", 1, 0.0), queue("jobs", 2, 0.0), idle]);
        board.busy = true;
        assert_eq!(names(&board), ["jobs", "orders"]);
        board.filter.text = "ord".to_owned();
        assert_eq!(names(&board), ["orders"]);
    }

    #[test]
    fn the_selection_stays_with_its_queue() {
        let mut board = board(vec![queue("a", 3, 0.0), queue("b", 2, 0.0), queue("c", 1, 0.0)]);
        board.key(KeyCode::Down);
        board.key(KeyCode::Down);
        assert_eq!(board.order.selected.as_ref().unwrap().0, "b");
        board
            .take(Ok(Reading { queues: vec![queue("b", 9, 0.0), queue("a", 1, 0.0)], ..Reading::default() }));
        board.key(KeyCode::Down);
        assert_eq!(board.order.selected.as_ref().unwrap().0, "a");
        board.key(KeyCode::End);
        board.key(KeyCode::Home);
        assert_eq!(board.order.selected.unwrap().0, "b");
    }

    #[test]
    fn what_is_not_told_is_not_zero() {
        let mut row = queue("a", 1, 0.0);
        row.insert("in".to_owned(), Value::Null);
        let mut board = board(vec![row]);
        assert_eq!((board.sum("in"), board.sum("ready"), board.memory()), (None, Some(1.0), None));
        board.take(Err("gone".to_owned()));
        assert_eq!((board.lost.as_deref(), board.rows().len()), (Some("gone"), 1));
    }
}
