//! The JSON of types that have one of their own: durations, structs, `Any` and their like.

use super::*;

impl<'a> Reader<'a> {
    pub(super) fn well_known(
        &mut self,
        name: &str,
        descriptor: &'a MessageDescriptor,
        out: &mut Vec<u8>,
    ) -> Outcome {
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

    pub(super) fn expected_text(&mut self) -> Result<std::borrow::Cow<'a, str>, ConvertError> {
        match self.json.next()? {
            Next::Text => self.json.string(),
            other => Err(ConvertError::new(format!("expected a string, got {}", other.name()))),
        }
    }

    pub(super) fn struct_value(&mut self, descriptor: &'a MessageDescriptor, out: &mut Vec<u8>) -> Outcome {
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

    pub(super) fn any(&mut self, out: &mut Vec<u8>) -> Outcome {
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

    pub(super) fn type_url(&mut self) -> Result<Option<String>, ConvertError> {
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
    pub(super) fn any_member(&mut self, mut value: impl FnMut(&mut Self) -> Outcome) -> Outcome {
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
