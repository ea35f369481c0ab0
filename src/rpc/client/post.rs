//! One document in the body of a POST, one in its answer: JSON-RPC over HTTP.

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;

use super::exchange::FirstBody;
use super::send::RequestHead;
use super::{CallOptions, Ending, HttpClient};
use crate::rpc::wire::EnvelopeError;

impl HttpClient {
    /// Posts a JSON document to the target's prefix and returns the answer's; empty if there is none.
    ///
    /// # Errors
    /// There is no connection, or the answer is no JSON.
    pub(crate) async fn post_json(&self, document: Bytes, options: &CallOptions) -> Result<Bytes, Ending> {
        let head = RequestHead::json(self.target(), options);
        let mut exchange =
            self.open(&head, || FirstBody::Whole(document.clone()), super::deadline(options)).await?;
        let response = exchange.head.wait().await.map_err(|error| Ending::broken(&error))?;
        let (parts, mut body) = response.into_parts();
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = content_type.is_some_and(|it| it.to_ascii_lowercase().starts_with("application/json"));
        // Some servers say by the status what the error in the document says better.
        if !is_json {
            return Err(Ending::foreign(parts.status, content_type, "application/json"));
        }
        let mut whole = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.map_err(|error| Ending::broken(&error))?;
            let (size, limit) = (whole.len() + chunk.len(), options.message_size_max);
            if size > limit {
                return Err(super::receive::oversize(&EnvelopeError::TooLarge { size, limit }));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.freeze())
    }
}
