//! What a message looks like: an example to fill in, and a JSON Schema.

use std::collections::BTreeMap;

use buffa_descriptor::{FieldKind, MessageIndex, ScalarType, SingularKind};
use serde_json::{Map, Value, json};

use super::MessageType;

/// Messages within messages that an example shows.
const EXAMPLE_NESTING_MAX: usize = 6;
/// Messages that an example shows: types that refer to each other many times would multiply.
const EXAMPLE_MESSAGES_MAX: usize = 1000;

/// Where an example has got to.
#[derive(Default)]
struct Progress {
    /// The types around the current place.
    above: Vec<MessageIndex>,
    messages: usize,
}

impl MessageType {
    /// A message with every field, to be edited: of a oneof its first member, of lists and maps one
    /// element. A type within itself is left out.
    pub fn example(&self) -> Value {
        self.example_of(self.index, &mut Progress::default())
    }

    fn example_of(&self, index: MessageIndex, progress: &mut Progress) -> Value {
        let descriptor = self.pool.message(index);
        if let Some(value) = well_known_example(descriptor.full_name()) {
            return value;
        }
        progress.above.push(index);
        progress.messages += 1;
        let mut object = Map::new();
        let mut oneofs = Vec::new();
        for field in descriptor.fields() {
            if let Some(oneof) = field.oneof_index() {
                if oneofs.contains(&oneof) {
                    continue;
                }
                oneofs.push(oneof);
            }
            let value = match field.kind() {
                FieldKind::Singular(kind) => self.example_value(kind, progress),
                FieldKind::List(kind) => self.example_value(kind, progress).map(|value| json!([value])),
                FieldKind::Map { key, value } => self.example_value(value, progress).map(|value| {
                    let key = match key {
                        ScalarType::String => "key",
                        ScalarType::Bool => "true",
                        _ => "0",
                    };
                    json!({ key: value })
                }),
            };
            if let Some(value) = value {
                object.insert(field.json_name().to_owned(), value);
            }
        }
        progress.above.pop();
        Value::Object(object)
    }

    fn example_value(&self, kind: SingularKind, progress: &mut Progress) -> Option<Value> {
        match kind {
            SingularKind::Message(index)
                if progress.above.contains(&index)
                    || progress.above.len() >= EXAMPLE_NESTING_MAX
                    || progress.messages >= EXAMPLE_MESSAGES_MAX =>
            {
                None
            }
            SingularKind::Message(index) => Some(self.example_of(index, progress)),
            SingularKind::Enum(index) => Some(
                self.pool.enumeration(index).values().first().map_or(json!(0), |value| json!(value.name())),
            ),
            SingularKind::Scalar(scalar) => Some(match scalar {
                ScalarType::Bool => json!(false),
                ScalarType::String | ScalarType::Bytes => json!(""),
                ScalarType::Int64
                | ScalarType::Uint64
                | ScalarType::Sint64
                | ScalarType::Fixed64
                | ScalarType::Sfixed64 => {
                    json!("0")
                }
                _ => json!(0),
            }),
        }
    }

