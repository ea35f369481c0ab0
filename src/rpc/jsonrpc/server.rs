//! JSON-RPC over streams and datagrams: requests run at the same time, replies go out as they finish.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, MissedTickBehavior};

use super::framing::{Frames, Framing};
use super::service::{Answer, Origin, Service};
use crate::rpc::backend::Peer;
use crate::rpc::budget::{Part, Share};
use crate::shutdown::Shutdown;
use crate::transport::udp::DATAGRAM_BYTES_MAX;

/// Documents of one connection that run at a time; more wait in the peer's socket.
const DOCUMENTS_MAX: usize = 128;
/// Over so many bytes that the peer has not taken, nothing more is read from it.
const OUTPUT_SIZE_MAX: usize = 1 << 20;
/// Bytes that are asked for at a time.
const READ_SIZE: usize = 16 << 10;
/// How often a stuck peer is looked for.
const TICK: Duration = Duration::from_secs(5);
/// A peer that takes nothing, or that does not end what it began, for so long is gone.
const STUCK_MAX: Duration = Duration::from_secs(30);
/// A datagram is answered with at most so many times its bytes: its sender may be forged, and then it is somebody
/// else who gets the reply. RFC 9000, 8.1 has the same factor.
pub const DATAGRAM_GAIN_MAX: usize = 3;

/// Serves one stream until the peer leaves, sends something that has no end, or the server stops.
///
/// The first byte tells lines from `Content-Length` headers; replies come in the same framing. A peer
/// that closes its sending side still gets all replies. Dropping the future cancels the calls.
pub async fn serve<S>(service: &Service, stream: S, origin: Origin, shutdown: &Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Err(error) = exchange(service, stream, &origin, shutdown).await {
        tracing::debug!(peer = origin.peer.address, %error, "JSON-RPC connection broke");
    }
}

async fn exchange<S>(service: &Service, stream: S, origin: &Origin, shutdown: &Shutdown) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut frames = Frames::new(service.limits().request_size_max);
    let mut running = FuturesUnordered::new();
    let mut output = bytes::BytesMut::new();
    // What has come of the next document, and what the peer has not taken yet.
    let (mut input_held, mut output_held) = (origin.share.part(), origin.share.part());
    let (mut open, mut moved) = (true, Instant::now());
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (draining, stopped) = (shutdown.draining(), shutdown.stopped());
    tokio::pin!(draining, stopped);
    loop {
        while open && running.len() < DOCUMENTS_MAX {
            match frames.next_document() {
                Ok(Some(document)) => {
                    let _ = input_held.resize(frames.buffer().len());
                    let mut held = origin.share.part();
                    match held.resize(document.len()) {
                        Ok(()) => running.push(answer(service, origin, document, held)),
                        Err(status) => {
                            frame(frames.framing(), &Service::refuse(&status), &mut output);
                            open = false;
                        }
                    }
                }
                Ok(None) => match input_held.resize(frames.buffer().len()) {
                    Ok(()) => break,
                    Err(status) => {
                        frame(frames.framing(), &Service::refuse(&status), &mut output);
                        open = false;
                    }
                },
                Err(error) => {
                    tracing::debug!(peer = origin.peer.address, %error, "JSON-RPC document refused");
                    frame(frames.framing(), &service.limits().refuse_size(), &mut output);
                    open = false;
                }
            }
        }
        if !open && running.is_empty() && output.is_empty() {
            return writer.shutdown().await;
        }
        output_held.resize(output.len()).map_err(|status| io::Error::other(status.message))?;
        let roomy = output.len() < OUTPUT_SIZE_MAX;
        tokio::select! {
            biased;
            size = writer.write_buf(&mut output), if !output.is_empty() => {
                if size? == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                moved = Instant::now();
            }
            Some(answer) = running.next(), if roomy => {
                if output.is_empty() {
                    moved = Instant::now();
                }
                match answer {
                    Answer::Reply(reply) => frame(frames.framing(), &reply, &mut output),
                    Answer::Silence => {}
                    Answer::Lost => return Ok(()),
                }
            }
            size = read(&mut reader, frames.buffer()), if open && roomy && running.len() < DOCUMENTS_MAX => {
                moved = Instant::now();
                if size? == 0 {
                    open = false;
                    let last = frames.finish();
                    running.extend(last.map(|document| answer(service, origin, document, origin.share.part())));
                }
            }
            _ = tick.tick() => {
                let waits_for_peer = !output.is_empty() || (frames.is_partial() && running.is_empty());
                if waits_for_peer && moved.elapsed() > STUCK_MAX {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                let idle = running.is_empty() && output.is_empty();
                if idle && service.limits().idle_max.is_some_and(|idle_max| moved.elapsed() > idle_max) {
                    open = false;
                }
            }
            () = &mut draining, if open => open = false,
            () = &mut stopped => return Ok(()),
        }
    }
}

