//! What `log top` knows of a cluster: readings go in, rows come out. No clock, no broker, no terminal.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crossterm::event::KeyCode;

use crate::cli::top::table::{self, Filter, Order};
use crate::cli::top::{remember, rounded};

/// A topic at one moment; its partitions together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Topic {
    /// How many partitions.
    pub partitions: usize,
    /// Sum of their first offsets.
    pub start: i64,
    /// Sum of the offsets after their last records.
    pub end: i64,
}

/// A group's reading of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Members of the group.
    pub members: usize,
    /// Sum of the offsets that it has stored.
    pub read: i64,
    /// Records after these.
    pub lag: i64,
}

/// What one refresh has brought.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// When, since the view began.
    pub at: Duration,
    /// Topics by name.
    pub topics: BTreeMap<String, Topic>,
    /// Who reads them.
    pub readers: Vec<Reader>,
}

/// A row: a topic, as a group reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// The topic.
    pub topic: String,
    /// The group; none if nobody reads it in one.
    pub group: Option<String>,
    /// Partitions.
    pub parts: usize,
    /// Records that are kept, by offsets.
    pub records: i64,
    /// Records that came, a second; none before the second reading.
    pub rate_in: Option<f64>,
    /// Records that the group stored as read, a second.
    pub rate_out: Option<f64>,
    /// Records that it has not read.
    pub lag: Option<i64>,
    /// Members of the group.
    pub members: Option<usize>,
}

impl Row {
    /// What names it.
    pub fn id(&self) -> (String, Option<String>) {
        (self.topic.clone(), self.group.clone())
    }

    /// True if nothing comes, is read, or waits.
    pub fn is_idle(&self) -> bool {
        [self.rate_in, self.rate_out].iter().all(|rate| rate.unwrap_or(0.0) == 0.0)
            && self.lag.unwrap_or(0) == 0
    }
}

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Topic and group, from a to z; all others begin with the most.
    Name,
    /// Records that are kept.
    Records,
    /// Records that come.
    #[default]
    In,
    /// Records that are read.
    Out,
    /// Records that wait.
    Lag,
}

impl table::Sort for Sort {
    const ALL: &'static [(char, Self)] =
        &[('n', Self::Name), ('e', Self::Records), ('i', Self::In), ('t', Self::Out), ('l', Self::Lag)];
}

/// The cluster, and how it is looked at.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// How it is named.
    pub url: String,
    rows: Vec<Row>,
    before: Reading,
    now: Reading,
    /// Why there was no answer the last time.
    pub lost: Option<String>,
    /// The order of the rows, and the one that is looked at.
    pub order: Order<Sort, (String, Option<String>)>,
    /// Only topics with this in their name.
    pub filter: Filter,
    /// Records that came per second, at each refresh.
    pub rates: VecDeque<u64>,
    /// Records that wait, at each refresh.
    pub lags: VecDeque<u64>,
}

impl Board {
    /// A cluster that nobody has asked yet.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    /// Is there such a topic?
    pub fn has(&self, topic: &str) -> bool {
        self.now.topics.contains_key(topic)
    }

    /// Remembers what it answered.
    pub fn take(&mut self, answer: Result<Reading, String>) {
        match answer {
            Ok(reading) => {
                self.before = std::mem::replace(&mut self.now, reading);
                self.lost = None;
            }
            Err(reason) => {
                self.lost = Some(reason);
                return;
            }
        }
        self.rows = self.made();
        let (rate, lag) = (rounded(self.rate_in()), u64::try_from(self.lag()).unwrap_or(0));
        remember(&mut self.rates, rate);
        remember(&mut self.lags, lag);
    }

    fn made(&self) -> Vec<Row> {
        let seconds = self.now.at.saturating_sub(self.before.at).as_secs_f64();
        // What was not there before has no rate; what goes backwards was made anew, or sought.
        let rate = |now: i64, before: Option<i64>| {
            before.filter(|_| seconds > 0.0).map(|before| (now - before).max(0) as f64 / seconds)
        };
        let mut rows = Vec::new();
        for (name, topic) in &self.now.topics {
            let row = Row {
                topic: name.clone(),
                parts: topic.partitions,
                records: topic.end - topic.start,
                rate_in: rate(topic.end, self.before.topics.get(name).map(|it| it.end)),
                ..Row::default()
            };
            let before = rows.len();
            for reader in self.now.readers.iter().filter(|reader| reader.topic == *name) {
                let same = |it: &&Reader| it.group == reader.group && it.topic == reader.topic;
                rows.push(Row {
                    group: Some(reader.group.clone()),
                    rate_out: rate(reader.read, self.before.readers.iter().find(same).map(|it| it.read)),
                    lag: Some(reader.lag),
                    members: Some(reader.members),
                    ..row.clone()
                });
            }
            if rows.len() == before {
                rows.push(row);
            }
        }
        rows
    }

