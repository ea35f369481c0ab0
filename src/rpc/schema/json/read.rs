//! JSON text to protobuf bytes, led by the type; errors name the field and the name that was meant.

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

    fn well_known(&mut self, name: &str, descriptor: &'a MessageDescriptor, out: &mut Vec<u8>) -> Outcome {
        match name {
            "Timestamp" | "Duration" => {
                let text = self.expected_text()?;
                let (parsed, example) = match name {
                    "Timestamp" => (time::parse_timestamp(&text), "2026-11-23T07:00:00Z"),
                    _ => (time::parse_duration(&text), "1.5s"),
                };
                let (seconds, nanos) = parsed
                    .ok_or_else(|| ConvertError::new(format!("'{text}' is no {name}, such as {example}")))?;
                for (number, value) in [(1, seconds), (2, i64::from(nanos))] {
                    if value != 0 {
                        put_tag(out, number, 0);
                        put_varint(out, value.cast_unsigned());
                    }
                }
                Ok(())
            }
            "FieldMask" => {
                let text = self.expected_text()?;
                for path in text.split(',').filter(|path| !path.is_empty()) {
                    put_tag(out, 1, 2);
                    put_bytes(out, snake_path(path)?.as_bytes());
                }
                Ok(())
            }
            "Any" => self.any(out),
            "Value" => self.struct_value(descriptor, out),
            "Struct" | "ListValue" => {
                let field = descriptor.field(1).ok_or_else(|| foreign(name))?;
                match field.kind() {
                    FieldKind::Map { key, value } if name == "Struct" => self.map(field, key, value, out),
                    FieldKind::List(kind) if name == "ListValue" => self.list(field, kind, out),
                    FieldKind::Map { .. } | FieldKind::List(_) | FieldKind::Singular(_) => Err(foreign(name)),
                }
            }
            _ => {
                let field = descriptor.field(1).ok_or_else(|| foreign(name))?;
                match field.kind() {
                    FieldKind::Singular(kind @ SingularKind::Scalar(_)) => {
                        self.singular_field(field, kind, out).map(|_| ())
                    }
                    FieldKind::Singular(_) | FieldKind::List(_) | FieldKind::Map { .. } => Err(foreign(name)),
                }
            }
        }
    }

    fn expected_text(&mut self) -> Result<std::borrow::Cow<'a, str>, ConvertError> {
        match self.json.next()? {
            Next::Text => self.json.string(),
            other => Err(ConvertError::new(format!("expected a string, got {}", other.name()))),
        }
    }

    fn struct_value(&mut self, descriptor: &'a MessageDescriptor, out: &mut Vec<u8>) -> Outcome {
        let member = |number| match descriptor.field(number).map(|field| (field, field.kind())) {
            Some((field, FieldKind::Singular(SingularKind::Message(index)))) => Ok((field, index)),
            _ => Err(foreign("Value")),
        };
        match self.json.next()? {
            Next::Null => {
                self.json.word("null")?;
                put_tag(out, 1, 0);
                out.push(0);
            }
            Next::Number => {
                put_tag(out, 2, 1);
                self.scalar(ScalarType::Double, out)?;
            }
            Next::Text => {
                put_tag(out, 3, 2);
                self.scalar(ScalarType::String, out)?;
            }
            Next::True | Next::False => {
                put_tag(out, 4, 0);
                self.scalar(ScalarType::Bool, out)?;
            }
            next @ (Next::Object | Next::Array) => {
                let number = if next == Next::Object { 5 } else { 6 };
                let (field, index) = member(number)?;
                put_tag(out, number, 2);
                self.nested(field, index, out)?;
            }
        }
        Ok(())
    }

    fn any(&mut self, out: &mut Vec<u8>) -> Outcome {
        let url = {
            // The type may stand behind what it explains.
            let mut ahead = Reader { json: self.json.clone(), ..*self };
            ahead.type_url()?
        };
        let Some(url) = url else {
            self.json.expect(b'{')?;
            return self.json.expect(b'}').map_err(|_| ConvertError::new("an Any needs \"@type\""));
        };
        let name = url.rsplit('/').next().unwrap_or(&url);
        let standard = Schema::standard().pool();
        let known = self.pool.message_index(name).map(|index| (self.pool, index));
        let known = known.or_else(|| Some((&**standard, standard.message_index(name)?)));
        put_tag(out, 1, 2);
        put_bytes(out, url.as_bytes());
        let value_tag = out.len();
        put_tag(out, 2, 2);
        let start = out.len();
        out.push(0);
        match known {
            Some((pool, index)) => {
                let mut inner =
                    Reader { pool, options: self.options, json: self.json.clone(), depth: self.depth };
                let special = name.strip_prefix("google.protobuf.").is_some_and(is_special);
                if special {
                    inner.any_member(|reader| reader.message(index, out))?;
                } else {
                    inner.object(index, pool.message(index), out, "@type")?;
                }
                self.json = inner.json;
            }
            None => self.any_member(|reader| {
                let unknown = || {
                    ConvertError::new(format!("unknown type '{url}': give its bytes as base64 in \"value\""))
                };
                match reader.json.next()? {
                    Next::Text => out.extend_from_slice(&base64(&reader.json.string()?)?),
                    _ => return Err(unknown()),
                }
                Ok(())
            })?,
        }
        if out.len() == start + 1 {
            out.truncate(value_tag);
        } else {
            close(out, start);
        }
        Ok(())
    }

    fn type_url(&mut self) -> Result<Option<String>, ConvertError> {
        let next = self.json.next()?;
        if next != Next::Object {
            return Err(ConvertError::new(format!("expected an object, got {}", next.name())));
        }
        self.json.expect(b'{')?;
        let mut more = !self.json.take(b'}');
        while more {
            let key = self.json.string()?;
            self.json.expect(b':')?;
            if key == "@type" {
                return Ok(Some(self.expected_text()?.into_owned()));
            }
            self.json.skip(self.depth)?;
            more = self.json.more(b'}')?;
        }
        Ok(None)
    }

    /// `{"@type": …, "value": …}` in any order.
    fn any_member(&mut self, mut value: impl FnMut(&mut Self) -> Outcome) -> Outcome {
        self.json.expect(b'{')?;
        let mut more = !self.json.take(b'}');
        while more {
            let key = self.json.string()?;
            self.json.expect(b':')?;
            match &*key {
                "@type" => self.json.skip(self.depth)?,
                "value" => value(self).map_err(|error| error.within("value"))?,
                _ if self.options.ignore_unknown => self.json.skip(self.depth)?,
                _ => {
                    return Err(ConvertError::new(format!(
                        "unknown field '{key}' beside \"@type\" and \"value\""
                    )));
                }
            }
            more = self.json.more(b'}')?;
        }
        Ok(())
    }
}

