//! Flow control of one stream: a window of bytes to send into, an inbox that gives credit back.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::wire::MESSAGE_COST;
use crate::rpc::budget::Part;

/// What a message takes of the window.
pub(super) fn cost(message: &[u8]) -> i64 {
    i64::try_from(message.len() + MESSAGE_COST).unwrap_or(i64::MAX)
}

/// What may still be sent. A message may be sent while anything is left, however large it is, so that
/// the window goes below zero by at most one message.
#[derive(Debug)]
pub(super) struct Window {
    left: AtomicI64,
    freed: Notify,
}

/// More than any peer has reason to allow; keeps the sum from overflowing.
const WINDOW_MAX: i64 = 1 << 40;

impl Window {
    pub(super) fn new(bytes: u32) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(bytes.into()), freed: Notify::new() })
    }

    /// Waits until a message may be sent, and takes its cost. There is one sender.
    pub(super) async fn take(&self, cost: i64) {
        while self.left.load(Ordering::Acquire) <= 0 {
            self.freed.notified().await;
        }
        self.left.fetch_sub(cost, Ordering::AcqRel);
    }

    /// The peer allows more.
    pub(super) fn give(&self, bytes: u32) {
        let more = |left: i64| Some((left + i64::from(bytes)).min(WINDOW_MAX));
        let _ = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        self.freed.notify_one();
    }
}

/// What came in on a stream: a message with what counts it, or why no more come.
pub(super) type Item<E> = Result<(Bytes, Option<Part>), E>;

/// The receiving end of a stream.
#[derive(Debug)]
pub(super) struct Inbox<E> {
    items: mpsc::Receiver<Item<E>>,
    left: Arc<AtomicI64>,
    window: u32,
    owed: i64,
}

/// Where the connection puts what comes in for a stream.
#[derive(Debug)]
pub(super) struct InboxSender<E> {
    items: mpsc::Sender<Item<E>>,
    left: Arc<AtomicI64>,
}

/// The peer sent more than it was allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

/// An inbox for at most `window` bytes and one message.
pub(super) fn inbox<E>(window: u32) -> (InboxSender<E>, Inbox<E>) {
    // Every message costs at least MESSAGE_COST, so this many fit and one that ends it all.
    let (sender, items) = mpsc::channel(window as usize / MESSAGE_COST + 3);
    let left = Arc::new(AtomicI64::new(window.into()));
    (InboxSender { items: sender, left: Arc::clone(&left) }, Inbox { items, left, window, owed: 0 })
}

impl<E> InboxSender<E> {
    /// Adds a message. One that nobody wants any more is dropped.
    pub(super) fn push(&self, message: Bytes, held: Option<Part>) -> Result<(), Overrun> {
        if self.left.fetch_sub(cost(&message), Ordering::AcqRel) <= 0 {
            return Err(Overrun);
        }
        match self.items.try_send(Ok((message, held))) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Overrun),
        }
    }

    /// Adds something that is no message, and costs nothing.
    pub(super) fn note(&self, note: E) -> Result<(), Overrun> {
        match self.items.try_send(Err(note)) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(Overrun),
        }
    }

    /// Ends the stream with an error; dropping the sender ends it well.
    pub(super) fn fail(self, error: E) {
        // Full is impossible short of an overrun, which has ended the stream already.
        let _ = self.items.try_send(Err(error));
    }
}

impl<E> Inbox<E> {
    /// The next message, and the credit to give to the peer for what has been taken so far.
    pub(super) async fn next(&mut self) -> (Option<Item<E>>, Option<u32>) {
        let item = self.items.recv().await;
        if let Some(Ok((message, _))) = &item {
            self.owed += cost(message);
        }
        // Half a window at a time: a frame of credit per message would double the traffic.
        if self.owed < i64::from(self.window / 2) {
            return (item, None);
        }
        let credit = u32::try_from(self.owed).unwrap_or(u32::MAX);
        self.owed -= i64::from(credit);
        self.left.fetch_add(credit.into(), Ordering::AcqRel);
        (item, Some(credit))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_sender_waits_for_credit() {
        let window = Window::new(20);
        window.take(100).await;
        assert_eq!(window.take(1).now_or_never(), None);
        window.give(80);
        assert_eq!(window.take(1).now_or_never(), None);
        window.give(1);
        assert_eq!(window.take(1).now_or_never(), Some(()));
        window.give(u32::MAX);
    }

    #[tokio::test]
    async fn an_inbox_refuses_more_than_the_window_and_gives_credit_back() {
        let (sender, mut inbox) = inbox::<()>(100);
        for _ in 0..3 {
            sender.push(Bytes::from_static(&[0; 20]), None).unwrap();
        }
        assert_eq!(sender.push(Bytes::new(), None), Err(Overrun));
        assert_eq!(inbox.next().await.1, None);
        assert_eq!(inbox.next().await.1, Some(72));
        sender.push(Bytes::new(), None).unwrap();
        sender.fail(());
        assert!(matches!(inbox.next().await, (Some(Ok(_)), _)));
        assert!(matches!(inbox.next().await, (Some(Ok(_)), _)));
        assert!(matches!(inbox.next().await, (Some(Err(())), _)));
    }
}
