//! The JSON of types that have one of their own: durations, structs, `Any` and their like.

use super::*;

impl Writer<'_> {
    pub(super) fn well_known(
        &mut self,
        name: &str,
        descriptor: &MessageDescriptor,
        entries: &[Entry<'_>],
    ) -> Outcome {
        match name {
            "Timestamp" | "Duration" => {
                let (seconds, nanos) = (varint(entries, 1).cast_signed(), truncated(varint(entries, 2)));
                let text = if name == "Timestamp" { time::timestamp } else { time::duration }(seconds, nanos);
                let text = text.ok_or_else(|| {
                    ConvertError::new(format!("{seconds} s and {nanos} ns are out of the range of {name}"))
                })?;
                self.text(&text);
            }
            "FieldMask" => self.field_mask(entries)?,
            "Any" => self.any(entries)?,
            "Struct" => match descriptor.fields().first().map(FieldDescriptor::kind) {
                Some(FieldKind::Map { key, value }) => {
                    self.out.push(b'{');
                    self.map(key, value, entries_of(entries, 1))?;
                    self.out.push(b'}');
                }
                _ => return Err(ConvertError::new("this is not the real google.protobuf.Struct")),
            },
            "ListValue" => match descriptor.fields().first() {
                Some(field) if matches!(field.kind(), FieldKind::List(_)) => {
                    self.out.push(b'[');
                    let FieldKind::List(kind) = field.kind() else { return Ok(()) };
                    self.list(field, kind, entries_of(entries, 1))?;
                    self.out.push(b']');
                }
                _ => return Err(ConvertError::new("this is not the real google.protobuf.ListValue")),
            },
            "Value" => self.struct_value(descriptor, entries)?,
            // The wrappers: their value, default if absent.
            _ => match descriptor.field(1).map(FieldDescriptor::kind) {
                Some(FieldKind::Singular(kind)) => {
                    match entries.iter().rev().find(|e| e.number == 1 && self.fits(kind, None, &e.value)) {
                        Some(entry) => self.singular(kind, &entry.value)?,
                        None => self.default(kind)?,
                    }
                }
                _ => return Err(ConvertError::new(format!("this is not the real google.protobuf.{name}"))),
            },
        }
        Ok(())
    }

    pub(super) fn field_mask(&mut self, entries: &[Entry<'_>]) -> Outcome {
        let mut joined = String::new();
        for entry in entries.iter().filter(|entry| entry.number == 1) {
            let Value::Bytes(path) = entry.value else { continue };
            let path = std::str::from_utf8(path).map_err(|_| ConvertError::new("a path is not UTF-8"))?;
            let camel = camel_path(path).ok_or_else(|| {
                ConvertError::new(format!("path '{path}' cannot be written in lowerCamelCase"))
            })?;
            if !joined.is_empty() {
                joined.push(',');
            }
            joined.push_str(&camel);
        }
        self.text(&joined);
        Ok(())
    }

    pub(super) fn struct_value(&mut self, descriptor: &MessageDescriptor, entries: &[Entry<'_>]) -> Outcome {
        let last = entries.iter().rev().find_map(|entry| {
            let FieldKind::Singular(kind) = descriptor.field(entry.number)?.kind() else { return None };
            self.fits(kind, None, &entry.value).then_some((kind, entry.value))
        });
        match last {
            Some((SingularKind::Scalar(ScalarType::Double), Value::Fixed64(bits)))
                if !f64::from_bits(bits).is_finite() =>
            {
                Err(ConvertError::new("JSON has no NaN or infinity"))
            }
            Some((kind, value)) => self.singular(kind, &value),
            None => {
                self.out.extend_from_slice(b"null");
                Ok(())
            }
        }
    }

    pub(super) fn any(&mut self, entries: &[Entry<'_>]) -> Outcome {
        let last = |number| {
            entries.iter().rev().find_map(|entry| match entry.value {
                Value::Bytes(bytes) if entry.number == number => Some(bytes),
                _ => None,
            })
        };
        let (url, value) = (last(1).unwrap_or_default(), last(2).unwrap_or_default());
        let url = std::str::from_utf8(url).map_err(|_| ConvertError::new("the type URL is not UTF-8"))?;
        self.out.push(b'{');
        if !url.is_empty() {
            self.out.extend_from_slice(b"\"@type\":");
            self.text(url);
            let start = self.out.len();
            let depth = self.depth;
            // A type nobody knows here, or bytes that are not of it, are shown as they are.
            if self.any_value(url, value).is_err() {
                self.depth = depth;
                self.out.truncate(start);
                self.out.extend_from_slice(b",\"value\":");
                self.base64(value);
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    pub(super) fn any_value(&mut self, url: &str, bytes: &[u8]) -> Outcome {
        let name = url.rsplit('/').next().unwrap_or(url);
        let here = self.pool.message_index(name).map(|index| (self.pool, index));
        let standard =
            || Some((&**Schema::standard().pool(), Schema::standard().pool().message_index(name)?));
        let (pool, index) = here.or_else(standard).ok_or_else(|| ConvertError::new("unknown type"))?;
        let descriptor = pool.message(index);
        let mut inner =
            Writer { pool, options: self.options, out: std::mem::take(&mut self.out), depth: self.depth };
        let special = name.strip_prefix("google.protobuf.").is_some_and(is_special);
        let outcome = if special {
            inner.out.extend_from_slice(b",\"value\":");
            inner.message(index, bytes)
        } else {
            scan(bytes)
                .map_err(ConvertError::new)
                .and_then(|entries| inner.fields(index, descriptor, entries, false))
        };
        self.out = inner.out;
        outcome
    }
}

/// `a_b.c` as `aB.c`; `None` if it would not come back the same.
fn camel_path(path: &str) -> Option<String> {
    let mut camel = String::with_capacity(path.len());
    let mut characters = path.chars();
    while let Some(c) = characters.next() {
        match c {
            '_' => camel.push(characters.next().filter(char::is_ascii_lowercase)?.to_ascii_uppercase()),
            _ if c.is_ascii_uppercase() => return None,
            _ => camel.push(c),
        }
    }
    Some(camel)
}
