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

/// Writes what happened: a line for people, fields with tabs for a pipe, records otherwise.
///
/// # Errors
/// The reader is gone, or the disk is full.
pub fn write(app: &App, record: &StreamRecord, timestamp: i64) -> Result<(), WriteError> {
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
    for fields in fields(record) {
        line.clear();
        line.extend_from_slice(time.as_bytes());
        line.extend_from_slice(fields.join(separator).as_bytes());
        line.push(b'\n');
        printer.bytes(&line)?;
    }
    Ok(())
}

fn fields(record: &StreamRecord) -> Vec<Vec<String>> {
    let word = word(record).to_owned();
    if record.members.is_empty() {
        let mut fields = vec![word, clean(&record.name)];
        if let Some(payload) = record.payload.as_ref().filter(|payload| !payload.is_empty()) {
            fields.push(clean(&String::from_utf8_lossy(payload)));
        }
        return vec![fields];
    }
    let of = |member: &MemberRow| {
        let address = member.address.map_or_else(String::new, |address| address.to_string());
        vec![word.clone(), clean(&member.name), address]
    };
    record.members.iter().map(of).collect()
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