fn foreign(name: &str) -> ConvertError {
    ConvertError::new(format!("this is not the real google.protobuf.{name}"))
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

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f).to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Puts the length of what follows the placeholder byte at `start` in its place.
fn close(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start - 1;
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out[start] = short;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, length as u64);
    out.splice(start..=start, prefix);
}

fn wire_type(kind: SingularKind, delimited: bool) -> u8 {
    use ScalarType as S;
    match kind {
        SingularKind::Message(_) if delimited => 3,
        SingularKind::Message(_) | SingularKind::Scalar(S::String | S::Bytes) => 2,
        SingularKind::Scalar(S::Double | S::Fixed64 | S::Sfixed64) => 1,
        SingularKind::Scalar(S::Float | S::Fixed32 | S::Sfixed32) => 5,
        SingularKind::Scalar(_) | SingularKind::Enum(_) => 0,
    }
}

fn map_key(key: ScalarType, name: &str, out: &mut Vec<u8>) -> Outcome {
    match key {
        ScalarType::String => put_bytes(out, name.as_bytes()),
        ScalarType::Bool => match name {
            "true" => out.push(1),
            "false" => out.push(0),
            _ => return Err(ConvertError::new("expected true or false")),
        },
        _ => return put_number(key, name, out),
    }
    Ok(())
}

