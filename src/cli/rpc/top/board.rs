//! What `top` knows of the servers it watches: readings go in, rows come out. No clock, no server, no terminal.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::KeyCode;

use crate::cli::top::table::{self, Filter, Order};
use crate::cli::top::{Span, remember, rounded};
use crate::metrics::Spread;
use crate::rpc::stats::ServerStats;

/// What one server answered.
#[derive(Clone, Debug)]
pub struct Reading {
    /// How long it took to answer.
    pub trip: Duration,
    /// The answer, or why there is none.
    pub seen: Result<Seen, String>,
}

/// What can be seen of a server.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A server of ours tells what it counts.
    Own(Own),
    /// Another one: what a client can find out.
    Foreign(Foreign),
}

/// The counters of a server of ours.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// When it started, in milliseconds since 1970: which life of the server this is.
    pub started_ms: i64,
    /// How long ago that was.
    pub uptime: Duration,
    /// Connections now, at most, and since the start.
    pub connections: (u64, u64, u64),
    /// Memory in use.
    pub memory_bytes: u64,
    /// By path.
    pub methods: BTreeMap<String, Counts>,
}

/// The counters of one method.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    health: String,
    in_flight: i64,
    ended: BTreeMap<String, u64>,
    times: Spread,
}

impl From<ServerStats> for Own {
    fn from(stats: ServerStats) -> Self {
        let bounds: Arc<[u64]> = stats.bounds_ns.into();
        let methods = stats.methods.into_iter().map(|method| {
            let counts = Counts {
                health: method.health,
                in_flight: method.in_flight,
                ended: method.ended,
                times: Spread::new(Arc::clone(&bounds), method.times),
            };
            (method.method, counts)
        });
        Self {
            started_ms: stats.started_ms,
            uptime: Duration::from_micros(stats.uptime_us),
            connections: (stats.connections, stats.connections_max, stats.connections_total),
            memory_bytes: stats.memory_bytes,
            methods: methods.collect(),
        }
    }
}

/// What a client can find out about any server.
#[derive(Clone, Debug, Default)]
pub struct Foreign {
    /// How the server as a whole says it is.
    pub health: String,
    /// Its methods, each with the health of its service, empty if the server does not say.
    pub methods: Vec<(String, String)>,
    /// Why the methods are not known.
    pub unlisted: Option<String>,
}

/// A method, of one server or of all together.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its path; `None` stands for a server whose methods are not known.
    pub method: Option<String>,
    /// Of its service; empty if nobody says.
    pub health: String,
    /// What was counted; `None` if only its server knows.
    pub numbers: Option<Numbers>,
}

/// What was counted of a method.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    /// Calls that ended, per second of the span.
    pub rate: f64,
    /// Calls that run.
    pub in_flight: i64,
    /// How long calls took that ended in the span.
    pub times: Spread,
    /// Calls that ended since the start, by status.
    pub ended: BTreeMap<String, u64>,
    /// Calls of the span that failed.
    pub failed: u64,
}

