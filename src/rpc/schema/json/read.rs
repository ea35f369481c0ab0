//! JSON text to protobuf bytes, led by the type; errors name the field and the name that was meant.

mod bytes;
mod well_known;

use std::collections::HashSet;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use buffa::editions::FieldPresence;
use buffa_descriptor::{
    DescriptorPool, EnumIndex, FieldDescriptor, FieldKind, MessageDescriptor, MessageIndex, ScalarType,
    SingularKind,
};

use super::parse::{Next, Parser};
use super::write::is_special;
use super::{ConvertError, JsonOptions, NESTING_MAX, did_you_mean, time};
use crate::rpc::schema::Schema;
use bytes::{base64, close, integer, map_key, put_bytes, put_number, put_tag, put_varint, wire_type};

/// Both alphabets, with or without padding, as the mapping asks of readers.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

pub struct Reader<'a> {
    pool: &'a DescriptorPool,
    options: &'a JsonOptions,
    json: Parser<'a>,
    depth: usize,
}

type Outcome = Result<(), ConvertError>;

/// Whether a value was written, or passed over.
#[derive(PartialEq, Eq)]
enum Written {
    Yes,
    No,
}

impl<'a> Reader<'a> {
    pub fn new(pool: &'a DescriptorPool, options: &'a JsonOptions, text: &'a str) -> Self {
        Self { pool, options, json: Parser::new(text), depth: 0 }
    }

    pub fn end(&mut self) -> Outcome {
        self.json.end()
    }

    pub fn message(&mut self, index: MessageIndex, out: &mut Vec<u8>) -> Outcome {
        if self.depth >= NESTING_MAX {
            return Err(ConvertError::new(format!("nested deeper than {NESTING_MAX} levels")));
        }
        self.depth += 1;
        let descriptor = self.pool.message(index);
        match descriptor.full_name().strip_prefix("google.protobuf.") {
            Some(name) if is_special(name) => self.well_known(name, descriptor, out)?,
            _ => self.object(index, descriptor, out, "")?,
        }
        self.depth -= 1;
        Ok(())
    }

    /// The members of an object as fields; a member called `ignored` is not one.
    fn object(
        &mut self,
        index: MessageIndex,
        descriptor: &'a MessageDescriptor,
        out: &mut Vec<u8>,
        ignored: &str,
    ) -> Outcome {
        let next = self.json.next()?;
        if next != Next::Object {
            return Err(ConvertError::new(format!("expected an object, got {}", next.name())));
        }
        self.json.expect(b'{')?;
        let mut seen = Seen::default();
        let mut oneofs: Vec<(u16, &str)> = Vec::new();
        let mut more = !self.json.take(b'}');
        while more {
            let key = self.json.string()?;
            self.json.expect(b':')?;
            if !ignored.is_empty() && key == ignored {
                self.json.skip(self.depth)?;
            } else if let Some(field) = self.field_named(index, descriptor, &key)? {
                if !seen.insert(field.number()) {
                    return Err(ConvertError::new("given twice").within(field.name()));
                }
                let written = self.field(field, out).map_err(|error| error.within(field.name()))?;
                if written == Written::Yes {
                    only_member(descriptor, field, &mut oneofs)?;
                }
            } else {
                self.json.skip(self.depth)?;
            }
            more = self.json.more(b'}')?;
        }
        Ok(())
    }

