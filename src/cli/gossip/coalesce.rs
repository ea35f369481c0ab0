//! One event instead of many: of a burst, what came last of each member, and the last of each name of events that say that
//! they may be joined. What Serf's agent does before it runs handlers. Serf, coalesce.go and its siblings.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::gossip::wire::ipc::{MemberRow, StreamRecord};

/// Serf's period, and how much longer it is than the quiet that ends it early: 3 s and 1 s.
pub const PERIOD: &str = "3s";
const QUIET_SHARE: u32 = 3;
/// Names of events that wait; what has yet another name is told at once.
const NAMES_MAX: usize = 1024;
/// What is joined of members, in the order in which it is told.
const MEMBER_EVENTS: [&str; 5] =
    ["member-join", "member-leave", "member-failed", "member-update", "member-reap"];

/// How long something waits for more: a period from the first, unless it is quiet before.
#[derive(Clone, Copy, Debug)]
struct Window {
    first: Instant,
    last: Instant,
}

/// Events that wait to be told as fewer.
#[derive(Debug)]
pub struct Coalescer {
    period: Duration,
    members: BTreeMap<String, (usize, MemberRow)>,
    members_since: Option<Window>,
    /// What was told of each member last: the same is not told again, unless it is an update.
    told: HashMap<String, usize>,
    users: BTreeMap<String, Vec<StreamRecord>>,
    users_since: Option<Window>,
}

fn touch(window: &mut Option<Window>, now: Instant) {
    window.get_or_insert(Window { first: now, last: now }).last = now;
}

impl Coalescer {
    /// Joins what comes within a period, or until a third of it was quiet.
    pub fn new(period: Duration) -> Self {
        Self {
            period,
            members: BTreeMap::new(),
            members_since: None,
            told: HashMap::new(),
            users: BTreeMap::new(),
            users_since: None,
        }
    }

    /// Keeps what may wait; anything else comes back at once.
    pub fn take(&mut self, now: Instant, mut record: StreamRecord) -> Option<StreamRecord> {
        if let Some(event) = MEMBER_EVENTS.iter().position(|event| *event == record.event) {
            touch(&mut self.members_since, now);
            let members = record.members.drain(..);
            self.members.extend(members.map(|member| (member.name.clone(), (event, member))));
            return None;
        }
        if record.event != "user" || !record.coalesce {
            return Some(record);
        }
        if self.users.len() >= NAMES_MAX && !self.users.contains_key(&record.name) {
            return Some(record);
        }
        touch(&mut self.users_since, now);
        let latest = self.users.entry(record.name.clone()).or_default();
        match latest.first().map(|first| first.ltime.cmp(&record.ltime)) {
            Some(std::cmp::Ordering::Greater) => {}
            // Two nodes said it at one time: neither is the last.
            Some(std::cmp::Ordering::Equal) => latest.push(record),
            Some(std::cmp::Ordering::Less) | None => *latest = vec![record],
        }
        None
    }

    fn end(&self, window: Option<Window>) -> Option<Instant> {
        window.map(|window| (window.first + self.period).min(window.last + self.period / QUIET_SHARE))
    }

    /// When to ask for what is due.
    pub fn deadline(&self) -> Option<Instant> {
        let both = [self.members_since, self.users_since];
        both.into_iter().filter_map(|window| self.end(window)).min()
    }

    /// What has waited long enough.
    pub fn due(&mut self, now: Instant) -> Vec<StreamRecord> {
        let mut due = Vec::new();
        if self.end(self.members_since).is_some_and(|end| end <= now) {
            self.flush_members(&mut due);
        }
        if self.end(self.users_since).is_some_and(|end| end <= now) {
            self.flush_users(&mut due);
        }
        due
    }

    /// All that waits.
    pub fn rest(&mut self) -> Vec<StreamRecord> {
        let mut rest = Vec::new();
        self.flush_members(&mut rest);
        self.flush_users(&mut rest);
        rest
    }

    fn flush_members(&mut self, to: &mut Vec<StreamRecord>) {
        self.members_since = None;
        let mut by_event: [Vec<MemberRow>; MEMBER_EVENTS.len()] = Default::default();
        for (name, (event, member)) in std::mem::take(&mut self.members) {
            let again = self.told.get(&name) == Some(&event) && MEMBER_EVENTS[event] != "member-update";
            if again {
                continue;
            }
            match MEMBER_EVENTS[event] {
                // It is forgotten, here as well.
                "member-reap" => self.told.remove(&name),
                _ => self.told.insert(name, event),
            };
            by_event[event].push(member);
        }
        for (event, members) in MEMBER_EVENTS.iter().zip(by_event) {
            if !members.is_empty() {
                to.push(StreamRecord { event: (*event).to_owned(), members, ..StreamRecord::default() });
            }
        }
    }

