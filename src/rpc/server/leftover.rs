//! What an HTTP/1.1 request still sends when its reply is known early.
//!
//! HTTP/1.1 has no way to stop a peer's upload but to close the connection, and closing it with unread bytes
//! makes the peer's kernel forget the reply. So a little more is read and thrown away first.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

/// So much is thrown away; a peer that sends more may lose its reply.
const SIZE_MAX: usize = 4 * 1024 * 1024;
/// So long is waited for it.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// A body that gives itself back when it is dropped unread.
#[derive(Debug)]
pub struct Returning<B: Body + Unpin> {
    // None only while dropping.
    body: Option<B>,
    to: Option<Slot<B>>,
}

/// Where an unread body goes.
#[derive(Debug)]
pub struct Slot<B>(Arc<Mutex<Option<B>>>);

impl<B: Body + Unpin> Returning<B> {
    /// A body that is just dropped: resetting an HTTP/2 stream disturbs no other.
    pub fn never(body: B) -> Self {
        Self { body: Some(body), to: None }
    }

    /// A body and where it goes.
    pub fn new(body: B) -> (Self, Slot<B>) {
        let slot = Arc::default();
        (Self { body: Some(body), to: Some(Slot(Arc::clone(&slot))) }, Slot(slot))
    }
}

impl<B: Body + Unpin> Drop for Returning<B> {
    fn drop(&mut self) {
        if let Some(slot) = &self.to
            && let Some(body) = self.body.take().filter(|body| !body.is_end_stream())
        {
            *slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

impl<B: Body + Unpin> Body for Returning<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Slot<B> {
    /// Throws away what came back, as far as that is reasonable.
    pub async fn throw_away(self) {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(body) = body {
            throw_away(body).await;
        }
    }
}

/// Reads a body that nobody wants, as far as that is reasonable.
pub async fn throw_away<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let all = async {
        let mut size = 0;
        while let Some(Ok(frame)) = body.frame().await {
            size += frame.data_ref().map_or(0, Bytes::len);
            if size > SIZE_MAX {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(WAIT_MAX, all).await;
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[tokio::test]
    async fn an_unread_body_comes_back_and_a_read_one_does_not() {
        let (body, slot) = Returning::new(Full::new(Bytes::from_static(b"unread")));
        drop(body);
        assert!(slot.0.lock().unwrap().is_some());
        slot.throw_away().await;

        let (mut body, slot) = Returning::new(Full::new(Bytes::from_static(b"read")));
        while body.frame().await.is_some() {}
        drop(body);
        assert!(slot.0.lock().unwrap().is_none());
    }
}
