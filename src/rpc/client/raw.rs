//! The fast path: one unary gRPC call over and over, from bytes that are encoded once.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Version};

use super::connection::H2Connection;
use super::exchange::{FirstBody, HttpError};
use super::send::{self, RequestHead, Shape};
use super::{CallOptions, Ending, HttpClient, HttpVersion};
use crate::rpc::wire::{Deframer, Dialect, status};

/// A unary gRPC call with everything that can be prepared: headers, and the message in its frame.
pub struct RawCall {
    head: Request<()>,
    body: Bytes,
    message_size_max: usize,
}

/// A connection of its own on which [`RawCall`]s run. Clones share it.
#[derive(Clone)]
pub struct RawConnection {
    connection: H2Connection,
}

impl HttpClient {
    /// Prepares a unary call. Deadlines are the caller's to watch; the server is told `options.timeout`.
    pub fn prepare(&self, path: &str, message: &Bytes, options: &CallOptions) -> RawCall {
        let dialect = send::dialect(self.target().protocol, Shape::Unary);
        let head = RequestHead::post(self.target(), path, dialect, options);
        RawCall {
            head: head.build(self.target(), Version::HTTP_2),
            body: send::body_of(dialect, options.compression, message),
            message_size_max: options.message_size_max,
        }
    }

    /// Opens a connection for raw calls. It is not shared with other calls.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn raw_connection(&self) -> Result<RawConnection, Ending> {
        debug_assert_eq!(self.target().version, HttpVersion::H2, "raw calls are gRPC over HTTP/2");
        let connection = self.pool.dial_h2().await.map_err(|error| Ending::not_opened(&error))?;
        Ok(RawConnection { connection })
    }
}

impl RawConnection {
    /// Makes the call and reads its reply to the end. `Ok` is the size of an OK reply's messages.
    ///
    /// # Errors
    /// Any other ending, the server's or the connection's.
    pub async fn call(&mut self, call: &RawCall) -> Result<usize, Box<Ending>> {
        let broken = |error: &HttpError| Box::new(Ending::broken(error));
        self.connection.ready().await.map_err(|error| broken(&error))?;
        let body = FirstBody::Whole(call.body.clone());
        let mut exchange = self.connection.open(call.head.clone(), body).map_err(|error| broken(&error))?;
        let response = exchange.head.wait().await.map_err(|error| broken(&error))?;
        let (mut parts, mut body) = response.into_parts();
        if let Some(status) = status::take_grpc(&mut parts.headers) {
            return ended(status, parts.headers, 0);
        }
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !parts.status.is_success() || !content_type.is_some_and(|it| it.starts_with("application/grpc")) {
            return Err(Box::new(Ending::foreign(parts.status, content_type, "application/grpc")));
        }
        let mut deframer = Deframer::new(call.message_size_max);
        let mut size = 0;
        while let Some(chunk) = body.data().await {
            deframer.push(chunk.map_err(|error| broken(&error))?);
            while let Some(frame) =
                deframer.next_frame().map_err(|error| Box::new(super::receive::oversize(&error)))?
            {
                size += frame.data.len();
            }
        }
        let mut trailers = body.trailers().await.map_err(|error| broken(&error))?.unwrap_or_default();
        match status::take_grpc(&mut trailers) {
            Some(status) => ended(status, trailers, size),
            None => Err(Box::new(super::receive::no_status())),
        }
    }
}

impl RawCall {
    /// Size of the request's body on the wire.
    pub fn request_bytes(&self) -> usize {
        self.body.len()
    }

    /// The dialect of the prepared bytes.
    pub fn dialect(&self) -> Dialect {
        Dialect::Grpc
    }
}

fn ended(status: crate::rpc::Status, trailers: http::HeaderMap, size: usize) -> Result<usize, Box<Ending>> {
    if status.is_ok() { Ok(size) } else { Err(Box::new(Ending::answered(status, trailers))) }
}