    /// A JSON Schema (draft 2020-12) of the message's JSON form.
    pub fn json_schema(&self) -> Value {
        let mut definitions: BTreeMap<String, Value> = BTreeMap::new();
        let mut open = vec![self.index];
        while let Some(index) = open.pop() {
            let descriptor = self.pool.message(index);
            if definitions.contains_key(descriptor.full_name()) {
                continue;
            }
            let definition = match well_known_schema(descriptor.full_name()) {
                Some(schema) => schema,
                None => self.object_schema(index, &mut open),
            };
            definitions.insert(descriptor.full_name().to_owned(), definition);
        }
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$ref": reference(self.full_name()),
            "$defs": definitions,
        })
    }

    fn object_schema(&self, index: MessageIndex, open: &mut Vec<MessageIndex>) -> Value {
        let descriptor = self.pool.message(index);
        let mut properties = Map::new();
        for field in descriptor.fields() {
            let schema = match field.kind() {
                FieldKind::Singular(kind) => self.value_schema(kind, open),
                FieldKind::List(kind) => json!({ "type": "array", "items": self.value_schema(kind, open) }),
                FieldKind::Map { value, .. } => {
                    json!({ "type": "object", "additionalProperties": self.value_schema(value, open) })
                }
            };
            properties.insert(field.json_name().to_owned(), schema);
        }
        json!({ "type": "object", "properties": properties, "additionalProperties": false })
    }

    fn value_schema(&self, kind: SingularKind, open: &mut Vec<MessageIndex>) -> Value {
        use ScalarType as S;
        match kind {
            SingularKind::Message(index) => {
                open.push(index);
                json!({ "$ref": reference(self.pool.message(index).full_name()) })
            }
            SingularKind::Enum(index) => {
                let names: Vec<&str> =
                    self.pool.enumeration(index).values().iter().map(|value| value.name()).collect();
                json!({ "enum": names })
            }
            SingularKind::Scalar(S::Bool) => json!({ "type": "boolean" }),
            SingularKind::Scalar(S::String) => json!({ "type": "string" }),
            SingularKind::Scalar(S::Bytes) => json!({ "type": "string", "contentEncoding": "base64" }),
            SingularKind::Scalar(S::Int32 | S::Sint32 | S::Sfixed32) => {
                json!({ "type": "integer", "minimum": i32::MIN, "maximum": i32::MAX })
            }
            SingularKind::Scalar(S::Uint32 | S::Fixed32) => {
                json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
            }
            SingularKind::Scalar(S::Double | S::Float) => {
                json!({ "anyOf": [{ "type": "number" }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
            }
            SingularKind::Scalar(S::Int64 | S::Uint64 | S::Sint64 | S::Fixed64 | S::Sfixed64) => {
                json!({ "type": ["string", "integer"], "pattern": "^-?[0-9]+$" })
            }
        }
    }
}

fn reference(full_name: &str) -> String {
    format!("#/$defs/{full_name}")
}

fn well_known_example(full_name: &str) -> Option<Value> {
    Some(match full_name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!("1970-01-01T00:00:00Z"),
        "Duration" => json!("0s"),
        "FieldMask" | "StringValue" | "BytesValue" => json!(""),
        "Any" => json!({ "@type": "type.googleapis.com/google.protobuf.Empty" }),
        "Struct" | "Empty" => json!({}),
        "Value" => Value::Null,
        "ListValue" => json!([]),
        "BoolValue" => json!(false),
        "Int64Value" | "UInt64Value" => json!("0"),
        "DoubleValue" | "FloatValue" | "Int32Value" | "UInt32Value" => json!(0),
        _ => return None,
    })
}

fn well_known_schema(full_name: &str) -> Option<Value> {
    Some(match full_name.strip_prefix("google.protobuf.")? {
        "Timestamp" => json!({ "type": "string", "format": "date-time" }),
        "Duration" => json!({ "type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$" }),
        "FieldMask" | "StringValue" => json!({ "type": "string" }),
        "BytesValue" => json!({ "type": "string", "contentEncoding": "base64" }),
        "Any" => {
            json!({ "type": "object", "properties": { "@type": { "type": "string" } }, "required": ["@type"] })
        }
        "Struct" => json!({ "type": "object" }),
        "Value" => json!(true),
        "ListValue" => json!({ "type": "array" }),
        "BoolValue" => json!({ "type": "boolean" }),
        "Int64Value" | "UInt64Value" => json!({ "type": ["string", "integer"], "pattern": "^-?[0-9]+$" }),
        "DoubleValue" | "FloatValue" => json!({ "type": ["number", "string"] }),
        "Int32Value" | "UInt32Value" => json!({ "type": "integer" }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::rpc::schema::{Input, Schema};
    use crate::rpc::{Format, Payload};

    const PROTO: &str = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
        message A { string s = 1; repeated A children = 2; B b = 3; map<string, B> bs = 4; oneof o { int64 x = 5; bool y = 6; }
        google.protobuf.Timestamp t = 7; }
        message B { enum E { ZERO = 0; } E e = 1; A back = 2; bytes data = 3; }"#;

    fn schema() -> Schema {
        Schema::compile_inputs(&[Input::Text { name: "a.proto".to_owned(), text: PROTO.to_owned() }], &[])
            .unwrap()
    }

    #[test]
    fn an_example_is_a_message_and_ends_where_types_repeat() {
        let message = schema().message("A").unwrap();
        let example = message.example().to_string();
        let b = r#"{"e":"ZERO","data":""}"#;
        let expected = format!(r#"{{"s":"","b":{b},"bs":{{"key":{b}}},"x":"0","t":"1970-01-01T00:00:00Z"}}"#);
        assert_eq!(example, expected);
        message.convert(&Payload::json(example), Format::Proto).unwrap();
    }

    #[test]
    fn a_json_schema_defines_each_type_once() {
        let value = schema().message("A").unwrap().json_schema();
        assert_eq!(value["$ref"], "#/$defs/A");
        let names: Vec<&String> = value["$defs"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["A", "B", "google.protobuf.Timestamp"]);
        assert_eq!(value["$defs"]["B"]["properties"]["e"], serde_json::json!({ "enum": ["ZERO"] }));
    }
}