/// Answers a document that counts with `_held`.
async fn answer(service: &Service, origin: &Origin, document: Bytes, _held: Part) -> Answer {
    service.answer(origin, &document).await
}

async fn read(reader: &mut (impl AsyncRead + Unpin), buffer: &mut bytes::BytesMut) -> io::Result<usize> {
    buffer.reserve(READ_SIZE);
    reader.read_buf(buffer).await
}

fn frame(framing: Framing, reply: &[u8], output: &mut bytes::BytesMut) {
    let mut framed = Vec::with_capacity(reply.len() + 32);
    framing.write(&mut framed, reply);
    output.extend_from_slice(&framed);
}

/// The datagram that answers `datagram` from `from`, if any: one document each way. A reply that is longer than
/// a datagram can be, or than [`DATAGRAM_GAIN_MAX`] allows, is replaced by an error that says so.
pub async fn answer_datagram(
    service: &Service,
    datagram: &[u8],
    from: SocketAddr,
    share: &Arc<Share>,
) -> Option<Vec<u8>> {
    let peer = Arc::new(Peer { address: from.to_string(), tls_subject: None });
    let size_max = DATAGRAM_BYTES_MAX.min(datagram.len() * DATAGRAM_GAIN_MAX);
    match service.answer(&Origin::new(peer, Arc::clone(share)), datagram).await {
        Answer::Reply(reply) if reply.len() <= size_max => Some(reply),
        Answer::Reply(reply) => Service::refuse_reply(&reply, size_max),
        Answer::Silence | Answer::Lost => None,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::rpc::backend::{Call, Payload, Reply};
    use crate::rpc::catalog::{Kind, SharedCatalog};
    use crate::rpc::jsonrpc::Limits;
    use crate::rpc::testing::{Function, catalog, echo, origin, share};

    const TEXT: &str = "google.protobuf.StringValue";

    /// Runs a server with an echo and a method that waits for a permit; returns the peer's end.
    fn start(gate: &Arc<tokio::sync::Semaphore>) -> (DuplexStream, tokio::task::JoinHandle<()>) {
        let gate = Arc::clone(gate);
        let wait = Function(move |_: Call| -> futures_util::future::BoxFuture<'static, Reply> {
            let gate = Arc::clone(&gate);
            Box::pin(async move {
                gate.acquire().await.unwrap().forget();
                Reply::one(Payload::json(&b"\"late\""[..]))
            })
        });
        let mut catalog = catalog(&[("d.E/Wait", TEXT, Kind::Unary)], &(Arc::new(wait) as _));
        for route in crate::rpc::testing::catalog(&[("d.E/Say", TEXT, Kind::Unary)], &echo()).routes() {
            catalog.insert(route.clone()).unwrap();
        }
        let limits = Limits { request_size_max: 1000, ..Limits::default() };
        let service = Service::new(SharedCatalog::new(catalog), Arc::default(), limits);
        let (near, far) = tokio::io::duplex(4096);
        let shutdown = Shutdown::new();
        let task = shutdown.clone().spawn(async move { serve(&service, far, origin(), &shutdown).await });
        (near, task)
    }

    async fn all(stream: &mut DuplexStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn replies_overtake_a_slow_one_and_all_come_after_the_end_of_requests() {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (mut stream, _task) = start(&gate);
        let requests = b"{\"jsonrpc\":\"2.0\",\"method\":\"Wait\",\"id\":1}\n\
            {\"jsonrpc\":\"2.0\",\"method\":\"Say\",\"params\":[\"x\"]}\n\
            {\"jsonrpc\":\"2.0\",\"method\":\"Say\",\"params\":[\"a\"],\"id\":2}";
        stream.write_all(requests).await.unwrap();
        stream.shutdown().await.unwrap();
        let second = "{\"jsonrpc\":\"2.0\",\"result\":\"a\",\"id\":2}\n";
        let mut first = vec![0; second.len()];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(first, second.as_bytes());
        gate.add_permits(1);
        assert_eq!(all(&mut stream).await, "{\"jsonrpc\":\"2.0\",\"result\":\"late\",\"id\":1}\n");
    }

    #[tokio::test]
    async fn headers_are_answered_with_headers() {
        let (mut stream, _task) = start(&Arc::new(tokio::sync::Semaphore::new(0)));
        let request = "{\"jsonrpc\":\"2.0\",\"method\":\"Say\",\"params\":[\"a\"],\"id\":2}";
        stream
            .write_all(format!("Content-Length: {}\r\n\r\n{request}", request.len()).as_bytes())
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(
            all(&mut stream).await,
            "Content-Length: 37\r\n\r\n{\"jsonrpc\":\"2.0\",\"result\":\"a\",\"id\":2}"
        );
    }

    #[tokio::test]
    async fn a_document_over_the_limit_is_refused_and_the_connection_closed() {
        let (mut stream, task) = start(&Arc::new(tokio::sync::Semaphore::new(0)));
        stream.write_all(&[b'['; 2000]).await.unwrap();
        let reply = all(&mut stream).await;
        assert!(
            reply.contains("\"code\":-32600,\"message\":\"the document is over the limit of 1000 bytes\""),
            "{reply}"
        );
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_peer_that_leaves_is_left() {
        let gate = Arc::new(tokio::sync::Semaphore::new(0));
        let (mut stream, task) = start(&gate);
        stream.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"Say\",\"id\":1}\n").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        drop(stream);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_forged_sender_is_not_sent_much_more_than_was_asked() {
        let catalog = catalog(&[("d.E/Say", TEXT, Kind::Unary)], &echo());
        let service = Service::new(SharedCatalog::new(catalog), Arc::default(), Limits::default());
        let from = "127.0.0.1:1".parse().unwrap();
        let share = share();
        let ask = async |datagram: &str| {
            let reply = answer_datagram(&service, datagram.as_bytes(), from, &share).await;
            reply.map(|reply| String::from_utf8(reply).unwrap())
        };
        let discover = r#"{"jsonrpc":"2.0","method":"rpc.discover","id":"x"}"#;
        let reply = ask(discover).await.unwrap();
        assert!(reply.contains("pad, or use TCP") && reply.ends_with(r#""id":"x"}"#), "{reply}");
        assert!(reply.len() <= 3 * discover.len());
        let reply = ask(&format!("{discover}{}", " ".repeat(30))).await.unwrap();
        assert!(reply.contains("append spaces to the request"), "{reply}");
        let reply = ask(&format!("{discover}{}", " ".repeat(400))).await.unwrap();
        assert!(reply.contains("\"openrpc\""), "{reply}");
        // What is too short for any word about it gets none.
        assert_eq!(ask("{").await, None);
        let batch = format!("[{}]", vec!["1"; 500].join(","));
        assert!(ask(&batch).await.is_none_or(|reply| reply.len() <= 3 * batch.len()));
        assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"Say"}"#).await, None);
    }
}
