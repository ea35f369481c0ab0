//! `rpc.discover`: the catalog as an OpenRPC document, and message types as JSON Schema.

use std::collections::BTreeSet;

use buffa_descriptor::{DescriptorPool, FieldKind, MessageIndex, ScalarType, SingularKind};
use serde_json::{Map, Value, json};

use crate::rpc::catalog::{Catalog, Method};
use crate::rpc::stats;

/// The method that returns the document.
pub(super) const DISCOVER: &str = "rpc.discover";

/// The OpenRPC document of everything in `catalog`.
pub fn discover(catalog: &Catalog) -> Value {
    let methods = catalog.routes().map(|route| route.method.as_ref());
    let mut methods: Vec<&Method> = methods.filter(|method| method.service() != stats::SERVICE).collect();
    methods.sort_by(|a, b| a.path.cmp(&b.path));
    let mut schemas = Schemas { pool: catalog.schema().pool(), wanted: Vec::new(), seen: BTreeSet::new() };
    let methods: Vec<Value> = methods.into_iter().map(|method| schemas.method(method)).collect();
    let schemas = schemas.finish();
    json!({
        "openrpc": "1.3.2",
        "info": {"title": "bandy", "version": env!("CARGO_PKG_VERSION")},
        "methods": methods,
        "components": {"schemas": schemas},
    })
}

/// Collects the types that were referred to, so that each is described once.
struct Schemas<'a> {
    pool: &'a DescriptorPool,
    wanted: Vec<MessageIndex>,
    seen: BTreeSet<MessageIndex>,
}

impl Schemas<'_> {
    fn method(&mut self, method: &Method) -> Value {
        let input = self.named(method.input.full_name());
        let output = self.named(method.output.full_name());
        let params = if method.kind.client_streams() {
            // Every element of the params array is a message: OpenRPC has no word for "any number".
            json!([{"name": "messages", "schema": {"type": "array", "items": input}}])
        } else if method.input.full_name().starts_with("google.protobuf.") {
            json!([{"name": "value", "schema": input}])
        } else {
            let fields = method.input.descriptor().fields();
            let params = fields
                .iter()
                .map(|field| json!({"name": field.json_name(), "schema": self.field(field.kind())}));
            Value::Array(params.collect())
        };
        let result =
            if method.kind.server_streams() { json!({"type": "array", "items": output}) } else { output };
        json!({
            "name": method.path,
            "params": params,
            "result": {"name": method.output.full_name(), "schema": result},
            "x-call-id": method.id,
        })
    }

    fn named(&mut self, full_name: &str) -> Value {
        self.pool.message_index(full_name).map_or_else(|| json!({}), |index| self.message(index))
    }

    fn message(&mut self, index: MessageIndex) -> Value {
        let name = self.pool.message(index).full_name();
        if let Some(schema) = well_known(name) {
            return schema;
        }
        if self.seen.insert(index) {
            self.wanted.push(index);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn finish(mut self) -> Map<String, Value> {
        let mut schemas = Map::new();
        while let Some(index) = self.wanted.pop() {
            let pool = self.pool;
            let message = pool.message(index);
            let properties: Map<String, Value> = message
                .fields()
                .iter()
                .map(|field| (field.json_name().to_owned(), self.field(field.kind())))
                .collect();
            schemas
                .insert(message.full_name().to_owned(), json!({"type": "object", "properties": properties}));
        }
        schemas.sort_keys();
        schemas
    }

    fn field(&mut self, kind: FieldKind) -> Value {
        match kind {
            FieldKind::Singular(kind) => self.singular(kind),
            FieldKind::List(kind) => json!({"type": "array", "items": self.singular(kind)}),
            FieldKind::Map { value, .. } => {
                json!({"type": "object", "additionalProperties": self.singular(value)})
            }
        }
    }

    fn singular(&mut self, kind: SingularKind) -> Value {
        match kind {
            SingularKind::Scalar(scalar) => self::scalar(scalar),
            SingularKind::Enum(index) => {
                let names = self.pool.enumeration(index).values().iter().map(|value| value.name());
                json!({"enum": names.collect::<Vec<_>>()})
            }
            SingularKind::Message(index) => self.message(index),
        }
    }
}

fn scalar(scalar: ScalarType) -> Value {
    match scalar {
        ScalarType::Double | ScalarType::Float => json!({"type": ["number", "string"]}),
        ScalarType::Int32
        | ScalarType::Uint32
        | ScalarType::Sint32
        | ScalarType::Fixed32
        | ScalarType::Sfixed32 => json!({"type": "integer"}),
        // 64-bit numbers are strings in the JSON mapping; numbers are understood too.
        ScalarType::Int64
        | ScalarType::Uint64
        | ScalarType::Sint64
        | ScalarType::Fixed64
        | ScalarType::Sfixed64 => json!({"type": ["string", "integer"]}),
        ScalarType::Bool => json!({"type": "boolean"}),
        ScalarType::String => json!({"type": "string"}),
        ScalarType::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
    }
}

/// Types whose JSON is not an object of their fields.
fn well_known(full_name: &str) -> Option<Value> {
    Some(match full_name.strip_prefix("google.protobuf.")? {
        "DoubleValue" => scalar(ScalarType::Double),
        "FloatValue" => scalar(ScalarType::Float),
        "Int64Value" => scalar(ScalarType::Int64),
        "UInt64Value" => scalar(ScalarType::Uint64),
        "Int32Value" => scalar(ScalarType::Int32),
        "UInt32Value" => scalar(ScalarType::Uint32),
        "BoolValue" => scalar(ScalarType::Bool),
        "StringValue" => scalar(ScalarType::String),
        "BytesValue" => scalar(ScalarType::Bytes),
        "Value" => json!({}),
        "ListValue" => json!({"type": "array"}),
        "Struct" => json!({"type": "object"}),
        "Any" => json!({"type": "object", "required": ["@type"]}),
        "Timestamp" => json!({"type": "string", "format": "date-time"}),
        "Duration" | "FieldMask" => json!({"type": "string"}),
        _ => return None,
    })
}
