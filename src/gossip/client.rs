//! A command's side of Serf's agent protocol: ask a node, ours or a real agent.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::wire::ipc::{IPC_BYTES_MAX, Request, read_header};
use super::wire::msgpack::{Fault, Reader};
use crate::transport::{Address, ConnectOptions, Stream};

/// Bytes that are read at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Why a node did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there.
    #[error(transparent)]
    Connect(#[from] crate::transport::Error),
    /// The connection broke.
    #[error("the connection is lost: {0}")]
    Lost(String),
    /// It refused.
    #[error("{0}")]
    Refused(String),
    /// What it answered makes no sense.
    #[error("it answers what is not Serf's agent protocol: {0}")]
    Malformed(#[from] Fault),
}

impl Error {
    /// Whether the node does not know the command: then it is not one of ours.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused(error) if error.starts_with("Unsupported command"))
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    sequence: u64,
}

impl Client {
    /// Connects and shakes hands; with a key if the agent wants one.
    ///
    /// # Errors
    /// Nobody is there, or it speaks something else.
    pub async fn connect(
        address: &Address,
        options: &ConnectOptions,
        key: Option<&str>,
    ) -> Result<Self, Error> {
        let stream = Stream::connect_with(address, options).await?;
        let mut client = Self { stream, buffer: Vec::new(), sequence: 0 };
        client.ask(&Request::Handshake, |_| Ok(())).await?;
        if let Some(key) = key {
            client.ask(&Request::Auth { key: key.to_owned() }, |_| Ok(())).await?;
        }
        Ok(client)
    }

    async fn send(&mut self, request: &Request) -> Result<u64, Error> {
        self.sequence += 1;
        let mut bytes = Vec::new();
        request.write(self.sequence, &mut bytes);
        let sent = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| Error::Lost(error.to_string()))?;
        Ok(self.sequence)
    }

    /// Asks, and reads the body of the answer.
    ///
    /// # Errors
    /// The connection is lost, the node refuses, or answers something else.
    pub async fn ask<T>(
        &mut self,
        request: &Request,
        body: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let sequence = self.send(request).await?;
        self.answer(sequence, body).await
    }

    /// Asks for a stream, and returns its number. [`Self::next_record`] reads what comes.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn start(&mut self, request: &Request) -> Result<u64, Error> {
        let sequence = self.send(request).await?;
        self.answer(sequence, |_| Ok(())).await?;
        Ok(sequence)
    }

    /// The next record of a stream.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub async fn next_record<T>(
        &mut self,
        stream: u64,
        body: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        self.answer(stream, body).await
    }

    /// Reads what is for `wanted`. A connection has one stream at most, and its answers come in order.
    async fn answer<T>(
        &mut self,
        wanted: u64,
        body: impl Fn(&mut Reader<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        loop {
            let mut reader = Reader::new(&self.buffer);
            let read = read_header(&mut reader).and_then(|(sequence, error)| match sequence {
                _ if sequence == wanted && error.is_empty() => {
                    body(&mut reader).map(|body| (Ok(body), false))
                }
                // No body comes with an error.
                _ => Ok((Err(error), sequence != wanted)),
            });
            match read {
                Ok((answer, skipped)) => {
                    let used = reader.position();
                    self.buffer.drain(..used);
                    if !skipped {
                        return answer.map_err(Error::Refused);
                    }
                }
                Err(Fault::Incomplete { .. }) if self.buffer.len() < IPC_BYTES_MAX => self.read().await?,
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    async fn read(&mut self) -> Result<(), Error> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let lost = |why: String| Error::Lost(why);
        let length = self.stream.read(&mut chunk).await.map_err(|error| lost(error.to_string()))?;
        if length == 0 {
            return Err(lost("the node closed it".to_owned()));
        }
        self.buffer.extend_from_slice(&chunk[..length]);
        Ok(())
    }
}
