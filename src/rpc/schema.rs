//! Message types: descriptors in, conversion between protobuf and JSON out.

use std::sync::Arc;

use buffa_descriptor::{DescriptorPool, DynamicMessage, MessageIndex};
use bytes::Bytes;

use super::{Code, Format, Payload, Status};

/// A set of linked descriptors.
pub struct Schema {
    pool: Arc<DescriptorPool>,
}

impl Default for Schema {
    fn default() -> Self {
        Self { pool: Arc::new(DescriptorPool::default()) }
    }
}

impl Schema {
    /// Links a serialized `google.protobuf.FileDescriptorSet`.
    ///
    /// # Errors
    /// Bytes that are not one, or references that lead nowhere.
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, String> {
        DescriptorPool::decode(bytes)
            .map(|pool| Self { pool: Arc::new(pool) })
            .map_err(|error| error.to_string())
    }

    /// The linked descriptors.
    pub fn pool(&self) -> &Arc<DescriptorPool> {
        &self.pool
    }

    /// The message type with that full name.
    pub fn message(&self, full_name: &str) -> Option<MessageType> {
        let index = self.pool.message_index(full_name)?;
        Some(MessageType { pool: Arc::clone(&self.pool), index })
    }
}

/// One message type; knows how to convert its messages.
#[derive(Clone)]
pub struct MessageType {
    pool: Arc<DescriptorPool>,
    index: MessageIndex,
}

impl std::fmt::Debug for MessageType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.full_name())
    }
}

impl MessageType {
    /// Full name, such as `demo.HelloRequest`.
    pub fn full_name(&self) -> &str {
        self.pool.message(self.index).full_name()
    }

    /// The payload in the wanted format; no copy if it already is.
    ///
    /// # Errors
    /// INVALID_ARGUMENT: the bytes are not such a message.
    pub fn convert(&self, payload: &Payload, to: Format) -> Result<Bytes, Status> {
        let invalid = |error: &dyn std::fmt::Display| {
            Status::new(Code::InvalidArgument, format!("not a {}: {error}", self.full_name()))
        };
        match (payload.format, to) {
            (Format::Proto, Format::Proto) | (Format::Json, Format::Json) => Ok(payload.bytes.clone()),
            (Format::Proto, Format::Json) => {
                let message = DynamicMessage::decode(Arc::clone(&self.pool), self.index, &payload.bytes)
                    .map_err(|error| invalid(&error))?;
                message.to_json().map(Bytes::from).map_err(|error| invalid(&error))
            }
            (Format::Json, Format::Proto) => {
                let text = std::str::from_utf8(&payload.bytes).map_err(|error| invalid(&error))?;
                let message = DynamicMessage::from_json(Arc::clone(&self.pool), self.index, text)
                    .map_err(|error| invalid(&error))?;
                Ok(message.encode_to_vec().into())
            }
        }
    }
}