impl Numbers {
    /// Calls that ended since the start.
    pub fn calls(&self) -> u64 {
        self.ended.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Those of them that failed. A call that its caller has cancelled, such as a stream that was long enough, has not.
    pub fn errors(&self) -> u64 {
        errors(&self.ended)
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        self.rate += other.rate;
        self.in_flight = self.in_flight.saturating_add(other.in_flight);
        self.times.add(&other.times);
        self.failed = self.failed.saturating_add(other.failed);
        for (code, count) in &other.ended {
            let sum = self.ended.entry(code.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

fn errors(ended: &BTreeMap<String, u64>) -> u64 {
    let failed = ended.iter().filter(|(code, _)| !matches!(code.as_str(), "OK" | "CANCELLED"));
    failed.fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

/// One server that is watched.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// How it is named.
    pub url: String,
    /// The latest answer.
    pub now: Option<Seen>,
    /// Why there was no answer the last time.
    pub lost: Option<String>,
    /// How long the latest answers took.
    pub trips: VecDeque<Duration>,
    /// The counters before the latest, if they belong to the same life of the server.
    before: Option<Own>,
}

impl Instance {
    /// One that nobody has asked yet.
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), ..Self::default() }
    }

    /// Remembers what it answered.
    pub fn take(&mut self, reading: Reading) {
        let seen = match reading.seen {
            Ok(seen) => seen,
            Err(reason) => {
                self.lost = Some(reason);
                return;
            }
        };
        self.lost = None;
        remember(&mut self.trips, reading.trip);
        let before = match self.now.replace(seen) {
            Some(Seen::Own(before)) => Some(before),
            Some(Seen::Foreign(_)) | None => None,
        };
        // Counters that have begun again are all new.
        self.before =
            before.filter(|before| self.own().is_some_and(|now| now.started_ms == before.started_ms));
    }

    /// Its counters, if it is one of ours.
    pub fn own(&self) -> Option<&Own> {
        match &self.now {
            Some(Seen::Own(own)) => Some(own),
            Some(Seen::Foreign(_)) | None => None,
        }
    }

    /// What is to be seen of it, if it is not one of ours.
    pub fn foreign(&self) -> Option<&Foreign> {
        match &self.now {
            Some(Seen::Foreign(foreign)) => Some(foreign),
            Some(Seen::Own(_)) | None => None,
        }
    }

    /// The seconds that its rates are of.
    pub fn seconds(&self, span: Span) -> f64 {
        let Some(now) = self.own() else { return 0.0 };
        let before = self.before.as_ref().filter(|_| span == Span::Interval);
        now.uptime.saturating_sub(before.map_or(Duration::ZERO, |before| before.uptime)).as_secs_f64()
    }

    /// Its methods.
    pub fn rows(&self, span: Span) -> Vec<Row> {
        match &self.now {
            None => Vec::new(),
            Some(Seen::Own(own)) => {
                let row = |(path, counts): (&String, &Counts)| Row {
                    method: Some(path.clone()),
                    health: counts.health.clone(),
                    numbers: Some(self.numbers(path, counts, span)),
                };
                own.methods.iter().map(row).collect()
            }
            Some(Seen::Foreign(foreign)) if foreign.methods.is_empty() => {
                vec![Row { method: None, health: foreign.health.clone(), numbers: None }]
            }
            Some(Seen::Foreign(foreign)) => {
                let row = |(path, health): &(String, String)| Row {
                    method: Some(path.clone()),
                    health: health.clone(),
                    numbers: None,
                };
                foreign.methods.iter().map(row).collect()
            }
        }
    }

    fn numbers(&self, path: &str, counts: &Counts, span: Span) -> Numbers {
        if self.lost.is_some() && span == Span::Interval {
            // Of a server that does not answer only the past is known.
            return Numbers { ended: counts.ended.clone(), ..Numbers::default() };
        }
        let nothing = Counts::default();
        let before = self.before.as_ref().filter(|_| span == Span::Interval);
        let before = before.and_then(|before| before.methods.get(path)).unwrap_or(&nothing);
        let times = counts.times.since(&before.times);
        let calls =
            |counts: &Counts| counts.ended.values().fold(0_u64, |sum, count| sum.saturating_add(*count));
        let ended = calls(counts).saturating_sub(calls(before));
        let seconds = self.seconds(span);
        Numbers {
            rate: if seconds > 0.0 { ended as f64 / seconds } else { 0.0 },
            in_flight: if self.lost.is_some() { 0 } else { counts.in_flight },
            times,
            failed: errors(&counts.ended).saturating_sub(errors(&before.ended)),
            ended: counts.ended.clone(),
        }
    }

    /// All its methods together; `None` if only it knows.
    pub fn total(&self, span: Span) -> Option<Numbers> {
        self.own().map(|_| total(&self.rows(span)))
    }

    /// So long took the part `quantile` of the latest answers at most.
    pub fn trip(&self, quantile: f64) -> Option<Duration> {
        let mut trips: Vec<Duration> = self.trips.iter().copied().collect();
        trips.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a length is a length"
        )]
        let rank = (trips.len() as f64 * quantile).ceil() as usize;
        trips.get(rank.saturating_sub(1)).copied()
    }
}

/// The sum of all rows.
pub fn total(rows: &[Row]) -> Numbers {
    let mut sum = Numbers::default();
    rows.iter().filter_map(|row| row.numbers.as_ref()).for_each(|numbers| sum.add(numbers));
    sum
}

/// What the rows are ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The name, from a to z; all others begin with the most.
    Name,
    /// Calls per second.
    #[default]
    Rate,
    /// Calls that run.
    InFlight,
    /// The median.
    P50,
    /// What one in a hundred exceeds.
    P99,
    /// Calls that failed.
    Errors,
    /// Calls that ended.
    Calls,
}

