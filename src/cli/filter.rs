//! Which records are wanted: by key, header, text and fields of JSON values, looked at where they lie, before anything is
//! made of them.

use std::cmp::Ordering;
use std::fmt;

use memchr::memmem::Finder;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The flags of a filter; all that are given have to hold.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Filter")]
pub struct FilterArgs {
    /// Only records with this key; a * stands for anything
    #[arg(short, long, value_name = "KEY")]
    pub key: Option<String>,
    /// Only records with this header: NAME or NAME=VALUE (repeatable)
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// Only records with this text in their value (repeatable)
    #[arg(long, value_name = "TEXT")]
    pub grep: Vec<String>,
    /// Only records whose JSON value fits '.total > 100' (repeatable)
    ///
    /// Others are '.status = "paid"', and .user.email for what has one.
    #[arg(long = "where", value_name = "CONDITION", value_parser = Condition::parse)]
    pub conditions: Vec<Condition>,
}

/// Decides about records.
#[derive(Debug)]
pub struct Filter {
    key: Option<Vec<Vec<u8>>>,
    headers: Vec<(String, Option<String>)>,
    texts: Vec<Finder<'static>>,
    conditions: Vec<Condition>,
}

impl FilterArgs {
    /// The filter; none where everything is wanted.
    pub fn filter(&self) -> Option<Filter> {
        let header = |text: &String| match text.split_once('=').or_else(|| text.split_once(": ")) {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.clone(), None),
        };
        let filter = Filter {
            key: self.key.as_ref().map(|key| key.split('*').map(|part| part.as_bytes().to_vec()).collect()),
            headers: self.headers.iter().map(header).collect(),
            texts: self.grep.iter().map(|text| Finder::new(text.as_bytes()).into_owned()).collect(),
            conditions: self.conditions.clone(),
        };
        let is_empty = filter.key.is_none()
            && filter.headers.is_empty()
            && filter.texts.is_empty()
            && filter.conditions.is_empty();
        (!is_empty).then_some(filter)
    }
}

impl Filter {
    /// Is this record wanted?
    pub fn wants<'a, H>(&self, key: Option<&[u8]>, value: Option<&[u8]>, headers: impl Fn() -> H) -> bool
    where
        H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    {
        let has = |(name, wanted): &(String, Option<String>)| {
            headers().any(|(own, value)| {
                own == name.as_bytes() && wanted.as_ref().is_none_or(|it| value == Some(it.as_bytes()))
            })
        };
        let value = value.unwrap_or_default();
        self.key.as_ref().is_none_or(|parts| key.is_some_and(|key| fits(key, parts)))
            && self.headers.iter().all(has)
            && self.texts.iter().all(|text| text.find(value).is_some())
            && self.conditions.iter().all(|condition| condition.holds(value))
    }
}

/// Are the parts in the text, the first one at its front, the last one at its end, and anything between them?
fn fits(text: &[u8], parts: &[Vec<u8>]) -> bool {
    let [first, middle @ .., last] = parts else { return parts.first().is_some_and(|part| part == text) };
    let Some(rest) = text.strip_prefix(&first[..]) else { return false };
    let Some(mut rest) = rest.strip_suffix(&last[..]) else { return false };
    for part in middle {
        match memchr::memmem::find(rest, part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// Something that holds for a JSON value, or does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    path: Vec<Step>,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// It is there, and neither null nor false.
    Is,
    /// It compares like this.
    Compares(&'static [Ordering], Value),
    /// It is something else, or not there.
    Differs(Value),
    /// It is a text with this in it.
    Contains(String),
}

/// Operators, those first that others begin with.
const OPERATORS: &[(&str, &[Ordering])] = &[
    ("==", &[Ordering::Equal]),
    ("!=", &[]),
    ("<=", &[Ordering::Less, Ordering::Equal]),
    (">=", &[Ordering::Greater, Ordering::Equal]),
    ("=", &[Ordering::Equal]),
    ("<", &[Ordering::Less]),
    (">", &[Ordering::Greater]),
    ("~", &[]),
];

impl Condition {
    /// Reads `.path`, or a path, an operator and what it is compared with: JSON, or text as it is.
    ///
    /// # Errors
    /// No path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (path, rest) = path(text.trim_start())?;
        let rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(Self { path, test: Test::Is });
        }
        let operator = OPERATORS.iter().find(|(operator, _)| rest.starts_with(operator));
        let (operator, orders) =
            operator.ok_or_else(|| format!("after the path comes one of == != < <= > >= ~, not '{rest}'"))?;
        let other = rest[operator.len()..].trim();
        let value = || serde_json::from_str(other).unwrap_or_else(|_| Value::String(other.to_owned()));
        let test = match *operator {
            "!=" => Test::Differs(value()),
            "~" => match value() {
                Value::String(text) => Test::Contains(text),
                _ => Test::Contains(other.to_owned()),
            },
            _ => Test::Compares(orders, value()),
        };
        Ok(Self { path, test })
    }

    /// Does it hold for this text? Text that is no JSON has no fields.
    pub fn holds(&self, json: &[u8]) -> bool {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let found = Descend(&self.path).deserialize(&mut reader);
        let found = found.ok().flatten().filter(|_| reader.end().is_ok());
        match (&self.test, found) {
            (Test::Is, found) => !matches!(found, None | Some(Value::Null | Value::Bool(false))),
            (Test::Differs(other), found) => {
                found.is_none_or(|found| compare(&found, other) != Some(Ordering::Equal))
            }
            (_, None) => false,
            (Test::Compares(orders, other), Some(found)) => {
                compare(&found, other).is_some_and(|order| orders.contains(&order))
            }
            (Test::Contains(part), Some(found)) => found.as_str().is_some_and(|text| text.contains(part)),
        }
    }
}

/// Values of the same kind compare; of lists and objects only those that are the same.
fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        // Numbers are often written as text.
        (Value::String(text), Value::Number(other)) => {
            text.parse::<f64>().ok()?.partial_cmp(&other.as_f64()?)
        }
        (one, other) => (one == other).then_some(Ordering::Equal),
    }
}

