//! The client: calls by Call ID over one connection, or over datagrams.

mod connection;
mod datagrams;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

pub use connection::{Client, Receiver, Sender};
pub use datagrams::DatagramClient;

use super::wire::{Description, Frame, MethodEntry, metadata};
use crate::rpc::catalog::method_id;
use crate::rpc::client::{Cause, Ending, UnaryReply};
use crate::rpc::status::{Code, Status};

/// What one call is told besides its message.
#[derive(Clone, Debug, Default)]
pub struct CallOptions {
    /// Request metadata; values of `-bin` names are base64.
    pub metadata: HeaderMap,
    /// Time for the whole call: sent to the server and enforced here.
    pub timeout: Option<Duration>,
    /// Over UDP: let the server execute every copy that comes.
    pub at_least_once: bool,
}

/// A server's Call ID table and types, fetched once.
#[derive(Clone, Debug)]
pub struct Table {
    /// Hash of the description, for a cache.
    pub hash: u64,
    /// A `google.protobuf.FileDescriptorSet`.
    pub descriptor_set: Bytes,
    methods: HashMap<String, MethodEntry>,
}

impl Table {
    fn new(hash: u64, description: Description) -> Self {
        let methods = description.methods.into_iter().map(|entry| (entry.path.clone(), entry)).collect();
        Self { hash, descriptor_set: description.descriptor_set, methods }
    }

    /// The row of `package.Service/Method`.
    pub fn by_path(&self, path: &str) -> Option<&MethodEntry> {
        self.methods.get(path)
    }

    /// The Call ID of `package.Service/Method`. What the table leaves out, such as services that a server does
    /// not list, has the number that every method has by default; if there is no such method the server says so.
    pub fn call_id(&self, path: &str) -> u32 {
        self.by_path(path).map_or_else(|| method_id(path), |entry| entry.id)
    }

    /// Every row, in no order.
    pub fn methods(&self) -> impl Iterator<Item = &MethodEntry> {
        self.methods.values()
    }
}

/// The largest description that is fetched.
const DESCRIPTION_SIZE_MAX: u32 = 8 << 20;

fn failed(code: Code, text: impl Into<String>, cause: Cause, untouched: bool) -> Ending {
    let mut ending = Ending::here(code, text, cause);
    ending.untouched = untouched;
    ending
}

/// How the server says that a call ended.
fn answered(frame: &Frame) -> Ending {
    let status = frame.status.as_ref().map_or_else(Status::ok, |status| (**status).clone().into());
    Ending::answered(status, metadata(&frame.trailers))
}

fn unary_reply(frame: Frame) -> UnaryReply {
    let ending = answered(&frame);
    let message = ending.status.is_ok().then(|| frame.message.unwrap_or_default());
    UnaryReply { headers: metadata(&frame.metadata), message, ending }
}

fn unanswered(ending: Ending) -> UnaryReply {
    UnaryReply::unanswered(ending)
}
