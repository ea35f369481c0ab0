//! The task of a connection, and what it shares with who asks: requests go out in a row, answers come back in that order.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Error;
use crate::shutdown::Shutdown;
use crate::transport::Stream;

/// Largest answer that is believed, in bytes. What is asked for is far less: it bounds what a broken peer can make us hold.
const ANSWER_BYTES_MAX: usize = 512 << 20;
/// The least that is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;
/// The most that memory is got ready for at once, in bytes: an announcement costs its sender nothing.
const AHEAD_BYTES_MAX: usize = 4 << 20;
/// Runs of bytes that are handed to the system at once.
const SLICES_MAX: usize = 32;
/// How long a broker may take to take leave.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// Who waits for an answer, and with which correlation id.
struct Waiting {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes, Error>>,
}

/// The two ends of a connection: its task on one, its owners on the other.
#[derive(Default)]
pub(super) struct Link {
    state: Mutex<State>,
    /// For the writer: there is something to send, or an end.
    wake: Notify,
}

#[derive(Default)]
struct State {
    out: VecDeque<Bytes>,
    waiting: VecDeque<Waiting>,
    next_id: i32,
    /// How many answers have come.
    answers: usize,
    ended: Option<Error>,
    leaving: bool,
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the connection has ended; none while it has not.
    pub(super) fn ended(&self) -> Option<Error> {
        self.state().ended.clone()
    }

    /// How many answers have come.
    pub(super) fn answers(&self) -> usize {
        self.state().answers
    }

    /// Puts a request into the row. `encode` is given the correlation id. Without an answer there is nothing to wait for.
    pub(super) fn send(
        &self,
        is_answered: bool,
        encode: impl FnOnce(i32) -> Result<Vec<Bytes>, Error>,
    ) -> Result<Option<oneshot::Receiver<Result<Bytes, Error>>>, Error> {
        let mut state = self.state();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let correlation_id = state.next_id;
        let chunks = encode(correlation_id)?;
        state.next_id = state.next_id.wrapping_add(1) & i32::MAX;
        state.out.extend(chunks);
        let receiver = is_answered.then(|| {
            let (answer, receiver) = oneshot::channel();
            state.waiting.push_back(Waiting { correlation_id, answer });
            receiver
        });
        drop(state);
        self.wake.notify_one();
        Ok(receiver)
    }

    /// Nobody will ask any more: the task ends when everything is out.
    pub(super) fn leave(&self) {
        self.state().leaving = true;
        self.wake.notify_one();
    }

    /// Ends the connection: everybody who waits is told why.
    pub(super) fn end(&self, error: &Error) {
        let mut state = self.state();
        if state.ended.is_none() {
            state.ended = Some(error.clone());
        }
        let waiting = std::mem::take(&mut state.waiting);
        state.out.clear();
        drop(state);
        for Waiting { answer, .. } in waiting {
            let _ = answer.send(Err(error.clone()));
        }
        self.wake.notify_one();
    }

    fn answered(&self, frame: Bytes) -> Result<(), Error> {
        let id = crate::log::wire::correlation_id(&frame)?;
        let first = {
            let mut state = self.state();
            state.answers += 1;
            state.waiting.pop_front()
        };
        match first {
            Some(Waiting { correlation_id, answer }) if correlation_id == id => {
                // Whoever asked may have gone.
                let _ = answer.send(Ok(frame));
                Ok(())
            }
            Some(Waiting { answer, .. }) => {
                let _ = answer.send(Err(Error::OutOfTurn));
                Err(Error::OutOfTurn)
            }
            None => Err(Error::OutOfTurn),
        }
    }
}

/// Runs the connection until either side ends it, or `shutdown` stops.
pub(super) async fn drive(stream: Stream, link: std::sync::Arc<Link>, shutdown: Shutdown) {
    let (reader, mut writer) = tokio::io::split(stream);
    let error = {
        let read = read(reader, &link);
        let write = write(&mut writer, &link);
        tokio::pin!(read, write);
        tokio::select! {
            error = &mut read => error,
            error = &mut write => error,
            () = shutdown.stopped() => Error::Closed,
        }
    };
    link.end(&error);
    let _ = timeout(GOODBYE_TIMEOUT, writer.shutdown()).await;
}

/// Reads until there is an error; the end of the stream is one.
async fn read(mut reader: ReadHalf<Stream>, link: &Link) -> Error {
    let mut input = BytesMut::with_capacity(READ_BYTES);
    loop {
        match next_frame(&mut reader, &mut input).await {
            Ok(frame) => {
                if let Err(error) = link.answered(frame) {
                    return error;
                }
            }
            Err(error) => return error,
        }
    }
}

async fn next_frame(reader: &mut ReadHalf<Stream>, input: &mut BytesMut) -> Result<Bytes, Error> {
    loop {
        let mut needed = 4;
        if let Some(length) = input.first_chunk() {
            let length = i32::from_be_bytes(*length);
            let len = usize::try_from(length).ok().filter(|len| *len <= ANSWER_BYTES_MAX);
            let len = len.ok_or(Error::TooLong { length: length.into(), limit: ANSWER_BYTES_MAX })?;
            needed = 4 + len;
            if input.len() >= needed {
                input.advance(4);
                return Ok(input.split_to(len).freeze());
            }
        }
        let missing = needed - input.len();
        // Twice what has come, or a few megabytes: whoever announces much has to send it.
        input.reserve(missing.min(AHEAD_BYTES_MAX.max(input.len())).max(READ_BYTES));
        if reader.read_buf(input).await? == 0 {
            return Err(Error::Ended);
        }
    }
}

/// Writes until the connection has ended or is left and everything is out, or there is an error.
async fn write(writer: &mut WriteHalf<Stream>, link: &Link) -> Error {
    let mut chunks = VecDeque::new();
    loop {
        let (ended, leaving) = {
            let mut state = link.state();
            std::mem::swap(&mut state.out, &mut chunks);
            (state.ended.clone(), state.leaving)
        };
        if let Some(error) = ended {
            return error;
        }
        if chunks.is_empty() {
            if leaving {
                return Error::Closed;
            }
            link.wake.notified().await;
            continue;
        }
        if let Err(error) = write_all(writer, &mut chunks).await {
            return error.into();
        }
    }
}

async fn write_all(writer: &mut WriteHalf<Stream>, chunks: &mut VecDeque<Bytes>) -> std::io::Result<()> {
    while !chunks.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&*chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let mut written = writer.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = chunks.front_mut() {
            let part = written.min(first.len());
            first.advance(part);
            written -= part;
            if !first.is_empty() {
                break;
            }
            chunks.pop_front();
        }
    }
    writer.flush().await
}
