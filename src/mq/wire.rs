//! AMQP 0-9-1 on the wire, with RabbitMQ's extensions: shared by broker and client.
//!
//! Decoding borrows from the bytes read, encoding appends to a buffer, and property bytes pass through verbatim.
//!
//! ```text
//! frame       7 bytes of header, payload, 0xCE; the protocol header
//! method      every method as a struct of borrowed fields
//! properties  the properties of a message, read where they lie; edited by writing them anew
//! table       field tables: order, duplicates and types kept
//! assemble    frames -> methods and whole messages, per channel
//! write       methods and messages -> frames
//! error       what is refused, with RabbitMQ's reply codes and words
//! ```
//!
//! The contract is the specification, "AMQP 0-9-1" below; where it is silent, RabbitMQ's behaviour and its words.

mod assemble;
mod error;
pub mod frame;
pub mod method;
mod primitive;
mod properties;
mod table;
#[cfg(test)]
mod tests;
mod write;

pub use assemble::{Assembler, Content, Event, Part};
pub use error::{Error, ReplyCode, TooLong, short};
pub use frame::{Frame, Kind, PROTOCOL_HEADER};
pub use method::Method;
pub use properties::{Fields, Properties};
pub use table::{Array, ArrayBuf, Table, TableBuf, Value};
pub use write::{Output, content, frame_header, header, heartbeat, method};

/// The smallest `frame_max` that may be agreed on, in bytes: AMQP 0-9-1, `frame-min-size`.
pub const FRAME_SIZE_MIN: u32 = 4096;

/// The `frame_max` that RabbitMQ offers, in bytes.
pub const FRAME_SIZE_DEFAULT: u32 = 131_072;

/// The bytes of a frame that are not payload: type, channel, size, end.
pub const FRAME_OVERHEAD: usize = 8;

/// The largest body that a content header may announce, in bytes. RabbitMQ's hard limit.
pub const BODY_SIZE_MAX: u64 = 512 * 1024 * 1024;

/// How deep tables and arrays may be nested. Real ones are two or three deep; nobody's stack is at risk at this.
pub const TABLE_DEPTH_MAX: usize = 64;
