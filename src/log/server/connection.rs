//! One connection: frames in, answers out in the order of their requests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use futures_util::future::poll_immediate;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, Receiver, Sender};

use super::Broker;
use super::answer::{Outgoing, Pending};
use super::api;
use super::room::{Room, STILL_MAX};
use super::session::Session;
use crate::log::wire::Chunk;
use crate::transport::{ReadHalf, Stream, WriteHalf};

/// Bytes of a frame's size.
const SIZE_BYTES: usize = 4;
/// Room for what is read at once from a connection that sends little.
const READ_BYTES_MIN: usize = 4 << 10;
/// Room that is taken at once for a large request: what it says it is long is believed as it comes.
const READ_BYTES_STEP: usize = 1 << 20;
/// Answers up to this size are put together before they are written.
const COPY_BYTES_MAX: usize = 16 << 10;
/// So much is put together before it is written.
const WRITE_BYTES: usize = 64 << 10;
/// A buffer that is larger is not kept for a connection that is idle.
const KEEP_BYTES_MAX: usize = 64 << 10;

/// Serves a connection until it ends.
pub(super) async fn serve(broker: &Arc<Broker>, stream: Stream) {
    let session = Session::new(broker, &stream);
    let (read, write) = stream.into_split();
    let (tx, rx) = mpsc::channel(broker.options.limits.requests_max);
    let reader = Reader { session: &session, read, buffer: BytesMut::new(), room: broker.rooms.room() };
    let writer = Writer { session: &session, write, out: Vec::new() };
    let ended = tokio::select! {
        // The writer ends behind the last answer, also when the reader has ended.
        (read, written) = async { tokio::join!(reader.run(tx), writer.run(rx)) } => read.and(written),
        () = broker.shutdown.stopped() => Ok(()),
    };
    if let Err(error) = ended {
        tracing::debug!(peer = session.peer, %error, "connection ended");
    }
}

struct Reader<'a> {
    session: &'a Arc<Session>,
    read: ReadHalf,
    buffer: BytesMut,
    /// What the buffer has grown to.
    room: Room,
}

