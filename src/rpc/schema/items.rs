//! `field=value` on a command line to a JSON message, led by the type.
//!
//! `name=Ada` is text, and becomes what the field is; `age:=5` is JSON; `a.b=1` goes into a message or a
//! map; a repeated field takes an item each time (`tags=x tags=y`, or `tags[]=x`) or a JSON list.

use buffa_descriptor::{EnumIndex, FieldKind, MessageIndex, ScalarType, SingularKind};
use serde_json::{Map, Value};

use super::MessageType;
use super::json::did_you_mean;

/// Parts of a path over which an item is refused.
const DEPTH_MAX: usize = 64;

impl MessageType {
    /// The JSON message that these items describe.
    ///
    /// # Errors
    /// An item that is none, a field that is not there, JSON that is wrong.
    pub fn json_from_items<S: AsRef<str>>(&self, items: &[S]) -> Result<String, String> {
        let mut message = Value::Object(Map::new());
        for item in items {
            let item = item.as_ref();
            let (path, given) = split(item)?;
            self.put(&mut message, self.index, &path, given).map_err(|error| format!("'{item}': {error}"))?;
        }
        Ok(message.to_string())
    }

    fn put(
        &self,
        into: &mut Value,
        index: MessageIndex,
        path: &[&str],
        given: Given<'_>,
    ) -> Result<(), String> {
        let descriptor = self.pool.message(index);
        let Some((first, rest)) = path.split_first() else { return Err("the field has no name".to_owned()) };
        if descriptor.full_name() == "google.protobuf.Struct" {
            return put_free(into, path, given);
        }
        let (name, appends) = first.strip_suffix("[]").map_or((*first, false), |name| (name, true));
        let field = descriptor.field_by_name(name).ok_or_else(|| {
            let near = did_you_mean(name, descriptor.fields().iter().map(|field| field.name()));
            format!("unknown field '{name}' in {}{near}", descriptor.full_name())
        })?;
        let slot = object(into)?.entry(field.json_name().to_owned());
        match field.kind() {
            FieldKind::Singular(_) if appends => Err(format!("'{name}' is not repeated")),
            FieldKind::Singular(kind) => self.put_value(slot.or_insert(Value::Null), kind, rest, given),
            FieldKind::List(kind) => {
                let Value::Array(list) = slot.or_insert_with(|| Value::Array(Vec::new())) else {
                    return Err(format!("'{name}' has been given as something else"));
                };
                if let (Given::Json(Value::Array(values)), false, true) = (&given, appends, rest.is_empty()) {
                    list.extend(values.iter().cloned());
                    return Ok(());
                }
                list.push(Value::Null);
                let last = list.len() - 1;
                self.put_value(&mut list[last], kind, rest, given)
            }
            FieldKind::Map { value: kind, .. } => {
                let map = slot.or_insert_with(|| Value::Object(Map::new()));
                match (rest.split_first(), given) {
                    (Some((key, rest)), given) => {
                        let slot = object(map)?.entry((*key).to_owned()).or_insert(Value::Null);
                        self.put_value(slot, kind, rest, given)
                    }
                    (None, Given::Json(value)) => {
                        *map = value;
                        Ok(())
                    }
                    (None, Given::Text(_)) => Err(format!("'{name}' is a map: {name}.KEY=VALUE")),
                }
            }
        }
    }

    fn put_value(
        &self,
        slot: &mut Value,
        kind: SingularKind,
        rest: &[&str],
        given: Given<'_>,
    ) -> Result<(), String> {
        if let (SingularKind::Message(index), false) = (kind, rest.is_empty()) {
            if slot.is_null() {
                *slot = Value::Object(Map::new());
            }
            return self.put(slot, index, rest, given);
        }
        if let Some(part) = rest.first() {
            return Err(format!("'{part}' would be a field of what has none"));
        }
        *slot = match given {
            Given::Json(value) => value,
            Given::Text(text) => self.text_value(kind, text)?,
        };
        Ok(())
    }

    /// Text as the JSON of its type. Numbers may stay text: the mapping takes both.
    fn text_value(&self, kind: SingularKind, text: &str) -> Result<Value, String> {
        use base64::Engine as _;
        match kind {
            SingularKind::Scalar(ScalarType::Bool) => match text {
                "true" => Ok(Value::Bool(true)),
                "false" => Ok(Value::Bool(false)),
                _ => Err(format!("expected true or false, got '{text}'")),
            },
            SingularKind::Scalar(ScalarType::Bytes) => {
                Ok(Value::String(base64::prelude::BASE64_STANDARD.encode(text)))
            }
            SingularKind::Scalar(_) => Ok(Value::String(text.to_owned())),
            SingularKind::Enum(index) => Ok(self.enum_value(index, text)),
            SingularKind::Message(index) => match self.pool.message(index).full_name() {
                "google.protobuf.BoolValue" => self.text_value(SingularKind::Scalar(ScalarType::Bool), text),
                "google.protobuf.BytesValue" => {
                    self.text_value(SingularKind::Scalar(ScalarType::Bytes), text)
                }
                name if name.starts_with("google.protobuf.") => Ok(Value::String(text.to_owned())),
                name => Err(format!("a {name} is not text: use FIELD.MEMBER=VALUE or FIELD:=JSON")),
            },
        }
    }

