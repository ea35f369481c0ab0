//! One client for every protocol: the same calls over HTTP, the compact protocol and JSON-RPC.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::lazy::Lazy;
use super::{CallOptions, Cause, Closed, Ending, HttpClient, Receiver, Sender, Target, UnaryReply};
use crate::rpc::catalog::Kind;
use crate::rpc::compact::client as compact;
use crate::rpc::jsonrpc::client as jsonrpc;
use crate::rpc::{Code, Format, Status};
use crate::shutdown::Shutdown;
use crate::transport::{Address, ConnectOptions, Datagrams, Stream};

/// Requests of a JSON-RPC stream that wait to be put together.
const REQUESTS_MAX: usize = 64;
/// Bytes of all requests of a JSON-RPC stream together.
const DOCUMENT_SIZE_MAX: usize = 64 << 20;

/// Which server, and how it is spoken to.
#[derive(Clone, Debug)]
pub enum Connector {
    /// gRPC, gRPC-Web or Connect.
    Http(Target),
    /// The compact protocol over a stream.
    Compact(Address, ConnectOptions),
    /// The compact protocol over datagrams.
    CompactDatagrams {
        /// Where to.
        address: Address,
        /// Let the server execute every copy of a request that reaches it.
        at_least_once: bool,
    },
    /// JSON-RPC. Messages are JSON: set [`CallOptions::format`] so.
    JsonRpc(jsonrpc::Carrier),
}

/// A client of one server. Connections are opened when they are needed.
pub enum Client {
    /// gRPC, gRPC-Web or Connect.
    Http(HttpClient),
    /// The compact protocol over a stream.
    Compact(CompactClient),
    /// The compact protocol over datagrams.
    CompactDatagrams(CompactDatagrams),
    /// JSON-RPC.
    JsonRpc(Arc<jsonrpc::Client>),
}

impl Connector {
    /// A client. Nothing is connected yet.
    pub fn client(&self, shutdown: Shutdown) -> Client {
        match self {
            Self::Http(target) => Client::Http(HttpClient::new(target.clone(), shutdown)),
            Self::Compact(address, options) => Client::Compact(CompactClient {
                address: address.clone(),
                options: options.clone(),
                shutdown,
                connection: Lazy::new(),
            }),
            Self::CompactDatagrams { address, at_least_once } => Client::CompactDatagrams(CompactDatagrams {
                address: address.clone(),
                at_least_once: *at_least_once,
                shutdown,
                socket: Lazy::new(),
            }),
            Self::JsonRpc(carrier) => {
                Client::JsonRpc(Arc::new(jsonrpc::Client::new(carrier.clone(), shutdown)))
            }
        }
    }

    /// What it is called in messages.
    pub fn protocol(&self) -> &'static str {
        match self {
            Self::Http(target) => target.protocol.title(),
            Self::Compact(..) | Self::CompactDatagrams { .. } => "the compact protocol",
            Self::JsonRpc(_) => "JSON-RPC",
        }
    }

    /// True if TLS is spoken.
    pub fn is_encrypted(&self) -> bool {
        match self {
            Self::Http(target) | Self::JsonRpc(jsonrpc::Carrier::Http(target)) => target.tls.is_some(),
            Self::Compact(_, options) | Self::JsonRpc(jsonrpc::Carrier::Stream(_, options, _)) => {
                options.tls.is_some()
            }
            Self::CompactDatagrams { .. } | Self::JsonRpc(jsonrpc::Carrier::Datagrams(_)) => false,
        }
    }

    /// How messages are encoded.
    pub fn format(&self) -> Format {
        match self {
            Self::Http(_) | Self::Compact(..) | Self::CompactDatagrams { .. } => Format::Proto,
            Self::JsonRpc(_) => Format::Json,
        }
    }
}

