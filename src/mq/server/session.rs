//! A connection inside the broker: management does what it is asked to as the user who asks, with the engine's checks,
//! its errors, and its care that what was promised is on disk.

use std::sync::Arc;

use super::host::Host;
use super::outbox::{Batch, Outbox};
use crate::mq::engine::{Access, At, ConnectionId, Content, Peer, Send as Out, Taken};
use crate::mq::wire::Method;
use crate::mq::wire::method::channel;

/// The one channel of a session.
const CHANNEL: u16 = 1;

/// The engine closed the channel: why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Closed {
    /// AMQP's reply code.
    pub code: u16,
    /// The reply text, with the code's name before it.
    pub text: String,
}

impl Closed {
    /// The text without the code's name.
    pub fn explanation(&self) -> &str {
        self.text.split_once(" - ").map_or(&*self.text, |(_, explanation)| explanation)
    }
}

/// See the module. What it holds goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Session {
    host: Arc<Host>,
    id: ConnectionId,
    outbox: Arc<Outbox>,
    batch: Batch,
}

impl Session {
    /// Opens one with its channel.
    pub fn open(host: &Arc<Host>, user: Arc<str>, access: Arc<Access>) -> Self {
        let outbox = Arc::new(Outbox::default());
        let peer = Peer {
            name: "management".into(),
            user,
            access,
            channel_max: 0,
            allowance: Arc::default(),
            cancel_notify: false,
        };
        let id = host.connect(peer, Arc::clone(&outbox));
        let mut session = Self { host: Arc::clone(host), id, outbox, batch: Batch::default() };
        session.host.run(|engine, out, now| {
            let at = At { now, connection: id, channel: CHANNEL };
            let _ = engine.handle(at, &channel::Open::default().into(), None, out);
        });
        // That it is open; nothing has to be on disk for that.
        session.outbox.take(u64::MAX, &mut session.batch);
        session.batch = Batch::default();
        session
    }

    /// Gives the engine a method, and returns everything up to the first answer that `last` accepts.
    ///
    /// # Errors
    /// The engine's.
    pub async fn call(
        &mut self,
        method: &Method<'_>,
        content: Option<Content>,
        last: impl Fn(&Out) -> bool,
    ) -> Result<Vec<Out>, Closed> {
        let mut content = content;
        loop {
            let taken = self.host.run(|engine, out, now| {
                let at = At { now, connection: self.id, channel: CHANNEL };
                engine.handle(at, method, content.take(), out)
            });
            if taken == Taken::Now {
                return self.answers(last).await;
            }
            self.answers(|send| matches!(send, Out::Resume)).await?;
        }
    }

    /// Gives the engine a method that has no answer.
    pub fn tell(&self, method: &Method<'_>) {
        let _ = self.host.run(|engine, out, now| {
            let at = At { now, connection: self.id, channel: CHANNEL };
            engine.handle(at, method, None, out)
        });
    }

    async fn answers(&mut self, last: impl Fn(&Out) -> bool) -> Result<Vec<Out>, Closed> {
        let mut stored = self.host.stored();
        let mut seen = Vec::new();
        loop {
            let now_stored = *stored.borrow_and_update();
            self.outbox.take(now_stored, &mut self.batch);
            for send in self.batch.sends.drain(..) {
                match send {
                    Out::CloseChannel { code, text, .. } | Out::CloseConnection { code, text, .. } => {
                        return Err(Closed { code, text });
                    }
                    send => {
                        let is_last = last(&send);
                        seen.push(send);
                        if is_last {
                            return Ok(seen);
                        }
                    }
                }
            }
            let waits = self.outbox.waits_for().is_some();
            tokio::select! {
                () = self.outbox.filled.notified() => {}
                changed = stored.changed(), if waits => if changed.is_err() {
                    return Err(Closed { code: 541, text: "INTERNAL_ERROR - the broker stops".to_owned() });
                },
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.host.disconnect(self.id);
    }
}