impl table::Sort for Sort {
    const ALL: &'static [(char, Self)] = &[
        ('n', Self::Name),
        ('r', Self::Rate),
        ('f', Self::InFlight),
        ('5', Self::P50),
        ('9', Self::P99),
        ('e', Self::Errors),
        ('c', Self::Calls),
    ];
}

impl Sort {
    /// What a row is worth by it; the most comes first.
    pub fn value(self, row: &Row) -> f64 {
        let Some(numbers) = &row.numbers else { return -1.0 };
        let time = |quantile| numbers.times.quantile(quantile).map_or(-1.0, |time| time.as_secs_f64());
        match self {
            Self::Name => 0.0,
            Self::Rate => numbers.rate,
            Self::InFlight => numbers.in_flight as f64,
            Self::P50 => time(0.5),
            Self::P99 => time(0.99),
            Self::Errors => numbers.errors() as f64,
            Self::Calls => numbers.calls() as f64,
        }
    }
}

/// All servers that are watched, and how they are looked at.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// The servers.
    pub instances: Vec<Instance>,
    /// Which time rates and latencies are of.
    pub span: Span,
    /// The order of the methods, and the one that is looked at.
    pub order: Order<Sort, Option<String>>,
    /// Only methods with this in their names.
    pub filter: Filter,
    /// Only this one of the servers.
    pub only: Option<usize>,
    /// The latest line of the log.
    pub log: Option<String>,
    /// Calls per second at each refresh; of servers of others, the microseconds of a round trip.
    pub history: VecDeque<u64>,
}

