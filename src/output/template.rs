//! The user's own format: `%` letters as rpk and kcat have them, for records and lists alike.
//!
//! ```text
//! %k key   %v %s value   %K %V %S how long they are   %h headers   %H{name} a header   %t topic or queue   %p partition
//! %o offset or delivery tag   %d time   %e event   %n running number   %{a.b.0} any field   %% a %
//! %v{hex} %v{base64} %v{json} %v{unpack[>iq]}   %d{rfc3339} %d{ms} %d{%H:%M:%S}
//! \n \t \r \0 \\ \xNN   \c no newline at the end
//! ```

use std::borrow::Cow;

use base64::Engine as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::table::text;
use super::unpack::Unpack;
use crate::record::{Embed, Record};
use crate::spelling::near_miss;

/// A parsed template.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Literal(Vec<u8>),
    Bytes(Source, Encoding),
    /// Bytes of it; -1 if there is none.
    Length(Source),
    Time(Clock),
    Number,
    Headers,
}

/// Where the bytes of a piece come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Key,
    Value,
    Header(String),
    /// The first of these fields that there is.
    Field(&'static [&'static str]),
    Path(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Encoding {
    Raw,
    Hex,
    Base64,
    Json,
    /// Numbers in it.
    Unpack(Unpack),
}

#[derive(Clone, Debug, PartialEq)]
enum Clock {
    Milliseconds,
    Rfc3339(TimeZone),
    Format(String, TimeZone),
}

/// Text that is not a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("template: {message} at character {position}")]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// Where, from 1.
    pub position: usize,
}

impl Template {
    /// Parses a template; `zone` is asked for the time zone if the template shows a time of day.
    ///
    /// # Errors
    /// An unknown letter, modifier or escape, or a brace that is never closed.
    pub fn parse(text: &str, zone: impl Fn() -> TimeZone) -> Result<Self, TemplateError> {
        Parser { text, at: 0, zone: &zone, pieces: Vec::new() }.template()
    }

    /// Appends what it makes of a record. `foreign` passes bytes of others on, escaped or not.
    pub(super) fn record(&self, record: &Record, number: u64, foreign: Foreign, out: &mut Vec<u8>) {
        self.render(&Fields::Record(record), number, foreign, out);
    }

    /// Appends what it makes of a row of a list.
    pub(super) fn row(&self, row: &Map<String, Value>, number: u64, foreign: Foreign, out: &mut Vec<u8>) {
        self.render(&Fields::Row(row), number, foreign, out);
    }

    /// What is to be said about the first piece that shows nothing of any such row: a letter for what only records have, or
    /// `%{name}` where there is a field of nearly that name. Fields of other names may be there at times.
    pub(super) fn lacking(&self, row: &Map<String, Value>) -> Option<String> {
        self.0.iter().find_map(|piece| {
            let letter = match piece {
                Piece::Bytes(Source::Path(path), _) => {
                    let name = path.first().filter(|name| !row.contains_key(*name))?;
                    let near = near_miss(name, row.keys().map(String::as_str))?;
                    return Some(format!("no field '{name}' in these rows; did you mean %{{{near}}}?"));
                }
                Piece::Bytes(Source::Key, _) if !row.contains_key("key") => "%k",
                Piece::Bytes(Source::Value, _) if !row.contains_key("value") => "%v (%s)",
                Piece::Bytes(Source::Field(names), _)
                    if !names.iter().any(|name| row.contains_key(*name)) =>
                {
                    match names.first() {
                        Some(&"topic") => "%t",
                        Some(&"partition") => "%p",
                        Some(&"offset") => "%o",
                        _ => "%e",
                    }
                }
                _ => return None,
            };
            let fields: Vec<_> = row.keys().map(|name| format!("%{{{name}}}")).collect();
            Some(format!("these rows have no {letter}; they have {}", fields.join(" ")))
        })
    }

