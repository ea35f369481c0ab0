//! What happens, as records and as lines.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::cli::app::App;
use crate::gossip::wire::ipc::{MemberRow, StreamRecord};
use crate::output::{Format, WriteError};
use crate::record::{Embed, Record};

/// The word of an event without Serf's `member-`.
pub fn word(record: &StreamRecord) -> &str {
    match record.event.as_str() {
        "user" => "event",
        "data" if record.payload.is_none() => "del",
        "data" => "set",
        event => event.strip_prefix("member-").unwrap_or(event),
    }
}

/// One envelope per member; one for anything else.
pub fn records(record: &StreamRecord, timestamp: i64) -> Vec<Record> {
    if record.members.is_empty() {
        return vec![other(record, timestamp)];
    }
    record.members.iter().map(|member| of_member(record, member, timestamp)).collect()
}

fn of_member(record: &StreamRecord, member: &MemberRow, timestamp: i64) -> Record {
    let mut provenance = vec![
        ("event", json!(record.event)),
        ("node", json!(member.name)),
        ("addr", json!(member.address.map(|address| address.to_string()))),
        ("tags", tags(member)),
    ];
    if let Some(incarnation) = member.incarnation {
        provenance.push(("incarnation", json!(incarnation)));
    }
    let state = if member.suspect { "suspect" } else { &member.status };
    Record {
        key: Some(Bytes::from(member.name.clone())),
        value: Some(Bytes::from(state.to_owned())),
        headers: Vec::new(),
        timestamp: Some(timestamp),
        provenance,
    }
}

/// Tags as JSON.
pub fn tags(member: &MemberRow) -> Value {
    Value::Object(member.tags.iter().map(|(tag, value)| (tag.clone(), json!(value))).collect::<Map<_, _>>())
}

fn other(record: &StreamRecord, timestamp: i64) -> Record {
    let mut provenance = vec![("event", json!(record.event)), ("ltime", json!(record.ltime))];
    if !record.source.is_empty() {
        provenance.push(("node", json!(record.source)));
    }
    Record {
        key: Some(Bytes::from(record.name.clone())),
        value: record.payload.clone(),
        headers: Vec::new(),
        timestamp: Some(timestamp),
        provenance,
    }
}

/// Characters of a value in a line that tells what happens.
const VALUE_CHARS_MAX: usize = 200;

/// How much of a value stands in a line. Records always have all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// All of it: somebody works with it.
    Whole,
    /// The beginning, and how long it is.
    Begun,
}

/// Writes what happened: a line for people, fields with tabs for a pipe, records otherwise.
///
/// # Errors
/// The reader is gone, or the disk is full.
pub fn write(app: &App, record: &StreamRecord, timestamp: i64, values: Values) -> Result<(), WriteError> {
    let printer = &app.printer;
    match printer.look().format {
        Format::Auto | Format::Table | Format::Plain => {}
        Format::Json | Format::Csv | Format::Value | Format::Template(_) => {
            let mut all = printer.records(crate::output::Separators::default(), Embed::Never);
            return records(record, timestamp).iter().try_for_each(|record| all.write(record));
        }
    }
    let terminal = printer.is_terminal();
    let separator = if terminal { " " } else { "\t" };
    let time = match terminal {
        true => format!("{} ", clock(timestamp)),
        false => String::new(),
    };
    let mut line = Vec::new();
    for fields in fields(record, values) {
        line.clear();
        line.extend_from_slice(time.as_bytes());
        line.extend_from_slice(fields.join(separator).as_bytes());
        line.push(b'\n');
        printer.bytes(&line)?;
    }
    Ok(())
}

fn fields(record: &StreamRecord, values: Values) -> Vec<Vec<String>> {
    let word = word(record).to_owned();
    if record.members.is_empty() {
        let mut fields = vec![word, clean(&record.name)];
        if let Some(payload) = record.payload.as_ref().filter(|payload| !payload.is_empty()) {
            fields.push(clean(&shown(payload, values)));
        }
        return vec![fields];
    }
    let of = |member: &MemberRow| {
        let address = member.address.map_or_else(String::new, |address| address.to_string());
        vec![word.clone(), clean(&member.name), address]
    };
    record.members.iter().map(of).collect()
}

/// A value, or its beginning.
fn shown(payload: &[u8], values: Values) -> String {
    const CHAR_BYTES_MAX: usize = 4;
    let bytes = match values {
        Values::Whole => payload,
        Values::Begun => &payload[..payload.len().min((VALUE_CHARS_MAX + 1) * CHAR_BYTES_MAX)],
    };
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) if values == Values::Begun => {
            format!("{}… ({} bytes)", &text[..end], payload.len())
        }
        _ => text.into_owned(),
    }
}

/// Foreign text must not look like another line or field.
fn clean(text: &str) -> String {
    text.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
}

/// The time of day, as people at this terminal have it.
fn clock(timestamp: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(timestamp).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_large_value_the_beginning_is_told() {
        let large = "é".repeat(300_000);
        let short = shown(large.as_bytes(), Values::Begun);
        assert_eq!(short, format!("{}… (600000 bytes)", "é".repeat(VALUE_CHARS_MAX)));
        assert_eq!(shown(large.as_bytes(), Values::Whole), large);
        let fits = "x".repeat(VALUE_CHARS_MAX);
        assert_eq!(shown(fits.as_bytes(), Values::Begun), fits);
        // What is cut within a letter is not told of it.
        let bytes = [b"a".as_slice(), &[0xff; 5000]].concat();
        assert!(shown(&bytes, Values::Begun).ends_with("… (5001 bytes)"));
    }
}
