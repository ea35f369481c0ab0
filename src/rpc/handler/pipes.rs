//! The three pipes of a running handler: requests in, replies out, complaints to the log.

use std::os::fd::AsFd;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

use crate::rpc::{Payload, Requests, Status};

/// One read from a pipe: its size in Linux, so that a full one is emptied at once.
const READ_BYTES: usize = 64 * 1024;

/// Of a line on stderr; the rest of it is dropped.
const COMPLAINT_BYTES_MAX: usize = 8 * 1024;

/// Of the last words of a handler that go into a status: headers have to stay small.
const LAST_WORDS_BYTES_MAX: usize = 1024;

/// Request messages on their way into a handler.
pub struct Feed {
    stdin: Option<ChildStdin>,
    pending: Bytes,
    source: Option<BoxStream<'static, Result<Payload, Status>>>,
}

impl Feed {
    /// Feeds `first`, then the stream.
    pub fn new(stdin: Option<ChildStdin>, first: Bytes, requests: Option<Requests>) -> Self {
        let source = match requests {
            Some(Requests::Stream(stream)) => Some(stream),
            Some(Requests::One(_)) | None => None,
        };
        Self { stdin, pending: first, source }
    }

    /// True once stdin is closed: everything was written, or nobody reads.
    pub fn is_closed(&self) -> bool {
        self.stdin.is_none()
    }

    /// Moves on by one write or one message, translated by `encode`. Cancel safe.
    ///
    /// # Errors
    /// The caller's stream broke, or sent what is not a message.
    pub async fn advance(
        &mut self,
        encode: impl Fn(&Payload) -> Result<Bytes, Status>,
    ) -> Result<(), Status> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        if self.pending.has_remaining() {
            // A handler that does not read to the end is its own business: a broken pipe ends the
            // feeding, its exit code tells the rest.
            if stdin.write_buf(&mut self.pending).await.is_err() {
                self.close();
            }
            return Ok(());
        }
        let next = match &mut self.source {
            Some(source) => source.next().await,
            None => None,
        };
        match next {
            Some(message) => {
                let message = encode(&message?)?;
                let mut line = BytesMut::with_capacity(message.len() + 1);
                line.put(message);
                line.put_u8(b'\n');
                self.pending = line.freeze();
            }
            None => self.close(),
        }
        Ok(())
    }

    fn close(&mut self) {
        self.stdin = None;
        self.source = None;
        self.pending = Bytes::new();
    }
}

/// Replies on their way out.
#[derive(Debug)]
pub struct Output(Option<ChildStdout>);

impl Output {
    /// Reads from there.
    pub fn new(stdout: Option<ChildStdout>) -> Self {
        Self(stdout)
    }

    /// True until the end of the pipe.
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Adds what there is to `buffer`, waiting for something. Cancel safe.
    pub async fn read(&mut self, buffer: &mut BytesMut) {
        let Some(pipe) = &mut self.0 else { return };
        buffer.reserve(READ_BYTES.min(buffer.len().max(4096)));
        if !matches!(pipe.read_buf(buffer).await, Ok(1..)) {
            self.0 = None;
        }
    }

    /// Adds what is in the pipe now, up to `bytes_max` in the buffer, without waiting for those who
    /// inherited its other end.
    pub fn drain(&mut self, buffer: &mut BytesMut, bytes_max: usize) {
        if let Some(pipe) = self.0.take() {
            drain(&pipe, buffer, bytes_max);
        }
    }
}

fn drain(pipe: impl AsFd, buffer: &mut BytesMut, bytes_max: usize) {
    let mut chunk = [0; 4096];
    while buffer.len() <= bytes_max {
        // Tokio made the pipe non-blocking; its own readiness may not know yet what was written
        // just before the exit.
        match rustix::io::read(&pipe, &mut chunk) {
            Ok(count @ 1..) => buffer.extend_from_slice(&chunk[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

/// A handler's stderr: every line goes to the log, the last one is kept.
#[derive(Debug)]
pub struct Complaints {
    pipe: Option<ChildStderr>,
    who: String,
    line: BytesMut,
    last: String,
}

impl Complaints {
    /// Lines of `who`.
    pub fn new(pipe: Option<ChildStderr>, who: String) -> Self {
        Self { pipe, who, line: BytesMut::new(), last: String::new() }
    }

    /// True until the end of the pipe.
    pub fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Logs what there is, waiting for something. Cancel safe.
    pub async fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        self.line.reserve(1024);
        if !matches!(pipe.read_buf(&mut self.line).await, Ok(1..)) {
            self.pipe = None;
        }
        self.log_lines();
    }

    /// Takes what is in the pipe now and returns the last line that was not empty.
    pub fn finish(&mut self) -> &str {
        if let Some(pipe) = self.pipe.take() {
            // More than this at the very end would only be thrown away line by line.
            let bytes_max = self.line.len() + READ_BYTES;
            drain(&pipe, &mut self.line, bytes_max);
        }
        self.log_lines();
        let rest = self.line.split();
        self.log_line(&rest);
        &self.last
    }

    fn log_lines(&mut self) {
        while let Some(end) = self.line.iter().position(|&byte| byte == b'\n') {
            let line = self.line.split_to(end + 1);
            self.log_line(&line);
        }
        if self.line.len() > COMPLAINT_BYTES_MAX {
            let line = self.line.split();
            self.log_line(&line);
        }
    }

    fn log_line(&mut self, line: &[u8]) {
        let text = String::from_utf8_lossy(line.trim_ascii());
        if text.is_empty() {
            return;
        }
        // A warning, because that is what is shown unless asked for less.
        tracing::warn!(target: "bandy::handler", "{}: {text}", self.who);
        let end = text.floor_char_boundary_compat(LAST_WORDS_BYTES_MAX);
        self.last.clear();
        self.last.push_str(&text[..end]);
    }
}

trait FloorCharBoundary {
    fn floor_char_boundary_compat(&self, index: usize) -> usize;
}

impl FloorCharBoundary for str {
    /// `str::floor_char_boundary` is younger than our oldest compiler.
    fn floor_char_boundary_compat(&self, index: usize) -> usize {
        (0..=index.min(self.len())).rev().find(|&end| self.is_char_boundary(end)).unwrap_or(0)
    }
}