    /// Records that come to all topics, a second.
    pub fn rate_in(&self) -> f64 {
        let mut topics: BTreeMap<&str, f64> = BTreeMap::new();
        topics.extend(self.rows.iter().map(|row| (row.topic.as_str(), row.rate_in.unwrap_or(0.0))));
        topics.values().sum()
    }

    /// Records that all groups read, a second.
    pub fn rate_out(&self) -> f64 {
        self.rows.iter().filter_map(|row| row.rate_out).sum()
    }

    /// Records that wait for all groups.
    pub fn lag(&self) -> i64 {
        self.rows.iter().filter_map(|row| row.lag).sum()
    }

    /// Topics and groups that there are.
    pub fn counts(&self) -> (usize, usize) {
        let mut groups: Vec<&str> = self.now.readers.iter().map(|reader| reader.group.as_str()).collect();
        groups.sort_unstable();
        groups.dedup();
        (self.now.topics.len(), groups.len())
    }

    /// The rows that are looked at, in their order.
    pub fn rows(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.rows.iter().filter(|row| self.filter.shows(&row.topic)).collect();
        self.order.arrange(&mut rows, |sort, row| match sort {
            Sort::Name => 0.0,
            Sort::Records => row.records as f64,
            Sort::In => row.rate_in.unwrap_or(-1.0),
            Sort::Out => row.rate_out.unwrap_or(-1.0),
            Sort::Lag => row.lag.map_or(-1.0, |lag| lag as f64),
        });
        rows
    }

    /// Rows that the filter hides.
    pub fn hidden(&self) -> usize {
        self.rows.len() - self.rows().len()
    }

    /// Takes a key of every table; false if it is none.
    pub fn key(&mut self, key: KeyCode) -> bool {
        let rows: Vec<_> = self.rows().into_iter().map(Row::id).collect();
        self.filter.key(key) || self.order.key(key, &rows)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two topics, one of which two groups read.
    pub fn reading(seconds: u64, orders: i64, read: i64) -> Reading {
        let topic = |partitions, start, end| Topic { partitions, start, end };
        let reader = |group: &str, read, lag| Reader {
            group: group.to_owned(),
            topic: "orders".to_owned(),
            members: 2,
            read,
            lag,
        };
        Reading {
            at: Duration::from_secs(seconds),
            topics: [("orders".to_owned(), topic(3, 10, orders)), ("audit".to_owned(), topic(1, 0, 5))]
                .into(),
            readers: vec![reader("billing", read, orders - read), reader("mail", orders, 0)],
        }
    }

    #[test]
    fn rates_are_those_between_two_readings() {
        let mut board = Board::new("kafka://h");
        board.take(Ok(reading(0, 100, 50)));
        assert!(board.rows().iter().all(|row| row.rate_in.is_none()));
        board.take(Ok(reading(2, 140, 130)));
        let rows = board.rows();
        let billing = rows.iter().find(|row| row.group.as_deref() == Some("billing")).unwrap();
        assert_eq!((billing.rate_in, billing.rate_out, billing.lag), (Some(20.0), Some(40.0), Some(10)));
        assert_eq!((billing.records, billing.parts, billing.members), (130, 3, Some(2)));
        assert_eq!((board.rate_in(), board.rate_out(), board.lag()), (20.0, 60.0, 10));
        let audit = rows.iter().find(|row| row.topic == "audit").unwrap();
        assert_eq!((audit.group.as_deref(), audit.lag), (None, None));
        // A topic that was made anew begins at 0: no rate is below that.
        board.take(Ok(reading(3, 20, 20)));
        assert!(board.rows().iter().all(|row| row.rate_in.unwrap() >= 0.0));
        assert_eq!(board.counts(), (2, 2));
    }

    #[test]
    fn rows_are_ordered_and_filtered() {
        let mut board = Board::new("kafka://h");
        board.take(Ok(reading(0, 100, 50)));
        board.order.sort = Sort::Lag;
        let names = |board: &Board| board.rows().iter().map(|row| row.group.clone()).collect::<Vec<_>>();
        assert_eq!(names(&board), [Some("billing".to_owned()), Some("mail".to_owned()), None]);
        board.filter.text = "aud".to_owned();
        assert_eq!((names(&board), board.hidden()), (vec![None], 2));
        board.take(Err("gone".to_owned()));
        assert_eq!((board.lost.as_deref(), board.rows().len()), (Some("gone"), 1));
    }
}
