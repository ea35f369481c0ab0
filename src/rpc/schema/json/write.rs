//! Protobuf bytes to JSON bytes.
//!
//! A message is scanned once for where its fields are, then its fields are written in the order of their
//! declaration. What the wire leaves to the reader (last value wins, pieces of a message are merged,
//! packed or not) is decided here.

mod scalar;
mod well_known;

use std::borrow::Cow;
use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use buffa::editions::{EnumType, FieldPresence};
use buffa_descriptor::{
    DescriptorPool, EnumIndex, FieldDescriptor, FieldKind, MessageDescriptor, MessageIndex, ScalarType,
    SingularKind,
};

use super::{ConvertError, JsonOptions, NESTING_MAX, time};
use crate::rpc::schema::Schema;
use crate::rpc::schema::raw::{Entry, Value, scan};

pub struct Writer<'a> {
    pool: &'a DescriptorPool,
    options: &'a JsonOptions,
    out: Vec<u8>,
    depth: usize,
}

type Outcome = Result<(), ConvertError>;

impl<'a> Writer<'a> {
    pub fn new(pool: &'a DescriptorPool, options: &'a JsonOptions, size: usize) -> Self {
        Self { pool, options, out: Vec::with_capacity(size * 2 + 16), depth: 0 }
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    pub fn message(&mut self, index: MessageIndex, bytes: &[u8]) -> Outcome {
        if self.depth >= NESTING_MAX {
            return Err(ConvertError::new(format!("nested deeper than {NESTING_MAX} levels")));
        }
        self.depth += 1;
        let entries = scan(bytes).map_err(ConvertError::new)?;
        let descriptor = self.pool.message(index);
        match descriptor.full_name().strip_prefix("google.protobuf.") {
            Some(name) if is_special(name) => self.well_known(name, descriptor, &entries)?,
            _ => {
                self.out.push(b'{');
                self.fields(index, descriptor, entries, true)?;
                self.out.push(b'}');
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// The members of the object, without its braces.
    fn fields(
        &mut self,
        index: MessageIndex,
        descriptor: &MessageDescriptor,
        mut entries: Vec<Entry<'_>>,
        mut first: bool,
    ) -> Outcome {
        let winners = oneof_winners(descriptor, &entries);
        if !entries.is_sorted_by_key(|entry| entry.number) {
            entries.sort_by_key(|entry| entry.number);
        }
        for field in descriptor.fields() {
            let lost = match field.oneof_index().and_then(|oneof| winners.get(usize::from(oneof))) {
                Some(winner) => *winner != field.number(),
                None => false,
            };
            let found = if lost { &[][..] } else { entries_of(&entries, field.number()) };
            let name = if self.options.proto_names { field.name() } else { field.json_name() };
            self.field(field, name, found, &mut first)?;
        }
        if !descriptor.extension_ranges().is_empty() {
            let pool = self.pool;
            for extension in pool.extensions_of(index) {
                let found = entries_of(&entries, extension.field().number());
                if !found.is_empty() {
                    self.field(extension.field(), extension.json_key(), found, &mut first)?;
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &FieldDescriptor,
        name: &str,
        found: &[Entry<'_>],
        first: &mut bool,
    ) -> Outcome {
        let start = self.out.len();
        if !*first {
            self.out.push(b',');
        }
        // Names come from a schema that may be a peer's: they are escaped like any text.
        self.text(name);
        self.out.push(b':');
        let written = self.value(field, found).map_err(|error| error.within(field.name()))?;
        if written {
            *first = false;
        } else {
            self.out.truncate(start);
        }
        Ok(())
    }

    /// False if there is nothing to write.
    fn value(&mut self, field: &FieldDescriptor, found: &[Entry<'_>]) -> Result<bool, ConvertError> {
        match field.kind() {
            FieldKind::Singular(kind) => self.singular_field(field, kind, found),
            FieldKind::List(kind) => {
                self.out.push(b'[');
                let any = self.list(field, kind, found)?;
                self.out.push(b']');
                Ok(any || self.options.emit_defaults)
            }
            FieldKind::Map { key, value } => {
                self.out.push(b'{');
                let any = self.map(key, value, found)?;
                self.out.push(b'}');
                Ok(any || self.options.emit_defaults)
            }
        }
    }

    fn singular_field(
        &mut self,
        field: &FieldDescriptor,
        kind: SingularKind,
        found: &[Entry<'_>],
    ) -> Result<bool, ConvertError> {
        if let SingularKind::Message(index) = kind {
            return match merged(found) {
                Some(bytes) => self.message(index, &bytes).map(|()| true),
                None => Ok(false),
            };
        }
        let implicit = field.presence() == FieldPresence::Implicit;
        let fits = |entry: &&Entry<'_>| self.fits(kind, field.enum_type(), &entry.value);
        match found.iter().rev().find(fits) {
            Some(entry) if implicit && !self.options.emit_defaults && is_zero(&entry.value) => Ok(false),
            Some(entry) => self.singular(kind, &entry.value).map(|()| true),
            None if implicit && self.options.emit_defaults => self.default(kind).map(|()| true),
            None => Ok(false),
        }
    }

    fn default(&mut self, kind: SingularKind) -> Outcome {
        let zero = match kind {
            SingularKind::Scalar(ScalarType::String | ScalarType::Bytes) => Value::Bytes(&[]),
            SingularKind::Scalar(ScalarType::Double) => Value::Fixed64(0),
            SingularKind::Scalar(ScalarType::Float) => Value::Fixed32(0),
            SingularKind::Scalar(_) | SingularKind::Enum(_) | SingularKind::Message(_) => Value::Varint(0),
        };
        self.singular(kind, &zero)
    }

    fn list(
        &mut self,
        field: &FieldDescriptor,
        kind: SingularKind,
        found: &[Entry<'_>],
    ) -> Result<bool, ConvertError> {
        let mut count = 0usize;
        for entry in found {
            if let (SingularKind::Message(index), Value::Bytes(bytes) | Value::Group(bytes)) =
                (kind, &entry.value)
            {
                self.comma(&mut count);
                self.message(index, bytes).map_err(|error| error.within(&format!("[{}]", count - 1)))?;
                continue;
            }
            match (packable(kind), &entry.value) {
                (Some(packable), Value::Bytes(bytes)) => {
                    let mut rest = *bytes;
                    while !rest.is_empty() {
                        let value = packable.take(&mut rest).map_err(ConvertError::new)?;
                        if self.fits(kind, field.enum_type(), &value) {
                            self.comma(&mut count);
                            self.singular(kind, &value)?;
                        }
                    }
                }
                (_, value) if self.fits(kind, field.enum_type(), value) => {
                    self.comma(&mut count);
                    self.singular(kind, value).map_err(|error| error.within(&format!("[{}]", count - 1)))?;
                }
                _ => {}
            }
        }
        Ok(count > 0)
    }

    fn comma(&mut self, count: &mut usize) {
        if *count > 0 {
            self.out.push(b',');
        }
        *count += 1;
    }

    fn map(
        &mut self,
        key: ScalarType,
        kind: SingularKind,
        found: &[Entry<'_>],
    ) -> Result<bool, ConvertError> {
        let as_numbers = JsonOptions { int64_numbers: true, ..JsonOptions::default() };
        let mut items = Vec::with_capacity(found.len());
        for entry in found {
            let (Value::Bytes(bytes) | Value::Group(bytes)) = entry.value else { continue };
            let fields = scan(bytes).map_err(ConvertError::new)?;
            let mut name = Writer::new(self.pool, &as_numbers, 8);
            let key_kind = SingularKind::Scalar(key);
            match fields.iter().rev().find(|f| f.number == 1 && self.fits(key_kind, None, &f.value)) {
                Some(field) => name.singular(key_kind, &field.value)?,
                None => name.default(key_kind)?,
            }
            items.push((name.out, fields));
        }
        // The last entry of a key wins; the order is the wire's.
        let mut last = std::collections::HashMap::with_capacity(items.len());
        for (position, (name, _)) in items.iter().enumerate() {
            last.insert(name.as_slice(), position);
        }
        let mut count = 0;
        for (position, (name, fields)) in items.iter().enumerate() {
            if last[name.as_slice()] != position {
                continue;
            }
            let start = self.out.len();
            self.comma(&mut count);
            if name.first() == Some(&b'"') {
                self.out.extend_from_slice(name);
            } else {
                self.out.push(b'"');
                self.out.extend_from_slice(name);
                self.out.push(b'"');
            }
            self.out.push(b':');
            let values: Vec<Entry<'_>> = fields.iter().filter(|field| field.number == 2).copied().collect();
            let written = match kind {
                SingularKind::Message(index) => {
                    self.message(index, &merged(&values).unwrap_or_default()).map(|()| true)
                }
                _ => match values.iter().rev().find(|field| self.fits(kind, None, &field.value)) {
                    Some(field) => self.singular(kind, &field.value).map(|()| true),
                    // Of a closed enum and unknown: the entry as a whole is unknown.
                    None if !values.is_empty() => Ok(false),
                    None => self.default(kind).map(|()| true),
                },
            };
            if !written.map_err(|error| error.within(&format!("[{}]", String::from_utf8_lossy(name))))? {
                self.out.truncate(start);
                count -= 1;
            }
        }
        Ok(count > 0)
    }

    /// True if the value's wire type is right; of a closed enum, also if it is one of its values.
    fn fits(&self, kind: SingularKind, enum_type: Option<EnumType>, value: &Value<'_>) -> bool {
        use ScalarType as S;
        match (kind, value) {
            (SingularKind::Enum(index), Value::Varint(number)) => {
                let descriptor = self.pool.enumeration(index);
                enum_type.unwrap_or_else(|| descriptor.enum_type()) == EnumType::Open
                    || descriptor.value(truncated(*number)).is_some()
            }
            (SingularKind::Enum(_), _) => false,
            (SingularKind::Message(_), value) => matches!(value, Value::Bytes(_) | Value::Group(_)),
            (SingularKind::Scalar(S::String | S::Bytes), value) => matches!(value, Value::Bytes(_)),
            (SingularKind::Scalar(S::Double | S::Fixed64 | S::Sfixed64), value) => {
                matches!(value, Value::Fixed64(_))
            }
            (SingularKind::Scalar(S::Float | S::Fixed32 | S::Sfixed32), value) => {
                matches!(value, Value::Fixed32(_))
            }
            (SingularKind::Scalar(_), value) => matches!(value, Value::Varint(_)),
        }
    }

    fn singular(&mut self, kind: SingularKind, value: &Value<'_>) -> Outcome {
        match (kind, *value) {
            (SingularKind::Scalar(scalar), Value::Varint(number)) => self.integer(scalar, number),
            (SingularKind::Scalar(ScalarType::Double), Value::Fixed64(bits)) => {
                self.double(f64::from_bits(bits))
            }
            (SingularKind::Scalar(ScalarType::Float), Value::Fixed32(bits)) => {
                self.float(f32::from_bits(bits))
            }
            (SingularKind::Scalar(scalar), Value::Fixed64(bits)) => self.integer(scalar, bits),
            (SingularKind::Scalar(scalar), Value::Fixed32(bits)) => self.integer(scalar, bits.into()),
            (SingularKind::Scalar(ScalarType::Bytes), Value::Bytes(bytes)) => self.base64(bytes),
            (SingularKind::Scalar(_), Value::Bytes(bytes)) => {
                let text =
                    std::str::from_utf8(bytes).map_err(|_| ConvertError::new("the text is not UTF-8"))?;
                self.text(text);
            }
            (SingularKind::Enum(index), Value::Varint(number)) => self.enumeration(index, truncated(number)),
            (SingularKind::Message(index), Value::Bytes(bytes) | Value::Group(bytes)) => {
                return self.message(index, bytes);
            }
            // Callers ask fits() first.
            (SingularKind::Scalar(_) | SingularKind::Enum(_) | SingularKind::Message(_), _) => {
                self.out.extend_from_slice(b"null");
            }
        }
        Ok(())
    }
}

/// Types with a JSON form of their own; `Empty` has the ordinary one.
pub fn is_special(name: &str) -> bool {
    matches!(
        name,
        "Any"
            | "Timestamp"
            | "Duration"
            | "FieldMask"
            | "Struct"
            | "Value"
            | "ListValue"
            | "DoubleValue"
            | "FloatValue"
            | "Int64Value"
            | "UInt64Value"
            | "Int32Value"
            | "UInt32Value"
            | "BoolValue"
            | "StringValue"
            | "BytesValue"
    )
}

/// Per oneof, the number of the member that came last; zero if none did.
fn oneof_winners(descriptor: &MessageDescriptor, entries: &[Entry<'_>]) -> Vec<u32> {
    if descriptor.oneofs().iter().all(buffa_descriptor::OneofDescriptor::is_synthetic) {
        return Vec::new();
    }
    let mut winners = vec![0; descriptor.oneofs().len()];
    for entry in entries {
        if let Some(oneof) = descriptor.field(entry.number).and_then(FieldDescriptor::oneof_index) {
            winners[usize::from(oneof)] = entry.number;
        }
    }
    winners
}

fn entries_of<'e, 'a>(sorted: &'e [Entry<'a>], number: u32) -> &'e [Entry<'a>] {
    let start = sorted.partition_point(|entry| entry.number < number);
    let length = sorted[start..].partition_point(|entry| entry.number == number);
    &sorted[start..start + length]
}

/// Pieces of one message: merging them is putting them one after the other.
fn merged<'a>(found: &[Entry<'a>]) -> Option<Cow<'a, [u8]>> {
    let mut pieces = found.iter().filter_map(|entry| match entry.value {
        Value::Bytes(bytes) | Value::Group(bytes) => Some(bytes),
        Value::Varint(_) | Value::Fixed32(_) | Value::Fixed64(_) => None,
    });
    let first = pieces.next()?;
    Some(pieces.fold(Cow::Borrowed(first), |mut all, piece| {
        all.to_mut().extend_from_slice(piece);
        all
    }))
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Varint(bits) | Value::Fixed64(bits) => *bits == 0,
        Value::Fixed32(bits) => *bits == 0,
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Group(_) => false,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "protobuf cuts 32-bit values off at 32 bits")]
fn truncated(bits: u64) -> i32 {
    (bits as u32).cast_signed()
}

fn varint(entries: &[Entry<'_>], number: u32) -> u64 {
    let last = entries.iter().rev().find_map(|entry| match entry.value {
        Value::Varint(bits) if entry.number == number => Some(bits),
        _ => None,
    });
    last.unwrap_or(0)
}

/// The wire type inside a packed list.
#[derive(Clone, Copy)]
enum Packable {
    Varint,
    Fixed32,
    Fixed64,
}

fn packable(kind: SingularKind) -> Option<Packable> {
    use ScalarType as S;
    match kind {
        SingularKind::Message(_) | SingularKind::Scalar(S::String | S::Bytes) => None,
        SingularKind::Scalar(S::Double | S::Fixed64 | S::Sfixed64) => Some(Packable::Fixed64),
        SingularKind::Scalar(S::Float | S::Fixed32 | S::Sfixed32) => Some(Packable::Fixed32),
        SingularKind::Scalar(_) | SingularKind::Enum(_) => Some(Packable::Varint),
    }
}

impl Packable {
    fn take<'a>(self, rest: &mut &'a [u8]) -> Result<Value<'a>, String> {
        use crate::rpc::schema::raw::{take_array, take_varint};
        Ok(match self {
            Self::Varint => Value::Varint(take_varint(rest)?),
            Self::Fixed32 => Value::Fixed32(u32::from_le_bytes(take_array(rest)?)),
            Self::Fixed64 => Value::Fixed64(u64::from_le_bytes(take_array(rest)?)),
        })
    }
}