fn put_number(scalar: ScalarType, text: &str, out: &mut Vec<u8>) -> Outcome {
    use ScalarType as S;
    match scalar {
        S::Double => out.extend_from_slice(&float(text)?.to_le_bytes()),
        S::Float => {
            let wide = float(text)?;
            #[expect(clippy::cast_possible_truncation, reason = "a float is the double rounded")]
            let narrow = wide as f32;
            if narrow.is_infinite() && wide.is_finite() {
                return Err(ConvertError::new(format!("{text} is too large for a float")));
            }
            out.extend_from_slice(&narrow.to_le_bytes());
        }
        S::Int32 => put_varint(out, i64::from(integer::<i32>(text)?).cast_unsigned()),
        S::Int64 => put_varint(out, integer::<i64>(text)?.cast_unsigned()),
        S::Uint32 => put_varint(out, integer::<u32>(text)?.into()),
        S::Uint64 => put_varint(out, integer::<u64>(text)?),
        S::Sint32 => {
            let number = integer::<i32>(text)?;
            put_varint(out, ((number << 1) ^ (number >> 31)).cast_unsigned().into());
        }
        S::Sint64 => {
            let number = integer::<i64>(text)?;
            put_varint(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
        }
        S::Fixed32 => out.extend_from_slice(&integer::<u32>(text)?.to_le_bytes()),
        S::Sfixed32 => out.extend_from_slice(&integer::<i32>(text)?.to_le_bytes()),
        S::Fixed64 => out.extend_from_slice(&integer::<u64>(text)?.to_le_bytes()),
        S::Sfixed64 => out.extend_from_slice(&integer::<i64>(text)?.to_le_bytes()),
        S::Bool | S::String | S::Bytes => return Err(ConvertError::new("not a number type")),
    }
    Ok(())
}

/// An integer in any way JSON writes one: `12`, `1.2e1`, `12.0`.
fn integer<T: std::str::FromStr + TryFrom<i128>>(text: &str) -> Result<T, ConvertError> {
    // Rust also parses `+1`, which JSON does not have.
    if let Some(number) = text.parse().ok().filter(|_| !text.starts_with('+')) {
        return Ok(number);
    }
    let wrong = || ConvertError::new(format!("'{text}' is not an integer, or out of range"));
    if !text.contains(['.', 'e', 'E']) {
        return Err(wrong());
    }
    let number = float(text)?;
    if number.fract() != 0.0 || number.abs() >= 2f64.powi(64) {
        return Err(wrong());
    }
    #[expect(clippy::cast_possible_truncation, reason = "integral and under 2^64")]
    T::try_from(number as i128).map_err(|_| wrong())
}

fn float(text: &str) -> Result<f64, ConvertError> {
    match text {
        "NaN" => return Ok(f64::NAN),
        "Infinity" => return Ok(f64::INFINITY),
        "-Infinity" => return Ok(f64::NEG_INFINITY),
        _ => {}
    }
    let wrong = || ConvertError::new(format!("'{text}' is not a number"));
    // Rust parses words and signs that JSON does not have.
    if !text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        || text.ends_with(['n', 'N', 'f', 'F', 'y', 'Y'])
    {
        return Err(wrong());
    }
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if number.is_infinite() {
        return Err(ConvertError::new(format!("{text} is too large for a double")));
    }
    Ok(number)
}

fn base64(text: &str) -> Result<Vec<u8>, ConvertError> {
    let engine = if text.contains(['-', '_']) { &BASE64_URL } else { &BASE64 };
    engine.decode(text).map_err(|error| ConvertError::new(format!("not base64: {error}")))
}

/// `aB.c` as `a_b.c`.
fn snake_path(path: &str) -> Result<String, ConvertError> {
    let mut snake = String::with_capacity(path.len() + 4);
    for c in path.chars() {
        if c == '_' {
            return Err(ConvertError::new(format!("path '{path}' is not in lowerCamelCase")));
        }
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    Ok(snake)
}
