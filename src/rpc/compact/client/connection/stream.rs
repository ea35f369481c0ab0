//! The two ends of a call that streams.

use super::*;

/// The sending half of a call.
pub struct Sender {
    pub(super) client: Client,
    pub(super) request: u64,
    pub(super) window: Arc<Window>,
    pub(super) open: bool,
}

impl Sender {
    /// Sends a message as soon as the server has room for it.
    ///
    /// # Errors
    /// Nothing can be sent any more; the receiver knows why.
    pub async fn send(&mut self, message: Bytes) -> Result<(), Closed> {
        if !self.open {
            return Err(Closed);
        }
        if let Some(ending) = self.client.too_large(&message) {
            self.open = false;
            let give_up = Command::GiveUp { request: self.request, status: ending.status };
            // Without a connection the receiver has another reason.
            let _ = self.client.commands.send(give_up).await;
            return Err(Closed);
        }
        tokio::select! {
            () = self.window.take(cost(&message)) => {}
            () = self.client.commands.closed() => return Err(Closed),
        }
        let frame = Frame { message: Some(message), ..Frame::new(Kind::Message, self.request) };
        self.client.commands.send(Command::Frame(encoded(&frame))).await.map_err(|_| Closed)
    }

    /// Tells the server that no more messages follow.
    pub async fn finish(&mut self) {
        if std::mem::take(&mut self.open) {
            let frame = Frame { end: true, ..Frame::new(Kind::Message, self.request) };
            // Without a connection there is nobody to tell.
            let _ = self.client.commands.send(Command::Frame(encoded(&frame))).await;
        }
    }
}

/// The receiving half of a call; dropping it before the end cancels the call.
pub struct Receiver {
    pub(super) client: Client,
    pub(super) request: u64,
    pub(super) inbox: Inbox<Box<Frame>>,
    pub(super) deadline: Option<Instant>,
    pub(super) headers: Option<HeaderMap>,
    pub(super) next: Option<Bytes>,
    pub(super) ending: Option<Ending>,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Receiver {
    /// Waits for the leading metadata; it is empty if the server sends none.
    pub async fn headers(&mut self) -> &HeaderMap {
        while self.headers.is_none() && self.next.is_none() && self.ending.is_none() {
            self.advance().await;
        }
        self.headers.get_or_insert_default()
    }

    /// The next message; `None` at the end.
    pub async fn message(&mut self) -> Option<Bytes> {
        while self.next.is_none() && self.ending.is_none() {
            self.advance().await;
        }
        self.next.take()
    }

    /// How it ended, once it has.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Breaks the call off, for that reason.
    pub(crate) fn give_up(&mut self, ending: Ending) {
        if self.ending.is_none() {
            self.client.shared.cancel(self.request);
            self.ending = Some(ending);
        }
    }

    async fn advance(&mut self) {
        let next = self.inbox.next();
        let (item, credit) = match self.deadline {
            None => next.await,
            Some(deadline) => match timeout_at(deadline, next).await {
                Ok(next) => next,
                Err(_) => {
                    self.client.shared.cancel(self.request);
                    self.ending = Some(too_late());
                    return;
                }
            },
        };
        if let Some(credit) = credit {
            let frame = Frame { credit, ..Frame::new(Kind::Credit, self.request) };
            // Without a connection no credit is needed.
            let _ = self.client.commands.send(Command::Frame(encoded(&frame))).await;
        }
        match item {
            Some(Ok((message, _))) => self.next = Some(message),
            Some(Err(frame)) if frame.kind == Kind::Message as i32 => {
                self.headers.get_or_insert_with(|| metadata(&frame.metadata));
            }
            Some(Err(frame)) if frame.kind == Kind::Cancel as i32 => {
                self.ending = Some(Ending::given_up(answered(&frame).status));
            }
            Some(Err(frame)) => {
                if !frame.metadata.is_empty() {
                    self.headers.get_or_insert_with(|| metadata(&frame.metadata));
                }
                self.ending = Some(answered(&frame));
                self.next = frame.message;
            }
            None => self.ending = Some(self.client.shared.lost(false)),
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.ending.is_none() {
            self.client.shared.cancel(self.request);
        }
    }
}