impl Board {
    /// Servers of these names, none of them asked yet.
    pub fn new<'a>(urls: impl IntoIterator<Item = &'a str>) -> Self {
        Self { instances: urls.into_iter().map(Instance::new).collect(), ..Self::default() }
    }

    /// Remembers what the servers answered, in their order.
    pub fn take(&mut self, readings: Vec<Reading>) {
        for (instance, reading) in self.instances.iter_mut().zip(readings) {
            instance.take(reading);
        }
        let latest = if self.instances.iter().any(|instance| instance.own().is_some()) {
            // The first reading of a server is of no interval.
            let again = self.instances.iter().filter(|instance| instance.before.is_some());
            if again.clone().next().is_none() {
                return;
            }
            let numbers = again.filter_map(|instance| instance.total(Span::Interval));
            numbers.map(|numbers| numbers.rate).sum::<f64>()
        } else {
            let trips = self.instances.iter().filter(|instance| instance.lost.is_none());
            trips.filter_map(|instance| instance.trips.back()).map(Duration::as_micros).max().unwrap_or(0)
                as f64
        };
        remember(&mut self.history, rounded(latest));
    }

    /// The servers that are looked at.
    pub fn shown(&self) -> impl Iterator<Item = &Instance> {
        let only = self.only;
        self.instances
            .iter()
            .enumerate()
            .filter(move |(at, _)| only.is_none_or(|only| only == *at))
            .map(|(_, it)| it)
    }

    /// The methods of the servers that are looked at, the same ones of several servers together, in order.
    pub fn rows(&self) -> Vec<Row> {
        let mut merged: BTreeMap<Option<String>, Row> = BTreeMap::new();
        for row in self.shown().flat_map(|instance| instance.rows(self.span)) {
            match merged.get_mut(&row.method) {
                None => {
                    merged.insert(row.method.clone(), row);
                }
                Some(sum) => {
                    if sum.health == "SERVING" || sum.health.is_empty() {
                        sum.health = row.health;
                    }
                    match (&mut sum.numbers, row.numbers) {
                        (Some(sum), Some(numbers)) => sum.add(&numbers),
                        (none @ None, numbers) => *none = numbers,
                        (Some(_), None) => {}
                    }
                }
            }
        }
        // By name to begin with, so that what is equal has an order.
        let shown = |row: &Row| row.method.as_ref().is_none_or(|method| self.filter.shows(method));
        let mut rows: Vec<Row> = merged.into_values().filter(shown).collect();
        self.order.arrange(&mut rows, Sort::value);
        rows
    }

    /// Takes a key of every table; false if it is none.
    pub fn key(&mut self, key: KeyCode) -> bool {
        let methods: Vec<_> = self.rows().into_iter().map(|row| row.method).collect();
        self.filter.key(key) || self.order.key(key, &methods)
    }

    /// Looks at the next server alone, after the last one at all of them again.
    pub fn next_instance(&mut self) {
        let next = self.only.map_or(0, |only| only + 1);
        self.only = (self.instances.len() > 1 && next < self.instances.len()).then_some(next);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::metrics::{BOUNDS_NANOS, Histogram};
    use crate::rpc::stats::MethodStats;

    /// A method that was called, with the status and microseconds of each call.
    pub fn method(path: &str, in_flight: i64, calls: &[(&str, u64)]) -> MethodStats {
        let (times, mut ended) = (Histogram::default(), BTreeMap::new());
        for (code, micros) in calls {
            times.observe(Duration::from_micros(*micros));
            *ended.entry((*code).to_owned()).or_insert(0) += 1;
        }
        MethodStats {
            method: path.to_owned(),
            health: "SERVING".to_owned(),
            in_flight,
            ended,
            times: times.counts(),
            times_total_ns: 0,
        }
    }

    /// What a server that started at `started_ms` counted until it was `seconds` old.
    pub fn own(started_ms: i64, seconds: u64, methods: Vec<MethodStats>) -> Reading {
        let stats = ServerStats {
            started_ms,
            uptime_us: seconds * 1_000_000,
            connections: 2,
            connections_max: 20_000,
            connections_total: 9,
            memory_bytes: 12 << 20,
            bounds_ns: BOUNDS_NANOS.to_vec(),
            methods,
            ..ServerStats::default()
        };
        Reading { trip: Duration::from_micros(300), seen: Ok(Seen::Own(stats.into())) }
    }

    fn numbers(board: &Board, method: &str) -> Numbers {
        let row = board.rows().into_iter().find(|row| row.method.as_deref() == Some(method)).unwrap();
        row.numbers.unwrap()
    }

    #[test]
    fn rates_and_latencies_are_of_the_interval_or_of_all_time() {
        let mut board = Board::new(["a"]);
        let mut calls = vec![("OK", 1000); 90];
        board.take(vec![own(1, 10, vec![method("d.E/Say", 0, &calls)])]);
        let first = numbers(&board, "d.E/Say");
        assert_eq!((first.rate, first.calls(), first.errors()), (9.0, 90, 0));
        calls.extend([("OK", 50_000); 8]);
        calls.extend([("NOT_FOUND", 50_000); 2]);
        board.take(vec![own(1, 12, vec![method("d.E/Say", 3, &calls)])]);
        let interval = numbers(&board, "d.E/Say");
        assert_eq!((interval.rate, interval.in_flight, interval.failed), (5.0, 3, 2));
        assert_eq!((interval.calls(), interval.errors()), (100, 2));
        let median = |numbers: &Numbers| numbers.times.quantile(0.5).unwrap().as_millis();
        assert!((46..=50).contains(&median(&interval)));
        board.span = Span::Start;
        let all = numbers(&board, "d.E/Say");
        assert!((all.rate - 100.0 / 12.0).abs() < 1e-9 && median(&all) <= 1, "{all:?}");
        assert_eq!(board.history, [5]);
    }

    #[test]
    fn a_server_that_was_started_again_begins_at_nothing() {
        let mut board = Board::new(["a"]);
        board.take(vec![own(1, 100, vec![method("d.E/Say", 0, &[("OK", 5); 50])])]);
        board.take(vec![own(2, 5, vec![method("d.E/Say", 0, &[("OK", 5); 60])])]);
        assert_eq!(numbers(&board, "d.E/Say").rate, 12.0);
    }

    #[test]
    fn a_lost_server_keeps_its_past_and_has_no_present() {
        let mut board = Board::new(["a"]);
        board.take(vec![own(1, 10, vec![method("d.E/Say", 4, &[("OK", 5); 50])])]);
        board.take(vec![Reading { trip: Duration::ZERO, seen: Err("gone".to_owned()) }]);
        let numbers = numbers(&board, "d.E/Say");
        assert_eq!((numbers.rate, numbers.in_flight, numbers.calls()), (0.0, 0, 50));
        assert_eq!(board.instances[0].lost.as_deref(), Some("gone"));
    }

    #[test]
    fn the_same_method_of_several_servers_is_one_row() {
        let mut board = Board::new(["a", "b"]);
        let say = |count| method("d.E/Say", 1, &vec![("OK", 5); count]);
        board.take(vec![own(1, 10, vec![say(20), method("d.E/Only", 0, &[])]), own(2, 10, vec![say(30)])]);
        let both = numbers(&board, "d.E/Say");
        assert_eq!((both.rate, both.in_flight, both.calls(), both.times.count()), (5.0, 2, 50, 50));
        assert_eq!(board.rows().len(), 2);
        board.next_instance();
        board.next_instance();
        assert_eq!((board.only, numbers(&board, "d.E/Say").calls(), board.rows().len()), (Some(1), 30, 1));
        board.next_instance();
        assert_eq!(board.only, None);
    }

    #[test]
    fn rows_are_in_the_order_that_is_asked_for() {
        let mut board = Board::new(["a"]);
        let methods = vec![
            method("b/Fast", 0, &[("OK", 10); 30]),
            method("c/Slow", 2, &[("OK", 9000), ("UNKNOWN", 9000)]),
            method("a/Idle", 0, &[]),
        ];
        board.take(vec![own(1, 10, methods)]);
        let mut order = |sort, reversed| {
            (board.order.sort, board.order.reversed) = (sort, reversed);
            board.rows().iter().map(|row| row.method.as_ref().unwrap()[..1].to_owned()).collect::<String>()
        };
        for (sort, expected) in [
            (Sort::Name, "abc"),
            (Sort::Rate, "bca"),
            (Sort::InFlight, "cab"),
            (Sort::P50, "cba"),
            (Sort::P99, "cba"),
            (Sort::Errors, "cab"),
            (Sort::Calls, "bca"),
        ] {
            assert_eq!(order(sort, false), expected, "{sort:?}");
        }
        assert_eq!(order(Sort::Name, true), "cba");
    }

    #[test]
    fn a_filter_hides_methods_and_its_letters_are_no_keys() {
        let mut board = Board::new(["a"]);
        board.take(vec![own(1, 10, vec![method("a/Add", 0, &[]), method("b/Buy", 0, &[])])]);
        let order = board.order.sort;
        for letter in "/ue".chars() {
            board.key(KeyCode::Char(letter));
        }
        assert!(board.rows().is_empty() && board.order.sort == order);
        board.key(KeyCode::Backspace);
        board.key(KeyCode::Enter);
        assert_eq!(board.rows()[0].method.as_deref(), Some("b/Buy"));
        assert!(board.filter.clear() && board.rows().len() == 2 && !board.filter.clear());
    }

    #[test]
    fn a_selection_follows_its_method() {
        let mut board = Board::new(["a"]);
        board.key(KeyCode::Down);
        assert_eq!(board.order.selected, None);
        board.take(vec![own(1, 10, vec![method("a/A", 0, &[("OK", 1)]), method("b/B", 0, &[])])]);
        board.key(KeyCode::Down);
        board.key(KeyCode::Down);
        assert_eq!(board.order.selected, Some(Some("b/B".to_owned())));
        board.take(vec![own(1, 11, vec![method("a/A", 0, &[("OK", 1)]), method("b/B", 0, &[("OK", 1); 9])])]);
        board.key(KeyCode::Down);
        assert_eq!(board.order.selected, Some(Some("a/A".to_owned())));
    }

    #[test]
    fn of_a_foreign_server_only_names_health_and_round_trips_are_known() {
        let mut board = Board::new(["a"]);
        let foreign = Foreign {
            health: "SERVING".to_owned(),
            methods: vec![("x.Y/Z".to_owned(), "NOT_SERVING".to_owned())],
            unlisted: None,
        };
        for micros in [400, 200, 300] {
            let trip = Duration::from_micros(micros);
            board.take(vec![Reading { trip, seen: Ok(Seen::Foreign(foreign.clone())) }]);
        }
        let rows = board.rows();
        assert_eq!((rows[0].health.as_str(), rows[0].numbers.is_none()), ("NOT_SERVING", true));
        assert_eq!(board.instances[0].trip(0.5), Some(Duration::from_micros(300)));
        assert_eq!(board.instances[0].trip(0.99), Some(Duration::from_micros(400)));
        assert_eq!(board.history, [400, 200, 300]);
    }
}
