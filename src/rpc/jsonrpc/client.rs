//! The client: calls over HTTP, or many at a time over one stream or socket of datagrams.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::discover::DISCOVER;
use super::error::INVALID_REQUEST;
use super::framing::{FRAME_SIZE_MAX, Frames, Framing};
use super::message::{Id, Response, encode_request, parse_responses};
use super::server::DATAGRAM_GAIN_MAX;
use super::service::CANCEL;
use crate::rpc::client::lazy::Lazy;
use crate::rpc::client::{CallOptions, Cause, Ending, HttpClient, Target, UnaryReply};
use crate::rpc::status::Code;
use crate::shutdown::Shutdown;
use crate::transport::udp::DATAGRAM_BYTES_MAX;
use crate::transport::{Address, ConnectOptions, Datagrams, Stream};

/// Requests that wait to be written.
const COMMANDS_MAX: usize = 1024;
/// Over so many bytes that the server has not taken, callers wait.
const OUTPUT_SIZE_MAX: usize = 1 << 20;
/// Bytes that are asked for at a time.
const READ_SIZE: usize = 16 << 10;
/// Bytes of a response that are not its result.
const ENVELOPE_SIZE_MAX: usize = 1 << 10;
/// Nothing repeats a lost datagram: a call without a deadline waits so long.
const DATAGRAM_WAIT: Duration = Duration::from_secs(5);
/// Requests are filled up with spaces to so many bytes, because a server answers a datagram with few times its bytes.
/// RFC 9000, 14 has the same number: it passes every network in one piece.
const DATAGRAM_BYTES_MIN: usize = 1200;
/// The description of a server is long.
const DISCOVER_BYTES_MIN: usize = DATAGRAM_BYTES_MAX.div_ceil(DATAGRAM_GAIN_MAX);

/// What documents travel on.
#[derive(Clone, Debug)]
pub enum Carrier {
    /// The body of a POST.
    Http(Target),
    /// A stream of documents in this framing; replies may come in either.
    Stream(Address, ConnectOptions, Framing),
    /// One document in each.
    Datagrams(Address),
}

/// A client of one server. Connections are opened when they are needed.
pub struct Client {
    next: AtomicU64,
    lane: Lane,
}

enum Lane {
    Http(HttpClient),
    Link { carrier: Carrier, shutdown: Shutdown, link: Lazy<Link> },
}

/// A running connection. Clones share it.
type Link = mpsc::Sender<Command>;

enum Command {
    Call { id: u64, document: Vec<u8>, answer: oneshot::Sender<Result<Response, Ending>> },
    Cancel { id: u64 },
}

impl Client {
    /// A client. Nothing is connected yet.
    pub fn new(carrier: Carrier, shutdown: Shutdown) -> Self {
        let lane = match carrier {
            Carrier::Http(target) => Lane::Http(HttpClient::new(target, shutdown)),
            carrier => Lane::Link { carrier, shutdown, link: Lazy::new() },
        };
        Self { next: AtomicU64::new(1), lane }
    }

    /// Calls `method`. `params` is JSON text, an array or an object; so is the message of the reply, of any kind.
    pub async fn call(&self, method: &str, params: Option<Bytes>, options: &CallOptions) -> UnaryReply {
        let over_datagrams = matches!(&self.lane, Lane::Link { carrier: Carrier::Datagrams(_), .. });
        let limit = options.timeout.or(over_datagrams.then_some(DATAGRAM_WAIT));
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let call = self.exchange(method, params, options);
        let outcome = match deadline {
            None => call.await,
            Some(deadline) => match timeout_at(deadline, call).await {
                Ok(outcome) => outcome,
                Err(_) if options.timeout.is_some() => Err(Ending::deadline()),
                Err(_) => Err(silence()),
            },
        };
        let response = match outcome {
            Ok(response) => response,
            Err(ending) => return UnaryReply::unanswered(ending),
        };
        match response.outcome {
            Ok(result) if result.len() > options.message_size_max => {
                let (size, size_max) = (result.len(), options.message_size_max);
                let text = format!("reply: a message of {size} bytes is over the limit of {size_max}");
                UnaryReply::unanswered(Ending::malformed(Code::ResourceExhausted, text))
            }
            Ok(result) => UnaryReply::ok(result.into()),
            Err(error) => UnaryReply::unanswered(Ending::answered(error.to_status(), http::HeaderMap::new())),
        }
    }

