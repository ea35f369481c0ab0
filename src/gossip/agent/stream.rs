//! Streams of a live node: one message each way, with deadlines, and a bound on what all of them hold.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, oneshot};

use super::figures::Figures;
use super::{Agent, Command, StreamReply};
use crate::gossip::wire::{Node, PushPull, StreamDecoder, StreamMessage, Wrapping};
use crate::metrics::Registry;
use crate::transport::{Address, ConnectOptions, Stream};

/// How long a stream may take. memberlist, TCPTimeout.
const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream that holds more than this is one of few.
const LARGE_BYTES: usize = 1024 * 1024;
/// How many may be.
static LARGE: Semaphore = Semaphore::const_new(4);
/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

fn nonce() -> [u8; 12] {
    let mut nonce = [0; 12];
    super::core::random(&mut nonce, &mut fastrand::Rng::new());
    nonce
}

/// Reads the message of a stream.
async fn read(
    stream: &mut Stream,
    wrapping: &Wrapping,
    mut decoder: StreamDecoder,
    figures: &Figures,
) -> Result<StreamMessage, String> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut large = None;
    loop {
        let length = stream.read(&mut chunk).await.map_err(|error| error.to_string())?;
        if length == 0 {
            return Err("the stream ended before its message".to_owned());
        }
        figures.received.stream_bytes.add(length as u64);
        decoder.push(&chunk[..length]).map_err(|error| error.to_string())?;
        if decoder.held_bytes() > LARGE_BYTES && large.is_none() {
            // What is read meanwhile waits in the kernel.
            large = LARGE.acquire().await.ok();
        }
        if let Some(message) = decoder.next_message(wrapping).map_err(|error| error.to_string())? {
            return Ok(message);
        }
    }
}

async fn write(stream: &mut Stream, bytes: &[u8], figures: &Figures) -> Result<(), String> {
    figures.sent.stream_bytes.add(bytes.len() as u64);
    stream.write_all(bytes).await.map_err(|error| error.to_string())?;
    stream.flush().await.map_err(|error| error.to_string())
}

/// Opens a stream, says something, and waits for the answer if there is to be one.
pub(super) async fn exchange(
    to: SocketAddr,
    message: &StreamMessage,
    answered: bool,
    wrapping: &Wrapping,
    figures: &Figures,
) -> StreamReply {
    figures.sent.streams.increment();
    let talk = async {
        let address = Address::tcp(to.ip().to_string(), to.port());
        let options = ConnectOptions { timeout: STREAM_TIMEOUT, ..ConnectOptions::default() };
        let mut stream = Stream::connect_with(&address, &options).await.map_err(|error| error.to_string())?;
        write(&mut stream, &message.encode(wrapping, nonce()), figures).await?;
        if !answered {
            let _ = stream.shutdown().await;
            return Ok(StreamReply::Sent);
        }
        read(&mut stream, wrapping, StreamDecoder::of_answer(), figures).await.map(StreamReply::Message)
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
    match exchange(node, &ask, true, wrapping, &Figures::new(&Registry::default())).await {
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
    let talk = async {
        let message = match read(&mut stream, &wrapping, StreamDecoder::default(), figures).await {
            Ok(message) => message,
            Err(why) => {
                // In the clear, as agents do: whoever has no key cannot read it otherwise.
                let error = StreamMessage::Error(why.clone());
                let _ =
                    write(&mut stream, &error.encode_answer(&Wrapping::default(), nonce()), figures).await;
                let _ = stream.shutdown().await;
                return Err(why);
            }
        };
        let (answer, answered) = oneshot::channel();
        let command = Command::Stream { from, message, answer };
        agent.commands.send(command).await.map_err(|_| "the node has ended".to_owned())?;
        if let Ok(answer) = answered.await {
            write(&mut stream, &answer.encode_answer(&wrapping, nonce()), figures).await?;
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
