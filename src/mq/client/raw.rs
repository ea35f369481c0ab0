//! A connection without a task: its owner reads and writes frames itself. For load, where every hand-over costs.

use std::pin::Pin;
use std::task::Poll;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::{Config, Error, login};
use crate::mq::wire::method::{channel, connection};
use crate::mq::wire::{self, Frame, Kind, Method, frame};
use crate::transport::Stream;

/// The one channel of a [`RawConnection`].
pub const CHANNEL: u16 = 1;

/// A connection that is logged in, with channel [`CHANNEL`] open. No heartbeats are agreed on: nobody would send them.
#[derive(Debug)]
pub struct RawConnection {
    stream: Stream,
    input: Input,
    frame_max: u32,
}

/// What was read and not yet taken.
#[derive(Debug)]
struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl RawConnection {
    /// Connects and logs in. `room` is the size of the read buffer in bytes; it grows to hold a frame.
    ///
    /// # Errors
    /// Nobody there, no broker there, login or virtual host refused.
    pub async fn open(config: &Config, room: usize) -> Result<Self, Error> {
        let config = Config { heartbeat: std::time::Duration::ZERO, ..config.clone() };
        let mut stream = Stream::connect_with(&config.address, &config.connect).await?;
        let mut read = BytesMut::new();
        let frame_max = login::login(&mut stream, &mut read, &config).await?.frame_max;
        let mut input = Input { bytes: vec![0; room.max(read.len())], start: 0, end: read.len() };
        input.bytes[..read.len()].copy_from_slice(&read);
        let mut connection = Self { stream, input, frame_max };
        let open = channel::Open::default().into();
        let opened = connection.ask(&open, channel::OpenOk::ID);
        match timeout(config.reply_timeout, opened).await {
            Ok(opened) => opened?,
            Err(_) => return Err(Error::Timeout { what: "channel.open", after: config.reply_timeout }),
        }
        Ok(connection)
    }

    /// The largest frame, in bytes; 0 for no limit.
    pub fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// Sends a method on the channel and waits for the one that answers it. Not for use while contents come.
    ///
    /// # Errors
    /// The broker refuses, or the connection ends.
    pub async fn ask(&mut self, question: &Method<'_>, wanted: (u16, u16)) -> Result<(), Error> {
        let mut out = Vec::new();
        wire::method(&mut out, CHANNEL, question);
        let mut sent = 0;
        loop {
            while let Some(frame) = self.next()? {
                if frame.kind == Kind::Method {
                    let method = Method::decode(frame.payload)?;
                    if method.id() == wanted {
                        return Ok(());
                    }
                    refusal(&method)?;
                }
            }
            sent += self.turn(&out[sent..]).await?;
        }
    }

    /// The next frame of what was read; none if not all of it has come.
    ///
    /// # Errors
    /// Bytes that are no frame.
    // Not an iterator: a frame lends from what was read.
    #[expect(clippy::should_implement_trait, reason = "it lends, which iterators cannot")]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, Error> {
        let input = &mut self.input;
        let Some(frame) = frame::decode(&input.bytes[input.start..input.end], self.frame_max)? else {
            return Ok(None);
        };
        input.start += frame.size();
        Ok(Some(frame))
    }

    /// Writes what it can of `out` and reads what has come, waiting until either is possible. How much was written.
    /// Everything that was read before has to be taken with [`RawConnection::next`] first. Cancel safe.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn turn(&mut self, out: &[u8]) -> Result<usize, Error> {
        self.input.make_room();
        let Self { stream, input, .. } = self;
        std::future::poll_fn(|cx| {
            let mut written = None;
            if !out.is_empty() {
                match Pin::new(&mut *stream).poll_write(cx, out)? {
                    Poll::Ready(0) => return Poll::Ready(Err(Error::Ended)),
                    Poll::Ready(count) => written = Some(count),
                    Poll::Pending => {}
                }
            }
            // For TLS, which keeps what the socket did not take.
            let _ = Pin::new(&mut *stream).poll_flush(cx)?;
            let mut room = ReadBuf::new(&mut input.bytes[input.end..]);
            match Pin::new(&mut *stream).poll_read(cx, &mut room)? {
                Poll::Ready(()) if room.filled().is_empty() => return Poll::Ready(Err(Error::Ended)),
                Poll::Ready(()) => {
                    input.end += room.filled().len();
                    written = Some(written.unwrap_or(0));
                }
                Poll::Pending => {}
            }
            written.map_or(Poll::Pending, |count| Poll::Ready(Ok(count)))
        })
        .await
    }
}

impl RawConnection {
    /// Ends in order: `rest` first, which is what a frame still lacks, then `connection.close`. What comes until that is
    /// answered is thrown away. The caller says how long it waits.
    ///
    /// # Errors
    /// The connection ends otherwise.
    pub async fn close(&mut self, rest: &[u8]) -> Result<(), Error> {
        let mut out = rest.to_vec();
        let close = connection::Close { reply_code: 200, ..connection::Close::default() };
        wire::method(&mut out, 0, &close.into());
        let mut sent = 0;
        loop {
            while let Some(frame) = self.next()? {
                if frame.kind == Kind::Method
                    && matches!(Method::decode(frame.payload)?, Method::ConnectionCloseOk(_))
                {
                    return Ok(());
                }
            }
            sent += self.turn(&out[sent..]).await?;
        }
    }
}

impl Input {
    /// Room behind what has not been taken, which moves to the front.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() {
            // A frame that does not fit; frames are bounded by what was agreed on.
            self.bytes.resize((self.end * 2).max(4096), 0);
        }
    }
}

/// The error that a method of the broker amounts to, if it ends something.
///
/// # Errors
/// A close of the channel or the connection, a consumer that is cancelled.
pub fn refusal(method: &Method<'_>) -> Result<(), Error> {
    match method {
        Method::ChannelClose(close) => Err(Error::Channel {
            code: close.reply_code,
            text: close.reply_text.to_owned(),
            class: close.class_id,
            method: close.method_id,
        }),
        Method::ConnectionClose(close) => Err(Error::Connection {
            code: close.reply_code,
            text: close.reply_text.to_owned(),
            class: close.class_id,
            method: close.method_id,
        }),
        Method::BasicCancel(_) => Err(Error::Ended),
        _ => Ok(()),
    }
}