impl Client {
    /// Makes a unary call. If the server certainly did not touch it, it is sent once more.
    pub async fn unary(&self, path: &str, message: &Bytes, options: &CallOptions) -> UnaryReply {
        match self {
            Self::Http(client) => client.unary(path, message, options).await,
            Self::Compact(client) => within(client.unary(path, message, options).await, options),
            Self::CompactDatagrams(client) => within(client.unary(path, message, options).await, options),
            Self::JsonRpc(client) => client.call(path, params(message), options).await,
        }
    }

    /// Makes a call with one request and a stream of replies.
    ///
    /// # Errors
    /// There is no connection, or the protocol has no streams.
    pub async fn server_stream(
        &self,
        path: &str,
        message: &Bytes,
        options: &CallOptions,
    ) -> Result<Replies, Ending> {
        match self {
            Self::Http(client) => {
                Ok(Replies::Http(Box::new(client.server_stream(path, message, options).await?)))
            }
            Self::Compact(client) => {
                let call = async {
                    let connection = client.connection(options).await?;
                    let method = connection.method(path).await?;
                    connection.server_stream(method, message.clone(), &compact_options(options, false)).await
                };
                let receiver = opened(call, options).await?;
                Ok(Replies::Compact { receiver, size_max: options.message_size_max })
            }
            Self::CompactDatagrams(_) => Err(no_streams()),
            Self::JsonRpc(client) => {
                let (client, path, params) = (Arc::clone(client), path.to_owned(), params(message));
                let options = options.clone();
                let call = async move { client.call(&path, params, &options).await };
                Ok(Replies::JsonRpc(Whole::new(Box::pin(call), true)))
            }
        }
    }

    /// Starts a call of a method that takes a stream.
    ///
    /// # Errors
    /// There is no connection, or the protocol has no streams.
    pub async fn stream(
        &self,
        path: &str,
        kind: Kind,
        options: &CallOptions,
    ) -> Result<(Requests, Replies), Ending> {
        match self {
            Self::Http(client) => {
                let (sender, receiver) = client.stream(path, options).await?;
                Ok((Requests::Http(sender), Replies::Http(Box::new(receiver))))
            }
            Self::Compact(client) => {
                let call = async {
                    let connection = client.connection(options).await?;
                    let method = connection.method(path).await?;
                    connection.stream(method, &compact_options(options, false)).await
                };
                let (sender, receiver) = opened(call, options).await?;
                let size_max = options.message_size_max;
                Ok((Requests::Compact(sender), Replies::Compact { receiver, size_max }))
            }
            Self::CompactDatagrams(_) => Err(no_streams()),
            Self::JsonRpc(client) => {
                let (client, path, options) = (Arc::clone(client), path.to_owned(), options.clone());
                let (sender, mut given) = mpsc::channel::<Bytes>(REQUESTS_MAX);
                // JSON-RPC has no word for a part of a request: they go together when the last is there.
                let call = async move {
                    let mut params = vec![b'['];
                    while let Some(message) = given.recv().await {
                        if params.len() > 1 {
                            params.push(b',');
                        }
                        params.extend_from_slice(&message);
                        if params.len() > DOCUMENT_SIZE_MAX {
                            return UnaryReply::unanswered(too_much());
                        }
                    }
                    params.push(b']');
                    client.call(&path, Some(params.into()), &options).await
                };
                let whole = Whole::new(Box::pin(call), kind.server_streams());
                Ok((Requests::JsonRpc(Some(sender)), Replies::JsonRpc(whole)))
            }
        }
    }
}

/// Where the requests of a stream go in.
pub enum Requests {
    /// Over HTTP.
    Http(Sender),
    /// Over the compact protocol.
    Compact(compact::Sender),
    /// Over JSON-RPC, which sends all of them together.
    JsonRpc(Option<mpsc::Sender<Bytes>>),
}

impl Requests {
    /// Sends a message, waiting while the server does not read.
    ///
    /// # Errors
    /// The call has ended meanwhile.
    pub async fn send(&mut self, message: &Bytes) -> Result<(), Closed> {
        match self {
            Self::Http(sender) => sender.send(message).await,
            Self::Compact(sender) => sender.send(message.clone()).await,
            Self::JsonRpc(sender) => {
                sender.as_ref().ok_or(Closed)?.send(message.clone()).await.map_err(|_| Closed)
            }
        }
    }

