//! The task of a connection: reads, writes, and shows that it lives. AMQP 0-9-1, 4.2.7.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::Error;
use super::link::Link;
use crate::mq::wire::{self, Assembler, BODY_SIZE_MAX, frame};
use crate::shutdown::Shutdown;
use crate::transport::Stream;

/// The least room for a read, in bytes: as much as a socket buffer gives at once.
const READ_BYTES: usize = 64 * 1024;

/// A buffer that has grown beyond this is not kept, in bytes.
const SPARE_BYTES_MAX: usize = 1024 * 1024;

/// How long the broker's last words are waited for.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs the connection until either side ends it, or `shutdown` stops.
pub(super) async fn drive(stream: Stream, input: BytesMut, link: Arc<Link>, shutdown: Shutdown) {
    let (reader, mut writer) = tokio::io::split(stream);
    let error = {
        let read = read(reader, input, &link);
        let write = write(&mut writer, &link);
        tokio::pin!(read, write);
        tokio::select! {
            error = &mut read => {
                // Whoever waits learns it now; what is to be answered still goes out.
                link.end(error.clone());
                let _ = timeout(GOODBYE_TIMEOUT, write).await;
                error
            }
            // A broker that closes has mostly said why.
            error = &mut write => timeout(GOODBYE_TIMEOUT, read).await.unwrap_or(error),
            () = shutdown.stopped() => Error::Closed,
        }
    };
    link.end(error);
    let _ = timeout(GOODBYE_TIMEOUT, writer.shutdown()).await;
}

/// Reads until there is an error; the end of the stream is one.
async fn read(mut reader: ReadHalf<Stream>, mut input: BytesMut, link: &Link) -> Error {
    let agreed = &link.agreed;
    let mut assembler = Assembler::new(agreed.frame_max, BODY_SIZE_MAX);
    // Two missed heartbeats are the end: AMQP 0-9-1, 4.2.7.
    let silence = agreed.heartbeat * 2;
    loop {
        let whole = frame::whole(&input, agreed.frame_max);
        if whole > 0 {
            let chunk = input.split_to(whole).freeze();
            if let Err(error) = link.receive(&mut assembler, &chunk) {
                return error;
            }
        }
        while link.is_full() {
            link.taken.notified().await;
        }
        input.reserve(READ_BYTES);
        let read = reader.read_buf(&mut input);
        let read = match silence.is_zero() {
            true => read.await,
            false => match timeout(silence, read).await {
                Ok(read) => read,
                Err(_) => return Error::Silent(silence),
            },
        };
        match read {
            Ok(0) => return Error::Ended,
            Ok(_) => {}
            Err(error) => return error.into(),
        }
    }
}

/// Writes until the connection has ended and everything is out, or there is an error.
async fn write(writer: &mut WriteHalf<Stream>, link: &Link) -> Error {
    let mut spare = Vec::new();
    // Twice as often as agreed on, so that a late one is not a missed one.
    let interval = link.agreed.heartbeat / 2;
    loop {
        let (ended, leaving) = {
            let mut state = link.state();
            std::mem::swap(&mut state.out, &mut spare);
            (state.ended.clone(), state.leaving)
        };
        if spare.is_empty() {
            match ended {
                Some(error) => return error,
                None if leaving => {
                    // The reader ends all this when the broker has answered.
                    tokio::time::sleep(GOODBYE_TIMEOUT).await;
                    return Error::Closed;
                }
                None if interval.is_zero() => link.wake.notified().await,
                None => {
                    if timeout(interval, link.wake.notified()).await.is_err() {
                        wire::heartbeat(&mut spare);
                    }
                }
            }
        }
        if spare.is_empty() {
            continue;
        }
        let written = async {
            writer.write_all(&spare).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return error.into();
        }
        spare.clear();
        if spare.capacity() > SPARE_BYTES_MAX {
            spare = Vec::new();
        }
        link.room.notify_waiters();
    }
}