    fn render(&self, fields: &Fields<'_>, number: u64, foreign: Foreign, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Number => out.extend_from_slice(number.to_string().as_bytes()),
                Piece::Headers => foreign(fields.headers().as_bytes(), out),
                Piece::Time(clock) => out.extend_from_slice(clock.show(fields.timestamp()).as_bytes()),
                Piece::Length(source) => {
                    let length = fields.bytes(source).map_or(-1, |bytes| bytes.len() as i64);
                    out.extend_from_slice(length.to_string().as_bytes());
                }
                Piece::Bytes(source, encoding) => {
                    let bytes = fields.bytes(source);
                    foreign(&encoding.encode(bytes.as_deref()), out);
                }
            }
        }
    }
}

/// Appends bytes of someone else's, fit for where they go.
pub(super) type Foreign = fn(&[u8], &mut Vec<u8>);

/// What a template is filled from.
enum Fields<'a> {
    Record(&'a Record),
    Row(&'a Map<String, Value>),
}

impl Fields<'_> {
    fn bytes(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        match (self, source) {
            (Self::Record(record), Source::Key) => record.key.as_deref().map(Cow::Borrowed),
            (Self::Record(record), Source::Value) => record.value.as_deref().map(Cow::Borrowed),
            (Self::Record(record), Source::Header(name)) => {
                let values = record.headers.iter().filter(|(header, _)| header == name);
                let values: Vec<_> = values.map(|(_, value)| value.as_deref().unwrap_or_default()).collect();
                (!values.is_empty()).then(|| Cow::Owned(values.join(&b","[..])))
            }
            (Self::Record(record), Source::Field(names)) => {
                Some(owned(text(names.iter().find_map(|name| record.origin(name)))))
            }
            (Self::Record(record), Source::Path(path)) => {
                let mut envelope = Vec::new();
                record.write_json(Embed::IfJson, &mut envelope);
                let envelope: Value = serde_json::from_slice(&envelope).ok()?;
                Some(owned(text(follow(&envelope, path))))
            }
            (Self::Row(row), Source::Key) => row.get("key").map(|value| owned(text(Some(value)))),
            (Self::Row(row), Source::Value) => row.get("value").map(|value| owned(text(Some(value)))),
            (Self::Row(row), Source::Header(name)) => {
                Some(owned(text(row.get("headers").and_then(|headers| headers.get(name)))))
            }
            (Self::Row(row), Source::Field(names)) => {
                Some(owned(text(names.iter().find_map(|name| row.get(*name)))))
            }
            (Self::Row(row), Source::Path(path)) => {
                let (first, rest) = path.split_first()?;
                Some(owned(text(follow(row.get(first)?, rest))))
            }
        }
    }

    fn headers(&self) -> String {
        match self {
            Self::Record(record) => {
                let show = |value: &Option<bytes::Bytes>| {
                    value
                        .as_deref()
                        .map(|value| String::from_utf8_lossy(value).into_owned())
                        .unwrap_or_default()
                };
                let pairs = record.headers.iter().map(|(name, value)| format!("{name}={}", show(value)));
                pairs.collect::<Vec<_>>().join(",")
            }
            Self::Row(row) => text(row.get("headers")),
        }
    }

    fn timestamp(&self) -> Option<i64> {
        match self {
            Self::Record(record) => record.timestamp,
            Self::Row(row) => row.get("timestamp").and_then(Value::as_i64),
        }
    }
}

fn owned<'a>(text: String) -> Cow<'a, [u8]> {
    Cow::Owned(text.into_bytes())
}