    /// `None`: unknown, and that is fine.
    fn field_named(
        &self,
        index: MessageIndex,
        descriptor: &'a MessageDescriptor,
        key: &str,
    ) -> Result<Option<&'a FieldDescriptor>, ConvertError> {
        let extension = key.strip_prefix('[').and_then(|key| key.strip_suffix(']'));
        let field = match extension {
            Some(name) => self
                .pool
                .extension_by_name(name)
                .filter(|extension| extension.extendee() == index)
                .map(buffa_descriptor::ExtensionDescriptor::field),
            None => descriptor.field_by_name(key),
        };
        if field.is_none() && !self.options.ignore_unknown {
            let names = descriptor.fields().iter().flat_map(|field| [field.name(), field.json_name()]);
            let near = did_you_mean(key, names);
            return Err(ConvertError::new(format!(
                "unknown field '{key}' in {}{near}",
                descriptor.full_name()
            )));
        }
        Ok(field)
    }

    fn field(&mut self, field: &'a FieldDescriptor, out: &mut Vec<u8>) -> Result<Written, ConvertError> {
        let takes_null = match field.kind() {
            FieldKind::Singular(SingularKind::Message(index)) => {
                self.pool.message(index).full_name() == "google.protobuf.Value"
            }
            FieldKind::Singular(SingularKind::Enum(index)) => {
                self.pool.enumeration(index).full_name() == "google.protobuf.NullValue"
            }
            FieldKind::Singular(SingularKind::Scalar(_)) | FieldKind::List(_) | FieldKind::Map { .. } => {
                false
            }
        };
        if !takes_null && self.json.next()? == Next::Null {
            self.json.word("null")?;
            return Ok(Written::No);
        }
        match field.kind() {
            FieldKind::Singular(kind) => self.singular_field(field, kind, out),
            FieldKind::List(kind) => self.list(field, kind, out).map(|()| Written::Yes),
            FieldKind::Map { key, value } => self.map(field, key, value, out).map(|()| Written::Yes),
        }
    }

    fn singular_field(
        &mut self,
        field: &'a FieldDescriptor,
        kind: SingularKind,
        out: &mut Vec<u8>,
    ) -> Result<Written, ConvertError> {
        let start = out.len();
        put_tag(out, field.number(), wire_type(kind, field.is_delimited()));
        if let SingularKind::Message(index) = kind {
            self.nested(field, index, out)?;
            return Ok(Written::Yes);
        }
        let value_at = out.len();
        let written = self.scalar_or_enum(kind, out)?;
        // Canonical: what has no presence and is the default is not sent.
        let is_default = out[value_at..].iter().all(|byte| *byte == 0);
        if written == Written::No || (field.presence() == FieldPresence::Implicit && is_default) {
            out.truncate(start);
        }
        Ok(written)
    }

    fn nested(&mut self, field: &FieldDescriptor, index: MessageIndex, out: &mut Vec<u8>) -> Outcome {
        if field.is_delimited() {
            self.message(index, out)?;
            put_tag(out, field.number(), 4);
            return Ok(());
        }
        let start = out.len();
        out.push(0);
        self.message(index, out)?;
        close(out, start);
        Ok(())
    }

    fn list(&mut self, field: &'a FieldDescriptor, kind: SingularKind, out: &mut Vec<u8>) -> Outcome {
        let next = self.json.next()?;
        if next != Next::Array {
            return Err(ConvertError::new(format!("expected a list, got {}", next.name())));
        }
        self.json.expect(b'[')?;
        let start = out.len();
        if field.is_packed() {
            put_tag(out, field.number(), 2);
        }
        let values = out.len();
        if field.is_packed() {
            out.push(0);
        }
        let mut count = 0usize;
        let mut more = !self.json.take(b']');
        while more {
            self.element(field, kind, out).map_err(|error| error.within(&format!("[{count}]")))?;
            count += 1;
            more = self.json.more(b']')?;
        }
        if field.is_packed() {
            if out.len() == values + 1 {
                out.truncate(start);
            } else {
                close(out, values);
            }
        }
        Ok(())
    }

    fn element(&mut self, field: &'a FieldDescriptor, kind: SingularKind, out: &mut Vec<u8>) -> Outcome {
        self.no_null(kind)?;
        let start = out.len();
        if !field.is_packed() {
            put_tag(out, field.number(), wire_type(kind, field.is_delimited()));
        }
        match kind {
            SingularKind::Message(index) => self.nested(field, index, out),
            SingularKind::Scalar(_) | SingularKind::Enum(_) => {
                if self.scalar_or_enum(kind, out)? == Written::No {
                    out.truncate(start);
                }
                Ok(())
            }
        }
    }

    /// Lists and maps have no place for null, except for the types that mean it.
    fn no_null(&mut self, kind: SingularKind) -> Outcome {
        if self.json.next()? != Next::Null {
            return Ok(());
        }
        let name = match kind {
            SingularKind::Message(index) => self.pool.message(index).full_name(),
            SingularKind::Enum(index) => self.pool.enumeration(index).full_name(),
            SingularKind::Scalar(_) => "",
        };
        if matches!(name, "google.protobuf.Value" | "google.protobuf.NullValue") {
            return Ok(());
        }
        Err(ConvertError::new("null is not allowed here"))
    }

    fn map(
        &mut self,
        field: &'a FieldDescriptor,
        key: ScalarType,
        kind: SingularKind,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let next = self.json.next()?;
        if next != Next::Object {
            return Err(ConvertError::new(format!("expected an object, got {}", next.name())));
        }
        self.json.expect(b'{')?;
        let mut seen = HashSet::new();
        let mut more = !self.json.take(b'}');
        while more {
            let name = self.json.string()?;
            self.json.expect(b':')?;
            let at = |error: ConvertError| error.within(&format!("[\"{name}\"]"));
            let entry = out.len();
            put_tag(out, field.number(), 2);
            let start = out.len();
            out.push(0);
            put_tag(out, 1, wire_type(SingularKind::Scalar(key), false));
            let key_at = out.len();
            map_key(key, &name, out).map_err(at)?;
            if !seen.insert(out[key_at..].to_vec()) {
                return Err(at(ConvertError::new("given twice")));
            }
            self.no_null(kind).map_err(at)?;
            put_tag(out, 2, wire_type(kind, false));
            let written = match kind {
                SingularKind::Message(index) => {
                    let value = out.len();
                    out.push(0);
                    self.message(index, out).map_err(at)?;
                    close(out, value);
                    Written::Yes
                }
                SingularKind::Scalar(_) | SingularKind::Enum(_) => {
                    self.scalar_or_enum(kind, out).map_err(at)?
                }
            };
            if written == Written::Yes {
                close(out, start);
            } else {
                out.truncate(entry);
            }
            more = self.json.more(b'}')?;
        }
        Ok(())
    }

    fn scalar_or_enum(&mut self, kind: SingularKind, out: &mut Vec<u8>) -> Result<Written, ConvertError> {
        match kind {
            SingularKind::Enum(index) => self.enumeration(index, out),
            SingularKind::Scalar(scalar) => self.scalar(scalar, out).map(|()| Written::Yes),
            SingularKind::Message(_) => Err(ConvertError::new("a message is no scalar")),
        }
    }

    fn scalar(&mut self, scalar: ScalarType, out: &mut Vec<u8>) -> Outcome {
        let next = self.json.next()?;
        match (scalar, next) {
            (ScalarType::Bool, Next::True) => self.json.word("true").map(|()| out.push(1)),
            (ScalarType::Bool, Next::False) => self.json.word("false").map(|()| out.push(0)),
            (ScalarType::String, Next::Text) => {
                let text = self.json.string()?;
                put_bytes(out, text.as_bytes());
                Ok(())
            }
            (ScalarType::Bytes, Next::Text) => {
                let text = self.json.string()?;
                put_bytes(out, &base64(&text)?);
                Ok(())
            }
            (ScalarType::Bool | ScalarType::String | ScalarType::Bytes, _) => {
                let wanted = match scalar {
                    ScalarType::Bool => "a boolean",
                    ScalarType::Bytes => "a string of base64",
                    _ => "a string",
                };
                Err(ConvertError::new(format!("expected {wanted}, got {}", next.name())))
            }
            (_, Next::Number) => put_number(scalar, self.json.number()?, out),
            (_, Next::Text) => put_number(scalar, &self.json.string()?, out),
            _ => Err(ConvertError::new(format!("expected a number, got {}", next.name()))),
        }
    }

    fn enumeration(&mut self, index: EnumIndex, out: &mut Vec<u8>) -> Result<Written, ConvertError> {
        let descriptor = self.pool.enumeration(index);
        let number = match self.json.next()? {
            Next::Null => {
                self.json.word("null")?;
                0
            }
            Next::Number => integer(self.json.number()?)?,
            Next::Text => {
                let name = self.json.string()?;
                match descriptor.value_by_name(&name) {
                    Some(value) => value.number(),
                    None if self.options.ignore_unknown => return Ok(Written::No),
                    None => {
                        let near = did_you_mean(&name, descriptor.values().iter().map(|value| value.name()));
                        let message = format!("no value '{name}' in {}{near}", descriptor.full_name());
                        return Err(ConvertError::new(message));
                    }
                }
            }
            other => {
                return Err(ConvertError::new(format!("expected the name of a value, got {}", other.name())));
            }
        };
        put_varint(out, i64::from(number).cast_unsigned());
        Ok(Written::Yes)
    }
}

/// Which fields have been there.
#[derive(Default)]
struct Seen {
    few: Vec<u32>,
    many: HashSet<u32>,
}

impl Seen {
    /// False if it was there.
    fn insert(&mut self, number: u32) -> bool {
        if self.few.len() < 32 {
            let new = !self.few.contains(&number);
            if new {
                self.few.push(number);
            }
            return new;
        }
        !self.few.contains(&number) && self.many.insert(number)
    }
}

fn only_member<'a>(
    descriptor: &'a MessageDescriptor,
    field: &'a FieldDescriptor,
    there: &mut Vec<(u16, &'a str)>,
) -> Outcome {
    let Some(oneof) = field.oneof_index() else { return Ok(()) };
    match there.iter().find(|(index, _)| *index == oneof) {
        Some((_, other)) => {
            let name = descriptor.oneofs().get(usize::from(oneof)).map_or("", |oneof| oneof.name());
            Err(ConvertError::new(format!("only one of '{name}' can be given, and '{other}' is"))
                .within(field.name()))
        }
        None => {
            there.push((oneof, field.name()));
            Ok(())
        }
    }
}
