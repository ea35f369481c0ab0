//! The Kafka protocol as bytes: requests, responses and record batches, for the broker and for the client.
//!
//! ```text
//! header       frames: size, header, message
//! api          one file per API: its messages, field by field, in every version
//! message      how a message is written down once: struct, defaults, decoder, encoder
//! primitive    integers, text, bytes, arrays, tagged fields, in the old and the flexible encoding
//! error        the protocol's error codes
//! consumer_protocol  what members of a classic group tell each other
//! group_record values of records in which groups of the next generation are kept
//! compression  what the records of a batch are packed with
//! ```
//!
//! Every length is compared with what is left of the message before anything is allocated, and what the arrays of a message take
//! in memory is bounded by its size. Record batches are not copied: they are slices of what came in, and go out from where they
//! are.
//!
//! ```
//! use bandy::log::wire::{self, RequestHeader, Reader, api::metadata::MetadataRequest};
//!
//! let request = MetadataRequest { topics: None, ..MetadataRequest::default() };
//! let frame = wire::encode_request(&request, 12, 7, Some("me"))?.to_bytes();
//! let mut reader = Reader::new(frame.slice(4..), 0, false);
//! let header = RequestHeader::read(&mut reader)?;
//! assert_eq!((header.version, header.correlation_id), (12, 7));
//! assert_eq!(wire::decode_request::<MetadataRequest>(reader)?, request);
//! # Ok::<_, wire::Error>(())
//! ```

#[macro_use]
mod message;

pub mod api;
mod compression;
pub mod consumer_protocol;
mod error;
mod fault;
pub mod group_record;
mod header;
mod primitive;
#[cfg(test)]
mod tests;
mod write;

pub use api::{AnyRequest, ApiKey};
pub use compression::{Compression, CompressionError};
pub use error::ErrorCode;
pub use fault::{Error, Result};
pub use header::{
    RequestHeader, correlation_id, decode_request, decode_response, encode_request, encode_response,
};
pub use primitive::{Field, Reader, Records, Uuid};
pub use write::{Chunk, Encoded, Writer};

/// The versions of an API that are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
    /// From this one on the encoding is the flexible one of KIP-482; [`Versions::NEVER`] if none is.
    pub flexible: i16,
}

impl Versions {
    /// No version is flexible.
    pub const NEVER: i16 = i16::MAX;

    /// Is it one of them?
    pub fn contains(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// Is that version in the flexible encoding?
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

/// A request: it knows its API, and what answers it.
pub trait Request: Field + Default + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// Which API.
    const KEY: ApiKey;
    /// Its versions; request and response share them.
    const VERSIONS: Versions;
    /// What answers it.
    type Response: Field + Default + Clone + PartialEq + std::fmt::Debug + Send + Sync + 'static;
}