    async fn exchange(
        &self,
        method: &str,
        params: Option<Bytes>,
        options: &CallOptions,
    ) -> Result<Response, Ending> {
        let params = params.as_deref().map(|params| String::from_utf8_lossy(params));
        let meta = match &self.lane {
            // Headers carry it.
            Lane::Http(_) => None,
            Lane::Link { .. } => meta(options),
        };
        let response = self.send(method, params.as_deref(), meta.as_deref(), options).await?;
        // Servers that check requests by a schema know no `meta`, and have executed nothing. A deadline
        // can do without it; what the caller wants to be read cannot.
        let is_refused = matches!(&response.outcome, Err(error) if error.code == INVALID_REQUEST);
        if is_refused && meta.is_some() && options.metadata.is_empty() {
            return self.send(method, params.as_deref(), None, options).await;
        }
        Ok(response)
    }

    /// Sends one request and returns its response.
    async fn send(
        &self,
        method: &str,
        params: Option<&str>,
        meta: Option<&str>,
        options: &CallOptions,
    ) -> Result<Response, Ending> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut document = Vec::new();
        encode_request(&mut document, Some(&Id::number(id)), method, params, meta);
        match &self.lane {
            Lane::Http(client) => {
                let body = client.post_json(document.into(), options).await?;
                let responses = parse_responses(&body).map_err(|error| no_response(&error))?;
                let wanted = Id::number(id);
                let fits = |response: &Response| response.id == wanted || response.id == Id::null();
                responses.into_iter().find(fits).ok_or_else(|| no_response("none is for this request"))
            }
            Lane::Link { carrier, shutdown, link } => {
                let link = link.get(|link| !link.is_closed(), open(carrier, options, shutdown)).await?;
                if matches!(carrier, Carrier::Datagrams(_)) && document.len() > DATAGRAM_BYTES_MAX {
                    let size = document.len();
                    let text = format!(
                        "a request of {size} bytes does not fit into a datagram of {DATAGRAM_BYTES_MAX}: use jsonrpc+tcp://"
                    );
                    return Err(Ending::here(Code::ResourceExhausted, text, Cause::GivenUp));
                }
                if matches!(carrier, Carrier::Datagrams(_)) {
                    let size_min = if method == DISCOVER { DISCOVER_BYTES_MIN } else { DATAGRAM_BYTES_MIN };
                    document.resize(document.len().max(size_min), b' ');
                }
                ask(&link, id, document).await
            }
        }
    }
}

/// Sends a request and waits for its response; dropping the future cancels it.
async fn ask(link: &Link, id: u64, document: Vec<u8>) -> Result<Response, Ending> {
    struct CancelOnDrop<'a>(&'a Link, Option<u64>);
    impl Drop for CancelOnDrop<'_> {
        fn drop(&mut self) {
            if let Some(id) = self.1 {
                // A server that cannot be told has other worries.
                let _ = self.0.try_send(Command::Cancel { id });
            }
        }
    }
    let (answer, response) = oneshot::channel();
    link.send(Command::Call { id, document, answer }).await.map_err(|_| closed())?;
    let mut guard = CancelOnDrop(link, Some(id));
    let response = response.await;
    guard.1 = None;
    match response {
        Ok(outcome) => outcome,
        Err(_) => Err(closed()),
    }
}

fn closed() -> Ending {
    Ending::here(Code::Unavailable, "the connection is closed", Cause::Unreachable)
}

fn silence() -> Ending {
    let text = format!("no answer within {DATAGRAM_WAIT:?}: a datagram may be lost, and nothing repeats it");
    Ending::here(Code::Unavailable, text, Cause::Unreachable)
}

fn no_response(error: &str) -> Ending {
    Ending::malformed(Code::Internal, format!("the answer is no response: {error}"))
}

/// Metadata where there are no headers.
fn meta(options: &CallOptions) -> Option<String> {
    let mut members = serde_json::Map::new();
    for (name, value) in &options.metadata {
        members.insert(name.to_string(), String::from_utf8_lossy(value.as_bytes()).into());
    }
    if let Some(timeout) = options.timeout {
        members.insert(super::service::TIMEOUT.to_owned(), timeout.as_millis().to_string().into());
    }
    (!members.is_empty()).then(|| serde_json::Value::Object(members).to_string())
}

