//! What can be wrong with bytes, and with a message that is to become bytes.

/// Why bytes are not the message they should be, or why a message cannot be written. Fields are named as in the code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The message ends inside a field.
    #[error("{field}: expected {needed} bytes, {left} are left")]
    Truncated {
        /// Which field.
        field: &'static str,
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length or count that is negative, or more than what is left can hold.
    #[error("{field}: length {length}, but at most {limit} fit")]
    Length {
        /// Which field.
        field: &'static str,
        /// What the bytes say.
        length: i64,
        /// The most that the rest of the message can hold.
        limit: usize,
    },
    /// A small message that would take a lot of memory.
    #[error("{field}: {elements} elements take more memory than a message of this size may")]
    Memory {
        /// Which field.
        field: &'static str,
        /// How many elements it says it has.
        elements: usize,
    },
    /// A variable-length integer of more than 32 bits (or 64, for long ones).
    #[error("{field}: a variable-length integer that is too long")]
    Varint {
        /// Which field.
        field: &'static str,
    },
    /// Null where there has to be a value.
    #[error("{field}: null is not allowed in version {version}")]
    Null {
        /// Which field.
        field: &'static str,
        /// Of the message.
        version: i16,
    },
    /// Text that is not UTF-8.
    #[error("{field}: text that is not UTF-8")]
    Utf8 {
        /// Which field.
        field: &'static str,
    },
    /// A value that would be lost: the version of the message has no such field.
    #[error("{field}: version {version} of the message cannot say this")]
    NotInVersion {
        /// Which field.
        field: &'static str,
        /// Of the message.
        version: i16,
    },
    /// Bytes after the end of the message.
    #[error("{left} bytes after the end of the message")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// An API that is not known here.
    #[error("API key {key} is not known")]
    ApiKey {
        /// What the header says.
        key: i16,
    },
    /// A version of an API that is not known here.
    #[error("{api} version {version} is not one of {min} to {max}")]
    Version {
        /// The API.
        api: super::ApiKey,
        /// What the header says.
        version: i16,
        /// Oldest version known.
        min: i16,
        /// Newest version known.
        max: i16,
    },
    /// A message too large to be written: lengths have 32 bits.
    #[error("a message of {len} bytes is over the limit of {}", i32::MAX)]
    TooLarge {
        /// Its length.
        len: usize,
    },
}

/// What decoding and encoding return.
pub type Result<T, E = Error> = std::result::Result<T, E>;
