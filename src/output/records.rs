//! Records in every format, one at a time.

use anstyle::Style;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::table::{csv_cell, plain_cell, text};
use super::template::Template;
use super::terminal::escape;
use super::{Format, Printer, WriteError, json};
use crate::record::{Embed, Record};

/// What stands between records, and between key and value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Separators {
    /// After each record.
    pub record: Vec<u8>,
    /// Between key and value; `None` leaves the key out.
    pub key: Option<Vec<u8>>,
}

impl Default for Separators {
    fn default() -> Self {
        Self { record: b"\n".to_vec(), key: None }
    }
}

/// Writes records; made by [`Printer::records`].
#[derive(Debug)]
pub struct Records<'a> {
    printer: &'a Printer,
    separators: Separators,
    embed: Embed,
    number: u64,
    // Provenance columns and their widths, as the first record had them.
    columns: Option<Vec<(&'static str, usize)>>,
    // Of the times that a person reads.
    zone: fn() -> TimeZone,
}

const DIM: Style = Style::new().dimmed();

impl<'a> Records<'a> {
    pub(super) fn new(printer: &'a Printer, separators: Separators, embed: Embed) -> Self {
        Self { printer, separators, embed, number: 0, columns: None, zone: TimeZone::system }
    }

    /// The same after so many others.
    pub(super) fn after(self, number: u64) -> Self {
        Self { number, ..self }
    }

    /// How many were written.
    pub fn count(&self) -> u64 {
        self.number
    }

    /// Writes one record.
    ///
    /// # Errors
    /// The reader is gone, or the sink is full.
    pub fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        self.number += 1;
        match &self.printer.look.format {
            Format::Json => self.json(record),
            Format::Auto if self.printer.is_terminal() => self.readable(record),
            Format::Auto | Format::Value => self.value(record),
            Format::Table => self.columns(record, Layout::Table),
            Format::Plain => self.columns(record, Layout::Plain),
            Format::Csv => self.columns(record, Layout::Csv),
            Format::Template(template) => self.template(template, record),
        }
    }

    fn json(&self, record: &Record) -> Result<(), WriteError> {
        self.printer.data(|buffer| {
            if self.printer.look.out.colour {
                let mut line = Vec::new();
                record.write_json(self.embed, &mut line);
                json::colour(&line, buffer);
            } else {
                record.write_json(self.embed, buffer);
            }
            buffer.push(b'\n');
            Ok(())
        })
    }

    fn value(&self, record: &Record) -> Result<(), WriteError> {
        let foreign = self.printer.foreign();
        self.printer.data(|buffer| {
            if let Some(delimiter) = &self.separators.key {
                foreign(record.key.as_deref().unwrap_or_default(), buffer);
                buffer.extend_from_slice(delimiter);
            }
            foreign(record.value.as_deref().unwrap_or_default(), buffer);
            buffer.extend_from_slice(&self.separators.record);
            Ok(())
        })
    }

    /// `orders p0@42 ada │ hello`, for a person.
    fn readable(&self, record: &Record) -> Result<(), WriteError> {
        let mut origin = Vec::new();
        let part =
            |names: &[&str]| names.iter().find_map(|name| record.origin(name)).map(|value| text(Some(value)));
        origin.extend(part(&["topic", "queue", "event"]));
        match (part(&["partition"]), part(&["offset"])) {
            (Some(partition), Some(offset)) => origin.push(format!("p{partition}@{offset}")),
            (Some(partition), None) => origin.push(format!("p{partition}")),
            (None, _) => {}
        }
        let key = record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned());
        // What was published to a topic has it as its key.
        origin.extend(key.filter(|key| origin.first() != Some(key)));
        self.printer.data(|buffer| {
            if !origin.is_empty() {
                let style = if self.printer.look.out.colour { DIM } else { Style::new() };
                buffer.extend_from_slice(style.render().to_string().as_bytes());
                escape(origin.join(" ").as_bytes(), buffer);
                buffer.extend_from_slice(" │ ".as_bytes());
                buffer.extend_from_slice(style.render_reset().to_string().as_bytes());
            }
            escape(record.value.as_deref().unwrap_or_default(), buffer);
            buffer.push(b'\n');
            Ok(())
        })
    }

    fn template(&self, template: &Template, record: &Record) -> Result<(), WriteError> {
        self.printer.data(|buffer| {
            template.record(record, self.number, self.printer.foreign(), buffer);
            Ok(())
        })
    }

    fn columns(&mut self, record: &Record, layout: Layout) -> Result<(), WriteError> {
        let mut lines = Vec::new();
        if self.columns.is_none() {
            let names = record.provenance.iter().map(|(name, _)| *name);
            let names = names.chain(["timestamp", "key", "headers", "value"]);
            // A list that may never end cannot wait for its widest cell: the first record decides.
            let width = |name: &str| self.cell(record, name, layout).chars().count().max(name.len());
            let columns = names.map(|name| (name, width(name))).collect();
            let columns = self.columns.insert(columns);
            let titles = columns.iter().map(|(name, _)| (*name).to_owned());
            match layout {
                Layout::Plain => {}
                Layout::Csv => layout.line(titles, columns, &mut lines),
                Layout::Table => layout.line(titles.map(|title| title.to_uppercase()), columns, &mut lines),
            }
        }
        let columns = self.columns.as_deref().unwrap_or_default();
        let cells = columns.iter().map(|(name, _)| self.cell(record, name, layout));
        layout.line(cells, columns, &mut lines);
        self.printer.bytes(&lines)
    }

    /// A person reads a time as one; programs get what JSON has.
    fn cell(&self, record: &Record, name: &str, layout: Layout) -> String {
        match (name, layout, record.timestamp) {
            ("timestamp", Layout::Table, Some(time)) => readable_time(time, (self.zone)()),
            _ => cell(record, name),
        }
    }
}

