//! The canonical JSON mapping, from bytes to bytes: no tree is built in between.
//!
//! Limits: nesting of 100 levels, as everywhere in protobuf.

mod parse;
mod read;
mod time;
mod write;

use buffa_descriptor::{DescriptorPool, MessageIndex};

use crate::spelling::near_miss;

/// Nesting of messages, lists and objects over which a message is refused.
const NESTING_MAX: usize = 100;

/// Choices that the mapping leaves open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonOptions {
    /// Print fields without presence also when they have their default.
    pub emit_defaults: bool,
    /// Print names as the .proto file spells them, not in lowerCamelCase.
    pub proto_names: bool,
    /// Print 64-bit integers as numbers, not strings: exact, but not for readers that use doubles.
    pub int64_numbers: bool,
    /// Print enum values as numbers.
    pub enum_numbers: bool,
    /// Pass over fields and enum values that the type does not have.
    pub ignore_unknown: bool,
}

/// Why a message could not be converted, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvertError {
    /// Path of the field, empty for the message itself.
    pub path: String,
    /// What is wrong there.
    pub message: String,
}

impl std::fmt::Display for ConvertError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for ConvertError {}

impl ConvertError {
    fn new(message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into() }
    }

    /// The error seen from the message that has the field.
    fn within(mut self, field: &str) -> Self {
        let separator = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{field}{separator}{}", self.path);
        self
    }
}

/// A protobuf message as JSON.
///
/// # Errors
/// Bytes that are no such message.
pub fn to_json(
    pool: &DescriptorPool,
    index: MessageIndex,
    bytes: &[u8],
    options: &JsonOptions,
) -> Result<Vec<u8>, ConvertError> {
    let mut writer = write::Writer::new(pool, options, bytes.len());
    writer.message(index, bytes)?;
    Ok(writer.finish())
}

/// A JSON message as protobuf.
///
/// # Errors
/// Text that is no JSON, or not of such a message.
pub fn from_json(
    pool: &DescriptorPool,
    index: MessageIndex,
    text: &[u8],
    options: &JsonOptions,
) -> Result<Vec<u8>, ConvertError> {
    let text = std::str::from_utf8(text).map_err(|error| ConvertError::new(format!("not UTF-8: {error}")))?;
    let mut reader = read::Reader::new(pool, options, text);
    let mut out = Vec::with_capacity(text.len());
    reader.message(index, &mut out)?;
    reader.end()?;
    Ok(out)
}

/// `; did you mean 'x'?` if there is a name near to the wrong one.
pub(super) fn did_you_mean<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    near_miss(wrong, names).map_or_else(String::new, |name| format!("; did you mean '{name}'?"))
}

#[cfg(test)]
mod tests;
