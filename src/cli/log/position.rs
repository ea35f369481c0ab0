//! Places in a log as people write them: `start`, `end`, `42`, `-10`, `+10`, `@-15m`, `@2026-11-23T07:00`.

use std::collections::{BTreeMap, HashMap};

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};

use crate::log::client::{Cluster, Error, ErrorKind, admin};
use crate::units::parse_duration;

/// A place in every partition that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// The first record that is kept.
    Start,
    /// After the last record.
    End,
    /// This offset.
    Offset(i64),
    /// So many records after the start.
    AfterStart(i64),
    /// So many records before the end.
    BeforeEnd(i64),
    /// The first record of this time or later, in ms since 1970.
    Time(i64),
}

/// Where a group begins, or a reader without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// There.
    At(Position),
    /// Where the group goes on, which is where it begins anyway.
    Stored,
}

/// Parses where to begin: a position, or `stored`.
///
/// # Errors
/// Text that is neither.
pub fn parse_from(text: &str) -> Result<Begin, String> {
    if text.eq_ignore_ascii_case("stored") { Ok(Begin::Stored) } else { parse(text).map(Begin::At) }
}

/// Parses a position; times of day are local.
///
/// # Errors
/// Text that is none.
pub fn parse(text: &str) -> Result<Position, String> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("{text} is too large"));
    match text.to_ascii_lowercase().as_str() {
        "start" | "earliest" | "oldest" | "beginning" => return Ok(Position::Start),
        "end" | "latest" | "newest" => return Ok(Position::End),
        "stored" => {
            return Err("stored is where a group goes on: 'log consume -g GROUP' begins there".to_owned());
        }
        _ => {}
    }
    if let Some(time) = text.strip_prefix('@') {
        return time_of(time).map(Position::Time);
    }
    match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(before), _) if digits(before) => number(before).map(Position::BeforeEnd),
        (_, Some(after)) if digits(after) => number(after).map(Position::AfterStart),
        (None, None) if digits(text) => number(text).map(Position::Offset),
        _ => {
            Err("a position is start, end, 42, -10, +10, @-15m, @2026-11-23T07:00 or @1763884814".to_owned())
        }
    }
}

fn time_of(text: &str) -> Result<i64, String> {
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_duration(ago).map_err(|error| error.to_string())?;
        let ago = i64::try_from(ago.as_millis()).map_err(|_| "that long ago there was no time".to_owned())?;
        return Ok(Timestamp::now().as_millisecond().saturating_sub(ago));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i64 = text.parse().map_err(|_| format!("{text} is too large"))?;
        // Thirteen digits have been milliseconds since 2001, and are seconds from 33658 on.
        return Ok(if text.len() >= 13 { number } else { number.saturating_mul(1000) });
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_millisecond());
    }
    let local = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Date>().map(Into::into));
    let time = local.and_then(|local| TimeZone::system().to_timestamp(local));
    time.map(|time| time.as_millisecond()).map_err(|_| {
        "a time is @-15m, @2026-11-23, @2026-11-23T07:00, @2026-11-23T07:00:00Z or @1763884814".to_owned()
    })
}

/// Where partitions begin and end just now.
#[derive(Debug, Default)]
pub struct Ends {
    /// The first offset that is kept.
    pub start: HashMap<(String, i32), i64>,
    /// The offset after the last that may be read.
    pub end: HashMap<(String, i32), i64>,
    /// Partitions of which neither is known, and why.
    pub failed: BTreeMap<(String, i32), Error>,
}

impl Ends {
    /// Asks for both. A partition that is not well does not hide the others.
    ///
    /// # Errors
    /// As [`admin::offsets_of_each`]; none of the partitions can be reached.
    pub async fn of(cluster: &Cluster, places: &[(String, i32)], committed: bool) -> Result<Self, Error> {
        let end = if committed { admin::At::CommittedEnd } else { admin::At::End };
        let (start, end) = futures_util::future::try_join(
            admin::offsets_of_each(cluster, places, admin::At::Start),
            admin::offsets_of_each(cluster, places, end),
        )
        .await?;
        let failed: BTreeMap<_, _> = start.failed.into_iter().chain(end.failed).collect();
        let is_away = |error: &&Error| failed.len() == places.len() && error.kind() == ErrorKind::Unreachable;
        if let Some(error) = failed.values().next().filter(is_away) {
            return Err(error.clone());
        }
        let offsets = |found: HashMap<_, admin::Found>| {
            let well = found.into_iter().filter(|(place, _)| !failed.contains_key(place));
            well.map(|(place, it)| (place, it.offset)).collect()
        };
        Ok(Self { start: offsets(start.found), end: offsets(end.found), failed })
    }

    /// Those of which both are known.
    pub fn well<'a>(&self, places: &'a [(String, i32)]) -> impl Iterator<Item = &'a (String, i32)> {
        places.iter().filter(|place| self.end.contains_key(*place))
    }

    /// The offsets of a position, within the ends.
    ///
    /// # Errors
    /// As [`admin::offsets`].
    pub async fn resolve(
        &self,
        cluster: &Cluster,
        places: &[(String, i32)],
        position: Position,
    ) -> Result<HashMap<(String, i32), i64>, Error> {
        let times = match position {
            Position::Time(time) => {
                let well: Vec<_> = self.well(places).cloned().collect();
                admin::offsets(cluster, &well, admin::At::Time(time)).await?
            }
            _ => HashMap::new(),
        };
        let resolve = |place: &(String, i32)| {
            let start = self.start.get(place).copied().unwrap_or(0);
            let end = self.end.get(place).copied().unwrap_or(start);
            let offset = match position {
                Position::Start => start,
                Position::End => end,
                Position::Offset(offset) => offset,
                Position::AfterStart(count) => start.saturating_add(count).min(end),
                Position::BeforeEnd(count) => end.saturating_sub(count),
                // None of that time or later: the end.
                Position::Time(_) => {
                    times.get(place).map(|found| found.offset).filter(|it| *it >= 0).unwrap_or(end)
                }
            };
            (place.clone(), offset.max(start))
        };
        Ok(self.well(places).map(resolve).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_as_people_write_them() {
        for (text, position) in [
            ("start", Position::Start),
            ("EARLIEST", Position::Start),
            ("end", Position::End),
            ("42", Position::Offset(42)),
            ("-10", Position::BeforeEnd(10)),
            ("+10", Position::AfterStart(10)),
            ("@1763884814", Position::Time(1_763_884_814_000)),
            ("@1763884814123", Position::Time(1_763_884_814_123)),
            ("@2025-11-23T08:00:14Z", Position::Time(1_763_884_814_000)),
        ] {
            assert_eq!(parse(text), Ok(position), "{text}");
        }
        let Ok(Position::Time(time)) = parse("@-15m") else { panic!("a time") };
        let ago = Timestamp::now().as_millisecond() - time;
        assert!((900_000..905_000).contains(&ago), "{ago}");
        for bad in ["", "-", "+", "x", "-x", "@", "@x", "4 2", "99999999999999999999"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
