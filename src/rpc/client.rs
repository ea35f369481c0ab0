//! The client: calls of all kinds, in every protocol, without generated code.
//!
//! [`Client`] makes calls in every protocol, [`HttpClient`] in those over HTTP, from message bytes. A call is a [`Sender`], a [`Receiver`], or both at the
//! same time: nothing waits for the server's headers before it sends or reads.

mod any;
mod connection;
mod ending;
mod exchange;
pub(crate) mod lazy;
mod post;
pub mod probe;
mod raw;
mod receive;
mod reflect;
pub mod resolve;
mod retry;
mod send;
mod target;
mod unschooled;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

pub use any::{Client, CompactClient, CompactDatagrams, Connector, Replies, Requests, Whole};
pub use connection::HttpVersion;
pub use ending::{Cause, Ending};
pub use raw::{RawCall, RawConnection};
pub use receive::{Receiver, UnaryReply};
pub use reflect::ReflectError;
pub use retry::RetryPolicy;
pub use send::{CallOptions, Closed, Sender};
pub use target::{HttpProtocol, Target};
pub use unschooled::describe;

use crate::shutdown::Shutdown;
use connection::Pool;
use exchange::{Exchange, FirstBody};
use send::{RequestHead, Shape};
use target::Dialer;

/// A client of one server over HTTP. Connections are opened when they are needed and shared.
pub struct HttpClient {
    pool: Pool,
}

impl HttpClient {
    /// A client of `target`. Nothing is connected yet.
    pub fn new(target: Target, shutdown: Shutdown) -> Self {
        let version = target.version;
        Self { pool: Pool::new(Dialer::new(target), version, shutdown) }
    }

    /// The server.
    pub fn target(&self) -> &Target {
        self.pool.dialer().target()
    }

    /// Starts a call whose requests are a stream.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn stream(&self, path: &str, options: &CallOptions) -> Result<(Sender, Receiver), Ending> {
        let dialect = send::dialect(self.target().protocol, Shape::Streaming);
        let head = RequestHead::post(self.target(), path, dialect, options);
        let deadline = deadline(options);
        let exchange = self.open(&head, || FirstBody::Pieces, deadline).await?;
        let sender = Sender { half: exchange.request, dialect, compression: options.compression, deadline };
        Ok((sender, Receiver::new(exchange.head, dialect, options, deadline)))
    }

    /// Makes a call with one request and a stream of replies.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn server_stream(
        &self,
        path: &str,
        message: &Bytes,
        options: &CallOptions,
    ) -> Result<Receiver, Ending> {
        self.one_request(path, message, options, Shape::Streaming).await
    }

    /// Starts a unary call: [`Receiver::unary`] waits for its reply.
    ///
    /// # Errors
    /// There is no connection.
    pub async fn start(
        &self,
        path: &str,
        message: &Bytes,
        options: &CallOptions,
    ) -> Result<Receiver, Ending> {
        self.one_request(path, message, options, Shape::Unary).await
    }

    /// Makes a unary call. If the server certainly did not touch it, it is sent once more.
    pub async fn unary(&self, path: &str, message: &Bytes, options: &CallOptions) -> UnaryReply {
        let mut reply = self.unary_once(path, message, options).await;
        // Having no connection at all is for the caller to judge.
        if reply.ending.was_refused() {
            reply = self.unary_once(path, message, options).await;
        }
        reply
    }

    async fn unary_once(&self, path: &str, message: &Bytes, options: &CallOptions) -> UnaryReply {
        match self.one_request(path, message, options, Shape::Unary).await {
            Ok(receiver) => receiver.unary().await,
            Err(ending) => Receiver::ended(ending).unary().await,
        }
    }

    async fn one_request(
        &self,
        path: &str,
        message: &Bytes,
        options: &CallOptions,
        shape: Shape,
    ) -> Result<Receiver, Ending> {
        let dialect = send::dialect(self.target().protocol, shape);
        let by_get = options.get && dialect == crate::rpc::wire::Dialect::ConnectUnary;
        let head = by_get
            .then(|| RequestHead::get(self.target(), path, message, options))
            .flatten()
            .unwrap_or_else(|| RequestHead::post(self.target(), path, dialect, options));
        let body =
            if head.is_get() { Bytes::new() } else { send::body_of(dialect, options.compression, message) };
        let deadline = deadline(options);
        let exchange = self.open(&head, || FirstBody::Whole(body.clone()), deadline).await?;
        Ok(Receiver::new(exchange.head, dialect, options, deadline))
    }

    async fn open(
        &self,
        head: &RequestHead,
        body: impl Fn() -> FirstBody,
        deadline: Option<Instant>,
    ) -> Result<Exchange, Ending> {
        let open = self.pool.open(|version| head.build(self.target(), version), body);
        let opened = match deadline {
            Some(deadline) => timeout_at(deadline, open).await.map_err(|_| Ending::deadline())?,
            None => open.await,
        };
        opened.map_err(|error| Ending::not_opened(&error))
    }
}

fn deadline(options: &CallOptions) -> Option<Instant> {
    // A limit beyond what the clock can count is none.
    options.timeout.and_then(|limit| Instant::now().checked_add(limit))
}
