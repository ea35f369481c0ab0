//! Streams of a live node: one message each way, with deadlines, and a bound on what all of them hold.
//!
//! While a stream waits for the other side, what it holds is counted, and may be needed by others. What is read becomes
//! a message only when it is its turn, and until the engine has it: that waits for nobody outside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use super::figures::Figures;
use super::held::{GivesWay, Held, Share};
use super::mismatch::Mismatch;
use super::{Agent, Command, StreamReply};
use crate::gossip::wire::{Node, PushPull, StreamDecoder, StreamError, StreamMessage, Wrapping};
use crate::metrics::Registry;
use crate::transport::{Address, ConnectOptions, Stream};

/// How long a stream may take. memberlist, TCPTimeout.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that are unpacked, or wait for the engine: each may be many times as large as it came.
static TURNS: Semaphore = Semaphore::const_new(2);
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 * 1024;
/// What a stream is counted for beside what it holds: so at most 128 are open at a time, as at memberlist, and over it the
/// same ones give way as with many bytes.
const STREAM_BYTES: usize = 1024 * 1024;

fn nonce() -> [u8; 12] {
    let mut nonce = [0; 12];
    super::core::random(&mut nonce, &mut fastrand::Rng::new());
    nonce
}

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
enum Unread {
    /// It is none of ours.
    #[error(transparent)]
    Fault(#[from] StreamError),
    /// The stream gives way.
    #[error(transparent)]
    GivesWay(#[from] GivesWay),
    /// It broke.
    #[error(transparent)]
    Broken(#[from] std::io::Error),
    /// It was over before.
    #[error("the stream ended before its message")]
    Ended,
}

/// Reads the message of a stream. Until the turn is over, others wait for theirs.
async fn read(
    stream: &mut Stream,
    wrapping: &Wrapping,
    mut decoder: StreamDecoder,
    figures: &Figures,
    share: &Share,
) -> Result<(StreamMessage, SemaphorePermit<'static>), Unread> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        share.hold(STREAM_BYTES + decoder.held_bytes())?;
        let length = share.unless_others_need_it(stream.read(&mut chunk)).await??;
        if length == 0 {
            return Err(Unread::Ended);
        }
        figures.received.stream_bytes.add(length as u64);
        decoder.push(&chunk[..length])?;
        // Never closed.
        let turn = TURNS.acquire().await.map_err(|_| Unread::Ended)?;
        if let Some(message) = decoder.next_message(wrapping)? {
            return Ok((message, turn));
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8], figures: &Figures, share: &Share) -> Result<(), String> {
    figures.sent.stream_bytes.add(bytes.len() as u64);
    share.hold(STREAM_BYTES + bytes.len()).map_err(|error| error.to_string())?;
    let written = share.unless_others_need_it(async {
        stream.write_all(bytes).await?;
        stream.flush().await
    });
    written.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Opens a stream, says something, and waits for the answer if there is to be one.
pub(super) async fn exchange(
    to: SocketAddr,
    message: &StreamMessage,
    answered: bool,
    wrapping: &Wrapping,
    figures: &Figures,
    held: &Held,
) -> StreamReply {
    figures.sent.streams.increment();
    let share = held.stream(to.ip(), Instant::now());
    let talk = async {
        let address = Address::tcp(to.ip().to_string(), to.port());
        let options = ConnectOptions { timeout: STREAM_TIMEOUT, ..ConnectOptions::default() };
        let mut stream = Stream::connect_with(&address, &options).await.map_err(|error| error.to_string())?;
        write(&mut stream, &message.encode(wrapping, nonce()), figures, &share).await?;
        if !answered {
            let _ = stream.shutdown().await;
            return Ok(StreamReply::Sent);
        }
        let read = read(&mut stream, wrapping, StreamDecoder::of_answer(), figures, &share).await;
        let (message, _turn) = read.map_err(|why| why.to_string())?;
        Ok(StreamReply::Message(message))
    };
    let why = match tokio::time::timeout(STREAM_TIMEOUT, talk).await {
        Ok(Ok(reply)) => return reply,
        Ok(Err(why)) => why,
        Err(_) => format!("no answer within {STREAM_TIMEOUT:?}"),
    };
    figures.streams_failed.increment();
    StreamReply::Failed(why)
}

/// All members that a node knows, asked for as nodes ask each other: the one who asks says nothing of itself.
///
/// # Errors
/// It is not there, or does not answer so.
pub async fn members_at(node: SocketAddr, wrapping: &Wrapping) -> Result<Vec<Node>, String> {
    let ask = StreamMessage::PushPull(PushPull { join: false, nodes: Vec::new(), serf: None });
    match exchange(node, &ask, true, wrapping, &Figures::new(&Registry::default()), &Held::default()).await {
        StreamReply::Message(StreamMessage::PushPull(state)) => Ok(state.nodes),
        StreamReply::Message(StreamMessage::Error(why)) | StreamReply::Failed(why) => Err(why),
        StreamReply::Message(_) | StreamReply::Sent => Err("it answers something else".to_owned()),
    }
}

/// Serves a stream that somebody opened.
pub(super) async fn serve(agent: Agent, mut stream: Stream) {
    let Some(from) = stream.peer_address() else { return };
    let (wrapping, figures) = (agent.wrapping(), &agent.figures);
    figures.received.streams.increment();
    let share = agent.held.stream(from.ip(), stream.since());
    let talk = async {
        let read = read(&mut stream, &wrapping, StreamDecoder::default(), figures, &share).await;
        let (message, turn) = match read {
            Ok(read) => read,
            Err(why) => {
                if let Unread::Fault(fault) = &why {
                    figures.mismatches.seen(from.ip(), Mismatch::of_stream(fault));
                }
                let why = why.to_string();
                // In the clear, as agents do: whoever has no key cannot read it otherwise.
                let error = StreamMessage::Error(why.clone());
                let bytes = error.encode_answer(&Wrapping::default(), nonce());
                let _ = write(&mut stream, &bytes, figures, &share).await;
                let _ = stream.shutdown().await;
                return Err(why);
            }
        };
        let (answer, answered) = oneshot::channel();
        let command = Command::Stream { from, message, answer };
        agent.commands.send(command).await.map_err(|_| "the node has ended".to_owned())?;
        let answer = answered.await.ok().map(|answer| answer.encode_answer(&wrapping, nonce()));
        drop(turn);
        if let Some(bytes) = answer {
            write(&mut stream, &bytes, figures, &share).await?;
        }
        let _ = stream.shutdown().await;
        Ok(())
    };
    match tokio::time::timeout(STREAM_TIMEOUT, talk).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => {
            figures.streams_failed.increment();
            tracing::info!("a stream from {from}: {why}");
        }
        Err(_) => {
            figures.streams_failed.increment();
            tracing::info!("a stream from {from}: not done within {STREAM_TIMEOUT:?}");
        }
    }
}