/// `2026-11-23 07:00:14.123`, as clocks show it there.
fn readable_time(ms: i64, zone: TimeZone) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => time.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S.%3f").to_string(),
        // Beyond the year 9999 there is no calendar.
        Err(_) => ms.to_string(),
    }
}

fn cell(record: &Record, name: &str) -> String {
    let lossy = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    match name {
        "key" => lossy(record.key.as_deref()),
        "value" => lossy(record.value.as_deref()),
        "timestamp" => record.timestamp.map(|time| time.to_string()).unwrap_or_default(),
        "headers" if record.headers.is_empty() => String::new(),
        "headers" => {
            let mut json = Vec::new();
            record.write_headers(&mut json);
            lossy(Some(&json))
        }
        name => match record.origin(name) {
            Some(value @ (Value::Object(_) | Value::Array(_))) => value.to_string(),
            value => text(value),
        },
    }
}

#[derive(Clone, Copy)]
enum Layout {
    Table,
    Plain,
    Csv,
}

impl Layout {
    fn line(self, cells: impl Iterator<Item = String>, columns: &[(&str, usize)], out: &mut Vec<u8>) {
        for (n, (cell, (_, width))) in cells.zip(columns).enumerate() {
            let first = n == 0;
            match self {
                Self::Plain => {
                    out.extend_from_slice(if first { b"" } else { b"\t" });
                    plain_cell(&cell, out);
                }
                Self::Csv => {
                    out.extend_from_slice(if first { b"" } else { b"," });
                    csv_cell(&cell, out);
                }
                Self::Table => {
                    out.extend_from_slice(if first { b"" } else { b"  " });
                    let start = out.len();
                    plain_cell(&cell, out);
                    let written = String::from_utf8_lossy(&out[start..]).chars().count();
                    if n + 1 < columns.len() {
                        out.extend(std::iter::repeat_n(b' ', width.saturating_sub(written)));
                    }
                }
            }
        }
        out.extend_from_slice(if matches!(self, Self::Csv) { b"\r\n" } else { b"\n" });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::printer;
    use super::*;

    fn two() -> [Record; 2] {
        let origin = |offset: i64| {
            vec![("topic", "orders".into()), ("partition", 0.into()), ("offset", offset.into())]
        };
        let first = Record {
            key: Some("ada".into()),
            headers: vec![("trace".into(), Some("7f".into()))],
            timestamp: Some(7),
            provenance: origin(42),
            ..Record::of("hello\tyou")
        };
        [first, Record { provenance: origin(43), value: None, ..Record::default() }]
    }

    fn written(format: Format, width: Option<u16>, separators: Separators) -> String {
        let (printer, out, _) = printer(format, width);
        let mut records = printer.records(separators, Embed::Never);
        records.zone = || TimeZone::UTC;
        for record in &two() {
            records.write(record).unwrap();
        }
        assert_eq!(records.count(), 2);
        printer.flush().unwrap();
        out.text()
    }

    #[test]
    fn records_in_every_format() {
        let plain = |format| written(format, None, Separators::default());
        assert_eq!(plain(Format::Auto), "hello\tyou\n\n");
        assert_eq!(plain(Format::Value), "hello\tyou\n\n");
        assert_eq!(
            plain(Format::Plain),
            "orders\t0\t42\t7\tada\t{\"trace\":\"7f\"}\thello\\tyou\norders\t0\t43\t\t\t\t\n"
        );
        assert_eq!(
            plain(Format::Csv),
            "topic,partition,offset,timestamp,key,headers,value\r\norders,0,42,7,ada,\"{\"\"trace\"\":\"\"7f\"\"}\",hello\tyou\r\norders,0,43,,,,\r\n"
        );
        assert_eq!(
            plain(Format::Table),
            "TOPIC   PARTITION  OFFSET  TIMESTAMP                KEY  HEADERS         VALUE\n\
             orders  0          42      1970-01-01 00:00:00.007  ada  {\"trace\":\"7f\"}  hello\\tyou\n\
             orders  0          43                                                    \n"
        );
        assert!(plain(Format::Json).starts_with("{\"key\":\"ada\",\"value\":\"hello\\tyou\","));
        let template = Template::parse("%n:%t/%p@%o %k", || TimeZone::UTC).unwrap();
        assert_eq!(plain(Format::Template(template.into())), "1:orders/0@42 ada\n2:orders/0@43 \n");
    }

    #[test]
    fn a_person_sees_where_a_record_came_from() {
        assert_eq!(
            written(Format::Auto, Some(80), Separators::default()),
            "orders p0@42 ada │ hello\tyou\norders p0@43 │ \n"
        );
    }

    #[test]
    fn keys_and_separators_as_asked_for() {
        let separators = Separators { record: vec![0], key: Some(b":".to_vec()) };
        assert_eq!(written(Format::Value, None, separators), "ada:hello\tyou\0:\0");
    }
}