    /// Ends the request stream.
    pub async fn finish(&mut self) {
        match self {
            Self::Http(sender) => sender.finish().await,
            Self::Compact(sender) => sender.finish().await,
            Self::JsonRpc(sender) => *sender = None,
        }
    }
}

/// Where the replies of a stream come out. Dropping it cancels the call.
pub enum Replies {
    /// Over HTTP.
    Http(Box<Receiver>),
    /// Over the compact protocol.
    Compact {
        /// The replies.
        receiver: compact::Receiver,
        /// The largest that is accepted.
        size_max: usize,
    },
    /// Over JSON-RPC, which replies once.
    JsonRpc(Whole),
}

impl Replies {
    /// Waits for the leading metadata; it is empty if there is none.
    pub async fn headers(&mut self) -> &HeaderMap {
        match self {
            Self::Http(receiver) => receiver.headers().await,
            Self::Compact { receiver, .. } => receiver.headers().await,
            Self::JsonRpc(whole) => &whole.headers,
        }
    }

    /// The next message; `None` when there is no more, and then [`Self::end`] tells how it ended.
    ///
    /// May be dropped at an await point and called again: nothing is lost.
    pub async fn message(&mut self) -> Option<Bytes> {
        match self {
            Self::Http(receiver) => receiver.message().await,
            Self::Compact { receiver, size_max } => {
                let message = receiver.message().await?;
                if message.len() > *size_max {
                    receiver.give_up(too_large(message.len(), *size_max));
                    return None;
                }
                Some(message)
            }
            Self::JsonRpc(whole) => whole.message().await,
        }
    }

    /// Reads the rest, throwing messages away, and returns how it ended.
    pub async fn end(mut self) -> Ending {
        while self.message().await.is_some() {}
        match self {
            Self::Http(receiver) => Some(receiver.end().await.1),
            Self::Compact { receiver, .. } => receiver.ending().cloned(),
            Self::JsonRpc(whole) => whole.ending,
        }
        .unwrap_or_else(|| Ending::malformed(Code::Internal, "the stream ended without a status"))
    }
}

/// One reply that holds all messages.
pub struct Whole {
    call: Option<BoxFuture<'static, UnaryReply>>,
    many: bool,
    headers: HeaderMap,
    messages: VecDeque<Bytes>,
    ending: Option<Ending>,
}

impl Whole {
    fn new(call: BoxFuture<'static, UnaryReply>, many: bool) -> Self {
        Self { call: Some(call), many, headers: HeaderMap::new(), messages: VecDeque::new(), ending: None }
    }

    async fn message(&mut self) -> Option<Bytes> {
        if let Some(call) = &mut self.call {
            let reply = call.await;
            self.call = None;
            if let Some(message) = reply.message {
                self.messages = self.parts(message).into();
            }
            self.headers = reply.headers;
            self.ending = Some(reply.ending);
        }
        self.messages.pop_front()
    }

    fn parts(&self, message: Bytes) -> Vec<Bytes> {
        let list = serde_json::from_slice::<Vec<Box<serde_json::value::RawValue>>>(&message);
        match list {
            Ok(list) if self.many => {
                list.into_iter().map(|part| Bytes::from(part.get().to_owned())).collect()
            }
            // A method that does not stream after all.
            Ok(_) | Err(_) => vec![message],
        }
    }
}

/// The compact protocol over a connection that is opened when needed.
pub struct CompactClient {
    address: Address,
    options: ConnectOptions,
    shutdown: Shutdown,
    connection: Lazy<compact::Client>,
}