fn follow<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, name| match value {
        Value::Object(map) => map.get(name),
        Value::Array(items) => items.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

impl Encoding {
    fn encode<'a>(&self, bytes: Option<&'a [u8]>) -> Cow<'a, [u8]> {
        let Some(bytes) = bytes else {
            return Cow::Borrowed(if *self == Self::Json { b"null" } else { b"" });
        };
        match self {
            Self::Raw => Cow::Borrowed(bytes),
            Self::Hex => owned(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
            Self::Base64 => owned(base64::engine::general_purpose::STANDARD.encode(bytes)),
            Self::Unpack(unpack) => Cow::Owned(unpack.show(bytes)),
            Self::Json => owned(Value::from(String::from_utf8_lossy(bytes)).to_string()),
        }
    }
}

impl Clock {
    fn show(&self, milliseconds: Option<i64>) -> String {
        let Some(milliseconds) = milliseconds else { return String::new() };
        let zoned = |zone: &TimeZone| {
            Some(Timestamp::from_millisecond(milliseconds).ok()?.to_zoned_datetime(zone.clone()))
        };
        let shown = match self {
            Self::Milliseconds => None,
            Self::Rfc3339(zone) => {
                zoned(zone).map(|time| time.strftime("%Y-%m-%dT%H:%M:%S.%3f%:z").to_string())
            }
            // The format was tried when the template was parsed.
            Self::Format(format, zone) => {
                zoned(zone).and_then(|time| jiff::fmt::strtime::format(format, &time).ok())
            }
        };
        // A time out of the calendar's range is shown as the number that it is.
        shown.unwrap_or_else(|| milliseconds.to_string())
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    zone: &'a dyn Fn() -> TimeZone,
    pieces: Vec<Piece>,
}

impl Parser<'_> {
    fn fail(&self, message: impl Into<String>) -> TemplateError {
        let position = self.text[..self.at.min(self.text.len())].chars().count().max(1);
        TemplateError { message: message.into(), position }
    }