/// `.a.b[0]["c d"]`, and what comes after it.
fn path(text: &str) -> Result<(Vec<Step>, &str), String> {
    let wrong = || format!("'{text}' does not begin with a path, such as .user.email or .items[0].id");
    let mut steps = Vec::new();
    let mut rest = text;
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-' || c == '$'));
            let (name, after) = after.split_at(end.unwrap_or(after.len()));
            match (name.is_empty(), after.starts_with('[')) {
                (false, _) => steps.push(Step::Field(name.to_owned())),
                (true, true) => {}
                // A lone dot is the value itself.
                (true, false) if steps.is_empty() => return Ok((steps, after)),
                (true, false) => return Err(wrong()),
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (inside, after) = match after.strip_prefix('"') {
                Some(quoted) => {
                    let (name, after) = quoted.split_once("\"]").ok_or_else(wrong)?;
                    (Step::Field(name.to_owned()), after)
                }
                None => {
                    let (number, after) = after.split_once(']').ok_or_else(wrong)?;
                    (Step::Item(number.trim().parse().map_err(|_| wrong())?), after)
                }
            };
            steps.push(inside);
            rest = after;
        } else if steps.is_empty() {
            return Err(wrong());
        } else {
            return Ok((steps, rest));
        }
    }
}

/// Whether a key is the one of a step; no key becomes a text of its own.
struct IsKey<'a>(&'a Step);

impl<'de> DeserializeSeed<'de> for IsKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(matches!(self.0, Step::Field(name) if name == key))
    }
}

/// Finds what is at the end of a path, and makes values of nothing else.
struct Descend<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Descend<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() {
            return serde::Deserialize::deserialize(deserializer).map(Some);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Descend<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_wanted) = map.next_key_seed(IsKey(&self.0[0]))? {
            match is_wanted {
                true => found = map.next_value_seed(Descend(&self.0[1..]))?,
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        if let Step::Item(at) = &self.0[0] {
            for _ in 0..*at {
                if items.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = items.next_element_seed(Descend(&self.0[1..]))?.flatten();
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(condition: &str, json: &str) -> bool {
        Condition::parse(condition).unwrap().holds(json.as_bytes())
    }

    #[test]
    fn conditions_hold_as_they_read() {
        let json = r#"{"a":{"b":[1,{"c":"x y"}]},"n":10,"t":"9","s":"paid","f":false,"z":null,"k k":2.5}"#;
        for condition in [
            ".a",
            ".a.b",
            ".a.b[1].c",
            ".a.b[0] = 1",
            ".a.b[1].c == \"x y\"",
            ".a.b[1].c = x y",
            ".n > 9",
            ".n >= 10",
            ".n<11",
            ".n <= 10",
            ".t < 10",
            ".s = paid",
            ".s ~ ai",
            ".s != open",
            ".nope != 1",
            ".[\"k k\"] = 2.5",
            "[\"k k\"] > 2",
            ".z = null",
            ".f = false",
            ".n = 10.0",
            ".a.b = [1,{\"c\":\"x y\"}]",
        ] {
            assert!(holds(condition, json), "{condition}");
        }
        for condition in [
            ".nope",
            ".f",
            ".z",
            ".a.b[2]",
            ".a.b.c",
            ".n > 10",
            ".n = x",
            ".s = pai",
            ".s ~ z",
            ".s != paid",
            ".n ~ 1",
            ".s[0]",
            ".s.t",
            ".s > 1",
        ] {
            assert!(!holds(condition, json), "{condition}");
        }
        assert!(holds(". > 3", "4") && !holds(". > 3", "4 5") && !holds(".", "no json"));
        for wrong in ["", "a", "a.b = 1", "..a", ".a.", ".a[x]", ".a[1", ".a ? 1"] {
            assert!(Condition::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_headers_and_text_have_to_fit_together() {
        let args = FilterArgs {
            key: Some("user-*-eu".to_owned()),
            headers: vec!["trace".to_owned(), "v=1".to_owned(), "w: 2=3".to_owned()],
            grep: vec!["hello".to_owned()],
            ..FilterArgs::default()
        };
        let filter = args.filter().unwrap();
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            vec![(b"v", Some(b"0")), (b"v", Some(b"1")), (b"trace", None), (b"w: 2", Some(b"3"))];
        let wants = |key: &str, value: &str, count: usize| {
            filter.wants(Some(key.as_bytes()), Some(value.as_bytes()), || headers[..count].iter().copied())
        };
        assert!(wants("user-7-eu", "say hello", 4));
        assert!(!wants("user-7-us", "say hello", 4) && !wants("user-eu", "say hello", 4));
        assert!(!wants("user-7-eu", "say hell", 4) && !wants("user-7-eu", "say hello", 2));
        assert!(FilterArgs::default().filter().is_none());
        let exact = FilterArgs { key: Some("a".to_owned()), ..FilterArgs::default() }.filter().unwrap();
        let none = std::iter::empty::<(&[u8], Option<&[u8]>)>;
        assert!(exact.wants(Some(b"a"), None, none) && !exact.wants(Some(b"aa"), None, none));
        assert!(!exact.wants(None, None, none));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in ".{0,30}", json: Vec<u8>) {
            if let Ok(condition) = Condition::parse(&text) {
                condition.holds(&json);
            }
        }
    }
}