impl CompactClient {
    /// The connection, opened if there is none.
    ///
    /// # Errors
    /// The server cannot be reached, or does not speak the protocol.
    pub async fn connection(&self, options: &CallOptions) -> Result<compact::Client, Ending> {
        let open = async {
            let stream = Stream::connect_with(&self.address, &self.options)
                .await
                .map_err(|error| Ending::unreachable(&error))?;
            let greeting = options.timeout.unwrap_or(Duration::MAX).min(self.options.timeout);
            compact::Client::connect(stream, Instant::now() + greeting, &self.shutdown).await
        };
        self.connection.get(|connection| !connection.is_closed(), open).await
    }

    async fn unary(&self, path: &str, message: &Bytes, options: &CallOptions) -> UnaryReply {
        let held = self.connection.is_open().await;
        let once = async || {
            let call = async {
                let connection = self.connection(options).await?;
                let method = connection.method(path).await?;
                let options = compact_options(options, false);
                Ok(connection.unary(method, message.clone(), &options).await)
            };
            opened(call, options).await.unwrap_or_else(UnaryReply::unanswered)
        };
        let reply = once().await;
        // The connection had gone away before anybody knew.
        if held && reply.ending.untouched && reply.ending.cause == Cause::Unreachable {
            return once().await;
        }
        reply
    }
}

/// The compact protocol over a socket that is opened when needed.
pub struct CompactDatagrams {
    address: Address,
    at_least_once: bool,
    shutdown: Shutdown,
    socket: Lazy<compact::DatagramClient>,
}

impl CompactDatagrams {
    /// The client, with its socket.
    ///
    /// # Errors
    /// The address means nothing.
    pub async fn socket(&self) -> Result<compact::DatagramClient, Ending> {
        let open = async {
            let socket =
                Datagrams::connect(&self.address).await.map_err(|error| Ending::unreachable(&error))?;
            Ok(compact::DatagramClient::new(socket, &self.shutdown))
        };
        self.socket.get(|_| true, open).await
    }

    async fn unary(&self, path: &str, message: &Bytes, options: &CallOptions) -> UnaryReply {
        let call = async {
            let client = self.socket().await?;
            let method = client.method(path).await?;
            let options = compact_options(options, self.at_least_once);
            Ok(client.unary(method, message.clone(), &options).await)
        };
        opened(call, options).await.unwrap_or_else(UnaryReply::unanswered)
    }
}

fn compact_options(options: &CallOptions, at_least_once: bool) -> compact::CallOptions {
    compact::CallOptions { metadata: options.metadata.clone(), timeout: options.timeout, at_least_once }
}

/// The deadline counts from before the connection is opened.
async fn opened<T>(
    call: impl Future<Output = Result<T, Ending>>,
    options: &CallOptions,
) -> Result<T, Ending> {
    match super::deadline(options) {
        Some(deadline) => match timeout_at(deadline, call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Ending::deadline()),
        },
        None => call.await,
    }
}

/// JSON-RPC takes an object or an array, or nothing; any other value is the only element of an array.
fn params(message: &Bytes) -> Option<Bytes> {
    match message.trim_ascii().first()? {
        b'{' | b'[' => Some(message.clone()),
        _ => Some([b"[", &message[..], b"]"].concat().into()),
    }
}

fn too_much() -> Ending {
    let text = format!("the requests together are over the limit of {DOCUMENT_SIZE_MAX} bytes");
    Ending::given_up(Status::new(Code::ResourceExhausted, text))
}

fn too_large(size: usize, size_max: usize) -> Ending {
    let text = format!("reply: a message of {size} bytes is over the limit of {size_max}");
    Ending::malformed(Code::ResourceExhausted, text)
}

fn within(mut reply: UnaryReply, options: &CallOptions) -> UnaryReply {
    let size = reply.message.as_ref().map_or(0, Bytes::len);
    if size > options.message_size_max {
        reply.ending = too_large(size, options.message_size_max);
        reply.message = None;
    }
    reply
}

fn no_streams() -> Ending {
    let text = "udp:// carries unary calls only: call it over tcp://";
    Ending { untouched: true, ..Ending::given_up(Status::new(Code::Unimplemented, text)) }
}