    fn take(&mut self) -> Option<char> {
        let c = self.text[self.at..].chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn template(mut self) -> Result<Template, TemplateError> {
        let mut ends_in_escape = false;
        while let Some(c) = self.take() {
            ends_in_escape = c == '\\';
            match c {
                '%' => self.field()?,
                '\\' => self.escape()?,
                c => self.literal(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !ends_in_escape {
            self.literal(b"\n");
        }
        Ok(Template(self.pieces))
    }

    fn literal(&mut self, bytes: &[u8]) {
        if let Some(Piece::Literal(literal)) = self.pieces.last_mut() {
            literal.extend_from_slice(bytes);
        } else {
            self.pieces.push(Piece::Literal(bytes.to_vec()));
        }
    }

    fn escape(&mut self) -> Result<(), TemplateError> {
        let byte = match self.take() {
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('r') => b'\r',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('c') if self.at == self.text.len() => return Ok(()),
            Some('c') => return Err(self.fail("\\c stands at the end only")),
            Some('x') => {
                let hex = self.text.get(self.at..self.at + 2).and_then(|hex| {
                    hex.bytes()
                        .all(|byte| byte.is_ascii_hexdigit())
                        .then(|| u8::from_str_radix(hex, 16).ok())?
                });
                self.at = (self.at + 2).min(self.text.len());
                while !self.text.is_char_boundary(self.at) {
                    self.at += 1;
                }
                hex.ok_or_else(|| self.fail("\\x is followed by two hex digits"))?
            }
            _ => return Err(self.fail("unknown escape: there are \\n \\t \\r \\0 \\\\ \\xNN and \\c")),
        };
        self.literal(&[byte]);
        Ok(())
    }

    fn field(&mut self) -> Result<(), TemplateError> {
        let piece = match self.take() {
            Some('%') => {
                self.literal(b"%");
                return Ok(());
            }
            Some('k') => Piece::Bytes(Source::Key, self.encoding()?),
            Some('v' | 's') => Piece::Bytes(Source::Value, self.encoding()?),
            Some('K') => Piece::Length(Source::Key),
            Some('V' | 'S') => Piece::Length(Source::Value),
            Some('h') => Piece::Headers,
            Some('H') => {
                let name = self.braces()?.ok_or_else(|| self.fail("%H is followed by {name}"))?;
                Piece::Bytes(Source::Header(name), self.encoding()?)
            }
            Some('t') => Piece::Bytes(Source::Field(&["topic", "queue", "method"]), Encoding::Raw),
            Some('p') => Piece::Bytes(Source::Field(&["partition"]), Encoding::Raw),
            Some('o') => Piece::Bytes(Source::Field(&["offset", "delivery_tag"]), Encoding::Raw),
            Some('e') => Piece::Bytes(Source::Field(&["event"]), Encoding::Raw),
            Some('n') => Piece::Number,
            Some('d') => Piece::Time(self.clock()?),
            Some('{') => {
                self.at -= 1;
                let path = self.braces()?.unwrap_or_default();
                if path.is_empty() {
                    return Err(self.fail("%{} names no field"));
                }
                Piece::Bytes(Source::Path(path.split('.').map(str::to_owned).collect()), Encoding::Raw)
            }
            Some(letter) => {
                let known = "%k %v %s %K %V %S %h %H{name} %t %p %o %d %e %n %{field} %%";
                return Err(self.fail(format!("unknown %{letter}: there are {known}")));
            }
            None => return Err(self.fail("a single % at the end: %% is a percent sign")),
        };
        self.pieces.push(piece);
        Ok(())
    }

    /// The text between braces, if they follow. Braces within it must match.
    fn braces(&mut self) -> Result<Option<String>, TemplateError> {
        let rest = &self.text[self.at..];
        let Some(inner) = rest.strip_prefix('{') else { return Ok(None) };
        let mut depth = 1usize;
        let end = inner.char_indices().find(|(_, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            depth == 0
        });
        let Some((end, _)) = end else { return Err(self.fail("'{' is never closed")) };
        self.at += end + 2;
        Ok(Some(inner[..end].to_owned()))
    }

    fn encoding(&mut self) -> Result<Encoding, TemplateError> {
        match self.braces()?.as_deref() {
            None => Ok(Encoding::Raw),
            Some("hex") => Ok(Encoding::Hex),
            Some("base64") => Ok(Encoding::Base64),
            Some("json") => Ok(Encoding::Json),
            Some(other) => {
                let letters = other.strip_prefix("unpack[").and_then(|letters| letters.strip_suffix(']'));
                let Some(letters) = letters else {
                    let known = "there are hex, base64, json and unpack[…]";
                    return Err(self.fail(format!("unknown {{{other}}}: {known}")));
                };
                let unpack = Unpack::parse(letters);
                unpack.map(Encoding::Unpack).map_err(|letter| {
                    self.fail(format!("unknown '{letter}' in unpack: there are < > b B h H i I q Q c s $"))
                })
            }
        }
    }

    fn clock(&mut self) -> Result<Clock, TemplateError> {
        match self.braces()?.as_deref() {
            None | Some("ms") => Ok(Clock::Milliseconds),
            Some("rfc3339") => Ok(Clock::Rfc3339((self.zone)())),
            Some(format) if format.contains('%') => {
                let zone = (self.zone)();
                let sample = Timestamp::UNIX_EPOCH.to_zoned_datetime(zone.clone());
                match jiff::fmt::strtime::format(format, &sample) {
                    Ok(_) => Ok(Clock::Format(format.to_owned(), zone)),
                    Err(error) => Err(self.fail(format!("{{{format}}} is not a time format: {error}"))),
                }
            }
            Some(other) => {
                Err(self
                    .fail(format!("unknown {{{other}}}: there are ms, rfc3339 and formats such as %H:%M:%S")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Template {
        Template::parse(text, || TimeZone::UTC).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn raw(bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
    }

    fn record() -> Record {
        Record {
            key: Some("ada".into()),
            value: Some(r#"{"user":{"ids":[7,8]}}"#.into()),
            headers: vec![("a".into(), Some("1".into())), ("b".into(), None), ("a".into(), Some("2".into()))],
            timestamp: Some(1_763_884_814_123),
            provenance: vec![("topic", "orders".into()), ("partition", 3.into()), ("offset", 42.into())],
        }
    }

    fn rendered(text: &str, record: &Record) -> String {
        let mut out = Vec::new();
        parse(text).record(record, 5, raw, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_letter_and_modifier() {
        for (text, expected) in [
            ("%t/%p@%o", "orders/3@42\n"),
            ("%k=%v", "ada={\"user\":{\"ids\":[7,8]}}\n"),
            ("%s{base64}", "eyJ1c2VyIjp7ImlkcyI6WzcsOF19fQ==\n"),
            ("%k{hex} %k{json}", "616461 \"ada\"\n"),
            ("%h|%H{a}|%H{c}", "a=1,b=,a=2|1,2|\n"),
            ("%d", "1763884814123\n"),
            ("%d{ms}", "1763884814123\n"),
            ("%d{rfc3339}", "2025-11-23T08:00:14.123+00:00\n"),
            ("%d{%H:%M:%S}", "08:00:14\n"),
            ("%n %%", "5 %\n"),
            ("%{value.user.ids.1} %{offset} %{no.such}", "8 42 \n"),
            ("%e", "\n"),
            ("%K %V %S", "3 22 22\n"),
            ("%k{unpack[Bc<B$]}", "97 d 97\n"),
        ] {
            assert_eq!(rendered(text, &record()), expected, "{text}");
        }
        assert_eq!(rendered("%v{json}|%v|%S %K", &Record::default()), "null||-1 -1\n");
    }

    #[test]
    fn a_newline_is_added_unless_an_escape_ends_it() {
        let record = Record::of("x");
        for (text, expected) in [
            ("%v", "x\n"),
            (r"%v\n", "x\n"),
            (r"%v\0", "x\0"),
            (r"%v\t", "x\t"),
            (r"%v\c", "x"),
            (r"a\x41\\%v", "aA\\x\n"),
            (r"%v\\", "x\\"),
            ("", "\n"),
        ] {
            assert_eq!(rendered(text, &record), expected, "{text}");
        }
    }

    #[test]
    fn a_list_fills_it_too() {
        let row = serde_json::json!({"name": "a", "tags": {"x": [1, 2]}});
        let mut out = Vec::new();
        parse("%n %{name} %{tags.x.1} %k").row(row.as_object().unwrap(), 1, raw, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "1 a 2 \n");
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, why) in [
            ("%k %q", "unknown %q: there are %k"),
            ("abc%", "%% is a percent sign at character 4"),
            ("%v{bin}", "unknown {bin}"),
            ("%v{unpack[z]}", "unknown 'z' in unpack"),
            ("%v{hex", "never closed"),
            ("%H", "%H is followed by {name}"),
            ("%{}", "names no field"),
            ("%d{%Q%%%}", "not a time format"),
            ("%d{now}", "unknown {now}"),
            (r"a\q", "unknown escape"),
            (r"a\x4", "two hex digits"),
            (r"\xé", "two hex digits"),
            (r"\cx", "at the end only"),
            ("\\", "unknown escape"),
        ] {
            let message = Template::parse(text, || TimeZone::UTC).expect_err(text).to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn no_template_panics(text in r"([%\\{}]|[kvsKVShHtpodenx0c]|%[HM]|é|\PC){0,20}", value: Vec<u8>, time: i64) {
            if let Ok(template) = Template::parse(&text, || TimeZone::UTC) {
                let record = Record { timestamp: Some(time), ..Record::of(value) };
                template.record(&record, 1, raw, &mut Vec::new());
            }
        }

        #[test]
        fn text_without_percent_and_backslash_is_itself(text in r"[^%\\]{0,20}") {
            prop_assert_eq!(rendered(&text, &Record::default()), format!("{text}\n"));
        }
    }
}