impl Reader<'_> {
    /// Reads requests and puts their answers in line, until the client ends, breaks the protocol, or nobody writes.
    async fn run(mut self, answers: Sender<Pending>) -> io::Result<()> {
        let session = self.session;
        loop {
            let frame = tokio::select! {
                frame = self.frame() => frame?,
                () = answers.closed() => return Ok(()),
                () = session.broker.shutdown.draining() => return Ok(()),
            };
            let Some(frame) = frame else { return Ok(()) };
            session.broker.counts.requests.fetch_add(1, Ordering::Relaxed);
            match api::handle(session, frame) {
                Pending::Nothing => {}
                last @ (Pending::Close | Pending::Last(_)) => {
                    let _ = answers.send(last).await;
                    return Ok(());
                }
                pending @ (Pending::Ready(_) | Pending::Later(_)) => {
                    if answers.send(pending).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The next request, without its size; none at the end.
    async fn frame(&mut self) -> io::Result<Option<Bytes>> {
        let is_large = self.buffer.capacity() > KEEP_BYTES_MAX || self.room.is_held();
        if self.buffer.is_empty() && is_large {
            self.rest().await?;
        }
        while self.buffer.len() < SIZE_BYTES {
            self.buffer.reserve(READ_BYTES_MIN);
            if self.read.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
        let size = self.buffer.first_chunk().map_or(0, |size| i32::from_be_bytes(*size));
        let max = self.session.request_bytes_max();
        let size = usize::try_from(size).ok().filter(|size| *size <= max).ok_or_else(|| {
            let peer = &self.session.peer;
            tracing::info!(peer, size, max, "a request of this size is not taken; the connection is closed");
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("request of {size} bytes; at most {max} are taken"),
            )
        })?;
        let whole = SIZE_BYTES + size;
        while self.buffer.len() < whole {
            let step = (whole - self.buffer.len()).min(READ_BYTES_STEP);
            if let Err(error) = self.room.hold(self.buffer.len() + step).await {
                let peer = &self.session.peer;
                tracing::info!(peer, size, %error, "a request is not taken; the connection is closed");
                return Err(error);
            }
            self.buffer.reserve(step);
            if self.more().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut frame = self.buffer.split_to(whole);
        Ok(Some(frame.split_off(SIZE_BYTES).freeze()))
    }

    /// Reads more of a request. One that stands still while others wait for room is ended.
    async fn more(&mut self) -> io::Result<usize> {
        if !self.room.is_held() {
            return self.read.read_buf(&mut self.buffer).await;
        }
        loop {
            match tokio::time::timeout(STILL_MAX, self.read.read_buf(&mut self.buffer)).await {
                Ok(read) => return read,
                Err(_) if self.room.is_wanted() => {
                    let peer = &self.session.peer;
                    tracing::info!(
                        peer,
                        "half a request stands still and others wait; the connection is closed"
                    );
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(_) => {}
            }
        }
    }

    /// A large buffer is kept while requests follow each other; a connection that pauses gives it back.
    async fn rest(&mut self) -> io::Result<()> {
        /// Between two requests of a producer that is busy.
        const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
        let read = tokio::time::timeout(PAUSE, self.read.read_buf(&mut self.buffer)).await;
        match read {
            Ok(read) => drop(read?),
            Err(_) => {
                self.buffer = BytesMut::new();
                self.room.clear();
            }
        }
        Ok(())
    }
}

struct Writer<'a> {
    session: &'a Arc<Session>,
    write: WriteHalf,
    out: Vec<u8>,
}

impl Writer<'_> {
    async fn run(mut self, mut answers: Receiver<Pending>) -> io::Result<()> {
        loop {
            let next = match answers.try_recv() {
                Ok(next) => next,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    self.flush().await?;
                    let Some(next) = answers.recv().await else { break };
                    next
                }
            };
            let outgoing = match next {
                Pending::Nothing => continue,
                Pending::Close => break,
                Pending::Last(outgoing) => {
                    self.put(outgoing).await?;
                    break;
                }
                Pending::Ready(outgoing) => Some(outgoing),
                Pending::Later(mut later) => match poll_immediate(&mut later).await {
                    Some(outgoing) => outgoing,
                    None => {
                        self.flush().await?;
                        later.await
                    }
                },
            };
            let Some(outgoing) = outgoing else { break };
            self.put(outgoing).await?;
        }
        self.flush().await?;
        self.write.shutdown().await
    }

    /// Writes an answer, or puts it together with others.
    async fn put(&mut self, outgoing: Outgoing) -> io::Result<()> {
        let mut records = outgoing.records.into_iter();
        for chunk in outgoing.message {
            match chunk {
                Chunk::Bytes(bytes) if bytes.len() <= COPY_BYTES_MAX => self.out.extend_from_slice(&bytes),
                Chunk::Bytes(bytes) => {
                    self.flush().await?;
                    self.write.write_all(&bytes).await?;
                }
                Chunk::Hole(len) => {
                    self.flush().await?;
                    let chunk = records.next().filter(|chunk| chunk.len == len);
                    let chunk = chunk.ok_or_else(|| io::Error::other("an answer without its records"))?;
                    match chunk.file() {
                        Some(file) => self.write.send_file(file, chunk.position, len).await?,
                        None => self.write.write_all(&chunk.read()?).await?,
                    }
                    self.session.broker.counts.bytes_out.fetch_add(len as u64, Ordering::Relaxed);
                }
            }
        }
        if self.out.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.write.write_all(&self.out).await?;
        // TLS holds back what is not flushed.
        self.write.flush().await?;
        self.out.clear();
        if self.out.capacity() > 2 * WRITE_BYTES {
            self.out = Vec::new();
        }
        Ok(())
    }
}
