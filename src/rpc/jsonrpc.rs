//! JSON-RPC 2.0: documents, errors and framing (pure), the server for streams and datagrams, the client.
//!
//! [`Service::answer`] turns one document into its reply, whatever it came in on: HTTP, a line, a
//! `Content-Length` frame or a datagram. What the protocol leaves open is decided in docs/json-rpc.md.

pub mod client;
mod discover;
mod error;
mod framing;
mod message;
mod params;
pub mod server;
mod service;

pub use discover::discover;
pub use error::{
    ErrorObject, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR,
};
pub use framing::{FrameError, Frames, Framing};
pub use message::{
    Document, Id, Incoming, Request, Response, encode_request, parse_document, parse_responses,
};
pub use params::{MethodError, of_arguments, request_messages, resolve};
pub use service::{Answer, CANCEL, Canceller, Limits, Origin, Service};
