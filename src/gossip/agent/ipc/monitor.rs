//! The log of a node as `serf monitor` shows it: what happened, a line for each, in the words of Serf's agent.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::records::word;
use crate::gossip::engine::{Change, Event};

/// How much a line matters, from the least on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// Why things happen.
    Debug,
    /// What happens.
    Info,
    /// What should not happen.
    Warn,
    /// What is broken.
    Err,
}

impl Level {
    const ALL: [(&'static str, Self); 5] = [
        ("TRACE", Self::Trace),
        ("DEBUG", Self::Debug),
        ("INFO", Self::Info),
        ("WARN", Self::Warn),
        ("ERR", Self::Err),
    ];

    /// The level of that name, in letters of any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, level)| level)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, level)| *level == self).map_or("INFO", |(name, _)| name)
    }
}

/// The lines about an event from a level on.
pub fn lines(event: &Event, from: Level, at: Timestamp, zone: TimeZone) -> Vec<String> {
    written(told(event), from, at, zone)
}

/// The line about events that came too fast to be told.
pub fn missed(count: u64, from: Level, at: Timestamp, zone: TimeZone) -> Vec<String> {
    let text = format!("bandy: {count} events came too fast to be told");
    written(vec![(Level::Warn, text)], from, at, zone)
}

fn written(told: Vec<(Level, String)>, from: Level, at: Timestamp, zone: TimeZone) -> Vec<String> {
    let time = at.to_zoned_datetime(zone).strftime("%Y/%m/%d %H:%M:%S").to_string();
    let told = told.into_iter().filter(|(level, _)| *level >= from);
    told.map(|(level, text)| format!("{time} [{}] {text}", level.name())).collect()
}

fn told(event: &Event) -> Vec<(Level, String)> {
    let received = |what: String| (Level::Info, format!("agent: Received event: {what}"));
    match event {
        Event::Member { change, member } => {
            let (name, ip) = (&member.name, member.address.ip());
            let text = match change {
                Change::Join => format!("serf: EventMemberJoin: {name} {ip}"),
                Change::Leave => format!("serf: EventMemberLeave: {name} {ip}"),
                Change::Failed => format!("serf: EventMemberFailed: {name} {ip}"),
                Change::Update => format!("serf: EventMemberUpdate: {name}"),
                Change::Reap => format!("serf: EventMemberReap: {name}"),
                Change::Suspect => {
                    return vec![(
                        Level::Info,
                        format!("memberlist: Suspect {name} has failed, no acks received"),
                    )];
                }
                Change::Refuted => {
                    return vec![(Level::Info, format!("memberlist: {name} has refuted the suspicion"))];
                }
            };
            vec![(Level::Info, text), received(word(*change).to_owned())]
        }
        Event::User { name, .. } => vec![received(format!("user-event: {name}"))],
        Event::Query { name, .. } => vec![received(format!("query: {name}"))],
        Event::Data(entry) => vec![(Level::Debug, format!("bandy: {} has a new value", entry.key))],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_that_serf_writes() {
        let at: Timestamp = "2026-11-26T07:08:09Z".parse().unwrap();
        let lines = |from| lines(&event(), from, at, TimeZone::UTC);
        fn event() -> Event {
            Event::User { ltime: 1, name: "deploy".into(), payload: "v2".into(), coalesce: true }
        }
        let line = "2026/11/26 07:08:09 [INFO] agent: Received event: user-event: deploy";
        assert_eq!(lines(Level::Debug), [line]);
        assert!(lines(Level::Warn).is_empty());
    }

    #[test]
    fn levels_have_the_names_that_serf_takes() {
        assert_eq!(Level::from_name("info"), Some(Level::Info));
        assert_eq!(Level::from_name("ERR"), Some(Level::Err));
        assert_eq!(Level::from_name("loud"), None);
    }
}
