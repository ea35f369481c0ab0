//! Answers: ready, or still to be waited for, and where the bytes of records come from.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::definitions::Definitions;
use crate::log::wire::{self, ErrorCode, Request, encode_response};
use crate::storage::Chunk;

/// What a request's answer has to carry, and in which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) version: i16,
    pub(super) correlation_id: i32,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) message: Vec<wire::Chunk>,
    /// What goes into the message's holes, in order.
    pub(super) records: Vec<Chunk>,
}

/// What becomes of a request.
pub(super) enum Pending {
    /// There is no answer.
    Nothing,
    /// The answer.
    Ready(Outgoing),
    /// The answer, when it has come. Polled when all answers before it are out.
    Later(BoxFuture<'static, Option<Outgoing>>),
    /// The answer, behind which the connection ends.
    Last(Outgoing),
    /// The connection ends behind the answers before.
    Close,
}

impl Pending {
    /// An answer that is ready.
    pub(super) fn ready<R: Request>(head: Head, response: &R::Response) -> Self {
        encode::<R>(head, response).map_or(Self::Close, Self::Ready)
    }

    /// An answer that goes out when the definitions are safe up to `end`; at once if nothing was defined.
    pub(super) fn when_defined<R: Request>(
        definitions: &Arc<Definitions>,
        end: Option<i64>,
        head: Head,
        response: R::Response,
    ) -> Self
    where
        R::Response: Send + Sync + 'static,
    {
        let Some(end) = end else { return Self::ready::<R>(head, &response) };
        let definitions = Arc::clone(definitions);
        Self::Later(Box::pin(async move {
            definitions.safe(end).await.ok()?;
            encode::<R>(head, &response)
        }))
    }
}

impl Outgoing {
    /// An error where most answers have theirs, in no version at all.
    pub(super) fn bare(correlation_id: i32, error: ErrorCode) -> Self {
        let mut bytes = Vec::with_capacity(10);
        bytes.extend_from_slice(&6i32.to_be_bytes());
        bytes.extend_from_slice(&correlation_id.to_be_bytes());
        bytes.extend_from_slice(&error.0.to_be_bytes());
        Self { message: vec![wire::Chunk::Bytes(Bytes::from(bytes))], records: Vec::new() }
    }
}

/// An answer as bytes. None if it cannot be said in that version, which is a fault of ours.
pub(super) fn encode<R: Request>(head: Head, response: &R::Response) -> Option<Outgoing> {
    encode_with::<R>(head, response, Vec::new())
}

/// An answer with records that are elsewhere.
pub(super) fn encode_with<R: Request>(
    head: Head,
    response: &R::Response,
    records: Vec<Chunk>,
) -> Option<Outgoing> {
    match encode_response::<R>(response, head.version, head.correlation_id) {
        Ok(message) => Some(Outgoing { message: message.into_chunks(), records }),
        Err(error) => {
            report(R::KEY.name(), head.version, &error);
            None
        }
    }
}

fn report(api: &str, version: i16, error: &wire::Error) {
    tracing::error!(api, version, %error, "an answer cannot be written; the connection is closed");
}
