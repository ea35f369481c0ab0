//! Numbers and lengths as protobuf has them on the wire, and what JSON may write for them.

use super::*;

pub(super) fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f).to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Puts the length of what follows the placeholder byte at `start` in its place.
pub(super) fn close(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start - 1;
    if let Ok(short @ 0..0x80) = u8::try_from(length) {
        out[start] = short;
        return;
    }
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, length as u64);
    out.splice(start..=start, prefix);
}

pub(super) fn wire_type(kind: SingularKind, delimited: bool) -> u8 {
    use ScalarType as S;
    match kind {
        SingularKind::Message(_) if delimited => 3,
        SingularKind::Message(_) | SingularKind::Scalar(S::String | S::Bytes) => 2,
        SingularKind::Scalar(S::Double | S::Fixed64 | S::Sfixed64) => 1,
        SingularKind::Scalar(S::Float | S::Fixed32 | S::Sfixed32) => 5,
        SingularKind::Scalar(_) | SingularKind::Enum(_) => 0,
    }
}

pub(super) fn map_key(key: ScalarType, name: &str, out: &mut Vec<u8>) -> Outcome {
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

pub(super) fn put_number(scalar: ScalarType, text: &str, out: &mut Vec<u8>) -> Outcome {
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
pub(super) fn integer<T: std::str::FromStr + TryFrom<i128>>(text: &str) -> Result<T, ConvertError> {
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

pub(super) fn float(text: &str) -> Result<f64, ConvertError> {
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

pub(super) fn base64(text: &str) -> Result<Vec<u8>, ConvertError> {
    let engine = if text.contains(['-', '_']) { &BASE64_URL } else { &BASE64 };
    engine.decode(text).map_err(|error| ConvertError::new(format!("not base64: {error}")))
}