    fn enum_value(&self, index: EnumIndex, text: &str) -> Value {
        let is_name = self.pool.enumeration(index).value_by_name(text).is_some();
        match text.parse::<i32>() {
            Ok(number) if !is_name => Value::from(number),
            // An unknown name is reported, with the near one, when the message is converted.
            _ => Value::String(text.to_owned()),
        }
    }
}

#[derive(Clone)]
enum Given<'a> {
    Text(&'a str),
    Json(Value),
}

fn split(item: &str) -> Result<(Vec<&str>, Given<'_>), String> {
    let (name, text) =
        item.split_once('=').ok_or_else(|| format!("'{item}' is neither FIELD=TEXT nor FIELD:=JSON"))?;
    let (name, given) = match name.strip_suffix(':') {
        Some(name) => {
            let value = serde_json::from_str(text).map_err(|error| format!("'{item}': not JSON: {error}"))?;
            (name, Given::Json(value))
        }
        None => (name, Given::Text(text)),
    };
    let path: Vec<&str> = name.split('.').collect();
    if path.len() > DEPTH_MAX {
        return Err(format!("'{name}' has over {DEPTH_MAX} parts"));
    }
    Ok((path, given))
}

fn object(value: &mut Value) -> Result<&mut Map<String, Value>, String> {
    value.as_object_mut().ok_or_else(|| "it has been given as something else".to_owned())
}

/// Into a Struct, where every name is good.
fn put_free(into: &mut Value, path: &[&str], given: Given<'_>) -> Result<(), String> {
    let mut slot = into;
    for part in path {
        if slot.is_null() {
            *slot = Value::Object(Map::new());
        }
        slot = object(slot)?.entry((*part).to_owned()).or_insert(Value::Null);
    }
    *slot = match given {
        Given::Text(text) => Value::String(text.to_owned()),
        Given::Json(value) => value,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::rpc::schema::{Input, Schema};
    use crate::rpc::{Format, Payload};

    const PROTO: &str = r#"syntax = "proto3"; import "google/protobuf/struct.proto"; import "google/protobuf/timestamp.proto";
        message A { string name = 1; int32 age = 2; bool ok = 3; bytes data = 4; E e = 5; A child = 6; repeated string tags = 7;
          repeated A list = 8; map<string, int32> counts = 9; map<string, A> by = 10; google.protobuf.Struct free = 11;
          google.protobuf.Timestamp when = 12; int64 long_number = 13; }
        enum E { ZERO = 0; ONE = 1; }"#;

    fn message(items: &[&str]) -> Result<String, String> {
        let input = Input::Text { name: "a.proto".to_owned(), text: PROTO.to_owned() };
        let schema = Schema::compile_inputs(&[input], &[]).unwrap();
        let message = schema.message("A").unwrap();
        let json = message.json_from_items(items)?;
        message.convert(&Payload::json(json.clone()), Format::Proto).map_err(|status| status.message)?;
        Ok(json)
    }

    #[test]
    fn items_become_what_their_fields_are() {
        let cases: [(&[&str], &str); 11] = [
            (&[], "{}"),
            (&["name=Ada=Lovelace", "age=36"], r#"{"name":"Ada=Lovelace","age":"36"}"#),
            (&["ok=true", "data=hi", "e=ONE"], r#"{"ok":true,"data":"aGk=","e":"ONE"}"#),
            (&["age:=5", "e=1", "long_number=7"], r#"{"age":5,"e":1,"longNumber":"7"}"#),
            (&["child.child.name=x", "child.age=1"], r#"{"child":{"child":{"name":"x"},"age":"1"}}"#),
            (&["tags=a", "tags[]=b", r#"tags:=["c","d"]"#], r#"{"tags":["a","b","c","d"]}"#),
            (&[r#"list:={"age":1}"#, "list.name=x"], r#"{"list":[{"age":1},{"name":"x"}]}"#),
            (&["counts.a=1", "counts.b:=2"], r#"{"counts":{"a":"1","b":2}}"#),
            (&["by.k.name=x", "by.k.age=1"], r#"{"by":{"k":{"name":"x","age":"1"}}}"#),
            (&["free.a.b=1", "free.c:=true"], r#"{"free":{"a":{"b":"1"},"c":true}}"#),
            (&["when=2024-01-01T00:00:00Z", "name="], r#"{"when":"2024-01-01T00:00:00Z","name":""}"#),
        ];
        for (items, json) in cases {
            assert_eq!(message(items).unwrap(), json, "{items:?}");
        }
    }

    #[test]
    fn wrong_items_are_explained() {
        let cases = [
            ("name", "'name' is neither FIELD=TEXT nor FIELD:=JSON"),
            ("nmae=x", "'nmae=x': unknown field 'nmae' in A; did you mean 'name'?"),
            ("child=x", "'child=x': a A is not text: use FIELD.MEMBER=VALUE or FIELD:=JSON"),
            ("name.x=1", "'name.x=1': 'x' would be a field of what has none"),
            ("counts=1", "'counts=1': 'counts' is a map: counts.KEY=VALUE"),
            ("ok=yes", "'ok=yes': expected true or false, got 'yes'"),
            ("name[]=x", "'name[]=x': 'name' is not repeated"),
            ("age=x", "not a A: age: 'x' is not an integer, or out of range"),
        ];
        for (item, error) in cases {
            assert_eq!(message(&[item]).unwrap_err(), error, "{item}");
        }
    }
}