    fn flush_users(&mut self, to: &mut Vec<StreamRecord>) {
        self.users_since = None;
        let mut latest: Vec<StreamRecord> = std::mem::take(&mut self.users).into_values().flatten().collect();
        latest.sort_by_key(|record| record.ltime);
        to.append(&mut latest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::wire::VERSIONS;

    fn member(event: &str, name: &str) -> StreamRecord {
        let row = MemberRow {
            name: name.to_owned(),
            address: None,
            tags: BTreeMap::new(),
            status: "alive".to_owned(),
            versions: VERSIONS,
            incarnation: None,
            suspect: false,
            age_ms: None,
            rtt_us: None,
        };
        StreamRecord { event: event.to_owned(), members: vec![row], ..StreamRecord::default() }
    }

    fn user(name: &str, ltime: u64, payload: &'static [u8], coalesce: bool) -> StreamRecord {
        let payload = Some(bytes::Bytes::from_static(payload));
        StreamRecord {
            event: "user".to_owned(),
            name: name.to_owned(),
            ltime,
            payload,
            coalesce,
            ..StreamRecord::default()
        }
    }

    fn told(records: &[StreamRecord]) -> Vec<String> {
        let names = |record: &StreamRecord| {
            record.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>().join(",")
        };
        records.iter().map(|record| format!("{} {}", record.event, names(record))).collect()
    }

    #[test]
    fn of_a_burst_the_last_of_each_member_is_told_by_kind() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let mut waiting = Coalescer::new(Duration::from_secs(3));
        assert_eq!(waiting.deadline(), None);
        for (ms, event, name) in [
            (0, "member-join", "b"),
            (10, "member-join", "a"),
            (500, "member-failed", "b"),
            (900, "member-leave", "c"),
        ] {
            assert_eq!(waiting.take(at(ms), member(event, name)), None);
        }
        assert_eq!(waiting.deadline(), Some(at(1900)));
        assert_eq!(waiting.due(at(1899)), []);
        assert_eq!(told(&waiting.due(at(1900))), ["member-join a", "member-leave c", "member-failed b"]);
        assert_eq!(waiting.deadline(), None);
        // A flap that ends as it began is nothing; an update always is something.
        waiting.take(at(5000), member("member-failed", "a"));
        waiting.take(at(5001), member("member-join", "a"));
        waiting.take(at(5002), member("member-failed", "c"));
        assert_eq!(told(&waiting.due(at(9000))), ["member-failed c"]);
        for ms in [10_000, 20_000] {
            waiting.take(at(ms), member("member-update", "a"));
            assert_eq!(told(&waiting.due(at(ms + 1000))), ["member-update a"]);
        }
        // What it cannot join it leaves alone.
        assert!(waiting.take(at(30_000), member("member-suspect", "a")).is_some());
    }

    #[test]
    fn a_period_ends_though_it_is_never_quiet() {
        let start = Instant::now();
        let mut waiting = Coalescer::new(Duration::from_secs(3));
        for tenth in 0..30 {
            let now = start + Duration::from_millis(100 * tenth);
            assert_eq!(waiting.due(now), []);
            waiting.take(now, member("member-join", &format!("n{tenth}")));
        }
        let due = waiting.due(start + Duration::from_secs(3));
        assert_eq!((due.len(), due[0].members.len()), (1, 30));
    }

    #[test]
    fn of_events_that_may_be_joined_the_newest_of_a_name_is_told() {
        let start = Instant::now();
        let mut waiting = Coalescer::new(Duration::from_secs(3));
        let plain = user("deploy", 9, b"plain", false);
        assert_eq!(waiting.take(start, plain.clone()), Some(plain));
        let (newest, beside) = (user("deploy", 7, b"newest", true), user("deploy", 7, b"beside", true));
        let other = user("other", 3, b"", true);
        let old = [user("deploy", 5, b"old", true), user("deploy", 6, b"late", true)];
        for record in [&old[0], &newest, &old[1], &beside, &other] {
            assert_eq!(waiting.take(start, record.clone()), None);
        }
        assert_eq!(waiting.due(start + Duration::from_secs(1)), [other, newest.clone(), beside]);
        // Who ends is told the rest.
        waiting.take(start, newest.clone());
        assert_eq!(waiting.rest(), [newest]);
    }
}
