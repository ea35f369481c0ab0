//! The writing half of a connection: takes what is due, encodes it, writes it in large pieces, gives credit back.

use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};

use super::encode;
use super::host::Host;
use super::live::Traffic;
use super::outbox::{Batch, Last, Outbox};
use crate::mq::engine::{ConnectionId, Send as Out};
use crate::mq::wire;
use crate::mq::wire::method::connection;

/// So much is encoded before it is written.
const PIECE_SIZE: usize = 128 * 1024;

/// An idle connection keeps so much room for frames, at most.
const IDLE_SIZE: usize = 4 * 1024;

/// A socket that takes nothing for so long is given up, if the client agreed to heartbeats at all; longer if its
/// heartbeats are.
const STALL_MAX: Duration = Duration::from_secs(30);

/// How the writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// The client's close was answered.
    CloseOk,
    /// The client was told that the connection is closed.
    Close,
    /// The socket is gone.
    Gone,
}

/// What the writer has to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writer<'a> {
    pub host: &'a Host,
    pub id: ConnectionId,
    pub outbox: &'a Outbox,
    pub traffic: &'a Traffic,
    /// Agreed on; 0 for no limit.
    pub frame_max: u32,
    /// Agreed on; none for no heartbeats.
    pub heartbeat: Option<Duration>,
    /// Whether the client wants to know of blocking.
    pub blocked_notify: bool,
}

impl Writer<'_> {
    /// Writes until the connection ends.
    pub async fn run(&self, socket: &mut (impl AsyncWrite + Unpin)) -> Written {
        let mut stored = self.host.stored();
        let (mut batch, mut buffer) = (Batch::default(), Vec::new());
        // Twice in an interval, so that one that is late is not too late.
        let beat = self.heartbeat.map_or(Duration::MAX, |interval| interval / 2);
        // Set again when it goes off, not at each write.
        let mut idle = std::pin::pin!(tokio::time::sleep(beat));
        let mut written_at = Instant::now();
        loop {
            let now_stored = *stored.borrow_and_update();
            self.outbox.take(now_stored, &mut batch);
            if batch.is_empty() {
                let waits = self.outbox.waits_for().is_some();
                tokio::select! {
                    () = self.outbox.filled.notified() => {}
                    changed = stored.changed(), if waits => if changed.is_err() { return Written::Gone },
                    () = &mut idle, if beat != Duration::MAX => {
                        if written_at.elapsed() >= beat {
                            wire::heartbeat(&mut buffer);
                            if !self.write(socket, &mut buffer).await {
                                return Written::Gone;
                            }
                            written_at = Instant::now();
                        }
                        idle.as_mut().reset(written_at + beat);
                    }
                }
                continue;
            }
            match self.write_batch(socket, &mut buffer, &mut batch).await {
                Ok(()) => written_at = Instant::now(),
                Err(end) => return end,
            }
            if buffer.capacity() > IDLE_SIZE && self.outbox.waits_for().is_none() {
                // Who has nothing more to say for now holds no memory for it.
                buffer = Vec::new();
                batch.sends = Vec::new();
            }
        }
    }

    async fn write_batch(
        &self,
        socket: &mut (impl AsyncWrite + Unpin),
        buffer: &mut Vec<u8>,
        batch: &mut Batch,
    ) -> Result<(), Written> {
        for send in batch.sends.drain(..) {
            match &send {
                Out::Block { reason } => {
                    self.outbox.set_blocked(true);
                    if self.blocked_notify {
                        wire::method(buffer, 0, &connection::Blocked { reason }.into());
                    }
                }
                Out::Unblock => {
                    self.outbox.set_blocked(false);
                    if self.blocked_notify {
                        wire::method(buffer, 0, &connection::Unblocked {}.into());
                    }
                }
                Out::Resume => self.outbox.resume(),
                _ => {}
            }
            encode::send(buffer, &send, self.frame_max);
            if let Out::CloseConnection { .. } = send {
                self.outbox.close();
                return Err(if self.write(socket, buffer).await { Written::Close } else { Written::Gone });
            }
            if buffer.len() >= PIECE_SIZE && !self.write(socket, buffer).await {
                return Err(Written::Gone);
            }
        }
        for _ in 0..std::mem::take(&mut batch.secrets) {
            wire::method(buffer, 0, &connection::UpdateSecretOk {}.into());
        }
        let end = match batch.last.take() {
            None => None,
            Some(Last::CloseOk) => {
                wire::method(buffer, 0, &connection::CloseOk {}.into());
                Some(Written::CloseOk)
            }
            Some(Last::Close { code, text, method }) => {
                encode::close(buffer, code, &text, method);
                Some(Written::Close)
            }
        };
        if !self.write(socket, buffer).await {
            return Err(Written::Gone);
        }
        // In large parts: the host's lock is dear. No consumer waits for the last part, for the rest of the credit is more
        // than what it takes to serve again.
        if batch.cost >= u64::from(self.host.credit / 4) && end.is_none() {
            let cost = std::mem::take(&mut batch.cost);
            self.host.run(|engine, out, now| engine.written(now, self.id, cost, out));
        }
        end.map_or(Ok(()), Err)
    }

    /// Writes and empties the buffer; false if the socket is gone.
    async fn write(&self, socket: &mut (impl AsyncWrite + Unpin), buffer: &mut Vec<u8>) -> bool {
        let mut rest = &buffer[..];
        let stall = self.heartbeat.map_or(Duration::MAX, |interval| STALL_MAX.max(interval * 2));
        while !rest.is_empty() {
            let written = match stall {
                Duration::MAX => socket.write(rest).await,
                stall => match timeout(stall, socket.write(rest)).await {
                    Ok(written) => written,
                    Err(_) => return false,
                },
            };
            match written {
                Ok(count) if count > 0 => rest = &rest[count..],
                Ok(_) | Err(_) => return false,
            }
        }
        if !buffer.is_empty() {
            Traffic::count(&self.traffic.sent, &self.traffic.writes, buffer.len());
        }
        buffer.clear();
        socket.flush().await.is_ok()
    }
}