async fn open(carrier: &Carrier, options: &CallOptions, shutdown: &Shutdown) -> Result<Link, Ending> {
    let (link, commands) = mpsc::channel(COMMANDS_MAX);
    match carrier {
        Carrier::Stream(address, connect, framing) => {
            let framing = *framing;
            let stream =
                Stream::connect_with(address, connect).await.map_err(|error| Ending::unreachable(&error))?;
            let size_max = options.message_size_max.saturating_add(ENVELOPE_SIZE_MAX);
            shutdown.spawn(async move { over_stream(stream, commands, framing, size_max).await });
        }
        Carrier::Datagrams(address) | Carrier::Http(Target { address, .. }) => {
            let socket = Datagrams::connect(address).await.map_err(|error| Ending::unreachable(&error))?;
            shutdown.spawn(async move { over_datagrams(socket, commands).await });
        }
    }
    Ok(link)
}

/// Who waits for which response.
#[derive(Default)]
struct Waiting(HashMap<u64, oneshot::Sender<Result<Response, Ending>>>);

impl Waiting {
    /// Notes who waits, and returns the document to send.
    fn begin(&mut self, command: Command) -> Option<Vec<u8>> {
        match command {
            Command::Call { id, document, answer } => {
                self.0.insert(id, answer);
                Some(document)
            }
            Command::Cancel { id } => self.0.remove(&id).map(|_| {
                let mut document = Vec::new();
                encode_request(&mut document, None, CANCEL, Some(&format!("{{\"id\":{id}}}")), None);
                document
            }),
        }
    }

    fn take(&mut self, document: &[u8]) -> Result<(), Box<Ending>> {
        for response in parse_responses(document).map_err(|error| Box::new(no_response(&error)))? {
            let id = match response.id.as_str().parse() {
                Ok(id) => Some(id),
                // What could not be read has no id: clear only if there is but one.
                Err(_) if self.0.len() == 1 => self.0.keys().next().copied(),
                Err(_) => None,
            };
            if let Some(answer) = id.and_then(|id| self.0.remove(&id)) {
                // Who has given up needs no answer.
                let _ = answer.send(Ok(response));
            }
        }
        Ok(())
    }

    fn fail(&mut self, ending: &Ending) {
        for (_, answer) in self.0.drain() {
            // Who has given up needs no answer.
            let _ = answer.send(Err(ending.clone()));
        }
    }
}

async fn over_stream<S>(stream: S, mut commands: mpsc::Receiver<Command>, framing: Framing, size_max: usize)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (mut waiting, mut frames) = (Waiting::default(), Frames::new(size_max));
    let mut output = BytesMut::new();
    let lost = |why: String| Ending::here(Code::Unavailable, why, Cause::Unreachable);
    let end = loop {
        match frames.next_document() {
            Ok(Some(document)) => match waiting.take(&document) {
                Ok(()) => continue,
                Err(ending) => break *ending,
            },
            Ok(None) => {}
            Err(error) => break Ending::malformed(Code::ResourceExhausted, error.to_string()),
        }
        frames.buffer().reserve(READ_SIZE);
        tokio::select! {
            command = commands.recv(), if output.len() < OUTPUT_SIZE_MAX => match command {
                // The last client is gone.
                None => return,
                Some(command) => {
                    if let Some(document) = waiting.begin(command) {
                        let mut framed = Vec::with_capacity(document.len() + FRAME_SIZE_MAX);
                        framing.write(&mut framed, &document);
                        output.extend_from_slice(&framed);
                    }
                }
            },
            size = writer.write_buf(&mut output), if !output.is_empty() => if let Err(error) = size {
                break lost(format!("the connection broke: {error}"));
            },
            size = reader.read_buf(frames.buffer()) => match size {
                Ok(0) => break lost("the server closed the connection".to_owned()),
                Ok(_) => {}
                Err(error) => break lost(format!("the connection broke: {error}")),
            },
        }
    };
    commands.close();
    waiting.fail(&end);
}

async fn over_datagrams(socket: Datagrams, mut commands: mpsc::Receiver<Command>) {
    let mut waiting = Waiting::default();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        tokio::select! {
            command = commands.recv() => {
                let Some(command) = command else { return };
                if let Some(document) = waiting.begin(command)
                    && let Err(error) = socket.send(&document).await
                {
                    waiting.fail(&Ending::nobody(&error));
                }
            }
            received = socket.recv(&mut buffer) => match received {
                Ok(size) => {
                    // A datagram that is no response may be anybody's: it is not the end of anything.
                    if let Err(ending) = waiting.take(&buffer[..size]) {
                        tracing::debug!(status = %ending.status, "datagram ignored");
                    }
                }
                Err(error) => waiting.fail(&Ending::nobody(&error)),
            }
        }
        waiting.0.retain(|_, answer| !answer.is_closed());
    }
}
