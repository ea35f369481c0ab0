//! Bytes on the wire of gRPC, gRPC-Web and Connect: framing, compression, metadata, status, tables.
//!
//! Pure and synchronous; server and client are built on the same functions.

pub mod compression;
pub mod connect;
pub mod content_type;
pub mod envelope;
pub mod metadata;
pub mod status;
pub mod timeout;
pub mod trace;
pub mod web;

pub use compression::{CompressionError, Encoding};
pub use content_type::{ContentType, Dialect};
pub use envelope::{Deframer, EnvelopeError, Frame, Framed};

/// The largest message that is accepted unless told otherwise: 4 MiB, as in gRPC's own libraries.
pub const MESSAGE_SIZE_MAX: usize = 4 * 1024 * 1024;
