//! The two directions of a stream apart, for protocols in which reading and writing go on at the same time; and files
//! that go out without passing through this process.

use std::fs::File;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::{tcp, unix};

use super::stream::{Kind, Stream};

/// Bytes of a file that are in memory at a time where the system cannot send it by itself.
const COPY_BYTES: usize = 256 << 10;

/// Bytes that the system is asked to send at once: more would keep the thread from its other connections.
const SEND_BYTES_MAX: usize = 1 << 20;

/// The reading half of a [`Stream`].
#[derive(Debug)]
pub struct ReadHalf {
    kind: ReadKind,
    /// Looked at before the split, not yet read.
    ahead: BytesMut,
}

#[derive(Debug)]
enum ReadKind {
    Tcp(tcp::OwnedReadHalf),
    Unix(unix::OwnedReadHalf),
    Other(tokio::io::ReadHalf<Stream>),
}

/// The writing half of a [`Stream`].
#[derive(Debug)]
pub struct WriteHalf(WriteKind);

#[derive(Debug)]
enum WriteKind {
    Tcp(tcp::OwnedWriteHalf),
    Unix(unix::OwnedWriteHalf),
    Other(tokio::io::WriteHalf<Stream>),
}

impl Stream {
    /// Takes the two directions apart. What was looked at ahead is read first.
    pub fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (kind, ahead) = self.into_kind();
        let (read, write) = match kind {
            Kind::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadKind::Tcp(read), WriteKind::Tcp(write))
            }
            Kind::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadKind::Unix(read), WriteKind::Unix(write))
            }
            other => {
                let (read, write) = tokio::io::split(Self::new(other));
                (ReadKind::Other(read), WriteKind::Other(write))
            }
        };
        (ReadHalf { kind: read, ahead }, WriteHalf(write))
    }
}

impl WriteHalf {
    /// True if the system sends files by itself; otherwise they are read here first.
    pub fn sends_files(&self) -> bool {
        matches!(self.0, WriteKind::Tcp(_) | WriteKind::Unix(_))
    }

    /// Sends `len` bytes of a file from `position` on: without copying them into this process where the system can.
    ///
    /// # Errors
    /// The operating system's; the file ends before. Some of it may have been sent then, so that the connection is of
    /// no use any more.
    pub async fn send_file(&mut self, file: &File, position: u64, len: usize) -> io::Result<()> {
        let end = position + len as u64;
        let mut at = position;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(SEND_BYTES_MAX).min(SEND_BYTES_MAX);
            let sent = match &mut self.0 {
                WriteKind::Tcp(half) => {
                    let stream = half.as_ref();
                    stream.async_io(Interest::WRITABLE, || send(stream, file, at, want)).await?
                }
                WriteKind::Unix(half) => {
                    let stream = half.as_ref();
                    stream.async_io(Interest::WRITABLE, || send(stream, file, at, want)).await?
                }
                WriteKind::Other(half) => {
                    let mut bytes = vec![0; want.min(COPY_BYTES)];
                    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, at)?;
                    half.write_all(&bytes).await?;
                    bytes.len()
                }
            };
            if sent == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            at += sent as u64;
        }
        Ok(())
    }
}

/// sendfile(2) where there is one.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn send(socket: impl std::os::fd::AsFd, file: &File, position: u64, len: usize) -> io::Result<usize> {
    let mut at = position;
    Ok(rustix::fs::sendfile(socket, file, Some(&mut at), len)?)
}

/// Elsewhere the bytes pass through here.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn send(socket: impl std::os::fd::AsFd, file: &File, position: u64, len: usize) -> io::Result<usize> {
    let mut bytes = vec![0; len.min(COPY_BYTES)];
    let read = std::os::unix::fs::FileExt::read_at(file, &mut bytes, position)?;
    Ok(rustix::io::write(socket, &bytes[..read])?)
}

impl AsyncRead for ReadHalf {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ahead.is_empty() {
            let taken = this.ahead.len().min(buf.remaining());
            buf.put_slice(&this.ahead[..taken]);
            this.ahead.advance(taken);
            if this.ahead.is_empty() {
                this.ahead = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        match &mut this.kind {
            ReadKind::Tcp(half) => Pin::new(half).poll_read(cx, buf),
            ReadKind::Unix(half) => Pin::new(half).poll_read(cx, buf),
            ReadKind::Other(half) => Pin::new(half).poll_read(cx, buf),
        }
    }
}

macro_rules! each {
    ($self:ident, $half:ident => $call:expr) => {
        match &mut $self.get_mut().0 {
            WriteKind::Tcp($half) => $call,
            WriteKind::Unix($half) => $call,
            WriteKind::Other($half) => $call,
        }
    };
}

impl AsyncWrite for WriteHalf {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, half => Pin::new(half).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, half => Pin::new(half).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, half => Pin::new(half).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, half => Pin::new(half).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::io::AsyncReadExt as _;

    use super::*;
    use crate::transport::{Address, Listener};

    async fn pairs() -> Vec<(Stream, Stream)> {
        let folder = tempfile::tempdir().unwrap();
        let mut pairs = Vec::new();
        for address in [Address::tcp("127.0.0.1", 0), Address::Unix(folder.path().join("socket"))] {
            let listener = Listener::bind(&address).await.unwrap();
            let bound = listener.address().unwrap().to_string().parse().unwrap();
            let (theirs, ours) = tokio::join!(Stream::connect(&bound), listener.accept());
            pairs.push((ours.unwrap(), theirs.unwrap()));
        }
        let (left, right) = tokio::io::duplex(4096);
        pairs.push((
            Stream::new(Kind::Mem(left, "right".to_owned())),
            Stream::new(Kind::Mem(right, "left".to_owned())),
        ));
        pairs
    }

    #[tokio::test]
    async fn a_file_goes_out_between_other_bytes() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        file.write_all(&content).unwrap();
        for (ours, mut theirs) in pairs().await {
            let (_read, mut write) = ours.into_split();
            let sending = async {
                write.write_all(b"before").await.unwrap();
                write.send_file(&file, 7, 2_500_000).await.unwrap();
                write.write_all(b"after").await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let (_, read) = tokio::join!(sending, theirs.read_to_end(&mut got));
            read.unwrap();
            let mut expected = b"before".to_vec();
            expected.extend_from_slice(&content[7..2_500_007]);
            expected.extend_from_slice(b"after");
            assert!(got == expected);
        }
    }

    #[tokio::test]
    async fn a_file_that_ends_too_soon_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        for (ours, _theirs) in pairs().await {
            let (_read, mut write) = ours.into_split();
            let error = write.send_file(&file, 0, 10).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn what_was_peeked_is_read_after_the_split() {
        for (mut ours, mut theirs) in pairs().await {
            theirs.write_all(b"hello").await.unwrap();
            ours.peek(5).await.unwrap();
            let (mut read, _write) = ours.into_split();
            let mut got = [0; 5];
            read.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"hello");
        }
    }
}
